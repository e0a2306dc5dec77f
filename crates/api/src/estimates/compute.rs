//! The estimates that need nothing but the request.

use domain::{
    estimate::{
        self, BreakEven, Charge, Fee, FeeSide, Replicas, Spot, Usage, UsageEstimate, change,
        per_gpu, per_million_tokens, power_ceil,
    },
    money::{FeeBps, UsdMicros},
    time::Seconds,
};

use super::{
    answer::{
        BreakEvenAnswer, ChargeView, CompareAnswer, CompositeAnswer, EstimateAnswer, ItemAnswer,
        PartAnswer, PriceAnswer, SpotAnswer, UsageAnswer, WayAnswer,
    },
    bounds::At,
    request::{
        BreakEvenRequest, CompareRequest, CompositeRequest, EstimateRequest, ItemRequest,
        PerGpuRequest, ReplicaRequest, SpotRequest, TokensRequest, UsageRequest,
    },
};
use crate::Problem;

const MAX_PARTS: usize = 32;
const MAX_WAYS: usize = 16;
const NO_FEE: Fee = Fee { bps: FeeBps::ZERO, side: FeeSide::Provider };

/// Answers a request that stands at `pointer` in the body.
///
/// # Errors
/// [`crate::Code::ValidationFailed`], with the place.
pub(super) fn answer(request: &EstimateRequest, pointer: &str) -> Result<EstimateAnswer, Problem> {
    let at = At(pointer);
    Ok(match request {
        EstimateRequest::Usage(request) => EstimateAnswer::Usage(usage(request, at)?),
        EstimateRequest::Replica(request) => EstimateAnswer::Replica(replica(request, at)?),
        EstimateRequest::PerMillionTokens(request) => {
            EstimateAnswer::PerMillionTokens(tokens(request, at)?)
        }
        EstimateRequest::PerGpu(request) => EstimateAnswer::PerGpu(gpu_share(request, at)?),
        EstimateRequest::Item(request) => EstimateAnswer::Item(item(request, at)?),
        EstimateRequest::Spot(request) => EstimateAnswer::Spot(Box::new(spot(request, at)?)),
        EstimateRequest::BreakEven(request) => EstimateAnswer::BreakEven(break_even(request, at)?),
        EstimateRequest::Compare(request) => EstimateAnswer::Compare(compare(request, at)?),
        EstimateRequest::Composite(request) => EstimateAnswer::Composite(composite(request, at)?),
        EstimateRequest::CompareProviders(_) => {
            return Err(
                at.refused("kind", "compare_providers has no total and is no part of a whole")
            );
        }
    })
}

impl From<UsageEstimate> for UsageAnswer {
    fn from(estimate: UsageEstimate) -> Self {
        let UsageEstimate { billed, charge } = estimate;
        Self { billed_s: billed, charge: charge.into() }
    }
}

fn usage(request: &UsageRequest, at: At<'_>) -> Result<UsageAnswer, Problem> {
    let input = Usage {
        rate: at.rate("price", request.price)?,
        units: at.count("units", request.units, 1)?,
        elapsed: at.elapsed(request.elapsed_s, request.hours)?,
        rounding: at.rounding(request.granularity_s, request.min_s)?,
        ever_ready: request.ever_ready,
        fee: Fee { bps: request.fee_bps, side: request.fee_side },
        deposit: request.deposit.map(|deposit| at.amount("deposit", deposit)).transpose()?,
    };
    estimate::usage(&input).map(UsageAnswer::from).map_err(|error| at.out_of_range(error))
}

fn replica(request: &ReplicaRequest, at: At<'_>) -> Result<ChargeView, Problem> {
    let rate = at.rate("price", request.price)?;
    at.hours("hours", request.hours)?;
    at.hours("scale_up_hours", request.scale_up_hours)?;
    if request.scale_up_hours > request.hours {
        return Err(at.refused("scale_up_hours", "at most hours"));
    }
    let service = Replicas {
        rate,
        units: at.count("units", request.units, 1)?,
        hours: request.hours,
        min_replicas: at.count("min_replicas", request.min_replicas, 0)?,
        scale_up_hours: request.scale_up_hours,
        additional_replicas: at.count("additional_replicas", request.additional_replicas, 0)?,
        rounding: at.rounding(request.granularity_s, request.min_s)?,
        fee: Fee { bps: request.fee_bps, side: request.fee_side },
    };
    let charge: Charge = estimate::replica(&service).map_err(|error| at.out_of_range(error))?;
    Ok(charge.into())
}

fn tokens(request: &TokensRequest, at: At<'_>) -> Result<PriceAnswer, Problem> {
    let rate = at.rate("price", request.price)?;
    let units = at.count("units", request.units, 1)?;
    let speed = request.tokens_per_second;
    if speed == 0 {
        return Err(at.refused("tokens_per_second", "at least 1"));
    }
    let price = per_million_tokens(rate, units, speed).map_err(|error| at.out_of_range(error))?;
    let total = request
        .tokens
        .map(|tokens| estimate::for_tokens(rate, units, speed, tokens))
        .transpose()
        .map_err(|error| at.out_of_range(error))?;
    Ok(priced(price, total))
}

fn priced(price: UsdMicros, total: Option<UsdMicros>) -> PriceAnswer {
    PriceAnswer {
        price: price.into(),
        total: total.map(Into::into),
        display: price.cents_half_up(),
    }
}

fn gpu_share(request: &PerGpuRequest, at: At<'_>) -> Result<PriceAnswer, Problem> {
    let rate = at.rate("instance_price", request.instance_price)?;
    let gpus = at.count("gpus", request.gpus, 1)?;
    let share = per_gpu(rate, gpus).map_err(|error| at.out_of_range(error))?;
    Ok(priced(share.usd(), None))
}

fn item(request: &ItemRequest, at: At<'_>) -> Result<ItemAnswer, Problem> {
    let price = at.amount("unit_price", request.unit_price)?;
    let total = estimate::for_quantity(request.quantity, price);
    let total = total.map_err(|error| at.out_of_range(error))?;
    Ok(ItemAnswer { total: total.into(), display: total.cents_half_up() })
}

fn spot(request: &SpotRequest, at: At<'_>) -> Result<SpotAnswer, Problem> {
    let on_demand = Usage {
        rate: at.rate("price", request.price)?,
        units: at.count("units", request.units, 1)?,
        elapsed: at.elapsed(request.elapsed_s, request.hours)?,
        rounding: at.rounding(request.granularity_s, request.min_s)?,
        ever_ready: true,
        fee: NO_FEE,
        deposit: None,
    };
    let lost = Seconds(request.restart_s.saturating_add(request.redo_s));
    let (discount, interruptions) = (request.discount_bps, request.interruptions_per_100h);
    let case = Spot { on_demand, discount, interruptions, lost };
    let found = estimate::spot(&case).map_err(|error| at.no_estimate(error))?;
    let total = found.expected.charge.renter_total;
    Ok(SpotAnswer {
        on_demand: found.on_demand.into(),
        expected: found.expected.into(),
        running_s: found.running,
        interruptions: UsdMicros::new(found.interruptions_micros).to_string(),
        change: found.change.to_string(),
        break_even_discount_bps: found.break_even.get(),
        total: total.into(),
        display: total.cents_half_up(),
    })
}

fn break_even(request: &BreakEvenRequest, at: At<'_>) -> Result<BreakEvenAnswer, Problem> {
    let per_kwh = match (request.price_per_kwh, request.power_w) {
        (Some(price), _) => at.amount("price_per_kwh", price)?,
        (None, 0) => UsdMicros::ZERO,
        (None, _) => return Err(at.refused("price_per_kwh", "power has a price: say it too")),
    };
    let running_cost =
        power_ceil(request.power_w, per_kwh).map_err(|error| at.out_of_range(error))?;
    let day = domain::estimate::Hours::from_micros(24_000_000);
    if request.hours_per_day == domain::estimate::Hours::ZERO || request.hours_per_day > day {
        return Err(at.refused("hours_per_day", "above 0, at most 24"));
    }
    let case = BreakEven {
        purchase: at.price("purchase_price", request.purchase_price)?,
        resale: request
            .resale_value
            .map(|value| at.amount("resale_value", value))
            .transpose()?
            .unwrap_or_default(),
        rent: at.rate("price", request.price)?,
        running_cost,
        hours_per_day: request.hours_per_day,
    };
    let point = estimate::break_even(&case).map_err(|error| at.out_of_range(error))?;
    let running_cost_per_hour = running_cost.usd().into();
    Ok(match point {
        None => BreakEvenAnswer {
            hours: None,
            days: None,
            running_cost_per_hour,
            saved_per_hour: None,
            display: "never: an hour of one's own costs as much as renting it".to_owned(),
        },
        Some(point) => {
            let days = UsdMicros::new(point.days_micros);
            let hours = UsdMicros::new(point.hours.micros());
            BreakEvenAnswer {
                hours: Some(point.hours),
                days: Some(days.to_string()),
                running_cost_per_hour,
                saved_per_hour: Some(point.saved_per_hour.into()),
                display: format!(
                    "after {} h of use, {} days at {} h a day",
                    hours.cents_half_up(),
                    days.cents_half_up(),
                    UsdMicros::new(request.hours_per_day.micros()).cents_half_up(),
                ),
            }
        }
    })
}

fn compare(request: &CompareRequest, at: At<'_>) -> Result<CompareAnswer, Problem> {
    at.length("ways", request.ways.len(), 2, MAX_WAYS)?;
    let mut ways: Vec<WayAnswer> = Vec::with_capacity(request.ways.len());
    let mut first = None;
    for (place, way) in request.ways.iter().enumerate() {
        at.label(&format!("ways/{place}/label"), &way.label)?;
        let price = at.amount(&format!("ways/{place}/unit_price"), way.unit_price)?;
        let base = *first.get_or_insert(price);
        let compared = estimate::compare(request.count, base, price);
        let compared = compared.map_err(|error| at.out_of_range(error))?;
        ways.push(WayAnswer {
            label: way.label.clone(),
            total: compared.total_b.into(),
            change: compared.change.to_string(),
            display: compared.to_string(),
        });
    }
    let cheapest = ways.iter().min_by_key(|way| way.total.amount).map(|way| way.label.clone());
    Ok(CompareAnswer { ways, cheapest: cheapest.unwrap_or_default() })
}

fn composite(request: &CompositeRequest, at: At<'_>) -> Result<CompositeAnswer, Problem> {
    at.length("parts", request.parts.len(), 1, MAX_PARTS)?;
    let mut parts = Vec::with_capacity(request.parts.len());
    let mut whole = UsdMicros::ZERO;
    for (place, part) in request.parts.iter().enumerate() {
        at.label(&format!("parts/{place}/label"), &part.label)?;
        let pointer = format!("{}/parts/{place}/estimate", at.0);
        let asked = EstimateRequest::read(part.estimate.clone(), &pointer)?;
        if matches!(asked, EstimateRequest::Composite(_)) {
            return Err(At(&pointer).refused("kind", "a part is no composite itself"));
        }
        let estimate = answer(&asked, &pointer)?;
        let Some(total) = estimate.total() else {
            let message = "this kind has no total; per_million_tokens has one with tokens";
            return Err(At(&pointer).refused("kind", message));
        };
        let sum = whole.checked_add(total);
        whole = sum.ok_or_else(|| at.out_of_range(domain::MoneyError::Overflow))?;
        parts.push(PartAnswer { label: part.label.clone(), total: total.into(), estimate });
    }
    Ok(CompositeAnswer { parts, total: whole.into(), display: whole.cents_half_up() })
}

/// How one hourly total differs from another, in words.
pub(super) fn difference(from: UsdMicros, to: UsdMicros) -> Option<String> {
    change(from, to).ok().map(|change| change.to_string())
}
