//! The life of a rental.
//!
//! Two things must come together before a rental is active: the renter's lock, which counts only once it is final on
//! the chain, and the machine, which is made ready as soon as the lock is seen in a block. Everything that the
//! outside does arrives as a [`RentalEvent`]; [`step`] answers with the next [`Progress`] and the [`Effect`]s, which
//! are stored together with it.
//!
//! `Contested` is a rental whose clock has stopped on the chain while some of its last seconds are held there: either
//! side may dispute them until a deadline, then they go where they go by default, or where the arbiter says. `Resolved`
//! is the end of one that somebody disputed and nobody gave in to.

mod end;
mod event;
mod progress;
mod step;

pub use end::{CloseOutcome, EndReason, FailReason, Party};
pub use event::{Effect, RentalEvent};
pub use progress::Progress;
pub use step::{Step, StepError, book, step};

use crate::names::named_enum;

named_enum! {
    /// Where a rental is.
    pub enum RentalState ("rental state") {
        /// Booked, the GPUs are held, the lock is not final. The machine may be getting ready.
        AwaitingFunds => "awaiting_funds",
        /// The lock is final; the machine has not answered.
        Funded => "funded",
        /// The lock is final; the machine is getting ready.
        Provisioning => "provisioning",
        /// Final lock and ready machine: time is billed.
        Active => "active",
        /// No evidence that the machine is good: time is not billed.
        Interrupted => "interrupted",
        /// Ended; the machine is cleaning up.
        Stopping => "stopping",
        /// The contract is being told to divide the deposit.
        Settling => "settling",
        /// The deposit is divided, finally. The end.
        Settled => "settled",
        /// No lock came in time. The end, unless a lock comes late.
        Expired => "expired",
        /// Called off before the lock was final. The end, unless the lock comes through.
        Cancelled => "cancelled",
        /// The machine did not get ready, and the lock is not final yet.
        StartFailed => "start_failed",
        /// The contract is being told to give the whole deposit back.
        Refunding => "refunding",
        /// The whole deposit went back, finally. The end.
        Refunded => "refunded",
        /// The clock has stopped on the chain, all but some held seconds is paid.
        Contested => "contested",
        /// A dispute was decided, by the arbiter or by its silence. The end.
        Resolved => "resolved",
    }
}

impl RentalState {
    /// Whether this is an end. From `Expired` and `Cancelled` only a lock that becomes final after all leads on.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Settled | Self::Expired | Self::Cancelled | Self::Refunded | Self::Resolved => {
                true
            }
            Self::AwaitingFunds
            | Self::Funded
            | Self::Provisioning
            | Self::Active
            | Self::Interrupted
            | Self::Stopping
            | Self::Settling
            | Self::StartFailed
            | Self::Refunding
            | Self::Contested => false,
        }
    }

    /// Whether the rental keeps its GPUs from others.
    #[must_use]
    pub const fn holds_gpus(self) -> bool {
        match self {
            Self::AwaitingFunds
            | Self::Funded
            | Self::Provisioning
            | Self::Active
            | Self::Interrupted
            | Self::Stopping => true,
            Self::Settling
            | Self::Settled
            | Self::Expired
            | Self::Cancelled
            | Self::StartFailed
            | Self::Refunding
            | Self::Refunded
            | Self::Contested
            | Self::Resolved => false,
        }
    }
}

named_enum! {
    /// What the chain says of the lock.
    pub enum LockStatus ("lock status") {
        /// Nothing.
        None => "none",
        /// It is in a block that may still leave the chain.
        Included => "included",
        /// It is in a final block.
        Final => "final",
    }
}

named_enum! {
    /// What the agent on the machine says of its part.
    pub enum AgentStatus ("agent status") {
        /// Nothing.
        Idle => "idle",
        /// It has taken the order.
        Acked => "acked",
        /// The machine is ready, and a probe agrees.
        Ready => "ready",
        /// It has cleaned up.
        Stopped => "stopped",
    }
}

named_enum! {
    /// What became of the contract's `start`.
    pub enum StartStatus ("start status") {
        /// Not asked for.
        None => "none",
        /// Asked for; not final.
        Requested => "requested",
        /// Final: the chain's clock runs.
        Final => "final",
    }
}

#[cfg(test)]
mod tests;
