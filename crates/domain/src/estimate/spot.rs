//! Interruptible machines: cheaper by the hour, longer by what interruptions cost.

use crate::billing::billed_seconds;
use crate::money::{Bps, MoneyError, UsdMicros, mul_div_ceil, mul_div_floor};
use crate::time::Seconds;

use super::compare::{Change, change};
use super::{EstimateError, PerHundredHours, Usage, UsageEstimate, charge, unit_seconds, usage};

/// Millionths of interruptions times seconds that make up one interruption a second.
const SCALE: u128 = 100 * 3_600 * 1_000_000;

/// Work on interruptible machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The same work without interruptions, at the full price.
    pub on_demand: Usage,
    /// How much less an interruptible hour costs.
    pub discount: Bps,
    /// How often it is interrupted, on average and independent of its age.
    pub interruptions: PerHundredHours,
    /// Billed time that each interruption costs: the start and the work since the last checkpoint.
    pub lost: Seconds,
}

/// What interruptible work is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpotEstimate {
    /// Without interruptions, at the full price.
    pub on_demand: UsageEstimate,
    /// Time that it is expected to run, with what is done again; rounded up.
    pub running: Seconds,
    /// Expected interruptions in millionths, rounded down.
    pub interruptions_micros: u64,
    /// The expected time and money, at the discount.
    pub expected: UsageEstimate,
    /// How the expected total differs from that without interruptions.
    pub change: Change,
    /// The discount at which both cost the same, in basis points, rounded up.
    pub break_even: Bps,
}

/// Expects `work / (1 - rate * lost)` of running time: each interruption adds `lost`, in which there may be others.
///
/// # Errors
/// [`EstimateError::NeverEnds`] if interruptions cost more time than passes between them.
pub fn spot(spot: &Spot) -> Result<SpotEstimate, EstimateError> {
    let work = spot.on_demand.elapsed;
    let lost_part = u128::from(spot.interruptions.micros)
        .checked_mul(u128::from(spot.lost.get()))
        .ok_or(MoneyError::Overflow)?;
    let useful_part =
        SCALE.checked_sub(lost_part).filter(|part| *part > 0).ok_or(EstimateError::NeverEnds)?;
    let running = mul_div_ceil(u128::from(work.get()), SCALE, useful_part)?;
    let running = u32::try_from(running).map(Seconds).map_err(|_| MoneyError::Overflow)?;
    let interruptions = mul_div_floor(
        u128::from(running.get()),
        u128::from(spot.interruptions.micros),
        SCALE / 1_000_000,
    )?;
    let on_demand = usage(&spot.on_demand)?;
    let expected = discounted(spot, running)?;
    let totals = (on_demand.charge.renter_total, expected.charge.renter_total);
    let longer = running.get().saturating_sub(work.get());
    let break_even = match running.get() {
        0 => 0,
        running => mul_div_ceil(u128::from(longer), 10_000, u128::from(running))?,
    };
    let break_even = u16::try_from(break_even).map_err(|_| MoneyError::Overflow)?;
    Ok(SpotEstimate {
        on_demand,
        running,
        interruptions_micros: u64::try_from(interruptions).map_err(|_| MoneyError::Overflow)?,
        expected,
        change: change(totals.0, totals.1)?,
        break_even: Bps::new(break_even)?,
    })
}

/// The discount and the time in one division, rounded down.
fn discounted(spot: &Spot, running: Seconds) -> Result<UsageEstimate, MoneyError> {
    let Usage { rate, units, rounding, ever_ready, fee, deposit, .. } = spot.on_demand;
    let billed = billed_seconds(running, rounding.granularity, rounding.minimum, ever_ready);
    let paid = u128::from(Bps::WHOLE.get().saturating_sub(spot.discount.get()));
    // 64 bits by 14
    let discounted_rate = u128::from(rate.usd().get()).saturating_mul(paid);
    let micros = mul_div_floor(discounted_rate, unit_seconds(units, billed), 3_600 * 10_000)?;
    let gross = UsdMicros::try_from_micros(micros)?;
    Ok(UsageEstimate { billed, charge: charge(gross, fee, deposit)? })
}
