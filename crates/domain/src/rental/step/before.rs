//! Before a rental is active.

use super::{Step, closed, contested, go, let_go, refund, stay};
use crate::rental::{
    AgentStatus, Effect, EndReason, LockStatus, Progress, RentalEvent as E, RentalState,
    StartStatus,
};
use crate::time::UnixSeconds;

/// Waiting for the lock to be final, with the machine perhaps getting ready meanwhile.
pub(super) fn awaiting_funds(p: &Progress, e: &E) -> Option<Step> {
    let seen = p.lock != LockStatus::None;
    match *e {
        E::LockIncluded if !seen => {
            let next = Progress { lock: LockStatus::Included, ..*p };
            go(next, vec![Effect::Provision, Effect::ArmReadyDeadline])
        }
        E::LockDropped if seen => lock_dropped(p),
        E::LockFinal { now } => funded(p, now),
        E::FundingDeadline if !seen => leave(p, RentalState::Expired, EndReason::FundingDeadline),
        E::AgentAcked if seen => go(acked(p), Vec::new()),
        E::AgentReady { at } if seen => {
            let ready_at = p.ready_at.or(Some(at));
            go(Progress { agent: AgentStatus::Ready, ready_at, ..*p }, Vec::new())
        }
        E::AgentFailed { reason } if seen => {
            leave(p, RentalState::StartFailed, EndReason::StartFailed(reason))
        }
        E::ReadyDeadline if seen && p.agent != AgentStatus::Ready => {
            leave(p, RentalState::StartFailed, EndReason::ReadyDeadline)
        }
        E::StopRequested { by, .. } => {
            leave(p, RentalState::Cancelled, EndReason::called_off_by(by))
        }
        E::ContestedFinal { deadline } => contested(p, deadline),
        E::ClosedFinal { outcome } => closed(p, outcome),
        // Seen before; or a timer whose question is settled; or the end of work that a dropped lock called off.
        E::LockIncluded
        | E::LockDropped
        | E::FundingDeadline
        | E::ReadyDeadline
        | E::AgentStopped => stay(p),
        // Without a lock nobody was asked to get ready.
        E::AgentAcked
        | E::AgentReady { .. }
        | E::AgentFailed { .. }
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

/// The lock is final, the machine is not ready.
pub(super) fn preparing(p: &Progress, e: &E) -> Option<Step> {
    match *e {
        E::AgentAcked => go(Progress { state: RentalState::Provisioning, ..acked(p) }, Vec::new()),
        E::AgentReady { at } => {
            activate(&Progress { agent: AgentStatus::Ready, ready_at: Some(at), ..*p }, at)
        }
        E::AgentFailed { reason } => refund(p, EndReason::StartFailed(reason)),
        E::ReadyDeadline => refund(p, EndReason::ReadyDeadline),
        E::StartExpired { .. } => refund(p, EndReason::StartWindowMissed),
        E::StopRequested { by, .. } => refund(p, EndReason::called_off_by(by)),
        E::ContestedFinal { deadline } => contested(p, deadline),
        E::ClosedFinal { outcome } => closed(p, outcome),
        // `AgentStopped` is the end of work that an earlier, dropped lock called off.
        E::LockIncluded | E::LockFinal { .. } | E::FundingDeadline | E::AgentStopped => stay(p),
        E::LockDropped
        | E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::DurationEnd { .. }
        | E::StopDeadline
        | E::StartFinal { .. }
        | E::StartRefused { .. }
        | E::ReleaseDue { .. }
        | E::ReleaseRefused { .. }
        | E::CloseRefused { .. }
        | E::DisputedFinal { .. }
        | E::FinalizeDue { .. }
        | E::FinalizeRefused { .. } => None,
    }
}

fn acked(p: &Progress) -> Progress {
    let agent = match p.agent {
        AgentStatus::Idle | AgentStatus::Stopped => AgentStatus::Acked,
        AgentStatus::Acked | AgentStatus::Ready => p.agent,
    };
    Progress { agent, ..*p }
}

/// The lock is no longer in any block. The deadline may have passed while it was, so it is armed again.
fn lock_dropped(p: &Progress) -> Option<Step> {
    let next = Progress { lock: LockStatus::None, agent: AgentStatus::Idle, ready_at: None, ..*p };
    go(next, vec![Effect::Deprovision, Effect::ArmFundingDeadline])
}

fn funded(p: &Progress, now: UnixSeconds) -> Option<Step> {
    let locked = Progress { lock: LockStatus::Final, ..*p };
    match p.agent {
        AgentStatus::Ready => activate(&locked, now),
        AgentStatus::Acked => {
            go(Progress { state: RentalState::Provisioning, ..locked }, Vec::new())
        }
        AgentStatus::Idle | AgentStatus::Stopped => {
            let effects = match p.lock {
                LockStatus::None => vec![Effect::Provision, Effect::ArmReadyDeadline],
                LockStatus::Included | LockStatus::Final => Vec::new(),
            };
            go(Progress { state: RentalState::Funded, ..locked }, effects)
        }
    }
}

/// Final lock and ready machine have come together at `now`.
fn activate(p: &Progress, now: UnixSeconds) -> Option<Step> {
    let started_at = p.ready_at.map_or(now, |ready_at| ready_at.max(now));
    let next = Progress {
        state: RentalState::Active,
        start: StartStatus::Requested,
        started_at: Some(started_at),
        ..*p
    };
    let effects = vec![Effect::SendStart { started_at }, Effect::ArmDurationEnd];
    go(next, effects)
}

/// Ends a rental whose lock is not final.
fn leave(p: &Progress, state: RentalState, end: EndReason) -> Option<Step> {
    go(Progress { state, end: Some(end), ..*p }, let_go(p))
}
