//! US dollars.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::MoneyError;
use super::decimal::{SCALE, parse_scaled};

const FORM: &str = "US dollars with at most 6 fraction digits such as \"0.65\"";

/// US dollars in millionths, 0 to about 18 trillion dollars.
///
/// Read from `0.65` or `0.650000`, always written with six fraction digits. In JSON it is a string, never a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsdMicros(u64);

impl UsdMicros {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `micros` millionths of a dollar.
    #[must_use]
    pub const fn new(micros: u64) -> Self {
        Self(micros)
    }

    /// The number of millionths.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, or `None` above the range.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product, or `None` above the range.
    #[must_use]
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }

    /// Dollars and cents, rounded half up, such as `0.65`. For showing only: no sum is ever made of it.
    #[must_use]
    pub fn cents_half_up(self) -> String {
        let cents = u128::from(self.0).saturating_add(5_000) / 10_000;
        format!("{}.{:02}", cents / 100, cents % 100)
    }

    pub(crate) fn try_from_micros(micros: u128) -> Result<Self, MoneyError> {
        u64::try_from(micros).map(Self).map_err(|_| MoneyError::Overflow)
    }
}

impl fmt::Display for UsdMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / SCALE, self.0 % SCALE)
    }
}

impl FromStr for UsdMicros {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        parse_scaled(text).map(Self).ok_or_else(|| MoneyError::not_a_number(FORM, text))
    }
}

impl Serialize for UsdMicros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UsdMicros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(UsdVisitor)
    }
}

struct UsdVisitor;

impl Visitor<'_> for UsdVisitor {
    type Value = UsdMicros;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}, as a string and not as a JSON number, which loses digits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<UsdMicros, E> {
        text.parse().map_err(E::custom)
    }
}
