//! From the first billed second until the contract divides the deposit.

use super::{Step, closed, contested, go, refund, stay, with_final_start};
use crate::rental::{
    AgentStatus, Effect, EndReason, Progress, RentalEvent as E, RentalState, StartStatus,
};
use crate::time::UnixSeconds;

/// Active or interrupted. A failure of the machine shows as missing evidence, whatever the agent says.
pub(super) fn running(p: &Progress, e: &E) -> Option<Step> {
    let started = p.start == StartStatus::Final;
    let interrupted = p.state == RentalState::Interrupted;
    match *e {
        E::EvidenceLost { last_good } if !interrupted => {
            let since = p.started_at.map_or(last_good, |started_at| last_good.max(started_at));
            let next =
                Progress { state: RentalState::Interrupted, interrupted_since: Some(since), ..*p };
            go(next, vec![Effect::ArmOutageLimit])
        }
        E::EvidenceBack if interrupted => {
            let next = Progress { state: RentalState::Active, interrupted_since: None, ..*p };
            go(next, Vec::new())
        }
        E::OutageTooLong { now } if interrupted => outage_too_long(p, now),
        E::StopRequested { by, now } => stop(p, EndReason::stopped_by(by), now),
        E::DurationEnd { at } => stop(p, EndReason::DurationEnd, at),
        E::StartFinal { started_at } => start_final(p, started_at),
        E::StartRefused { now } if !started => start_again(p, now),
        E::StartExpired { .. } if !started => refund(p, EndReason::StartWindowMissed),
        E::ReleaseDue { until } if started => Some(release(p, until)),
        E::ReleaseRefused { .. } if started => go(*p, vec![Effect::ArmReleaseAgain]),
        E::ContestedFinal { deadline } => contested(p, deadline),
        E::ClosedFinal { outcome } => closed(p, outcome),
        // Repeated, settled, or overtaken by what came first.
        E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::StartRefused { .. }
        | E::StartExpired { .. }
        | E::ReleaseDue { .. }
        | E::ReleaseRefused { .. }
        | E::LockIncluded
        | E::LockFinal { .. }
        | E::FundingDeadline
        | E::AgentAcked
        | E::AgentReady { .. }
        | E::ReadyDeadline => stay(p),
        E::LockDropped
        | E::AgentFailed { .. }
        | E::AgentStopped
        | E::StopDeadline
        | E::CloseRefused { .. }
        | E::DisputedFinal { .. }
        | E::FinalizeDue { .. }
        | E::FinalizeRefused { .. } => None,
    }
}

/// Ended; the machine is cleaning up.
pub(super) fn stopping(p: &Progress, e: &E) -> Option<Step> {
    let started = p.start == StartStatus::Final;
    match *e {
        E::AgentStopped => settle(&Progress { agent: AgentStatus::Stopped, ..*p }),
        E::StopDeadline => settle(p),
        E::StartFinal { started_at } => start_final(p, started_at),
        // The time since the end cannot be billed, and the time before it was not started: nothing is owed.
        E::StartRefused { .. } | E::StartExpired { .. } if !started => {
            refund(p, EndReason::StartWindowMissed)
        }
        E::ContestedFinal { deadline } => contested(p, deadline),
        E::ClosedFinal { outcome } => closed(p, outcome),
        E::StartRefused { .. }
        | E::StartExpired { .. }
        | E::ReleaseDue { .. }
        | E::ReleaseRefused { .. }
        | E::LockIncluded
        | E::LockFinal { .. }
        | E::FundingDeadline
        | E::AgentAcked
        | E::AgentReady { .. }
        | E::ReadyDeadline
        | E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::StopRequested { .. }
        | E::DurationEnd { .. } => stay(p),
        E::LockDropped
        | E::AgentFailed { .. }
        | E::CloseRefused { .. }
        | E::DisputedFinal { .. }
        | E::FinalizeDue { .. }
        | E::FinalizeRefused { .. } => None,
    }
}

/// Waiting for the contract to divide the deposit. `close` is sent once `start` is final, not before: the contract
/// would refuse it.
pub(super) fn settling(p: &Progress, e: &E) -> Option<Step> {
    let started = p.start == StartStatus::Final;
    match *e {
        E::AgentStopped => go(Progress { agent: AgentStatus::Stopped, ..*p }, Vec::new()),
        E::StartFinal { started_at } if !started => {
            go(with_final_start(p, started_at), vec![Effect::SendClose])
        }
        E::StartFinal { started_at } => start_final(p, started_at),
        E::StartRefused { .. } | E::StartExpired { .. } if !started => {
            refund(p, EndReason::StartWindowMissed)
        }
        E::CloseRefused { .. } if started => go(*p, vec![Effect::SendClose]),
        E::ContestedFinal { deadline } => contested(p, deadline),
        E::ClosedFinal { outcome } => closed(p, outcome),
        E::StartRefused { .. }
        | E::StartExpired { .. }
        | E::ReleaseDue { .. }
        | E::ReleaseRefused { .. }
        | E::CloseRefused { .. }
        | E::LockIncluded
        | E::LockFinal { .. }
        | E::FundingDeadline
        | E::AgentAcked
        | E::AgentReady { .. }
        | E::ReadyDeadline
        | E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::StopRequested { .. }
        | E::DurationEnd { .. }
        | E::StopDeadline => stay(p),
        E::LockDropped
        | E::AgentFailed { .. }
        | E::DisputedFinal { .. }
        | E::FinalizeDue { .. }
        | E::FinalizeRefused { .. } => None,
    }
}

fn stop(p: &Progress, end: EndReason, at: UnixSeconds) -> Option<Step> {
    let next = Progress {
        state: RentalState::Stopping,
        interrupted_since: None,
        stopped_at: Some(p.started_at.map_or(at, |started_at| at.max(started_at))),
        end: Some(end),
        ..*p
    };
    go(next, vec![Effect::Deprovision, Effect::ArmStopDeadline])
}

/// The machine is gone, so nobody is waited for; the end lies where evidence ended.
fn outage_too_long(p: &Progress, now: UnixSeconds) -> Option<Step> {
    let ended = Progress {
        interrupted_since: None,
        stopped_at: p.interrupted_since.or(Some(now)),
        end: Some(EndReason::OutageTooLong),
        ..*p
    };
    let Step { next, effects } = settle(&ended)?;
    go(next, std::iter::once(Effect::Deprovision).chain(effects).collect())
}

fn settle(p: &Progress) -> Option<Step> {
    let close = (p.start == StartStatus::Final).then_some(Effect::SendClose);
    let effects = close.into_iter().chain([Effect::FreeGpus]).collect();
    go(Progress { state: RentalState::Settling, ..*p }, effects)
}

/// The chain's word on the start of billing. Once final it cannot change.
fn start_final(p: &Progress, started_at: UnixSeconds) -> Option<Step> {
    let moved = p.started_at != Some(started_at);
    if p.start == StartStatus::Final {
        return if moved { None } else { stay(p) };
    }
    let billed_on = p.stopped_at.is_none();
    let end = (moved && billed_on).then_some(Effect::ArmDurationEnd);
    let release = billed_on.then_some(Effect::ArmRelease);
    go(with_final_start(p, started_at), end.into_iter().chain(release).collect())
}

/// What an outage leaves to be paid shows only when it is over: until then nothing is released.
fn release(p: &Progress, until: UnixSeconds) -> Step {
    let send = (p.state == RentalState::Active).then_some(Effect::SendRelease { until });
    Step { next: *p, effects: send.into_iter().chain([Effect::ArmRelease]).collect() }
}

/// The contract did not take the start: the time until now is free, and billing begins now.
fn start_again(p: &Progress, now: UnixSeconds) -> Option<Step> {
    let started_at = p.started_at.map_or(now, |before| before.max(now));
    let next = Progress {
        start: StartStatus::Requested,
        started_at: Some(started_at),
        interrupted_since: p.interrupted_since.map(|since| since.max(started_at)),
        ..*p
    };
    go(next, vec![Effect::SendStart { started_at }, Effect::ArmDurationEnd])
}
