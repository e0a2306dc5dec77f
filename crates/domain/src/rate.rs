//! Rates: what an hour costs, in dollars and in a token's base units.
//!
//! Only hourly rates are kept. A rate per second, cut to six decimals, loses 1.44 of 468.00 dollars in a month.

use serde::{Deserialize, Serialize};

use crate::money::{Amount, Decimals, MoneyError, UsdMicros, mul_div_floor};

/// US dollars per hour.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UsdPerHour(pub UsdMicros);

impl UsdPerHour {
    /// Dollars for one hour.
    #[must_use]
    pub const fn usd(self) -> UsdMicros {
        self.0
    }
}

impl std::fmt::Display for UsdPerHour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for UsdPerHour {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        text.parse().map(Self)
    }
}

/// Base units of a token per hour, 1 to 2^96 - 1: the contract's `pricePerHour`, gross of the fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Amount", into = "Amount")]
pub struct TokenRate(Amount);

impl TokenRate {
    /// # Errors
    /// [`MoneyError::ZeroRate`] for no base units.
    pub const fn new(per_hour: Amount) -> Result<Self, MoneyError> {
        if per_hour.is_zero() {
            return Err(MoneyError::ZeroRate);
        }
        Ok(Self(per_hour))
    }

    /// Base units for one hour.
    #[must_use]
    pub const fn amount(self) -> Amount {
        self.0
    }

    /// Base units for one hour, as a number.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0.get()
    }
}

impl std::fmt::Display for TokenRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<Amount> for TokenRate {
    type Error = MoneyError;

    fn try_from(per_hour: Amount) -> Result<Self, MoneyError> {
        Self::new(per_hour)
    }
}

impl From<TokenRate> for Amount {
    fn from(rate: TokenRate) -> Self {
        rate.0
    }
}

/// The token rate of `units` GPUs at `rate` dollars per GPU and hour, when one whole token costs `usd_per_token`:
/// `floor(rate * units * 10^decimals / usd_per_token)`, rounded down in the renter's favour.
///
/// # Errors
/// [`MoneyError::ZeroRate`] when it rounds to nothing, [`MoneyError::DivisionByZero`] for a token without a price,
/// [`MoneyError::AmountTooLarge`] or [`MoneyError::Overflow`] above 2^96 - 1.
pub fn token_rate_floor(
    rate: UsdPerHour,
    units: u32,
    decimals: Decimals,
    usd_per_token: UsdMicros,
) -> Result<TokenRate, MoneyError> {
    let micros_per_hour =
        u128::from(rate.usd().get()).checked_mul(u128::from(units)).ok_or(MoneyError::Overflow)?;
    let per_hour =
        mul_div_floor(micros_per_hour, decimals.base_units(), u128::from(usd_per_token.get()))?;
    TokenRate::new(Amount::new(per_hour)?)
}

#[cfg(test)]
mod tests;
