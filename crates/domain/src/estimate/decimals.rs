//! Exact decimals with at most 6 fraction digits that are neither money nor rates. In JSON they are strings, never
//! numbers.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::money::{MoneyError, UsdMicros, mul_div_ceil, parse_scaled};
use crate::time::Seconds;

macro_rules! decimal {
    ($(#[$meta:meta])* $name:ident, $form:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            pub(super) micros: u64,
        }

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self { micros: 0 };

            /// So many millionths.
            #[must_use]
            pub const fn from_micros(micros: u64) -> Self {
                Self { micros }
            }

            /// In millionths.
            #[must_use]
            pub const fn micros(self) -> u64 {
                self.micros
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                UsdMicros::new(self.micros).fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = MoneyError;

            fn from_str(text: &str) -> Result<Self, MoneyError> {
                let micros = parse_scaled(text);
                micros.map(|micros| Self { micros }).ok_or_else(|| MoneyError::not_a_number($form, text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Reader($form)).map(|micros| Self { micros })
            }
        }
    };
}

decimal! {
    /// Hours, such as `182.5`.
    Hours, "hours with at most 6 fraction digits such as \"182.5\""
}

decimal! {
    /// How much of something, such as GB.
    Quantity, "a quantity with at most 6 fraction digits such as \"12.5\""
}

decimal! {
    /// Interruptions in 100 hours.
    PerHundredHours, "interruptions in 100 hours with at most 6 fraction digits such as \"2.5\""
}

impl Hours {
    /// Whole seconds, rounded up.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] above 2^32 - 1 seconds (about 1.2 million hours).
    pub fn seconds_ceil(self) -> Result<Seconds, MoneyError> {
        let seconds = mul_div_ceil(u128::from(self.micros), 3_600, 1_000_000)?;
        u32::try_from(seconds).map(Seconds).map_err(|_| MoneyError::Overflow)
    }
}

struct Reader(&'static str);

impl Visitor<'_> for Reader {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, as a string and not as a JSON number", self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        parse_scaled(text).ok_or_else(|| E::custom(MoneyError::not_a_number(self.0, text)))
    }
}
