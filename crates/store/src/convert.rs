//! Between the domain's types and the column types, in one place.

use alloy_primitives::{Address, B256, I256};
use domain::{
    money::Amount,
    time::{Seconds, UnixMillis, UnixSeconds},
};
use sqlx::types::BigDecimal;
use time::OffsetDateTime;

use crate::StoreError;

/// Keys to look for, ten at least: the last is asked for again, which finds no more. PostgreSQL takes an array of unknown
/// length to have ten, and plans anew with each execution what it believes to be cheaper for fewer.
#[must_use]
pub fn at_least_ten<T: Clone>(mut keys: Vec<T>) -> Vec<T> {
    if let Some(last) = keys.last().cloned() {
        keys.resize(keys.len().max(10), last);
    }
    keys
}

/// Whole seconds as a timestamp.
///
/// # Errors
/// [`StoreError::Corrupt`] beyond the year 9999.
pub fn ts(at: UnixSeconds) -> Result<OffsetDateTime, StoreError> {
    let seconds = i64::try_from(at.get()).map_err(StoreError::corrupt)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(StoreError::corrupt)
}

/// Milliseconds as a timestamp.
///
/// # Errors
/// [`StoreError::Corrupt`] beyond the year 9999.
pub fn ts_millis(at: UnixMillis) -> Result<OffsetDateTime, StoreError> {
    let nanos = i128::from(at.get()).saturating_mul(1_000_000);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(StoreError::corrupt)
}

/// A stored timestamp in whole seconds, rounded down.
///
/// # Errors
/// [`StoreError::Corrupt`] before 1970.
pub fn seconds(at: OffsetDateTime) -> Result<UnixSeconds, StoreError> {
    u64::try_from(at.unix_timestamp()).map(UnixSeconds).map_err(StoreError::corrupt)
}

/// A stored duration.
///
/// # Errors
/// [`StoreError::Corrupt`] outside 0..2^32.
pub fn duration(value: i64) -> Result<Seconds, StoreError> {
    u32::try_from(value).map(Seconds).map_err(StoreError::corrupt)
}

/// A stored address.
///
/// # Errors
/// [`StoreError::Corrupt`] unless 20 bytes.
pub fn address(bytes: &[u8]) -> Result<Address, StoreError> {
    Address::try_from(bytes).map_err(StoreError::corrupt)
}

/// A stored hash.
///
/// # Errors
/// [`StoreError::Corrupt`] unless 32 bytes.
pub fn hash(bytes: &[u8]) -> Result<B256, StoreError> {
    B256::try_from(bytes).map_err(StoreError::corrupt)
}

/// An amount as `numeric(39,0)`.
#[must_use]
pub fn numeric(amount: Amount) -> BigDecimal {
    BigDecimal::from(amount.get())
}

/// A stored `numeric(39,0)` as an amount.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is negative, has a fraction or exceeds 2^96-1.
pub fn amount(value: &BigDecimal) -> Result<Amount, StoreError> {
    let digits = value.with_scale(0);
    if &digits != value {
        return Err(StoreError::corrupt(format_args!("amount {value} has a fraction")));
    }
    let units: u128 = digits.to_plain_string().parse().map_err(StoreError::corrupt)?;
    Amount::new(units).map_err(StoreError::corrupt)
}

/// A sum of stored amounts. PostgreSQL sends 10^18 as 10^2 times 10^16, and such numbers print with an
/// exponent, so that their text is no integer.
///
/// # Errors
/// [`StoreError::Corrupt`] if it has a fraction or does not fit.
pub fn signed(value: &BigDecimal) -> Result<I256, StoreError> {
    let digits = value.with_scale(0);
    if &digits != value {
        return Err(StoreError::corrupt(format_args!("sum {value} has a fraction")));
    }
    digits.to_plain_string().parse().map_err(StoreError::corrupt)
}
