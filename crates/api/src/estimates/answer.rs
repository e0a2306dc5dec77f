//! What is answered, kind by kind. Amounts are exact to a millionth; `display` is in cents, rounded half up, for people.

use domain::{
    catalog::Form,
    estimate::{Charge, Hours},
    money::UsdMicros,
    time::Seconds,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    catalog::{PriceSpanView, ReferencePriceView},
    views::Usd,
};

/// Who pays and gets what.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChargeView {
    /// The price of the time itself.
    pub(super) gross: Usd,
    /// The platform's part.
    pub(super) fee: Usd,
    /// The provider's part.
    pub(super) provider: Usd,
    /// What the renter pays.
    pub(super) total: Usd,
    /// What is left of the deposit, if there was one.
    pub(super) refund: Option<Usd>,
    /// The total in cents.
    #[schema(example = "1.18")]
    pub(super) display: String,
}

impl From<Charge> for ChargeView {
    fn from(charge: Charge) -> Self {
        Self {
            gross: charge.gross.into(),
            fee: charge.fee.into(),
            provider: charge.provider.into(),
            total: charge.renter_total.into(),
            refund: charge.refund.map(Usd::from),
            display: charge.renter_total.cents_half_up(),
        }
    }
}

/// Rented time.
#[derive(Serialize, ToSchema)]
pub(crate) struct UsageAnswer {
    /// Seconds billed per unit.
    #[schema(value_type = u32, example = 7200)]
    pub(super) billed_s: Seconds,
    #[serde(flatten)]
    pub(super) charge: ChargeView,
}

/// A price that was worked out, and a total if a number was given.
#[derive(Serialize, ToSchema)]
pub(crate) struct PriceAnswer {
    /// For a million tokens, or for one GPU and hour; rounded down.
    pub(super) price: Usd,
    /// For as many as were asked for.
    pub(super) total: Option<Usd>,
    /// The price in cents.
    #[schema(example = "0.86")]
    pub(super) display: String,
}

/// A total.
#[derive(Serialize, ToSchema)]
pub(crate) struct ItemAnswer {
    pub(super) total: Usd,
    /// The total in cents.
    pub(super) display: String,
}

/// What interruptible work is expected to come to.
#[derive(Serialize, ToSchema)]
pub(crate) struct SpotAnswer {
    /// Without interruptions, at the full price.
    pub(super) on_demand: UsageAnswer,
    /// With them, at the discount.
    pub(super) expected: UsageAnswer,
    /// How long it is expected to run, with what is done again.
    #[schema(value_type = u32)]
    pub(super) running_s: Seconds,
    /// As a decimal.
    #[schema(example = "10.000000")]
    pub(super) interruptions: String,
    /// The expected total against that without interruptions.
    #[schema(example = "-57.89%")]
    pub(super) change: String,
    /// The discount at which both would cost the same.
    #[schema(example = 500)]
    pub(super) break_even_discount_bps: u16,
    /// The expected total.
    pub(super) total: Usd,
    /// The expected total in cents.
    pub(super) display: String,
}

/// When buying begins to pay.
#[derive(Serialize, ToSchema)]
pub(crate) struct BreakEvenAnswer {
    /// Hours of use; null if an hour of one's own costs as much as renting it.
    #[schema(value_type = Option<String>, example = "2666.666667")]
    pub(super) hours: Option<Hours>,
    /// Days at that use.
    #[schema(example = "111.111112")]
    pub(super) days: Option<String>,
    /// What an hour of one's own costs.
    pub(super) running_cost_per_hour: Usd,
    /// What each hour of one's own saves; null if nothing.
    pub(super) saved_per_hour: Option<Usd>,
    /// In a sentence.
    pub(super) display: String,
}

/// One way of several.
#[derive(Serialize, ToSchema)]
pub(crate) struct WayAnswer {
    pub(super) label: String,
    pub(super) total: Usd,
    /// Against the first way.
    #[schema(example = "-73.33%")]
    pub(super) change: String,
    /// The first way's total, this one's, and the change.
    #[schema(example = "15000.00 -> 4000.00 (-73.33%)")]
    pub(super) display: String,
}

/// Several ways of doing the same.
#[derive(Serialize, ToSchema)]
pub(crate) struct CompareAnswer {
    /// In the order they were asked for.
    pub(super) ways: Vec<WayAnswer>,
    /// The label of the cheapest, the first of several.
    pub(super) cheapest: String,
}

/// What a job comes to under each way of rounding time.
#[derive(Serialize, ToSchema)]
pub(crate) struct BillingView {
    /// Time rounded up to seconds.
    pub(super) per_second: PriceSpanView,
    /// Time rounded up to minutes.
    pub(super) per_minute: PriceSpanView,
    /// Time rounded up to hours.
    pub(super) per_hour: PriceSpanView,
}

/// A job at one published price.
#[derive(Serialize, ToSchema)]
pub(crate) struct AtProviderView {
    /// The price.
    pub(super) reference: ReferencePriceView,
    /// When it was seen; where the source has no date, when the tables were collected.
    #[schema(example = "2026-02-11")]
    pub(super) as_of: &'static str,
    /// GPUs, or instances, that must be rented.
    #[schema(example = 1)]
    pub(super) units: u32,
    /// GPUs in them; more than were asked for where only whole instances are let.
    #[schema(example = 1)]
    pub(super) gpus: u32,
    /// What the job comes to.
    pub(super) totals: BillingView,
    /// The provider's own way of rounding, as its terms say: `per_second`, `per_minute`, `per_hour`; null if not stated.
    #[schema(example = "per_second")]
    pub(super) billed: Option<&'static str>,
    /// What it comes to in that way.
    pub(super) total: Option<PriceSpanView>,
    /// What `here` comes to against the lowest of that, or of the total by the second where the way is not stated: negative
    /// where it saves. Null with nothing here, and against a price that is contradicted.
    #[schema(example = "-38.98%")]
    pub(super) change: Option<String>,
    /// From asking to having, at best; null if not stated.
    #[schema(value_type = Option<u32>)]
    pub(super) setup_s_low: Option<Seconds>,
    /// The same, at worst.
    #[schema(value_type = Option<u32>)]
    pub(super) setup_s_high: Option<Seconds>,
}

/// The offer of this market that does the job for the least now.
#[derive(Serialize, ToSchema)]
pub(crate) struct HereView {
    /// The offer.
    #[schema(example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    pub(super) offer_id: String,
    #[schema(example = "rtx-4090")]
    pub(super) gpu_model: String,
    /// Per GPU and hour, without the offer's discount for so long.
    pub(super) price: Usd,
    /// For the job, by the second, as everything here is billed; with that discount, as a quote would say.
    pub(super) total: Usd,
    /// The total in cents.
    pub(super) display: String,
    /// Against the cheapest of the others whose price is not contradicted, each in its own way of billing, by the second where none
    /// is stated: the `change` of the first of `providers`. Negative where it saves.
    #[schema(example = "-12.50%")]
    pub(super) change: Option<String>,
}

/// A job at many providers.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProvidersAnswer {
    /// What these figures are, and what they are not.
    pub(super) notice: &'static str,
    /// The models that will do.
    #[schema(example = json!(["rtx-4090"]))]
    pub(super) gpu_models: Vec<&'static str>,
    #[schema(example = 24)]
    pub(super) vram_gb: u32,
    /// The forms among them.
    #[schema(value_type = Vec<String>, example = json!(["pcie"]))]
    pub(super) forms: Vec<Form>,
    pub(super) gpus: u32,
    #[schema(value_type = u32, example = 7200)]
    pub(super) elapsed_s: Seconds,
    /// Here; null if nothing that fits is free now.
    pub(super) here: Option<HereView>,
    /// Elsewhere: cheapest first, each in its own way of billing, by the second where none is stated; behind them those whose price
    /// is contradicted.
    pub(super) providers: Vec<AtProviderView>,
}

/// A part of a whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartAnswer {
    pub(super) label: String,
    pub(super) total: Usd,
    /// The part's own answer.
    #[schema(value_type = Object)]
    pub(super) estimate: EstimateAnswer,
}

/// Several parts, added up.
#[derive(Serialize, ToSchema)]
pub(crate) struct CompositeAnswer {
    pub(super) parts: Vec<PartAnswer>,
    pub(super) total: Usd,
    /// The total in cents.
    pub(super) display: String,
}

/// An estimate. It binds nobody: a quote does.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum EstimateAnswer {
    Usage(UsageAnswer),
    Replica(ChargeView),
    PerMillionTokens(PriceAnswer),
    PerGpu(PriceAnswer),
    Item(ItemAnswer),
    Spot(Box<SpotAnswer>),
    BreakEven(BreakEvenAnswer),
    Compare(CompareAnswer),
    CompareProviders(Box<ProvidersAnswer>),
    Composite(CompositeAnswer),
}

impl EstimateAnswer {
    /// What it comes to, for the kinds that come to something.
    pub(super) fn total(&self) -> Option<UsdMicros> {
        let total = match self {
            Self::Usage(answer) => Some(answer.charge.total),
            Self::Replica(charge) => Some(charge.total),
            Self::PerMillionTokens(price) => price.total,
            Self::Item(item) => Some(item.total),
            Self::Spot(spot) => Some(spot.total),
            Self::Composite(whole) => Some(whole.total),
            Self::PerGpu(_) | Self::BreakEven(_) | Self::Compare(_) | Self::CompareProviders(_) => {
                None
            }
        };
        total.map(|total| total.amount)
    }
}
