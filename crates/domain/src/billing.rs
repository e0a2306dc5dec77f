//! Billing: from seconds to money, and from money to the three who get it.
//!
//! The token functions compute exactly what the escrow contract computes. Payouts round down, deposits round up,
//! and what rounding leaves over goes back to the renter.

mod split;

pub use split::{
    Closing, Payout, Split, closing_between, held_between, payout_between, settlement_seconds,
    split,
};

use crate::money::{Amount, FeeBps, MoneyError, UsdMicros, mul_div_ceil, mul_div_floor};
use crate::rate::{TokenRate, UsdPerHour};
use crate::time::Seconds;

/// Seconds in an hour, the unit of every rate.
pub const SECONDS_PER_HOUR: u128 = 3_600;

/// Seconds that are billed for `elapsed`: `max(minimum, ceil(elapsed / granularity) * granularity)`, at most
/// 2^32 - 1, and 0 for a machine that was never ready.
///
/// A granularity of 0 counts as 1 second. The escrow's own rule is a granularity and a minimum of 1 second.
#[must_use]
pub fn billed_seconds(
    elapsed: Seconds,
    granularity: Seconds,
    minimum: Seconds,
    ever_ready: bool,
) -> Seconds {
    if !ever_ready {
        return Seconds::ZERO;
    }
    let step = granularity.max(Seconds::ONE).get();
    let rounded = elapsed.get().div_ceil(step).saturating_mul(step);
    Seconds(rounded).max(minimum)
}

/// The last second that `deposit` pays for: `floor(deposit * 3600 / rate)`, at most 2^32 - 1.
#[must_use]
pub fn auto_stop_second(deposit: Amount, rate: TokenRate) -> Seconds {
    // The product has at most 108 bits; a rate is never zero, so the fallback is never taken.
    let seconds = mul_div_floor(deposit.get(), SECONDS_PER_HOUR, rate.get()).unwrap_or(0);
    Seconds(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// What `billed` seconds cost: `min(deposit, floor(s * rate / 3600))` where `s` is `billed`, but no more than the
/// deposit pays for (a first second is always counted, and costs at most the deposit).
#[must_use]
pub fn gross_floor(rate: TokenRate, billed: Seconds, deposit: Amount) -> Amount {
    let paid_for = auto_stop_second(deposit, rate).max(Seconds::ONE);
    let seconds = u128::from(billed.min(paid_for).get());
    // 32 bits by 96 bits fit 128; were that ever wrong, the deposit would still be the bound.
    let gross = mul_div_floor(seconds, rate.get(), SECONDS_PER_HOUR).unwrap_or(Amount::MAX.get());
    Amount::at_most(gross, deposit)
}

/// What `billed` seconds of `units` GPUs cost in dollars: `floor(rate * units * billed / 3600)` in millionths; one
/// division, one rounding.
///
/// # Errors
/// [`MoneyError::Overflow`] above about 18 trillion dollars.
pub fn usd_gross_floor(
    rate: UsdPerHour,
    units: u32,
    billed: Seconds,
) -> Result<UsdMicros, MoneyError> {
    usd_for_unit_seconds_floor(rate, unit_seconds(units, billed))
}

/// As [`usd_gross_floor`], rounded up: a bound on what can be asked for.
///
/// # Errors
/// [`MoneyError::Overflow`] above about 18 trillion dollars.
pub fn usd_gross_ceil(
    rate: UsdPerHour,
    units: u32,
    billed: Seconds,
) -> Result<UsdMicros, MoneyError> {
    let micros =
        mul_div_ceil(u128::from(rate.usd().get()), unit_seconds(units, billed), SECONDS_PER_HOUR)?;
    UsdMicros::try_from_micros(micros)
}

pub(crate) fn usd_for_unit_seconds_floor(
    rate: UsdPerHour,
    unit_seconds: u128,
) -> Result<UsdMicros, MoneyError> {
    let micros = mul_div_floor(u128::from(rate.usd().get()), unit_seconds, SECONDS_PER_HOUR)?;
    UsdMicros::try_from_micros(micros)
}

pub(crate) fn unit_seconds(units: u32, seconds: Seconds) -> u128 {
    // 32 bits by 32 bits.
    u128::from(units).saturating_mul(u128::from(seconds.get()))
}

/// The platform's part of `gross`: `floor(gross * bps / 10000)`; the provider gets the rest.
#[must_use]
pub fn fee_floor(gross: Amount, bps: FeeBps) -> Amount {
    // 96 bits by 14 bits; a fee is at most 15 % of the gross, so the bound is never met.
    let fee = mul_div_floor(gross.get(), u128::from(bps.get()), 10_000).unwrap_or(0);
    Amount::at_most(fee, gross)
}

/// The deposit that pays for `duration`: `ceil(rate * duration / 3600)`, so that the last second is covered.
///
/// # Errors
/// [`MoneyError::AmountTooLarge`] above 2^96 - 1.
pub fn deposit_ceil(rate: TokenRate, duration: Seconds) -> Result<Amount, MoneyError> {
    let deposit = mul_div_ceil(rate.get(), u128::from(duration.get()), SECONDS_PER_HOUR)?;
    Amount::new(deposit)
}

#[cfg(test)]
mod tests;
