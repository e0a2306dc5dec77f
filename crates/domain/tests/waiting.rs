//! No rental waits for ever: in every state that can be reached, and whatever came before, something that we hold
//! ourselves leads on. Derived from the machine, as the tables of `docs/FLOW.md` are.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use domain::UnixSeconds;
use domain::rental::{Effect, LockStatus, Progress, RentalEvent as E, RentalState, book, step};
use domain::table::rental_events;

/// What will come by itself: a timer that was armed, the answer to a call that was sent, or the chain's word on a
/// lock that it was seen to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Awaited {
    FundingDeadline,
    ReadyDeadline,
    DurationEnd,
    StopDeadline,
    OutageLimit,
    HeldTime,
    NextRelease,
    Lock,
    Start,
    Release,
    Close,
    Cancel,
    Finalize,
}

impl Awaited {
    const fn of(effect: &Effect) -> Option<Self> {
        match effect {
            Effect::ArmFundingDeadline => Some(Self::FundingDeadline),
            Effect::ArmReadyDeadline => Some(Self::ReadyDeadline),
            Effect::ArmDurationEnd => Some(Self::DurationEnd),
            Effect::ArmStopDeadline => Some(Self::StopDeadline),
            Effect::ArmOutageLimit => Some(Self::OutageLimit),
            Effect::ArmFinalize => Some(Self::HeldTime),
            Effect::ArmRelease | Effect::ArmReleaseAgain => Some(Self::NextRelease),
            Effect::SendStart { .. } => Some(Self::Start),
            Effect::SendRelease { .. } => Some(Self::Release),
            Effect::SendClose => Some(Self::Close),
            Effect::SendCancel => Some(Self::Cancel),
            Effect::SendFinalize => Some(Self::Finalize),
            Effect::Provision | Effect::Deprovision | Effect::FreeGpus => None,
        }
    }

    /// Whether the event is what was awaited. A call ends with one of several.
    const fn answers(self, event: &E) -> bool {
        match self {
            Self::FundingDeadline => matches!(event, E::FundingDeadline),
            Self::ReadyDeadline => matches!(event, E::ReadyDeadline),
            Self::DurationEnd => matches!(event, E::DurationEnd { .. }),
            Self::StopDeadline => matches!(event, E::StopDeadline),
            Self::OutageLimit => matches!(event, E::OutageTooLong { .. }),
            Self::HeldTime => matches!(event, E::FinalizeDue { .. }),
            Self::NextRelease => matches!(event, E::ReleaseDue { .. }),
            Self::Lock => matches!(event, E::LockDropped | E::LockFinal { .. }),
            Self::Start => {
                matches!(
                    event,
                    E::StartFinal { .. } | E::StartRefused { .. } | E::StartExpired { .. }
                )
            }
            Self::Close => {
                matches!(
                    event,
                    E::CloseRefused { .. } | E::ContestedFinal { .. } | E::ClosedFinal { .. }
                )
            }
            Self::Release => matches!(event, E::ReleaseRefused { .. }),
            Self::Cancel => matches!(event, E::CloseRefused { .. } | E::ClosedFinal { .. }),
            Self::Finalize => matches!(event, E::FinalizeRefused { .. } | E::ClosedFinal { .. }),
        }
    }
}

/// Whether an event comes only because we asked for it.
const fn only_if_asked(event: &E) -> bool {
    matches!(
        event,
        E::FundingDeadline
            | E::ReadyDeadline
            | E::DurationEnd { .. }
            | E::StopDeadline
            | E::OutageTooLong { .. }
            | E::FinalizeDue { .. }
            | E::FinalizeRefused { .. }
            | E::ReleaseDue { .. }
            | E::ReleaseRefused { .. }
            | E::StartFinal { .. }
            | E::StartRefused { .. }
            | E::StartExpired { .. }
            | E::CloseRefused { .. }
            | E::LockDropped
    )
}

/// Timers of held time fire when it is over, whichever hold it is.
fn events() -> Vec<E> {
    let later = |event| {
        let due = matches!(event, E::FinalizeDue { .. });
        if due { E::FinalizeDue { now: UnixSeconds(u64::MAX) } } else { event }
    };
    rental_events().into_iter().map(later).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Scene {
    progress: Progress,
    awaited: BTreeSet<Awaited>,
}

impl Scene {
    /// What the event leads to, if it can come here at all.
    fn after(&self, event: &E) -> Option<Self> {
        let asked = self.awaited.iter().any(|awaited| awaited.answers(event));
        if only_if_asked(event) && !asked {
            return None;
        }
        let taken = step(&self.progress, event).ok()?;
        let mut awaited = self.awaited.clone();
        awaited.retain(|one| !one.answers(event));
        awaited.extend(taken.effects.iter().filter_map(Awaited::of));
        if taken.next.lock == LockStatus::Included {
            awaited.insert(Awaited::Lock);
        }
        Some(Self { progress: taken.next, awaited })
    }

    /// Whether something that will come changes anything, or is asked for anew. A release leads nowhere: it is a payment
    /// on the way.
    fn leads_on(&self) -> bool {
        let on_the_way = [Awaited::NextRelease, Awaited::Release];
        events().iter().any(|event| {
            let mut awaited = self.awaited.iter().filter(|awaited| !on_the_way.contains(awaited));
            let awaited = awaited.any(|awaited| awaited.answers(event));
            awaited
                && step(&self.progress, event)
                    .is_ok_and(|taken| taken.next != self.progress || !taken.effects.is_empty())
        })
    }
}

#[test]
fn whatever_waits_has_something_that_leads_on() {
    let first = book();
    let awaited = first.effects.iter().filter_map(Awaited::of).collect();
    let mut scenes = vec![Scene { progress: first.next, awaited }];
    let mut at = 0;
    let mut stuck = Vec::new();
    let mut states = BTreeSet::new();
    while let Some(scene) = scenes.get(at).cloned() {
        at = at.saturating_add(1);
        let state = scene.progress.state;
        states.insert(state);
        // a timer may have fired before, and been of no use: then it is gone, and does not count
        let locked = state.is_terminal() && scene.progress.lock != LockStatus::Included;
        if !locked && !scene.leads_on() {
            stuck.push(format!("{scene:?}"));
        }
        for event in events() {
            if let Some(next) = scene.after(&event)
                && !scenes.contains(&next)
            {
                scenes.push(next);
            }
        }
    }
    assert_eq!(states.len(), RentalState::ALL.len(), "{states:?}");
    assert!(stuck.is_empty(), "{} of {at} wait for ever:\n{}", stuck.len(), stuck.join("\n"));
}

/// Silence has no timer: whoever runs is watched because it runs.
#[test]
fn only_a_running_rental_can_lose_its_evidence() {
    for event in rental_events().iter().filter(|event| matches!(event, E::EvidenceLost { .. })) {
        let p = book().next;
        assert!(step(&p, event).is_err());
    }
}
