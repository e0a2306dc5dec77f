//! What others ask for GPUs: prices that were published elsewhere, with their date and source. They are for comparing
//! and are no offers; nothing here can be booked.
//!
//! The sources contradict themselves in places; the notes say where, and nothing is corrected. What by its own note is the
//! price of something else is marked so, and nothing is ranked by it.

use std::sync::LazyLock;

use crate::catalog::{self, GpuModel};
use crate::csv;
use crate::names::named_enum;
use crate::rate::UsdPerHour;
use crate::time::Seconds;

/// Since when this version of the tables has been in the program.
pub const COLLECTED_ON: &str = "2026-02-11";

named_enum! {
    /// What a reference price is for.
    pub enum PriceUnit ("price unit") {
        /// One GPU for an hour.
        GpuHour => "gpu_hour",
        /// A whole instance for an hour.
        InstanceHour => "instance_hour",
        /// An hour of something that the source does not name.
        UnstatedHour => "unstated_hour",
        /// Buying a card; the note has the amount.
        Card => "usd_per_card",
        /// A GB of data transfer; the note has the amount.
        Gigabyte => "usd_per_gb",
        /// One job; the note has the amount.
        Job => "usd_per_job",
        /// A million tokens; the note has the amount.
        MillionTokens => "usd_per_1m_tokens",
        /// One conversation; the note has the amount.
        Conversation => "usd_per_conversation",
        /// A day of experiments; the note has the amount.
        Day => "usd_per_day",
    }
}

/// A price that somebody published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferencePrice {
    /// Who asks for it.
    pub provider: String,
    /// The kind of service, such as `on_demand`, `spot` or `marketplace`.
    pub tier: Option<String>,
    /// The provider's name of the instance.
    pub instance: Option<String>,
    /// The GPU, as the source writes it.
    pub gpu: Option<String>,
    /// The models that this may mean; more than one where the source does not say which form or memory.
    pub models: Vec<&'static GpuModel>,
    /// GPUs in what the price is for.
    pub gpu_count: Option<u32>,
    /// Memory of one GPU in GB, as the source says.
    pub vram_gb: Option<u32>,
    /// The lowest price that was seen.
    pub low: Option<UsdPerHour>,
    /// The highest.
    pub high: Option<UsdPerHour>,
    /// What the price is for.
    pub unit: PriceUnit,
    /// Where, as the source says.
    pub region: Option<String>,
    /// When it was seen, as a date; `None` where the source has none.
    pub observed_on: Option<String>,
    /// Where it was published.
    pub source: String,
    /// Contradictions and circumstances.
    pub note: Option<String>,
    /// The note says that this is the price of something else.
    pub contradicted: bool,
}

/// How a platform does business, as its terms were described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformTerms {
    /// The platform.
    pub provider: String,
    /// The least that is billed, which is taken for the step that time is rounded to.
    pub minimum_billing: Option<Seconds>,
    /// From asking for a machine to having it, at best.
    pub setup_low: Option<Seconds>,
    /// The same, at worst.
    pub setup_high: Option<Seconds>,
    /// The platform's part in basis points, at least.
    pub fee_bps_low: Option<u16>,
    /// The same, at most.
    pub fee_bps_high: Option<u16>,
    /// Whether renters must show who they are: `yes`, `no` or `optional`.
    pub kyc: Option<String>,
    /// Whether coins are taken: `yes` or `no`.
    pub crypto: Option<String>,
    /// Promised uptime in percent.
    pub sla_uptime_percent: Option<String>,
    /// Whether there are consumer cards: `yes` or `no`.
    pub consumer_gpus: Option<String>,
    /// Whether there are interruptible machines: `yes` or `no`.
    pub spot: Option<String>,
    /// Discounts for binding oneself.
    pub commitments: Option<String>,
    /// Where it was published.
    pub source: String,
    /// Contradictions and circumstances.
    pub note: Option<String>,
}

static PRICES: LazyLock<Vec<ReferencePrice>> = LazyLock::new(|| {
    csv::read(include_str!("../data/reference-prices.csv"), |record| {
        let gpu = record.maybe("gpu_model");
        let models = gpu.as_deref().map(catalog::candidates).unwrap_or_default();
        Some(ReferencePrice {
            provider: record.maybe("provider")?,
            tier: record.maybe("tier"),
            instance: record.maybe("instance"),
            gpu,
            models,
            gpu_count: record.parse("gpu_count"),
            vram_gb: record.parse("vram_gb_per_gpu"),
            low: record.parse("usd_per_hour_low"),
            high: record.parse("usd_per_hour_high"),
            unit: record.parse("price_unit")?,
            region: record.maybe("region"),
            observed_on: record.maybe("observed_on"),
            source: record.maybe("source")?,
            note: record.maybe("note"),
            contradicted: record.text("contradicted") == "yes",
        })
    })
});

static TERMS: LazyLock<Vec<PlatformTerms>> = LazyLock::new(|| {
    csv::read(include_str!("../data/platform-terms.csv"), |record| {
        let seconds = |column| record.parse(column).map(Seconds);
        Some(PlatformTerms {
            provider: record.maybe("provider")?,
            minimum_billing: seconds("minimum_billing_s"),
            setup_low: seconds("setup_time_s_low"),
            setup_high: seconds("setup_time_s_high"),
            fee_bps_low: record.parse("platform_fee_bps_low"),
            fee_bps_high: record.parse("platform_fee_bps_high"),
            kyc: record.maybe("kyc"),
            crypto: record.maybe("crypto"),
            sla_uptime_percent: record.maybe("sla_uptime_percent"),
            consumer_gpus: record.maybe("consumer_gpus"),
            spot: record.maybe("spot"),
            commitments: record.maybe("commitments"),
            source: record.maybe("source")?,
            note: record.maybe("note"),
        })
    })
});

/// All prices, in the order of the table.
#[must_use]
pub fn prices() -> &'static [ReferencePrice] {
    &PRICES
}

/// All platforms, in the order of the table.
#[must_use]
pub fn platforms() -> &'static [PlatformTerms] {
    &TERMS
}

/// The terms of this provider, if the table has them.
#[must_use]
pub fn terms_of(provider: &str) -> Option<&'static PlatformTerms> {
    platforms().iter().find(|terms| terms.provider == provider)
}

#[cfg(test)]
mod tests;
