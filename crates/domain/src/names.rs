//! Enums whose values have one written name, used alike by storage, JSON and people.

use thiserror::Error;

/// A written name that no value of the enum has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown {what} {given:?}")]
pub struct UnknownName {
    /// What was being read, for example `rental state`.
    pub what: &'static str,
    /// The text that was given, cut to 64 characters.
    pub given: String,
}

impl UnknownName {
    /// An error about `given`, which is cut so that a hostile text cannot fill a log.
    #[must_use]
    pub fn new(what: &'static str, given: &str) -> Self {
        Self { what, given: given.chars().take(64).collect() }
    }
}

/// Declares a field-less enum with `ALL`, `as_str`, `Display`, `FromStr` and serde as its name.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($what:literal) {
            $($(#[$value_meta:meta])* $value:ident => $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$value_meta])* $value,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$value,)+];

            /// The name as stored and shown, in snake_case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }

        $crate::names::written_as_name!($name, $what);
    };
}

/// Gives a `Copy` type with `ALL` and `as_str` its `Display`, `FromStr` and serde.
macro_rules! written_as_name {
    ($name:ident, $what:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::names::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str() == text)
                    .ok_or_else(|| $crate::names::UnknownName::new($what, text))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use named_enum;
pub(crate) use written_as_name;
