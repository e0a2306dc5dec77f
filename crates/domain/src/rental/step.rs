//! The transition function of a rental, a function per group of states.

mod before;
mod ended;
mod held;
mod running;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    CloseOutcome, Effect, EndReason, LockStatus, Progress, RentalEvent, RentalState, StartStatus,
};
use crate::time::UnixSeconds;

/// What an event leads to: the next progress, and what has to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where the rental is now.
    pub next: Progress,
    /// What that asks for; empty when the event had taken effect before.
    pub effects: Vec<Effect>,
}

/// Why an event is refused. The progress stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StepError {
    /// The event cannot happen here: it came too late, or the sender is at fault.
    #[error("a rental that is {state} refuses {event}")]
    Illegal {
        /// The state.
        state: RentalState,
        /// The event's name.
        event: &'static str,
    },
    /// A lock that was final left the chain: finality is broken, and a person must look.
    #[error("a final lock left the chain under a rental that is {state}")]
    FinalLockDropped {
        /// The state.
        state: RentalState,
    },
}

/// A rental that is being booked: it waits for the lock.
#[must_use]
pub fn book() -> Step {
    Step { next: Progress::BOOKED, effects: vec![Effect::ArmFundingDeadline] }
}

/// What `event` does to a rental that is at `progress`.
///
/// An event that has taken effect before changes nothing and asks for nothing, and is no error: every event but
/// `StartRefused`, `ReleaseDue`, `ReleaseRefused`, `CloseRefused`, `FinalizeDue` and `FinalizeRefused`, which ask for
/// another try each time, may be repeated at once. So are those that come late in ordinary life: timers whose question
/// is settled, stop requests to a rental that has ended, chain events that a later one has overtaken. `docs/FLOW.md`
/// lists all of it, state by state.
///
/// # Errors
/// [`StepError::Illegal`] for an event that cannot happen here, such as a machine's late `AgentReady`;
/// [`StepError::FinalLockDropped`] when the chain takes back what was final.
pub fn step(progress: &Progress, event: &RentalEvent) -> Result<Step, StepError> {
    let state = progress.state;
    if *event == RentalEvent::LockDropped && progress.lock == LockStatus::Final {
        return Err(StepError::FinalLockDropped { state });
    }
    let step = match state {
        RentalState::AwaitingFunds => before::awaiting_funds(progress, event),
        RentalState::Funded | RentalState::Provisioning => before::preparing(progress, event),
        RentalState::Active | RentalState::Interrupted => running::running(progress, event),
        RentalState::Stopping => running::stopping(progress, event),
        RentalState::Settling => running::settling(progress, event),
        RentalState::StartFailed => ended::start_failed(progress, event),
        RentalState::Expired | RentalState::Cancelled => ended::never_funded(progress, event),
        RentalState::Refunding => ended::refunding(progress, event),
        RentalState::Contested => held::contested(progress, event),
        RentalState::Settled | RentalState::Refunded | RentalState::Resolved => {
            ended::finished(progress, event)
        }
    };
    step.ok_or(StepError::Illegal { state, event: event.name() })
}

/// Nothing changes, nothing is to be done.
fn stay(p: &Progress) -> Option<Step> {
    Some(Step { next: *p, effects: Vec::new() })
}

fn go(next: Progress, effects: Vec<Effect>) -> Option<Step> {
    Some(Step { next, effects })
}

/// The part of `Deprovision` and `FreeGpus` that is still due when a rental leaves `p` for an end.
fn let_go(p: &Progress) -> Vec<Effect> {
    let deprovision = p.is_provisioned().then_some(Effect::Deprovision);
    let free = p.state.holds_gpus().then_some(Effect::FreeGpus);
    deprovision.into_iter().chain(free).collect()
}

/// Gives the whole deposit back: the lock is final and nothing was earned.
fn refund(p: &Progress, end: EndReason) -> Option<Step> {
    let mut effects = vec![Effect::SendCancel];
    effects.extend(let_go(p));
    let next = Progress {
        state: RentalState::Refunding,
        lock: LockStatus::Final,
        interrupted_since: None,
        end: Some(p.end.unwrap_or(end)),
        ..*p
    };
    go(next, effects)
}

/// The contract closed the rental, whoever asked it to.
fn closed(p: &Progress, outcome: CloseOutcome) -> Option<Step> {
    let (state, start) = if outcome.is_decision() {
        (RentalState::Resolved, StartStatus::Final)
    } else if outcome.was_started() {
        (RentalState::Settled, StartStatus::Final)
    } else {
        (RentalState::Refunded, p.start)
    };
    let next = Progress {
        state,
        lock: LockStatus::Final,
        start,
        interrupted_since: None,
        held_until: None,
        end: Some(p.end.unwrap_or(EndReason::StoppedOnChain)),
        ..*p
    };
    go(next, let_go(p))
}

/// The contract stopped the clock and holds some seconds, whoever asked it to.
fn contested(p: &Progress, deadline: UnixSeconds) -> Option<Step> {
    let next = Progress {
        state: RentalState::Contested,
        lock: LockStatus::Final,
        start: StartStatus::Final,
        interrupted_since: None,
        held_until: Some(deadline),
        end: Some(p.end.unwrap_or(EndReason::StoppedOnChain)),
        ..*p
    };
    let mut effects = let_go(p);
    effects.push(Effect::ArmFinalize);
    go(next, effects)
}

/// The contract's start of billing is final: nothing that the rental remembers may lie before it.
fn with_final_start(p: &Progress, started_at: UnixSeconds) -> Progress {
    Progress {
        start: StartStatus::Final,
        started_at: Some(started_at),
        interrupted_since: p.interrupted_since.map(|since| since.max(started_at)),
        stopped_at: p.stopped_at.map(|stopped| stopped.max(started_at)),
        ..*p
    }
}
