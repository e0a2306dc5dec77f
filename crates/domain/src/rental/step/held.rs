//! The clock has stopped on the chain, and some seconds are held there.

use super::{Step, closed, ended::stopped, go, stay};
use crate::rental::{Effect, Progress, RentalEvent as E};
use crate::time::UnixSeconds;

/// Waiting for the time to dispute, or the arbiter's, to be over, or for somebody to decide before.
pub(super) fn contested(p: &Progress, e: &E) -> Option<Step> {
    match *e {
        E::DisputedFinal { deadline } => hold_until(p, deadline),
        E::FinalizeDue { now } if p.held_until.is_none_or(|deadline| now > deadline) => {
            go(*p, vec![Effect::SendFinalize])
        }
        E::FinalizeRefused { .. } => go(*p, vec![Effect::ArmFinalize]),
        E::ClosedFinal { outcome } if outcome.was_started() => closed(p, outcome),
        E::AgentStopped => stopped(p),
        E::ContestedFinal { .. }
        | E::FinalizeDue { .. }
        | E::StartFinal { .. }
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
        | E::CloseRefused { .. } => stay(p),
        E::LockDropped
        | E::AgentAcked
        | E::AgentReady { .. }
        | E::AgentFailed { .. }
        | E::ClosedFinal { .. } => None,
    }
}

/// Somebody disputes: the arbiter has more time, and the second dispute of a rental does not change it.
fn hold_until(p: &Progress, deadline: UnixSeconds) -> Option<Step> {
    if p.held_until == Some(deadline) {
        return stay(p);
    }
    go(Progress { held_until: Some(deadline), ..*p }, vec![Effect::ArmFinalize])
}
