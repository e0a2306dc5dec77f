//! After the end: money on its way back, or nothing left to do.

use super::{Step, closed, contested, go, refund, stay, with_final_start};
use crate::rental::{
    AgentStatus, Effect, EndReason, LockStatus, Progress, RentalEvent as E, RentalState,
};

/// The machine did not get ready and the lock is not final: if it becomes so, the deposit goes back.
pub(super) fn start_failed(p: &Progress, e: &E) -> Option<Step> {
    match *e {
        E::LockFinal { .. } => refund(p, EndReason::ReadyDeadline),
        // No money came, and none is expected.
        E::LockDropped => {
            let next = Progress { state: RentalState::Expired, lock: LockStatus::None, ..*p };
            go(next, Vec::new())
        }
        E::AgentStopped => stopped(p),
        E::ContestedFinal { deadline } => contested(p, deadline),
        E::ClosedFinal { outcome } => closed(p, outcome),
        E::LockIncluded
        | E::FundingDeadline
        | E::AgentFailed { .. }
        | E::ReadyDeadline
        | E::StopRequested { .. } => stay(p),
        E::AgentAcked
        | E::AgentReady { .. }
        | E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::DurationEnd { .. }
        | E::StopDeadline
        | E::StartFinal { .. }
        | E::StartRefused { .. }
        | E::StartExpired { .. }
        | E::ReleaseDue { .. }
        | E::ReleaseRefused { .. }
        | E::CloseRefused { .. }
        | E::DisputedFinal { .. }
        | E::FinalizeDue { .. }
        | E::FinalizeRefused { .. } => None,
    }
}

/// Expired or cancelled. The renter's lock can still come through; then the deposit goes back.
pub(super) fn never_funded(p: &Progress, e: &E) -> Option<Step> {
    match *e {
        E::LockFinal { .. } => refund(p, EndReason::FundingDeadline),
        E::LockIncluded => go(Progress { lock: LockStatus::Included, ..*p }, Vec::new()),
        E::LockDropped => go(Progress { lock: LockStatus::None, ..*p }, Vec::new()),
        E::AgentStopped => stopped(p),
        E::FundingDeadline | E::AgentFailed { .. } | E::ReadyDeadline | E::StopRequested { .. } => {
            stay(p)
        }
        E::AgentAcked
        | E::AgentReady { .. }
        | E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::DurationEnd { .. }
        | E::StopDeadline
        | E::StartFinal { .. }
        | E::StartRefused { .. }
        | E::StartExpired { .. }
        | E::ReleaseDue { .. }
        | E::ReleaseRefused { .. }
        | E::CloseRefused { .. }
        | E::ContestedFinal { .. }
        | E::DisputedFinal { .. }
        | E::FinalizeDue { .. }
        | E::FinalizeRefused { .. }
        | E::ClosedFinal { .. } => None,
    }
}

/// Waiting for the contract to give the whole deposit back.
pub(super) fn refunding(p: &Progress, e: &E) -> Option<Step> {
    match *e {
        E::CloseRefused { .. } => go(*p, vec![Effect::SendCancel]),
        // A start that was thought refused went through: the contract now wants to be told the end.
        E::StartFinal { started_at } => {
            let next = Progress {
                state: RentalState::Settling,
                stopped_at: p.stopped_at.or(Some(started_at)),
                ..*p
            };
            go(with_final_start(&next, started_at), vec![Effect::SendClose])
        }
        E::AgentStopped => stopped(p),
        E::ContestedFinal { deadline } => contested(p, deadline),
        E::ClosedFinal { outcome } => closed(p, outcome),
        E::LockIncluded
        | E::LockFinal { .. }
        | E::FundingDeadline
        | E::AgentFailed { .. }
        | E::ReadyDeadline
        | E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::StopRequested { .. }
        | E::DurationEnd { .. }
        | E::StopDeadline
        | E::StartRefused { .. }
        | E::StartExpired { .. }
        | E::ReleaseDue { .. }
        | E::ReleaseRefused { .. } => stay(p),
        E::LockDropped
        | E::AgentAcked
        | E::AgentReady { .. }
        | E::DisputedFinal { .. }
        | E::FinalizeDue { .. }
        | E::FinalizeRefused { .. } => None,
    }
}

/// Settled, resolved or refunded: only news that contradicts it is refused.
pub(super) fn finished(p: &Progress, e: &E) -> Option<Step> {
    let was_started = p.state != RentalState::Refunded;
    let was_decided = p.state == RentalState::Resolved;
    match *e {
        E::ClosedFinal { outcome }
            if outcome.was_started() == was_started && outcome.is_decision() == was_decided =>
        {
            stay(p)
        }
        E::StartFinal { .. } | E::ContestedFinal { .. } | E::DisputedFinal { .. }
            if was_started =>
        {
            stay(p)
        }
        E::AgentStopped
        | E::LockIncluded
        | E::LockFinal { .. }
        | E::FundingDeadline
        | E::ReadyDeadline
        | E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::StopRequested { .. }
        | E::DurationEnd { .. }
        | E::StopDeadline
        | E::StartRefused { .. }
        | E::StartExpired { .. }
        | E::ReleaseDue { .. }
        | E::ReleaseRefused { .. }
        | E::CloseRefused { .. }
        | E::FinalizeDue { .. }
        | E::FinalizeRefused { .. } => stay(p),
        E::LockDropped
        | E::AgentAcked
        | E::AgentReady { .. }
        | E::AgentFailed { .. }
        | E::StartFinal { .. }
        | E::ContestedFinal { .. }
        | E::DisputedFinal { .. }
        | E::ClosedFinal { .. } => None,
    }
}

pub(super) fn stopped(p: &Progress) -> Option<Step> {
    go(Progress { agent: AgentStatus::Stopped, ..*p }, Vec::new())
}
