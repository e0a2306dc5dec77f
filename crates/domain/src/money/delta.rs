//! US dollars with a sign: lines of a sum, some of which take away.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MoneyError, UsdMicros};

const FORM: &str =
    "US dollars with a sign if negative and at most 6 fraction digits such as \"-0.65\"";

/// US dollars in millionths, negative or not; between the extremes of 64 bits, about 9 trillion dollars.
///
/// Written as [`UsdMicros`] is, with a minus before what is negative; read from the same, with one spelling of zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsdDelta(i64);

impl UsdDelta {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `amount` added.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] above 2^63 - 1 millionths.
    pub fn plus(amount: UsdMicros) -> Result<Self, MoneyError> {
        i64::try_from(amount.get()).map(Self).map_err(|_| MoneyError::Overflow)
    }

    /// `amount` taken away.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] above 2^63 - 1 millionths.
    pub fn minus(amount: UsdMicros) -> Result<Self, MoneyError> {
        Self::plus(amount)?.0.checked_neg().map(Self).ok_or(MoneyError::Overflow)
    }

    /// The number of millionths.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, or `None` outside of the range.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` outside of the range.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The same as an amount, or `None` below zero.
    #[must_use]
    pub fn amount(self) -> Option<UsdMicros> {
        u64::try_from(self.0).ok().map(UsdMicros::new)
    }
}

impl fmt::Display for UsdDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", UsdMicros::new(self.0.unsigned_abs()))
    }
}

impl FromStr for UsdDelta {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let refused = || MoneyError::not_a_number(FORM, text);
        match text.strip_prefix('-') {
            Some(digits) => {
                let taken = Self::minus(digits.parse().map_err(|_| refused())?)?;
                if taken == Self::ZERO { Err(refused()) } else { Ok(taken) }
            }
            None => Self::plus(text.parse().map_err(|_| refused())?),
        }
    }
}

impl Serialize for UsdDelta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UsdDelta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(DeltaVisitor)
    }
}

struct DeltaVisitor;

impl Visitor<'_> for DeltaVisitor {
    type Value = UsdDelta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}, as a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<UsdDelta, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_spelling() {
        for (micros, text) in [(0, "0.000000"), (650_000, "0.650000"), (-1, "-0.000001")] {
            assert_eq!(UsdDelta(micros).to_string(), text);
            assert_eq!(text.parse(), Ok(UsdDelta(micros)));
        }
        for text in ["-0", "-0.000000", "--1", "+1", "-", "", "- 1", "9223372036855"] {
            assert!(text.parse::<UsdDelta>().is_err(), "{text}");
        }
        assert_eq!(UsdDelta(-5).amount(), None);
        assert_eq!(UsdDelta(i64::MAX).checked_add(UsdDelta(1)), None);
        assert_eq!(serde_json::to_string(&UsdDelta(-650_000)).unwrap(), "\"-0.650000\"");
    }
}
