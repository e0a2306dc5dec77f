//! Token amounts.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::MoneyError;

const FORM: &str = "a whole number of base units in decimal digits such as \"1500000\"";

/// An amount of a token in base units, 0 to 2^96 - 1: what one slot of the escrow contract can hold.
///
/// Written as a decimal string, in JSON too: a JSON number loses digits above 2^53 in many readers, so reading
/// one is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most: 2^96 - 1.
    pub const MAX: Self = Self((1 << 96) - 1);

    /// # Errors
    /// [`MoneyError::AmountTooLarge`] above 2^96 - 1.
    pub const fn new(base_units: u128) -> Result<Self, MoneyError> {
        if base_units > Self::MAX.0 {
            return Err(MoneyError::AmountTooLarge);
        }
        Ok(Self(base_units))
    }

    /// The number of base units.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` above [`Amount::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(|sum| Self::new(sum).ok())
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `base_units`, or `most` if that is less.
    pub(crate) fn at_most(base_units: u128, most: Self) -> Self {
        Self(base_units.min(most.0))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = MoneyError;

    /// Digits only: no sign, separator, fraction or leading zero, so that an amount has one spelling.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let digits_only = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = text.len() > 1 && text.starts_with('0');
        if !digits_only || leading_zero {
            return Err(MoneyError::not_a_number(FORM, text));
        }
        text.parse().map_or(Err(MoneyError::AmountTooLarge), Self::new)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AmountVisitor)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}, as a string and not as a JSON number, which loses digits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
        text.parse().map_err(E::custom)
    }
}
