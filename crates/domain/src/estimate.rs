//! Estimates: what something would cost, in dollars, before anything is booked.
//!
//! The kinds are those of the reference cases that the tests replay (rented time, replicas that scale, a million
//! tokens, one GPU of a machine, one way against another), and those that need more than a price: interruptible
//! machines, rent or buy, one job at many providers.

mod break_even;
mod compare;
mod decimals;
mod providers;
mod spot;

pub use break_even::{BreakEven, BreakEvenPoint, break_even, power_ceil};
pub use compare::{Change, Comparison, change, compare};
pub use decimals::{Hours, PerHundredHours, Quantity};
pub use providers::{AtProvider, Job, Span, across_providers, cheapest};
pub use spot::{Spot, SpotEstimate, spot};

use thiserror::Error;

use serde::{Deserialize, Serialize};

use crate::billing::{billed_seconds, unit_seconds, usd_for_unit_seconds_floor, usd_gross_floor};
use crate::money::{FeeBps, MoneyError, UsdMicros, mul_div_floor};
use crate::names::named_enum;
use crate::rate::UsdPerHour;
use crate::time::Seconds;

named_enum! {
    /// Who pays the platform's fee.
    pub enum FeeSide ("fee side") {
        /// It is taken from the provider's part; the renter's total does not change.
        Provider => "provider",
        /// It is added to the renter's total.
        Renter => "renter",
    }
}

/// How time is rounded before it is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounding {
    /// Time is rounded up to a multiple of this.
    pub granularity: Seconds,
    /// The least that is billed.
    pub minimum: Seconds,
}

/// The fee, and who pays it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fee {
    /// The share of the gross.
    pub bps: FeeBps,
    /// Who pays.
    pub side: FeeSide,
}

/// Rented time to estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Dollars per unit and hour.
    pub rate: UsdPerHour,
    /// How many units (GPUs, replicas).
    pub units: u32,
    /// How long; the length of a month is for the caller to say (720 h and 730 h are both in use).
    pub elapsed: Seconds,
    /// How it is rounded.
    pub rounding: Rounding,
    /// Whether it ever became ready; if not, nothing is billed.
    pub ever_ready: bool,
    /// The fee.
    pub fee: Fee,
    /// What was deposited, if anything: the total never passes it.
    pub deposit: Option<UsdMicros>,
}

/// Who pays and gets what, in dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The price of the time itself, rounded down.
    pub gross: UsdMicros,
    /// The platform's part, rounded down.
    pub fee: UsdMicros,
    /// The provider's part.
    pub provider: UsdMicros,
    /// What the renter pays.
    pub renter_total: UsdMicros,
    /// What is left of the deposit, if there was one.
    pub refund: Option<UsdMicros>,
}

/// An estimate of rented time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEstimate {
    /// Seconds billed per unit.
    pub billed: Seconds,
    /// The money.
    pub charge: Charge,
}

/// Estimates rented time.
///
/// # Errors
/// [`MoneyError::Overflow`] above about 18 trillion dollars.
pub fn usage(usage: &Usage) -> Result<UsageEstimate, MoneyError> {
    let Rounding { granularity, minimum } = usage.rounding;
    let billed = billed_seconds(usage.elapsed, granularity, minimum, usage.ever_ready);
    let gross = usd_gross_floor(usage.rate, usage.units, billed)?;
    Ok(UsageEstimate { billed, charge: charge(gross, usage.fee, usage.deposit)? })
}

/// Splits `gross` between platform and provider, and caps it at the deposit.
///
/// # Errors
/// [`MoneyError::Overflow`] when a fee on the renter's side passes the range.
pub fn charge(
    gross: UsdMicros,
    fee: Fee,
    deposit: Option<UsdMicros>,
) -> Result<Charge, MoneyError> {
    let gross = match (deposit, fee.side) {
        (None, _) => gross,
        (Some(deposit), FeeSide::Provider) => gross.min(deposit),
        (Some(deposit), FeeSide::Renter) => gross.min(largest_gross(deposit, fee.bps)?),
    };
    let fee_usd = bps_floor(gross, fee.bps)?;
    let (provider, renter_total) = match fee.side {
        FeeSide::Provider => (gross.checked_sub(fee_usd).ok_or(MoneyError::Overflow)?, gross),
        FeeSide::Renter => (gross, gross.checked_add(fee_usd).ok_or(MoneyError::Overflow)?),
    };
    let refund = deposit
        .map(|deposit| deposit.checked_sub(renter_total).ok_or(MoneyError::Overflow))
        .transpose()?;
    Ok(Charge { gross, fee: fee_usd, provider, renter_total, refund })
}

/// A gross that with its fee on top does not pass `deposit`.
fn largest_gross(deposit: UsdMicros, bps: FeeBps) -> Result<UsdMicros, MoneyError> {
    let with_fee = u128::from(bps.get()).saturating_add(10_000);
    UsdMicros::try_from_micros(mul_div_floor(u128::from(deposit.get()), 10_000, with_fee)?)
}

fn bps_floor(usd: UsdMicros, bps: FeeBps) -> Result<UsdMicros, MoneyError> {
    UsdMicros::try_from_micros(mul_div_floor(u128::from(usd.get()), u128::from(bps.get()), 10_000)?)
}

/// Why there is no estimate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EstimateError {
    /// A figure out of range.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// Interruptible work that never gets done.
    #[error(
        "each interruption costs more time than passes between two of them: the work never ends"
    )]
    NeverEnds,
}

/// A service with a steady number of replicas and more for part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Dollars per unit and hour.
    pub rate: UsdPerHour,
    /// Units in one replica.
    pub units: u32,
    /// How long the service runs.
    pub hours: Hours,
    /// Replicas all that time.
    pub min_replicas: u32,
    /// How long it is scaled up.
    pub scale_up_hours: Hours,
    /// Replicas more during that.
    pub additional_replicas: u32,
    /// How each replica's time is rounded; one that never ran is not billed its minimum.
    pub rounding: Rounding,
    /// The fee.
    pub fee: Fee,
}

/// Estimates a service that scales: `rate * (hours * min_replicas + scale_up_hours * additional_replicas)`, one
/// division, rounded down.
///
/// # Errors
/// [`MoneyError::Overflow`] for hours or dollars out of range.
pub fn replica(service: &Replicas) -> Result<Charge, MoneyError> {
    let Rounding { granularity, minimum } = service.rounding;
    let billed = |hours: Hours| -> Result<Seconds, MoneyError> {
        let seconds = hours.seconds_ceil()?;
        Ok(billed_seconds(seconds, granularity, minimum, seconds > Seconds::ZERO))
    };
    let steady = unit_seconds(service.min_replicas, billed(service.hours)?);
    let scaled = unit_seconds(service.additional_replicas, billed(service.scale_up_hours)?);
    let unit_seconds = steady
        .checked_add(scaled)
        .and_then(|seconds| seconds.checked_mul(u128::from(service.units)))
        .ok_or(MoneyError::Overflow)?;
    charge(usd_for_unit_seconds_floor(service.rate, unit_seconds)?, service.fee, None)
}

/// Dollars for a million tokens at `rate` when `units` units together make `tokens_per_second`, rounded down.
///
/// # Errors
/// [`MoneyError::DivisionByZero`] for a throughput of 0, [`MoneyError::Overflow`] out of range.
pub fn per_million_tokens(
    rate: UsdPerHour,
    units: u32,
    tokens_per_second: u32,
) -> Result<UsdMicros, MoneyError> {
    for_tokens(rate, units, tokens_per_second, 1_000_000)
}

/// Dollars for `tokens` tokens at the same throughput, rounded down; not a multiple of the rounded price of a million.
///
/// # Errors
/// As [`per_million_tokens`].
pub fn for_tokens(
    rate: UsdPerHour,
    units: u32,
    tokens_per_second: u32,
    tokens: u64,
) -> Result<UsdMicros, MoneyError> {
    let micros_per_hour =
        u128::from(rate.usd().get()).checked_mul(u128::from(units)).ok_or(MoneyError::Overflow)?;
    let tokens_per_hour = u128::from(tokens_per_second).saturating_mul(3_600);
    UsdMicros::try_from_micros(mul_div_floor(micros_per_hour, u128::from(tokens), tokens_per_hour)?)
}

/// Dollars for so much of something at a price each, rounded down.
///
/// # Errors
/// [`MoneyError::Overflow`] out of range.
pub fn for_quantity(quantity: Quantity, unit_price: UsdMicros) -> Result<UsdMicros, MoneyError> {
    let (quantity, price) = (u128::from(quantity.micros), u128::from(unit_price.get()));
    UsdMicros::try_from_micros(mul_div_floor(quantity, price, 1_000_000)?)
}

/// Dollars per GPU and hour of a machine with `gpus` GPUs, rounded down.
///
/// # Errors
/// [`MoneyError::DivisionByZero`] for no GPUs.
pub fn per_gpu(instance_rate: UsdPerHour, gpus: u32) -> Result<UsdPerHour, MoneyError> {
    let micros = u128::from(instance_rate.usd().get());
    UsdMicros::try_from_micros(mul_div_floor(micros, 1, u128::from(gpus))?).map(UsdPerHour)
}

#[cfg(test)]
mod tests;
