use super::*;
use crate::time::{Seconds, UnixSeconds};
use RentalEvent as E;

fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds(seconds)
}

/// Plays `events` after booking; the progress, and the effects of the last one.
fn play(events: &[E]) -> (Progress, Vec<Effect>) {
    let first = book();
    events.iter().fold((first.next, first.effects), |(progress, _), event| {
        let Step { next, effects } = step(&progress, event).unwrap();
        (next, effects)
    })
}

const READY_FIRST: [E; 4] = [
    E::LockIncluded,
    E::AgentAcked,
    E::AgentReady { at: UnixSeconds(100) },
    E::LockFinal { now: UnixSeconds(105) },
];

fn after<const N: usize>(events: [E; N]) -> Vec<E> {
    READY_FIRST.into_iter().chain(events).collect()
}

#[test]
fn billing_starts_with_the_later_of_lock_and_machine() {
    let (progress, effects) = play(&READY_FIRST);
    assert_eq!((progress.state, progress.started_at), (RentalState::Active, Some(at(105))));
    assert_eq!(effects, [Effect::SendStart { started_at: at(105) }, Effect::ArmDurationEnd]);
    let (progress, _) =
        play(&[E::LockIncluded, E::LockFinal { now: at(105) }, E::AgentReady { at: at(120) }]);
    assert_eq!((progress.state, progress.started_at), (RentalState::Active, Some(at(120))));
}

#[test]
fn a_lock_that_is_seen_starts_the_machine_and_a_dropped_one_stops_it() {
    let (progress, effects) = play(&[E::LockIncluded]);
    assert_eq!(progress.state, RentalState::AwaitingFunds);
    assert_eq!(effects, [Effect::Provision, Effect::ArmReadyDeadline]);
    let (progress, effects) = play(&[E::LockIncluded, E::AgentReady { at: at(1) }, E::LockDropped]);
    assert_eq!(progress, book().next);
    assert_eq!(effects, [Effect::Deprovision, Effect::ArmFundingDeadline]);
}

#[test]
fn an_ordinary_life() {
    let stop = E::StopRequested { by: Party::Renter, now: at(500) };
    let (progress, effects) = play(&after([E::StartFinal { started_at: at(105) }, stop]));
    assert_eq!((progress.state, progress.stopped_at), (RentalState::Stopping, Some(at(500))));
    assert_eq!(effects, [Effect::Deprovision, Effect::ArmStopDeadline]);
    let (progress, effects) =
        play(&after([E::StartFinal { started_at: at(105) }, stop, E::AgentStopped]));
    assert_eq!(effects, [Effect::SendClose, Effect::FreeGpus]);
    let window = progress.billing_window().unwrap();
    assert_eq!(window.seconds(), Seconds(395));
    let closed = E::ClosedFinal { outcome: CloseOutcome::ClosedByOperator };
    let Step { next, effects } = step(&progress, &closed).unwrap();
    assert_eq!((next.state, next.end), (RentalState::Settled, Some(EndReason::RenterStop)));
    assert!(effects.is_empty());
}

#[test]
fn the_close_waits_for_a_final_start() {
    let stop = E::StopRequested { by: Party::Provider, now: at(106) };
    let (_, effects) = play(&after([stop, E::StopDeadline]));
    assert_eq!(effects, [Effect::FreeGpus]);
    let (progress, effects) =
        play(&after([stop, E::StopDeadline, E::StartFinal { started_at: at(107) }]));
    assert_eq!(effects, [Effect::SendClose]);
    assert_eq!((progress.started_at, progress.stopped_at), (Some(at(107)), Some(at(107))));
}

#[test]
fn a_refused_start_makes_the_time_before_free() {
    let (progress, effects) = play(&after([E::StartRefused { now: at(300) }]));
    assert_eq!(progress.started_at, Some(at(300)));
    assert_eq!(effects, [Effect::SendStart { started_at: at(300) }, Effect::ArmDurationEnd]);
    let stop = E::StopRequested { by: Party::Renter, now: at(200) };
    let (progress, effects) = play(&after([stop, E::StartRefused { now: at(300) }]));
    assert_eq!(progress.state, RentalState::Refunding);
    assert_eq!(effects, [Effect::SendCancel, Effect::FreeGpus]);
    let (progress, effects) = play(&after([
        stop,
        E::StartRefused { now: at(300) },
        E::StartFinal { started_at: at(105) },
    ]));
    assert_eq!((progress.state, effects), (RentalState::Settling, vec![Effect::SendClose]));
    assert_eq!(progress.stopped_at, Some(at(200)));
}

#[test]
fn a_long_outage_ends_where_evidence_ended() {
    let (progress, effects) = play(&after([
        E::StartFinal { started_at: at(105) },
        E::EvidenceLost { last_good: at(400) },
    ]));
    assert_eq!(effects, [Effect::ArmOutageLimit]);
    assert!(!progress.outage_has_lasted(Seconds(300), at(699)));
    assert!(progress.outage_has_lasted(Seconds(300), at(700)));
    let Step { next, effects } = step(&progress, &E::OutageTooLong { now: at(700) }).unwrap();
    assert_eq!((next.state, next.stopped_at), (RentalState::Settling, Some(at(400))));
    assert_eq!(effects, [Effect::Deprovision, Effect::SendClose, Effect::FreeGpus]);
}

#[test]
fn a_running_rental_is_paid_for_on_the_way_but_not_in_an_outage() {
    let started = E::StartFinal { started_at: at(105) };
    let due = E::ReleaseDue { until: at(9_000) };
    let (progress, effects) = play(&after([started]));
    assert_eq!(effects, [Effect::ArmRelease]);
    let Step { next, effects } = step(&progress, &due).unwrap();
    assert_eq!(next, progress);
    assert_eq!(effects, [Effect::SendRelease { until: at(9_000) }, Effect::ArmRelease]);
    let (_, effects) = play(&after([started, E::EvidenceLost { last_good: at(400) }, due]));
    assert_eq!(effects, [Effect::ArmRelease]);
    let (_, effects) = play(&after([due]));
    assert!(effects.is_empty(), "the contract's clock does not run yet");
    let (_, effects) = play(&after([started, E::ReleaseRefused { now: at(9_000) }]));
    assert_eq!(effects, [Effect::ArmReleaseAgain]);
    let stop = E::StopRequested { by: Party::Renter, now: at(500) };
    for event in [due, E::ReleaseRefused { now: at(9_000) }] {
        let (_, effects) = play(&after([started, stop, event]));
        assert!(effects.is_empty(), "the close pays for all of it");
    }
    let (_, effects) = play(&after([stop, started]));
    assert!(effects.is_empty());
}

#[test]
fn a_late_ready_is_refused() {
    let (progress, _) = play(&[E::LockIncluded, E::ReadyDeadline]);
    assert_eq!(progress.state, RentalState::StartFailed);
    let refusal = step(&progress, &E::AgentReady { at: at(9) }).unwrap_err();
    let state = RentalState::StartFailed;
    assert_eq!(refusal, StepError::Illegal { state, event: "agent_ready" });
    let Step { next, effects } = step(&progress, &E::LockFinal { now: at(10) }).unwrap();
    assert_eq!((next.state, effects), (RentalState::Refunding, vec![Effect::SendCancel]));
    assert_eq!(next.end, Some(EndReason::ReadyDeadline));
}

#[test]
fn a_lock_that_comes_too_late_goes_back() {
    let cancel = E::StopRequested { by: Party::Renter, now: at(1) };
    for (events, end) in [
        (vec![E::FundingDeadline], EndReason::FundingDeadline),
        (vec![cancel], EndReason::RenterCancel),
        (vec![E::LockIncluded, cancel], EndReason::RenterCancel),
    ] {
        let (progress, _) = play(&events);
        assert!(progress.state.is_terminal());
        let Step { next, effects } = step(&progress, &E::LockFinal { now: at(10) }).unwrap();
        assert_eq!((next.state, next.end), (RentalState::Refunding, Some(end)));
        assert_eq!(effects, [Effect::SendCancel]);
    }
}

#[test]
fn a_close_past_the_platform_is_believed() {
    let (progress, effects) =
        play(&after([E::ClosedFinal { outcome: CloseOutcome::StoppedByRenter }]));
    assert_eq!(
        (progress.state, progress.end),
        (RentalState::Settled, Some(EndReason::StoppedOnChain))
    );
    assert_eq!(effects, [Effect::Deprovision, Effect::FreeGpus]);
    let (progress, _) = play(&after([E::ClosedFinal { outcome: CloseOutcome::Reclaimed }]));
    assert_eq!(progress.state, RentalState::Refunded);
}

#[test]
fn held_seconds_are_waited_for_and_fetched() {
    let stop = E::StopRequested { by: Party::Renter, now: at(500) };
    let held = after([
        E::StartFinal { started_at: at(105) },
        stop,
        E::AgentStopped,
        E::ContestedFinal { deadline: at(1_000) },
    ]);
    let (progress, effects) = play(&held);
    assert_eq!((progress.state, progress.held_until), (RentalState::Contested, Some(at(1_000))));
    assert_eq!(effects, [Effect::ArmFinalize]);
    let Step { next, effects } = step(&progress, &E::FinalizeDue { now: at(1_000) }).unwrap();
    assert_eq!((next, effects.len()), (progress, 0), "the last second still belongs to the window");
    let Step { effects, .. } = step(&progress, &E::FinalizeDue { now: at(1_001) }).unwrap();
    assert_eq!(effects, [Effect::SendFinalize]);
    let Step { effects, .. } = step(&progress, &E::FinalizeRefused { now: at(1_002) }).unwrap();
    assert_eq!(effects, [Effect::ArmFinalize]);
    let disputed = step(&progress, &E::DisputedFinal { deadline: at(9_000) }).unwrap();
    assert_eq!(disputed.effects, [Effect::ArmFinalize]);
    let Step { effects, .. } = step(&disputed.next, &E::FinalizeDue { now: at(1_001) }).unwrap();
    assert!(effects.is_empty(), "the arbiter has more time");
    for (outcome, state) in [
        (CloseOutcome::Undisputed, RentalState::Settled),
        (CloseOutcome::Conceded, RentalState::Settled),
        (CloseOutcome::Resolved, RentalState::Resolved),
        (CloseOutcome::Defaulted, RentalState::Resolved),
    ] {
        let Step { next, effects } = step(&disputed.next, &E::ClosedFinal { outcome }).unwrap();
        assert_eq!(
            (next.state, next.held_until, next.end),
            (state, None, Some(EndReason::RenterStop))
        );
        assert!(effects.is_empty());
    }
}

#[test]
fn a_contest_past_the_platform_is_believed() {
    let (progress, effects) = play(&after([E::ContestedFinal { deadline: at(1_000) }]));
    assert_eq!(
        (progress.state, progress.end),
        (RentalState::Contested, Some(EndReason::StoppedOnChain))
    );
    assert_eq!(effects, [Effect::Deprovision, Effect::FreeGpus, Effect::ArmFinalize]);
}

#[test]
fn names_round_trip() {
    fn check<T>(all: &[T])
    where
        T: Copy + PartialEq + std::fmt::Debug + std::fmt::Display + std::str::FromStr,
        T: serde::Serialize + serde::de::DeserializeOwned,
        T::Err: std::fmt::Debug,
    {
        for value in all {
            assert_eq!(value.to_string().parse::<T>().unwrap(), *value);
            let json = serde_json::to_string(value).unwrap();
            assert_eq!(serde_json::from_str::<T>(&json).unwrap(), *value);
        }
        assert!("nonsense".parse::<T>().is_err());
    }
    check(RentalState::ALL);
    check(LockStatus::ALL);
    check(AgentStatus::ALL);
    check(StartStatus::ALL);
    check(Party::ALL);
    check(FailReason::ALL);
    check(CloseOutcome::ALL);
    check(EndReason::ALL);
    for reason in FailReason::ALL.iter().copied() {
        assert!(EndReason::ALL.contains(&EndReason::StartFailed(reason)));
        assert_eq!(EndReason::StartFailed(reason).as_str(), format!("start_failed_{reason}"));
    }
    assert_eq!(
        "nonsense".parse::<RentalState>().unwrap_err().to_string(),
        "unknown rental state \"nonsense\""
    );
}

#[test]
fn progress_and_events_survive_storage() {
    let (progress, _) = play(&READY_FIRST);
    let json = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<Progress>(&json).unwrap(), progress);
    for event in crate::table::rental_events() {
        let json = serde_json::to_string(&event).unwrap();
        assert!(json.starts_with(&format!("{{\"event\":\"{}\"", event.name())), "{json}");
        assert_eq!(serde_json::from_str::<E>(&json).unwrap(), event);
    }
}
