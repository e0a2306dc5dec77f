//! Money: token amounts in base units, US dollars in millionths, and shares in basis points.
//!
//! Integers only, every operation checked, every rounding named by its function.

mod amount;
mod bps;
mod decimal;
mod delta;
mod usd;

pub use amount::Amount;
pub use bps::{Bps, FeeBps};
pub(crate) use decimal::parse_scaled;
pub use delta::UsdDelta;
pub use usd::UsdMicros;

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a sum of money could not be made, read or computed. All of these are refusals of the input, none is worth a
/// retry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MoneyError {
    /// A token amount above 2^96 - 1, which the contract cannot hold.
    #[error("the amount is above {}, the most that the escrow can hold", Amount::MAX)]
    AmountTooLarge,
    /// A rate of no base units per hour, which would rent for nothing.
    #[error("the rate rounds to zero base units per hour")]
    ZeroRate,
    /// A result that does not fit its type.
    #[error("the result is too large")]
    Overflow,
    /// A division by zero: a price, a throughput or a count that must not be 0 is.
    #[error("a divisor is zero")]
    DivisionByZero,
    /// A text that is not a number of the asked form.
    #[error("expected {expected}, got {given:?}")]
    NotANumber {
        /// The form that was expected, with an example.
        expected: &'static str,
        /// What was given, cut to 64 characters.
        given: String,
    },
    /// Basis points above 10,000.
    #[error("{0} basis points are more than 10000, the whole")]
    BpsOutOfRange(u16),
    /// A platform fee above what the contract accepts.
    #[error("a fee of {0} basis points is above 1500, the most that the contract accepts")]
    FeeAboveCap(u16),
    /// A platform fee outside of what is quoted.
    #[error("a fee of {0} basis points is outside 1000 to 1500, the range that is quoted")]
    FeeNotQuotable(u16),
    /// A token with more decimals than is supported.
    #[error("{0} decimals are more than 30")]
    DecimalsOutOfRange(u8),
    /// A later count of settled seconds below an earlier one.
    #[error("settled seconds fell from {before} to {after}")]
    SettledFell {
        /// Seconds settled before.
        before: u32,
        /// Seconds settled after, which is less.
        after: u32,
    },
}

impl MoneyError {
    pub(crate) fn not_a_number(expected: &'static str, given: &str) -> Self {
        Self::NotANumber { expected, given: given.chars().take(64).collect() }
    }
}

/// The number of decimals of a token, 0 to 30: one token is 10^decimals base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Decimals(u8);

impl Decimals {
    /// The most that is supported: 10^30 still leaves room to multiply in 256 bits.
    pub const MAX: Self = Self(30);

    /// # Errors
    /// [`MoneyError::DecimalsOutOfRange`] above 30.
    pub const fn new(decimals: u8) -> Result<Self, MoneyError> {
        if decimals > Self::MAX.0 {
            return Err(MoneyError::DecimalsOutOfRange(decimals));
        }
        Ok(Self(decimals))
    }

    /// The number of decimals.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Base units in one whole token: 10^decimals.
    #[must_use]
    pub fn base_units(self) -> u128 {
        // 10^30 is below 2^100, so this cannot saturate.
        10_u128.saturating_pow(u32::from(self.0))
    }
}

impl TryFrom<u8> for Decimals {
    type Error = MoneyError;

    fn try_from(decimals: u8) -> Result<Self, MoneyError> {
        Self::new(decimals)
    }
}

impl From<Decimals> for u8 {
    fn from(decimals: Decimals) -> Self {
        decimals.0
    }
}

/// `floor(a * b / divisor)` with a 256-bit product.
///
/// # Errors
/// [`MoneyError::DivisionByZero`], or [`MoneyError::Overflow`] when the quotient passes 128 bits.
pub fn mul_div_floor(a: u128, b: u128, divisor: u128) -> Result<u128, MoneyError> {
    if let Some(product) = a.checked_mul(b) {
        return product.checked_div(divisor).ok_or(MoneyError::DivisionByZero);
    }
    let (quotient, _) = wide_div_rem(a, b, divisor)?;
    u128::try_from(quotient).map_err(|_| MoneyError::Overflow)
}

/// `ceil(a * b / divisor)` with a 256-bit product.
///
/// # Errors
/// [`MoneyError::DivisionByZero`], or [`MoneyError::Overflow`] when the quotient passes 128 bits.
pub fn mul_div_ceil(a: u128, b: u128, divisor: u128) -> Result<u128, MoneyError> {
    if let Some(product) = a.checked_mul(b) {
        let quotient = product.checked_div(divisor).ok_or(MoneyError::DivisionByZero)?;
        let exact = product.checked_rem(divisor) == Some(0);
        return if exact {
            Ok(quotient)
        } else {
            quotient.checked_add(1).ok_or(MoneyError::Overflow)
        };
    }
    let (quotient, remainder) = wide_div_rem(a, b, divisor)?;
    let quotient = u128::try_from(quotient).map_err(|_| MoneyError::Overflow)?;
    if remainder == U256::ZERO {
        return Ok(quotient);
    }
    quotient.checked_add(1).ok_or(MoneyError::Overflow)
}

fn wide_div_rem(a: u128, b: u128, divisor: u128) -> Result<(U256, U256), MoneyError> {
    // Two 128-bit factors always fit 256 bits; the check costs nothing and keeps the arithmetic honest.
    let product = U256::from(a).checked_mul(U256::from(b)).ok_or(MoneyError::Overflow)?;
    let divisor = U256::from(divisor);
    let quotient = product.checked_div(divisor).ok_or(MoneyError::DivisionByZero)?;
    let remainder = product.checked_rem(divisor).ok_or(MoneyError::DivisionByZero)?;
    Ok((quotient, remainder))
}

#[cfg(test)]
mod tests;
