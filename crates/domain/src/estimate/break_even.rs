//! Rent or buy: after how many hours of use a card of one's own has paid for itself.

use crate::money::{MoneyError, UsdMicros, mul_div_ceil};
use crate::rate::UsdPerHour;

use super::Hours;

/// A card to buy, and the price of renting one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakEven {
    /// What the card costs.
    pub purchase: UsdMicros,
    /// What it can be sold for at the end.
    pub resale: UsdMicros,
    /// What renting one costs.
    pub rent: UsdPerHour,
    /// What an hour of one's own costs: power, space.
    pub running_cost: UsdPerHour,
    /// Hours of use a day, more than none.
    pub hours_per_day: Hours,
}

/// When buying begins to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakEvenPoint {
    /// Hours of use, rounded up to a millionth.
    pub hours: Hours,
    /// Days at that use, rounded up to a millionth.
    pub days_micros: u64,
    /// What each hour of one's own saves.
    pub saved_per_hour: UsdMicros,
}

/// Hours after which what renting would have cost has paid for the card: `(purchase - resale) / (rent - running cost)`;
/// `None` if an hour of one's own costs as much as renting it.
///
/// # Errors
/// [`MoneyError::DivisionByZero`] for no use a day, [`MoneyError::Overflow`] out of range.
pub fn break_even(case: &BreakEven) -> Result<Option<BreakEvenPoint>, MoneyError> {
    let saved = case.rent.usd().checked_sub(case.running_cost.usd());
    let Some(saved_per_hour) = saved.filter(|saved| *saved > UsdMicros::ZERO) else {
        return Ok(None);
    };
    let paid_in = case.purchase.checked_sub(case.resale).unwrap_or_default();
    let hours =
        mul_div_ceil(u128::from(paid_in.get()), 1_000_000, u128::from(saved_per_hour.get()))?;
    let days = mul_div_ceil(hours, 1_000_000, u128::from(case.hours_per_day.micros))?;
    let in_range = |micros: u128| u64::try_from(micros).map_err(|_| MoneyError::Overflow);
    Ok(Some(BreakEvenPoint {
        hours: Hours { micros: in_range(hours)? },
        days_micros: in_range(days)?,
        saved_per_hour,
    }))
}

/// What power costs: watts at a price for a kilowatt-hour, rounded up.
///
/// # Errors
/// [`MoneyError::Overflow`] out of range.
pub fn power_ceil(watts: u32, usd_per_kwh: UsdMicros) -> Result<UsdPerHour, MoneyError> {
    let micros = mul_div_ceil(u128::from(watts), u128::from(usd_per_kwh.get()), 1_000)?;
    UsdMicros::try_from_micros(micros).map(UsdPerHour)
}
