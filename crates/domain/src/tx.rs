//! The life of one transaction that the platform sends to the chain.
//!
//! A row gets a number (the chain's nonce) that belongs to it for ever. The signed bytes are stored before they
//! leave. Re-signing with a higher fee is another attempt of the same row, as is the no-op that spends the number
//! of a row given up: whichever attempt the chain takes decides how the row ends.

mod step;

pub use step::step;

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names::named_enum;

/// A block of the chain: its hash tells it from another of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
}

named_enum! {
    /// The name of a [`TxState`], without the block; as stored.
    pub enum TxStatus ("transaction state") {
        /// See [`TxState::Queued`].
        Queued => "queued",
        /// See [`TxState::Numbered`].
        Numbered => "numbered",
        /// See [`TxState::Signed`].
        Signed => "signed",
        /// See [`TxState::Flying`].
        Flying => "flying",
        /// See [`TxState::Mined`].
        Mined => "mined",
        /// See [`TxState::FinalOk`].
        FinalOk => "final_ok",
        /// See [`TxState::FinalReverted`].
        FinalReverted => "final_reverted",
        /// See [`TxState::Refused`].
        Refused => "refused",
        /// See [`TxState::Void`].
        Void => "void",
        /// See [`TxState::Voided`].
        Voided => "voided",
    }
}

impl TxStatus {
    /// Whether nothing more happens to the row.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::FinalOk | Self::FinalReverted | Self::Refused | Self::Voided => true,
            Self::Queued
            | Self::Numbered
            | Self::Signed
            | Self::Flying
            | Self::Mined
            | Self::Void => false,
        }
    }

    /// Whether a number belongs to the row.
    #[must_use]
    pub const fn has_number(self) -> bool {
        !matches!(self, Self::Queued | Self::Refused)
    }
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TxState {
    /// Wanted; no number yet.
    Queued,
    /// A number is its own; nothing is signed.
    Numbered,
    /// Signed bytes are stored; none has been sent for certain.
    Signed,
    /// Sent, or perhaps sent: a timeout while sending means unknown.
    Flying,
    /// In a block that may still leave the chain.
    Mined {
        /// That block.
        block: BlockRef,
    },
    /// In a final block, and it succeeded.
    FinalOk,
    /// In a final block, and the contract reverted it.
    FinalReverted,
    /// Never numbered, because the contract would revert it.
    Refused,
    /// Given up after it was numbered: a no-op spends the number. An attempt that left before may still be mined.
    Void,
    /// The no-op is in a final block.
    Voided,
}

impl TxState {
    /// The name without the block.
    #[must_use]
    pub const fn status(self) -> TxStatus {
        match self {
            Self::Queued => TxStatus::Queued,
            Self::Numbered => TxStatus::Numbered,
            Self::Signed => TxStatus::Signed,
            Self::Flying => TxStatus::Flying,
            Self::Mined { .. } => TxStatus::Mined,
            Self::FinalOk => TxStatus::FinalOk,
            Self::FinalReverted => TxStatus::FinalReverted,
            Self::Refused => TxStatus::Refused,
            Self::Void => TxStatus::Void,
            Self::Voided => TxStatus::Voided,
        }
    }

    /// The name as stored, such as `final_ok`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.status().as_str()
    }

    /// Whether nothing more happens to the row.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        self.status().is_terminal()
    }

    /// The state of this name, with `block` if and only if it is `mined`; `None` when these disagree.
    #[must_use]
    pub const fn from_parts(status: TxStatus, block: Option<BlockRef>) -> Option<Self> {
        match (status, block) {
            (TxStatus::Mined, Some(block)) => Some(Self::Mined { block }),
            (TxStatus::Queued, None) => Some(Self::Queued),
            (TxStatus::Numbered, None) => Some(Self::Numbered),
            (TxStatus::Signed, None) => Some(Self::Signed),
            (TxStatus::Flying, None) => Some(Self::Flying),
            (TxStatus::FinalOk, None) => Some(Self::FinalOk),
            (TxStatus::FinalReverted, None) => Some(Self::FinalReverted),
            (TxStatus::Refused, None) => Some(Self::Refused),
            (TxStatus::Void, None) => Some(Self::Void),
            (TxStatus::Voided, None) => Some(Self::Voided),
            (TxStatus::Mined, None) | (_, Some(_)) => None,
        }
    }
}

/// What happens to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TxEvent {
    /// It got a number.
    Number,
    /// An attempt of its own call was signed and stored.
    Sign,
    /// An attempt was sent, with a yes, a timeout or "already known" for an answer.
    Broadcast,
    /// An attempt of its own call is in this block.
    Include {
        /// The block.
        block: BlockRef,
    },
    /// The block that it was in left the chain.
    Orphan,
    /// An attempt of its own call is in a final block and succeeded.
    FinaliseOk,
    /// An attempt of its own call is in a final block and was reverted.
    FinaliseReverted,
    /// The contract would revert it; it needs no number.
    Refuse,
    /// It is given up; its number goes to a no-op.
    Void,
    /// The no-op is in a final block.
    FinaliseVoid,
}

impl TxEvent {
    /// The event's name in snake_case.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Sign => "sign",
            Self::Broadcast => "broadcast",
            Self::Include { .. } => "include",
            Self::Orphan => "orphan",
            Self::FinaliseOk => "finalise_ok",
            Self::FinaliseReverted => "finalise_reverted",
            Self::Refuse => "refuse",
            Self::Void => "void",
            Self::FinaliseVoid => "finalise_void",
        }
    }
}

/// An event that cannot happen in the state: a fault in the caller, or a final block that left the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a transaction that is {state} cannot {event}")]
pub struct TxStepError {
    /// The state, which stays.
    pub state: TxStatus,
    /// The event's name.
    pub event: &'static str,
}

#[cfg(test)]
mod tests;
