//! Everything that the state machine remembers of a rental.

use serde::{Deserialize, Serialize};

use super::{AgentStatus, EndReason, LockStatus, RentalState, StartStatus};
use crate::metering::Interval;
use crate::time::{Seconds, UnixSeconds};

/// Where a rental is, and what it needs to know to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// The state.
    pub state: RentalState,
    /// What the chain says of the lock.
    pub lock: LockStatus,
    /// What the agent says.
    pub agent: AgentStatus,
    /// What became of the contract's `start`.
    pub start: StartStatus,
    /// When the machine was ready.
    pub ready_at: Option<UnixSeconds>,
    /// The start of billing, the contract's `startedAt`; it can move to later until `start` is final.
    pub started_at: Option<UnixSeconds>,
    /// Since when evidence is missing; set in `Interrupted` only.
    pub interrupted_since: Option<UnixSeconds>,
    /// The end of billing; never before `started_at`.
    pub stopped_at: Option<UnixSeconds>,
    /// Until when seconds are held on the chain; set in `Contested` only.
    pub held_until: Option<UnixSeconds>,
    /// Why it ended.
    pub end: Option<EndReason>,
}

impl Progress {
    /// A rental that was just booked.
    pub(super) const BOOKED: Self = Self {
        state: RentalState::AwaitingFunds,
        lock: LockStatus::None,
        agent: AgentStatus::Idle,
        start: StartStatus::None,
        ready_at: None,
        started_at: None,
        interrupted_since: None,
        stopped_at: None,
        held_until: None,
        end: None,
    };

    /// The time to meter, once it has both ends.
    #[must_use]
    pub fn billing_window(&self) -> Option<Interval> {
        Some(Interval::new(self.started_at?, self.stopped_at?))
    }

    /// Whether the present outage has lasted `limit` or longer at `now`; what to ask before sending `OutageTooLong`.
    #[must_use]
    pub fn outage_has_lasted(&self, limit: Seconds, now: UnixSeconds) -> bool {
        self.interrupted_since.is_some_and(|since| now.saturating_since(since) >= limit)
    }

    /// Whether the agent was ordered to make the machine ready and not to clean up since.
    #[must_use]
    pub const fn is_provisioned(&self) -> bool {
        match self.state {
            RentalState::AwaitingFunds => !matches!(self.lock, LockStatus::None),
            RentalState::Funded
            | RentalState::Provisioning
            | RentalState::Active
            | RentalState::Interrupted => true,
            RentalState::Stopping
            | RentalState::Settling
            | RentalState::Settled
            | RentalState::Expired
            | RentalState::Cancelled
            | RentalState::StartFailed
            | RentalState::Refunding
            | RentalState::Refunded
            | RentalState::Contested
            | RentalState::Resolved => false,
        }
    }
}
