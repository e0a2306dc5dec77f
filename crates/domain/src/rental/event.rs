//! What happens to a rental, and what that asks for.

use serde::{Deserialize, Serialize};

use super::{CloseOutcome, FailReason, Party};
use crate::time::UnixSeconds;

/// What happens to a rental. `now` is the platform's time when it learned of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RentalEvent {
    /// The lock is in a block.
    LockIncluded,
    /// The block with the lock left the chain.
    LockDropped,
    /// The lock is in a final block.
    LockFinal {
        /// When the platform learned of it.
        now: UnixSeconds,
    },
    /// The time for locking is over.
    FundingDeadline,
    /// The agent took the order.
    AgentAcked,
    /// The machine is ready, and the platform's probe agrees.
    AgentReady {
        /// When the probe agreed, by the platform's clock.
        at: UnixSeconds,
    },
    /// The machine cannot be made ready.
    AgentFailed {
        /// Why.
        reason: FailReason,
    },
    /// The time for getting ready is over.
    ReadyDeadline,
    /// Evidence that the machine is good has stopped coming.
    EvidenceLost {
        /// The end of the last evidence.
        last_good: UnixSeconds,
    },
    /// Evidence comes again.
    EvidenceBack,
    /// The machine has been away longer than the limit. The sender makes sure that it is this outage which is too
    /// long, not an earlier one whose timer fires late.
    OutageTooLong {
        /// When that was found.
        now: UnixSeconds,
    },
    /// Somebody wants it to end.
    StopRequested {
        /// Who.
        by: Party,
        /// When.
        now: UnixSeconds,
    },
    /// The deposit is used up.
    DurationEnd {
        /// The second from which on nothing is paid for.
        at: UnixSeconds,
    },
    /// The agent has cleaned up.
    AgentStopped,
    /// The time for cleaning up is over.
    StopDeadline,
    /// The contract's `Started` is in a final block.
    StartFinal {
        /// The start of billing that the contract holds.
        started_at: UnixSeconds,
    },
    /// The contract would refuse the `start`, and another one may be accepted.
    StartRefused {
        /// When that was found.
        now: UnixSeconds,
    },
    /// The terms' `startBy` has passed without a `start`: none will be accepted.
    StartExpired {
        /// When that was found.
        now: UnixSeconds,
    },
    /// It is time to pay for what has run so far. The sender makes sure that the evidence covers all that may be paid
    /// before `until`.
    ReleaseDue {
        /// The second from which on the call may not be sent any more.
        until: UnixSeconds,
    },
    /// The `release` came to nothing, and another one may be accepted.
    ReleaseRefused {
        /// When that was found.
        now: UnixSeconds,
    },
    /// The contract would refuse the `close` or `cancel` that was sent.
    CloseRefused {
        /// When that was found.
        now: UnixSeconds,
    },
    /// The contract's `Contested` is in a final block: the clock has stopped, some seconds are held.
    ContestedFinal {
        /// The last second to dispute, or for the arbiter if somebody disputed at once.
        deadline: UnixSeconds,
    },
    /// The contract's `Disputed` is in a final block.
    DisputedFinal {
        /// The arbiter's last second.
        deadline: UnixSeconds,
    },
    /// The time of the held seconds is over.
    FinalizeDue {
        /// When that was found.
        now: UnixSeconds,
    },
    /// The contract would refuse the `finalize` that was sent.
    FinalizeRefused {
        /// When that was found.
        now: UnixSeconds,
    },
    /// The contract's `Closed` is in a final block.
    ClosedFinal {
        /// How.
        outcome: CloseOutcome,
    },
}

impl RentalEvent {
    /// The event's name in snake_case.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LockIncluded => "lock_included",
            Self::LockDropped => "lock_dropped",
            Self::LockFinal { .. } => "lock_final",
            Self::FundingDeadline => "funding_deadline",
            Self::AgentAcked => "agent_acked",
            Self::AgentReady { .. } => "agent_ready",
            Self::AgentFailed { .. } => "agent_failed",
            Self::ReadyDeadline => "ready_deadline",
            Self::EvidenceLost { .. } => "evidence_lost",
            Self::EvidenceBack => "evidence_back",
            Self::OutageTooLong { .. } => "outage_too_long",
            Self::StopRequested { .. } => "stop_requested",
            Self::DurationEnd { .. } => "duration_end",
            Self::AgentStopped => "agent_stopped",
            Self::StopDeadline => "stop_deadline",
            Self::StartFinal { .. } => "start_final",
            Self::StartRefused { .. } => "start_refused",
            Self::StartExpired { .. } => "start_expired",
            Self::ReleaseDue { .. } => "release_due",
            Self::ReleaseRefused { .. } => "release_refused",
            Self::CloseRefused { .. } => "close_refused",
            Self::ContestedFinal { .. } => "contested_final",
            Self::DisputedFinal { .. } => "disputed_final",
            Self::FinalizeDue { .. } => "finalize_due",
            Self::FinalizeRefused { .. } => "finalize_refused",
            Self::ClosedFinal { .. } => "closed_final",
        }
    }
}

/// What a step asks for. Stored in the same database transaction as the state, carried out afterwards, each safe to
/// carry out twice. An `Arm...` replaces an earlier timer of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Order the agent to make the machine ready.
    Provision,
    /// Order the agent to clean up.
    Deprovision,
    /// Send the contract's `start`.
    SendStart {
        /// The start of billing to tell it.
        started_at: UnixSeconds,
    },
    /// Send the contract's `release`.
    SendRelease {
        /// The second from which on it may not be sent any more.
        until: UnixSeconds,
    },
    /// Send the contract's `close`.
    SendClose,
    /// Send the contract's `cancel`.
    SendCancel,
    /// Send the contract's `finalize`.
    SendFinalize,
    /// Let others rent the GPUs.
    FreeGpus,
    /// Send `FundingDeadline` when the time for locking is over.
    ArmFundingDeadline,
    /// Send `ReadyDeadline` when the time for getting ready is over.
    ArmReadyDeadline,
    /// Send `DurationEnd` when the deposit is used up, counted from `started_at`.
    ArmDurationEnd,
    /// Send `ReleaseDue` after the next interval since the start, if the rental lasts that long.
    ArmRelease,
    /// Send `ReleaseDue` again within the interval.
    ArmReleaseAgain,
    /// Send `StopDeadline` when the time for cleaning up is over.
    ArmStopDeadline,
    /// Send `OutageTooLong` when the outage since `interrupted_since` has lasted too long.
    ArmOutageLimit,
    /// Send `FinalizeDue` when `held_until` is over.
    ArmFinalize,
}

impl Effect {
    /// The effect's name in snake_case.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Deprovision => "deprovision",
            Self::SendStart { .. } => "send_start",
            Self::SendRelease { .. } => "send_release",
            Self::SendClose => "send_close",
            Self::SendCancel => "send_cancel",
            Self::SendFinalize => "send_finalize",
            Self::FreeGpus => "free_gpus",
            Self::ArmFundingDeadline => "arm_funding_deadline",
            Self::ArmReadyDeadline => "arm_ready_deadline",
            Self::ArmDurationEnd => "arm_duration_end",
            Self::ArmRelease => "arm_release",
            Self::ArmReleaseAgain => "arm_release_again",
            Self::ArmStopDeadline => "arm_stop_deadline",
            Self::ArmOutageLimit => "arm_outage_limit",
            Self::ArmFinalize => "arm_finalize",
        }
    }
}
