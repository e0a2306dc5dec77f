//! The rental machine under every event in every order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;

use domain::rental::{
    AgentStatus, CloseOutcome, Effect, FailReason, LockStatus, Party, Progress, RentalEvent,
    RentalState, StartStatus, StepError, book, step,
};
use domain::table::{rental_events, rental_situations};
use domain::{Seconds, UnixSeconds};

const RUNS: u64 = 100_000;
const EVENTS_PER_RUN: u64 = 24;
/// Seconds that a dispute's window lasts here, short so that runs outlive it.
const WINDOW: Seconds = Seconds(3);

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = u64::try_from(bound).unwrap();
        usize::try_from((z ^ (z >> 31)).checked_rem(bound).unwrap()).unwrap()
    }
}

/// One event of each kind at `now`, with the choices inside of it thrown too.
fn random_event(dice: &mut Dice, now: UnixSeconds) -> RentalEvent {
    use RentalEvent as E;
    let template = rental_events();
    match template[dice.below(template.len())] {
        E::LockFinal { .. } => E::LockFinal { now },
        E::AgentReady { .. } => E::AgentReady { at: now },
        E::AgentFailed { .. } => {
            E::AgentFailed { reason: FailReason::ALL[dice.below(FailReason::ALL.len())] }
        }
        E::EvidenceLost { .. } => E::EvidenceLost { last_good: now },
        E::OutageTooLong { .. } => E::OutageTooLong { now },
        E::StopRequested { .. } => {
            E::StopRequested { by: Party::ALL[dice.below(Party::ALL.len())], now }
        }
        E::DurationEnd { .. } => E::DurationEnd { at: now },
        E::StartFinal { .. } => E::StartFinal { started_at: now },
        E::StartRefused { .. } => E::StartRefused { now },
        E::StartExpired { .. } => E::StartExpired { now },
        E::ReleaseDue { .. } => E::ReleaseDue { until: now },
        E::ReleaseRefused { .. } => E::ReleaseRefused { now },
        E::CloseRefused { .. } => E::CloseRefused { now },
        E::ContestedFinal { .. } => E::ContestedFinal { deadline: now.saturating_plus(WINDOW) },
        E::DisputedFinal { .. } => E::DisputedFinal { deadline: now.saturating_plus(WINDOW) },
        E::FinalizeDue { .. } => E::FinalizeDue { now },
        E::FinalizeRefused { .. } => E::FinalizeRefused { now },
        E::ClosedFinal { .. } => {
            E::ClosedFinal { outcome: CloseOutcome::ALL[dice.below(CloseOutcome::ALL.len())] }
        }
        plain @ (E::LockIncluded
        | E::LockDropped
        | E::FundingDeadline
        | E::AgentAcked
        | E::ReadyDeadline
        | E::EvidenceBack
        | E::AgentStopped
        | E::StopDeadline) => plain,
    }
}

/// What holds of every progress.
fn assert_sound(p: &Progress) {
    let billing = matches!(p.state, RentalState::Active | RentalState::Interrupted);
    let past_funding = !matches!(
        p.state,
        RentalState::AwaitingFunds
            | RentalState::Expired
            | RentalState::Cancelled
            | RentalState::StartFailed
    );
    assert_eq!(p.lock == LockStatus::Final, past_funding, "lock: {p:?}");
    if billing {
        assert_eq!(p.agent, AgentStatus::Ready, "{p:?}");
        assert_ne!(p.start, StartStatus::None, "{p:?}");
        assert!(p.started_at.is_some() && p.stopped_at.is_none() && p.end.is_none(), "{p:?}");
        assert!(p.started_at >= p.ready_at || p.start == StartStatus::Final, "{p:?}");
    }
    assert_eq!(p.interrupted_since.is_some(), p.state == RentalState::Interrupted, "{p:?}");
    if let (Some(started), Some(stopped)) = (p.started_at, p.stopped_at) {
        assert!(started <= stopped, "{p:?}");
    }
    if matches!(p.state, RentalState::Stopping | RentalState::Settling) {
        assert!(p.billing_window().is_some(), "{p:?}");
    }
    let running = billing
        || matches!(
            p.state,
            RentalState::AwaitingFunds | RentalState::Funded | RentalState::Provisioning
        );
    assert_eq!(p.end.is_none(), running, "end: {p:?}");
}

/// What holds of every step.
fn assert_sound_step(before: &Progress, event: &RentalEvent, after: &Progress, effects: &[Effect]) {
    let context = || format!("{before:?} {event:?} {after:?} {effects:?}");
    let has = |effect: Effect| effects.contains(&effect);
    assert_eq!(
        has(Effect::FreeGpus),
        before.state.holds_gpus() && !after.state.holds_gpus(),
        "{}",
        context()
    );
    assert_eq!(
        has(Effect::Provision),
        !before.is_provisioned() && after.is_provisioned(),
        "{}",
        context()
    );
    assert_eq!(
        has(Effect::Deprovision),
        before.is_provisioned() && !after.is_provisioned(),
        "{}",
        context()
    );
    for effect in effects {
        if let Effect::SendRelease { until } = effect {
            assert_eq!((before, after.state), (after, RentalState::Active), "{}", context());
            assert_eq!(after.start, StartStatus::Final, "{}", context());
            assert_eq!(event, &RentalEvent::ReleaseDue { until: *until }, "{}", context());
            assert!(has(Effect::ArmRelease), "{}", context());
        }
    }
    if has(Effect::ArmRelease) || has(Effect::ArmReleaseAgain) {
        assert_eq!(after.start, StartStatus::Final, "{}", context());
        assert!(after.stopped_at.is_none() && after.end.is_none(), "{}", context());
    }
    if has(Effect::SendClose) {
        assert_eq!(after.state, RentalState::Settling, "{}", context());
        assert_eq!(after.start, StartStatus::Final, "{}", context());
    }
    if has(Effect::SendCancel) {
        assert_eq!(after.state, RentalState::Refunding, "{}", context());
        assert_ne!(after.start, StartStatus::Final, "{}", context());
    }
    if has(Effect::SendFinalize) {
        assert_eq!(after.state, RentalState::Contested, "{}", context());
        let RentalEvent::FinalizeDue { now } = event else { panic!("{}", context()) };
        assert!(after.held_until.unwrap() < *now, "{}", context());
    }
    assert_eq!(after.held_until.is_some(), after.state == RentalState::Contested, "{}", context());
    if before.state == RentalState::Contested {
        let gone_on = [RentalState::Contested, RentalState::Settled, RentalState::Resolved];
        assert!(gone_on.contains(&after.state), "{}", context());
    }
    if after.held_until != before.held_until && after.held_until.is_some() {
        assert!(has(Effect::ArmFinalize), "{}", context());
    }
    for effect in effects {
        if let Effect::SendStart { started_at } = effect {
            assert_eq!(
                after.state == RentalState::Interrupted,
                before.state == RentalState::Interrupted
            );
            assert_eq!(after.started_at, Some(*started_at), "{}", context());
        }
    }
    if before.state.is_terminal() && after.state != before.state {
        let late_lock = matches!(event, RentalEvent::LockFinal { .. });
        assert!(late_lock && after.state == RentalState::Refunding, "{}", context());
        assert!(has(Effect::SendCancel), "{}", context());
    }
}

fn may_be_repeated(event: &RentalEvent) -> bool {
    !matches!(
        event,
        RentalEvent::StartRefused { .. }
            | RentalEvent::ReleaseDue { .. }
            | RentalEvent::ReleaseRefused { .. }
            | RentalEvent::CloseRefused { .. }
            | RentalEvent::FinalizeDue { .. }
            | RentalEvent::FinalizeRefused { .. }
    )
}

#[test]
fn random_histories_stay_sound() {
    let mut dice = Dice(0x5eed);
    let mut reached = BTreeSet::new();
    for _ in 0..RUNS {
        let mut p = book().next;
        for tick in 0..EVENTS_PER_RUN {
            let event = random_event(&mut dice, UnixSeconds(1_000_u64.saturating_add(tick)));
            let Ok(taken) = step(&p, &event) else {
                continue;
            };
            assert_sound(&taken.next);
            assert_sound_step(&p, &event, &taken.next, &taken.effects);
            if may_be_repeated(&event) {
                let again = step(&taken.next, &event).expect("a repetition is no error");
                assert_eq!(again.next, taken.next, "{event:?}");
                assert!(again.effects.is_empty(), "{event:?} on {:?}", taken.next);
            }
            p = taken.next;
            reached.insert(p.state);
        }
    }
    let missing: Vec<_> =
        RentalState::ALL.iter().filter(|state| !reached.contains(state)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

/// Follows the sample events from `start` to everything that can be reached.
fn reachable(start: &Progress) -> Vec<Progress> {
    let mut seen = vec![*start];
    let mut next = 0;
    while let Some(p) = seen.get(next).copied() {
        for event in rental_events() {
            if let Ok(taken) = step(&p, &event)
                && !seen.contains(&taken.next)
            {
                seen.push(taken.next);
            }
        }
        next = next.saturating_add(1);
    }
    seen
}

#[test]
fn every_living_state_can_reach_an_end_and_ends_stay() {
    for (name, progress) in rental_situations().unwrap() {
        let all = reachable(&progress);
        assert!(all.iter().any(|p| p.state.is_terminal()), "{name} reaches no end");
        let is_final = matches!(
            progress.state,
            RentalState::Settled | RentalState::Refunded | RentalState::Resolved
        );
        if is_final {
            assert!(all.iter().all(|p| p.state == progress.state), "{name} does not stay");
        }
    }
}

#[test]
fn the_situations_and_events_cover_the_machine() {
    let states: BTreeSet<_> =
        rental_situations().unwrap().iter().map(|(_, progress)| progress.state).collect();
    assert_eq!(states.len(), RentalState::ALL.len());
    let names: BTreeSet<_> = rental_events().iter().map(RentalEvent::name).collect();
    assert_eq!(names.len(), 26);
}

#[test]
fn a_final_lock_that_leaves_the_chain_is_an_alarm() {
    for (name, progress) in rental_situations().unwrap() {
        if progress.lock == LockStatus::Final {
            assert_eq!(
                step(&progress, &RentalEvent::LockDropped),
                Err(StepError::FinalLockDropped { state: progress.state }),
                "{name}"
            );
        }
    }
}
