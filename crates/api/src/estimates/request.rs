//! What can be asked, kind by kind. Each is read strictly; what is left out gets the value that its text names.

use domain::{
    catalog::Form,
    estimate::{FeeSide, Hours, PerHundredHours, Quantity},
    money::{Bps, FeeBps},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{Code, Problem, extract, views::Usd};

/// The kinds, as they are written.
pub(super) const KINDS: [&str; 10] = [
    "usage",
    "replica",
    "per_million_tokens",
    "per_gpu",
    "item",
    "spot",
    "break_even",
    "compare",
    "compare_providers",
    "composite",
];

const fn one() -> u32 {
    1
}

const fn sixty() -> u32 {
    60
}

const fn provider() -> FeeSide {
    FeeSide::Provider
}

const fn yes() -> bool {
    true
}

fn no_fee() -> FeeBps {
    FeeBps::ZERO
}

fn whole_day() -> Hours {
    Hours::from_micros(24_000_000)
}

/// Rented time.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageRequest {
    /// Per unit and hour; above 0.
    pub(super) price: Usd,
    /// GPUs or machines, 1 to 10,000; 1 if left out.
    #[serde(default = "one")]
    pub(super) units: u32,
    /// How long, in seconds. Either this or `hours`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elapsed_s: Option<u32>,
    /// How long, as a decimal such as `"182.5"`. Months are of 720 or 730 hours, depending on whom you ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) hours: Option<Hours>,
    /// Time is rounded up to a multiple of this, 1 to 86,400; 1 if left out.
    #[serde(default = "one")]
    pub(super) granularity_s: u32,
    /// The least that is billed, 0 to 86,400; 1 if left out.
    #[serde(default = "one")]
    pub(super) min_s: u32,
    /// The platform's part of the gross in basis points, 0 to 1,500; 0 if left out.
    #[serde(default = "no_fee")]
    #[schema(value_type = u16)]
    pub(super) fee_bps: FeeBps,
    /// `provider` (it is taken from the provider's part; the default) or `renter` (it comes on top).
    #[serde(default = "provider")]
    #[schema(value_type = String)]
    pub(super) fee_side: FeeSide,
    /// The total never passes it, and what is left is the refund.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deposit: Option<Usd>,
    /// `false`: it never became ready, and nothing is billed.
    #[serde(default = "yes")]
    pub(super) ever_ready: bool,
}

/// A service with a steady number of replicas, and more for part of the time:
/// `price * (hours * min_replicas + scale_up_hours * additional_replicas)`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplicaRequest {
    /// Per unit and hour; above 0.
    pub(super) price: Usd,
    /// Units in one replica, 1 to 10,000; 1 if left out.
    #[serde(default = "one")]
    pub(super) units: u32,
    /// How long the service runs.
    #[schema(value_type = String, example = "730")]
    pub(super) hours: Hours,
    /// Replicas all that time, 0 to 10,000.
    pub(super) min_replicas: u32,
    /// How long it is scaled up, at most `hours`; 0 if left out.
    #[serde(default)]
    #[schema(value_type = String, example = "182.5")]
    pub(super) scale_up_hours: Hours,
    /// Replicas more during that, 0 to 10,000; 0 if left out.
    #[serde(default)]
    pub(super) additional_replicas: u32,
    /// Each replica's time is rounded up to a multiple of this; 60 if left out.
    #[serde(default = "sixty")]
    pub(super) granularity_s: u32,
    /// The least that is billed of a replica that ran; 60 if left out.
    #[serde(default = "sixty")]
    pub(super) min_s: u32,
    /// As for `usage`.
    #[serde(default = "no_fee")]
    #[schema(value_type = u16)]
    pub(super) fee_bps: FeeBps,
    /// As for `usage`.
    #[serde(default = "provider")]
    #[schema(value_type = String)]
    pub(super) fee_side: FeeSide,
}

/// What a million tokens cost at a throughput that you measured.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokensRequest {
    /// Per unit and hour; above 0.
    pub(super) price: Usd,
    /// Units that together make the throughput, 1 to 10,000; 1 if left out.
    #[serde(default = "one")]
    pub(super) units: u32,
    /// Tokens that all of them make in a second, at least 1.
    #[schema(example = 1550)]
    pub(super) tokens_per_second: u32,
    /// How many tokens, for a total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<u64>,
}

/// One GPU's share of an instance's price.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PerGpuRequest {
    /// Of the whole instance for an hour; above 0.
    pub(super) instance_price: Usd,
    /// GPUs in it, 1 to 10,000.
    pub(super) gpus: u32,
}

/// So much of something at a price each: disk, traffic.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemRequest {
    /// As a decimal such as `"12.5"`.
    #[schema(value_type = String, example = "100")]
    pub(super) quantity: Quantity,
    /// For each.
    pub(super) unit_price: Usd,
}

/// Work on machines that may be taken away.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpotRequest {
    /// Without interruptions, per unit and hour; above 0.
    pub(super) price: Usd,
    /// How much less an interruptible hour costs, 0 to 10,000 basis points.
    #[schema(value_type = u16, example = 6000)]
    pub(super) discount_bps: Bps,
    /// 1 to 10,000; 1 if left out.
    #[serde(default = "one")]
    pub(super) units: u32,
    /// How long the work takes without interruptions, in seconds. Either this or `hours`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elapsed_s: Option<u32>,
    /// The same as a decimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) hours: Option<Hours>,
    /// How often it is interrupted, on average.
    #[schema(value_type = String, example = "5")]
    pub(super) interruptions_per_100h: PerHundredHours,
    /// Billed time until it works again after an interruption; 0 if left out.
    #[serde(default)]
    pub(super) restart_s: u32,
    /// Work that is lost with an interruption and done again: half the time between checkpoints; 0 if left out.
    #[serde(default)]
    pub(super) redo_s: u32,
    /// As for `usage`.
    #[serde(default = "one")]
    pub(super) granularity_s: u32,
    /// As for `usage`.
    #[serde(default = "one")]
    pub(super) min_s: u32,
}

/// Rent or buy.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakEvenRequest {
    /// What a card costs; above 0.
    pub(super) purchase_price: Usd,
    /// What it is sold for at the end; nothing if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resale_value: Option<Usd>,
    /// What renting one costs an hour; above 0.
    pub(super) price: Usd,
    /// What it draws, for the cost of power; 0 if left out.
    #[serde(default)]
    pub(super) power_w: u32,
    /// What a kilowatt-hour costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) price_per_kwh: Option<Usd>,
    /// Hours of use a day, above 0, at most 24; 24 if left out.
    #[serde(default = "whole_day")]
    #[schema(value_type = String, example = "24")]
    pub(super) hours_per_day: Hours,
}

/// One way of doing something.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WayRequest {
    /// 1 to 64 characters.
    #[schema(example = "API")]
    pub(super) label: String,
    /// What doing it once costs.
    pub(super) unit_price: Usd,
}

/// Several ways of doing the same many times.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompareRequest {
    /// How many times.
    #[schema(example = 100000)]
    pub(super) count: u64,
    /// 2 to 16; the first is what the others are compared with.
    pub(super) ways: Vec<WayRequest>,
}

/// One job at every provider of the reference prices, billed by the second, the minute and the hour.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProvidersRequest {
    /// In any spelling. One that leaves the form open is enough; of different memory sizes one must be said.
    #[schema(example = "A100 80GB")]
    pub(super) gpu_model: String,
    /// Memory of one GPU, if the name does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vram_gb: Option<u32>,
    /// `pcie`, `sxm`, `nvl`, `oam` or `superchip`, if it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) form: Option<Form>,
    /// 1 to 10,000; 1 if left out.
    #[serde(default = "one")]
    pub(super) gpus: u32,
    /// How long, in seconds. Either this or `hours`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elapsed_s: Option<u32>,
    /// The same as a decimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "8")]
    pub(super) hours: Option<Hours>,
}

/// A part of a whole.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartRequest {
    /// 1 to 64 characters.
    #[schema(example = "disk")]
    pub(super) label: String,
    /// An estimate of a kind that has a total: `usage`, `replica`, `spot`, `item`, or `per_million_tokens` with `tokens`.
    #[schema(value_type = Object, example = json!({"kind": "item", "quantity": "100",
        "unit_price": {"amount": "0.10", "currency": "USD"}}))]
    pub(super) estimate: Value,
}

/// Several parts, added up.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompositeRequest {
    /// 1 to 32.
    pub(super) parts: Vec<PartRequest>,
}

/// What to estimate.
#[derive(Clone, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum EstimateRequest {
    Usage(UsageRequest),
    Replica(ReplicaRequest),
    PerMillionTokens(TokensRequest),
    PerGpu(PerGpuRequest),
    Item(ItemRequest),
    Spot(SpotRequest),
    BreakEven(BreakEvenRequest),
    Compare(CompareRequest),
    CompareProviders(ProvidersRequest),
    Composite(CompositeRequest),
}

impl EstimateRequest {
    /// Reads a request. The kind decides what the other members may be, so it is looked for first.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], with a pointer that begins with `at`.
    pub(super) fn read(value: Value, at: &str) -> Result<Self, Problem> {
        let Value::Object(mut members) = value else {
            let message = "an object with a kind is expected";
            return Err(Problem::new(Code::InvalidRequest, message).at(at, message));
        };
        let kind = members.remove("kind");
        let Some(Value::String(kind)) = kind else {
            let message = format!("kind must be one of {}", KINDS.join(", "));
            return Err(Problem::new(Code::InvalidRequest, message.clone())
                .at(format!("{at}/kind"), message));
        };
        let rest = Value::Object(members);
        Ok(match kind.as_str() {
            "usage" => Self::Usage(extract::value(rest, at)?),
            "replica" => Self::Replica(extract::value(rest, at)?),
            "per_million_tokens" => Self::PerMillionTokens(extract::value(rest, at)?),
            "per_gpu" => Self::PerGpu(extract::value(rest, at)?),
            "item" => Self::Item(extract::value(rest, at)?),
            "spot" => Self::Spot(extract::value(rest, at)?),
            "break_even" => Self::BreakEven(extract::value(rest, at)?),
            "compare" => Self::Compare(extract::value(rest, at)?),
            "compare_providers" => Self::CompareProviders(extract::value(rest, at)?),
            "composite" => Self::Composite(extract::value(rest, at)?),
            other => {
                let short: String = other.chars().take(64).collect();
                let message = format!("{short:?} is no kind; kinds are {}", KINDS.join(", "));
                let pointer = format!("{at}/kind");
                return Err(
                    Problem::new(Code::InvalidRequest, message.clone()).at(pointer, message)
                );
            }
        })
    }
}
