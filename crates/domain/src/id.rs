//! Ids: a kind's prefix, an underscore and 32 lowercase hex digits of a UUID, for example
//! `rnt_0190f1c2a4b37c1e8d2f6a5b4c3d2e1f`.
//!
//! The UUIDs are version 7, made where there is a clock; so ids sort by the time of their making.

use thiserror::Error;
use uuid::Uuid;

/// A text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected an id of the form {prefix}_ and 32 lowercase hex digits, got {given:?}")]
pub struct IdError {
    /// The prefix that the id must have, without the underscore.
    pub prefix: &'static str,
    /// What was given, cut to 64 characters.
    pub given: String,
}

impl IdError {
    fn new(prefix: &'static str, given: &str) -> Self {
        Self { prefix, given: given.chars().take(64).collect() }
    }
}

/// Reads the UUID out of `text`, strictly: one spelling per id, so that ids can be compared as text.
fn parse(prefix: &'static str, text: &str) -> Result<Uuid, IdError> {
    let digits = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .filter(|digits| digits.len() == 32)
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        .ok_or_else(|| IdError::new(prefix, text))?;
    Uuid::try_parse(digits).map_err(|_| IdError::new(prefix, text))
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the written form begins with, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// The id of this kind around `uuid`, which should be of version 7.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside, as the database stores it.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}_{}", Self::PREFIX, self.0.simple())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(Self::PREFIX, text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
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

id!(
    /// A person or firm, known by a wallet address.
    AccountId, "acc"
);
id!(
    /// A provider's machine.
    MachineId, "mch"
);
id!(
    /// One GPU in a machine.
    GpuId, "gpu"
);
id!(
    /// An offer of GPUs at a price.
    OfferId, "ofr"
);
id!(
    /// A price promised for a while.
    QuoteId, "quo"
);
id!(
    /// A rental, from booking to settlement.
    RentalId, "rnt"
);
id!(
    /// A transaction that the platform sends to the chain.
    TxId, "txn"
);
id!(
    /// An order to an agent.
    CommandId, "cmd"
);
id!(
    /// A posting in the ledger.
    PostingId, "pst"
);
id!(
    /// A piece of queued work.
    JobId, "job"
);
id!(
    /// A sign-in.
    SessionId, "ses"
);
id!(
    /// A key that a program signs in with.
    ApiKeyId, "key"
);
id!(
    /// A public key that a rented machine is reached by.
    SshKeyId, "ssh"
);
id!(
    /// A dispute.
    DisputeId, "dsp"
);
id!(
    /// A self-test of a machine.
    TestId, "tst"
);
id!(
    /// An announced time without service.
    WindowId, "mnt"
);
id!(
    /// Somebody to tell of events.
    WebhookId, "whk"
);
id!(
    /// Something that happened, as webhooks tell it.
    EventId, "evt"
);
id!(
    /// An event for a webhook.
    DeliveryId, "dlv"
);

#[cfg(test)]
mod tests;
