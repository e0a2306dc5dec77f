//! A found offer as it is shown.

use domain::{
    estimate::per_million_tokens, money::UsdMicros, quote::JobTotal, rate::UsdPerHour,
    reliability::ENOUGH_STARTS,
};
use market::{Brief, Offer, Query, Sort};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeSeq as _},
};
use utoipa::ToSchema;

use super::text::{Id, Micros, Second, Share, Tenths, decimal, digits};
use crate::views::Usd;

/// An offer that a search found.
#[derive(Serialize, ToSchema)]
pub(super) struct FoundOffer<'a> {
    #[serde(flatten)]
    listed: ListedOffer<'a>,
    #[serde(flatten)]
    placed: PlacedOffer,
}

/// An offer as every search shows it: this changes only when the listing does.
#[derive(Serialize, ToSchema)]
pub(super) struct ListedOffer<'a> {
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: Id,
    /// Grows with every change of its terms.
    #[schema(example = 1)]
    version: u32,
    /// Always `listed`.
    #[schema(example = "listed")]
    state: &'static str,
    /// The account that earns.
    #[schema(value_type = String, example = "acc_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    provider: Id,
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: Id,
    #[schema(example = "de-fra")]
    region: &'a str,
    #[schema(example = "rtx-4090")]
    gpu_model: &'a str,
    /// The most GPUs of one rental.
    #[schema(example = 4)]
    gpu_count: u16,
    /// How many GPUs a rental can take.
    #[schema(value_type = Vec<u16>, example = json!([1, 2, 4]))]
    chunks: Chunks,
    /// The machine's GPUs that nobody rents now.
    #[schema(example = 3)]
    gpus_free: u16,
    /// Memory of one GPU.
    #[schema(example = 24)]
    vram_gb: u32,
    #[schema(example = "pcie")]
    form: &'static str,
    /// CUDA compute capability; null where the GPU is not NVIDIA's.
    #[schema(value_type = Option<String>, example = "8.9")]
    compute_capability: Option<Tenths>,
    /// Per GPU and hour, gross: the renter pays this and nothing on top.
    #[schema(value_type = Usd)]
    price: Micros,
    /// Billions of operations per second for a dollar per hour, in single precision (fp32) by the maker's data sheet; null
    /// where that is not known.
    #[schema(example = 127_076)]
    gflops_per_usd: Option<u64>,
    /// Longer is cheaper; empty without discounts.
    #[schema(value_type = Vec<StepView>)]
    reserved: Steps<'a>,
    disk: DiskView,
    network: NetworkView,
    #[schema(example = 60)]
    min_duration_s: u32,
    #[schema(example = 86400)]
    max_duration_s: u32,
    /// Time is billed by the second: the escrow's rule, the same for all offers.
    #[schema(example = 1)]
    granularity_s: u32,
    /// How long before the provider ends a rental the renter is told.
    #[schema(example = 120)]
    notice_s: u32,
    /// `machine`, `gpu` or `mig`.
    #[schema(example = "gpu")]
    isolation: &'static str,
    /// No rental runs beyond this time: the offer's end, or the machine's next maintenance. Null without such a time.
    #[schema(value_type = Option<String>, format = DateTime)]
    available_until: Option<Second>,
    #[schema(example = 16)]
    cpu_cores: u32,
    #[schema(example = 64)]
    ram_gb: u32,
    /// CUDA version; null where it is not known, like all that follow.
    #[schema(value_type = Option<String>, example = "12.4")]
    cuda: Option<Tenths>,
    #[schema(example = 3500)]
    disk_mb_s: Option<u32>,
    #[schema(example = 24000)]
    pcie_mb_s: Option<u32>,
    #[schema(example = 1000)]
    inet_up_mbps: Option<u32>,
    #[schema(example = 1000)]
    inet_down_mbps: Option<u32>,
    #[schema(example = 100)]
    ports: u16,
    static_ip: bool,
    /// Whether it can be quoted with a `template`: its machine's agent says that it runs them.
    runs_templates: bool,
    /// `unverified`, `verified` or `datacenter`.
    #[schema(example = "verified")]
    tier: &'static str,
    #[schema(example = "verified")]
    verification: &'static str,
    /// Of the last 30 days, 0 to 1: the lower bound of what it has shown, and so low by itself where that is little.
    #[schema(value_type = Option<String>, example = "0.9912")]
    reliability: Option<Share>,
    /// Starts in those 30 days, 65,535 for more; null without a reliability.
    #[schema(example = 41)]
    starts: Option<u16>,
    /// False with fewer than 20 starts: then the reliability says little.
    #[schema(example = true)]
    enough: Option<bool>,
    /// 95 of 100 rentals were ready within so many milliseconds.
    #[schema(example = 21000)]
    ready_p95_ms: Option<u32>,
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00Z")]
    created_at: Second,
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00Z")]
    updated_at: Second,
}

/// What is of this search and this moment.
#[derive(Serialize, ToSchema)]
pub(super) struct PlacedOffer {
    /// The GPUs of the rental that was searched for: `total` is for so many.
    #[schema(example = 2)]
    gpus: u16,
    /// For the job of the search; left out without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<TotalView>,
    /// A million tokens at `tokens_per_s` per GPU; null where that has no speed for its model, left out where it was not
    /// given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usd>)]
    per_million_tokens: Option<Tokens>,
    /// Whether the machine was heard of lately.
    online: bool,
    /// Whether a quote for its smallest chunk and its shortest time can be had now.
    available: bool,
    /// Why it stands here.
    #[schema(value_type = String, example = "place 1 by total: 1.300000 for the job")]
    rank_reason: RankReason,
}

/// What a million tokens cost, where there is a speed for the model.
#[derive(Clone, Copy, Serialize)]
struct Tokens(Option<Micros>);

/// What the job comes to at most, as a quote would reckon. The parts are rounded up one by one.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(super) struct TotalView {
    #[schema(value_type = Usd)]
    compute: Micros,
    #[schema(value_type = Usd)]
    disk: Micros,
    #[schema(value_type = Usd)]
    network: Micros,
    #[schema(value_type = Usd)]
    total: Micros,
}

impl From<JobTotal> for TotalView {
    fn from(total: JobTotal) -> Self {
        Self {
            compute: Micros(total.compute.get()),
            disk: Micros(total.disk.get()),
            network: Micros(total.network.get()),
            total: Micros(total.total.get()),
        }
    }
}

/// A discount for a long rental.
#[derive(Serialize, ToSchema)]
struct StepView {
    #[schema(example = 604_800)]
    min_duration_s: u32,
    #[schema(example = 1500)]
    discount_bps: u16,
}

/// What disk costs, and how much there is with all of the machine's GPUs.
#[derive(Serialize, ToSchema)]
struct DiskView {
    #[schema(value_type = Usd)]
    per_gb_month: Micros,
    #[schema(example = 1000)]
    max_gb: u32,
}

/// What the network costs.
#[derive(Serialize, ToSchema)]
struct NetworkView {
    #[schema(value_type = Usd)]
    up_per_gb: Micros,
    #[schema(value_type = Usd)]
    down_per_gb: Micros,
}

/// Numbers as bits.
struct Chunks(u64);

impl Serialize for Chunks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut left = self.0;
        while left != 0 {
            list.serialize_element(&left.trailing_zeros().saturating_add(1))?;
            left &= left.wrapping_sub(1);
        }
        list.end()
    }
}

struct Steps<'a>(&'a [market::Step]);

impl Serialize for Steps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|step| StepView {
            min_duration_s: step.min_duration_s,
            discount_bps: step.discount_bps,
        }))
    }
}

/// Which place an offer has, and by what.
#[derive(Clone, Copy)]
struct RankReason {
    place: u32,
    by: By,
    price: u64,
}

#[derive(Clone, Copy)]
enum By {
    Price,
    Total(u64),
    Speed(Option<u64>),
    Tokens(Option<u64>),
    Reliability(Option<u16>),
    Ready(Option<u32>),
    Age,
}

/// How a price ends the reason of a place.
pub(super) fn by_price(micros: u64, text: &mut Vec<u8>) {
    text.extend_from_slice(b" of this page by price: ");
    decimal(text, micros, 6);
    text.extend_from_slice(b" per GPU and hour");
}

impl RankReason {
    /// ASCII that JSON need not escape; [`by_price`] was written before.
    fn write(self, price: &[u8], body: &mut Vec<u8>) {
        body.extend_from_slice(b"place ");
        digits(body, self.place.into(), 1);
        let (by, value, unit) = match self.by {
            By::Price => return body.extend_from_slice(price),
            By::Total(micros) => ("total: ", Some((micros, 6)), " for the job"),
            By::Speed(Some(gflops)) => {
                ("speed: ", Some((gflops, 0)), " GFLOPS (fp32) for a dollar per hour")
            }
            By::Speed(None) => ("speed, which is not known", None, ""),
            By::Tokens(Some(micros)) => ("tokens: ", Some((micros, 6)), " for a million"),
            By::Tokens(None) => ("tokens, of which no speed is given", None, ""),
            By::Reliability(Some(bps)) => ("reliability: ", Some((bps.into(), 4)), " over 30 days"),
            By::Reliability(None) => ("reliability, which is not known", None, ""),
            By::Ready(Some(ms)) => {
                ("readiness: ", Some((ms.into(), 0)), " ms for 95 of 100 rentals")
            }
            By::Ready(None) => ("readiness, which is not known", None, ""),
            By::Age => ("age", None, ""),
        };
        body.extend_from_slice(b" of this page by ");
        body.extend_from_slice(by.as_bytes());
        if let Some((value, decimals)) = value {
            decimal(body, value, decimals);
        }
        body.extend_from_slice(unit.as_bytes());
    }
}

impl Serialize for RankReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut price, mut text) = (Vec::new(), Vec::new());
        by_price(self.price, &mut price);
        self.write(&price, &mut text);
        serializer.serialize_str(str::from_utf8(&text).map_err(S::Error::custom)?)
    }
}

impl<'a> FoundOffer<'a> {
    pub(super) fn of(
        offer: &Offer<'a>,
        query: &Query,
        gpus: u16,
        total: Option<JobTotal>,
        place: u32,
    ) -> Self {
        let placed = PlacedOffer::of(&offer.brief(), query, (gpus, total), place);
        Self { listed: ListedOffer::of(offer), placed }
    }
}

/// Billions of operations in single precision per second for a dollar per hour.
fn speed_of(offer: &Brief<'_>) -> Option<u64> {
    let gflops = offer.model.fp32_gflops?;
    u64::from(gflops).checked_mul(1_000_000)?.checked_div(offer.price_micros.into())
}

impl PlacedOffer {
    /// Appends the members as serde would write them, after others. What [`by_price`] writes was written before.
    pub(super) fn write(&self, price: &[u8], body: &mut Vec<u8>) {
        body.extend_from_slice(br#","gpus":"#);
        digits(body, self.gpus.into(), 1);
        if let Some(TotalView { compute, disk, network, total }) = &self.total {
            for (name, micros) in [
                (r#","total":{"compute":"#, compute),
                (r#","disk":"#, disk),
                (r#","network":"#, network),
                (r#","total":"#, total),
            ] {
                body.extend_from_slice(name.as_bytes());
                micros.write(body);
            }
            body.push(b'}');
        }
        if let Some(micros) = &self.per_million_tokens {
            body.extend_from_slice(br#","per_million_tokens":"#);
            match micros.0 {
                Some(micros) => micros.write(body),
                None => body.extend_from_slice(b"null"),
            }
        }
        body.extend_from_slice(match (self.online, self.available) {
            (true, true) => br#","online":true,"available":true,"rank_reason":""#,
            (true, false) => br#","online":true,"available":false,"rank_reason":""#,
            (false, _) => br#","online":false,"available":false,"rank_reason":""#,
        });
        self.rank_reason.write(price, body);
        body.push(b'"');
    }

    /// In place `place` of a page, for so many GPUs and this total.
    pub(super) fn of(
        offer: &Brief<'_>,
        query: &Query,
        (gpus, total): (u16, Option<JobTotal>),
        place: u32,
    ) -> Self {
        let price = u64::from(offer.price_micros);
        let rate = UsdPerHour(UsdMicros::new(price));
        let tokens = query.speeds.as_ref().map(|speeds| {
            let speed = speeds.of(&offer.model.slug)?;
            per_million_tokens(rate, 1, speed).ok().map(UsdMicros::get)
        });
        let by = match (query.sort, &total) {
            (Sort::Total, Some(total)) => By::Total(total.total.get()),
            (Sort::Price | Sort::Total, _) => By::Price,
            (Sort::PerfPerUsd, _) => By::Speed(speed_of(offer)),
            (Sort::PerToken, _) => By::Tokens(tokens.flatten()),
            (Sort::Reliability, _) => By::Reliability(offer.reliability_bps),
            (Sort::Ready, _) => By::Ready(offer.ready_p95_ms),
            (Sort::Newest, _) => By::Age,
        };
        Self {
            gpus,
            total: total.map(TotalView::from),
            per_million_tokens: tokens.map(|micros| Tokens(micros.map(Micros))),
            online: offer.online,
            available: offer.available,
            rank_reason: RankReason { place, by, price },
        }
    }
}

impl<'a> ListedOffer<'a> {
    pub(super) fn of(offer: &Offer<'a>) -> Self {
        Self {
            id: Id { prefix: "ofr", id: offer.id },
            version: offer.version,
            state: "listed",
            provider: Id { prefix: "acc", id: offer.provider },
            machine_id: Id { prefix: "mch", id: offer.machine },
            region: offer.region,
            gpu_model: &offer.model.slug,
            gpu_count: offer.gpu_count,
            chunks: Chunks(offer.chunks),
            gpus_free: offer.gpus_free,
            vram_gb: offer.model.vram_gb,
            form: offer.model.form.as_str(),
            compute_capability: offer.model.compute_capability.map(Tenths),
            price: Micros(offer.price_micros.into()),
            gflops_per_usd: speed_of(&offer.brief()),
            reserved: Steps(offer.reserved),
            disk: DiskView {
                per_gb_month: Micros(offer.disk_price_micros.into()),
                max_gb: offer.disk_gb,
            },
            network: NetworkView {
                up_per_gb: Micros(offer.up_price_micros.into()),
                down_per_gb: Micros(offer.down_price_micros.into()),
            },
            min_duration_s: offer.min_duration_s,
            max_duration_s: offer.max_duration_s,
            granularity_s: 1,
            notice_s: offer.notice_s,
            isolation: offer.isolation.as_str(),
            available_until: offer.available_until.map(Second),
            cpu_cores: offer.cpu_cores,
            ram_gb: offer.ram_gb,
            cuda: offer.cuda.map(|version| Tenths(version.into())),
            disk_mb_s: offer.disk_mb_s,
            pcie_mb_s: offer.pcie_mb_s,
            inet_up_mbps: offer.inet_up_mbps,
            inet_down_mbps: offer.inet_down_mbps,
            ports: offer.ports,
            static_ip: offer.static_ip,
            runs_templates: offer.runs_templates,
            tier: offer.tier.as_str(),
            verification: offer.verification.as_str(),
            reliability: offer.reliability_bps.map(Share),
            starts: offer.starts,
            enough: offer.starts.map(|starts| u32::from(starts) >= ENOUGH_STARTS),
            ready_p95_ms: offer.ready_p95_ms,
            created_at: Second(offer.created_at),
            updated_at: Second(offer.updated_at),
        }
    }
}
