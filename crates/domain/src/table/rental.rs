//! The tables of the rental machine: one per situation, that is a state and what else decides in it.

use crate::rental::{
    CloseOutcome, Effect, FailReason, Party, Progress, RentalEvent as E, Step, StepError, book,
    step,
};
use crate::time::UnixSeconds;

/// The time in the events of [`rental_events`]: later than any in the situations.
const LATER: UnixSeconds = UnixSeconds(9_000);
/// Later than any hold.
const LATEST: UnixSeconds = UnixSeconds(9_900);
const LOCKED: UnixSeconds = UnixSeconds(1_000);
const READY: UnixSeconds = UnixSeconds(1_100);
const LAST_GOOD: UnixSeconds = UnixSeconds(1_200);
const STOPPED: UnixSeconds = UnixSeconds(1_300);
const DEADLINE: UnixSeconds = UnixSeconds(1_400);

/// One event of each kind; `ClosedFinal` once for a rental that had started and once for one that had not.
#[must_use]
pub const fn rental_events() -> [E; 28] {
    [
        E::LockIncluded,
        E::LockDropped,
        E::LockFinal { now: LATER },
        E::FundingDeadline,
        E::AgentAcked,
        E::AgentReady { at: LATER },
        E::AgentFailed { reason: FailReason::Image },
        E::ReadyDeadline,
        E::EvidenceLost { last_good: LATER },
        E::EvidenceBack,
        E::OutageTooLong { now: LATER },
        E::StopRequested { by: Party::Renter, now: LATER },
        E::DurationEnd { at: LATER },
        E::AgentStopped,
        E::StopDeadline,
        E::StartFinal { started_at: LATER },
        E::StartRefused { now: LATER },
        E::StartExpired { now: LATER },
        E::ReleaseDue { until: LATER },
        E::ReleaseRefused { now: LATER },
        E::CloseRefused { now: LATER },
        E::ContestedFinal { deadline: LATER },
        E::DisputedFinal { deadline: LATEST },
        E::FinalizeDue { now: LATEST },
        E::FinalizeRefused { now: LATEST },
        E::ClosedFinal { outcome: CloseOutcome::ClosedByOperator },
        E::ClosedFinal { outcome: CloseOutcome::Resolved },
        E::ClosedFinal { outcome: CloseOutcome::Cancelled },
    ]
}

/// The situations, each with a name and a progress that a sequence of events really leads to.
///
/// # Errors
/// The [`StepError`] of a sequence that the machine no longer takes.
pub fn rental_situations() -> Result<Vec<(&'static str, Progress)>, StepError> {
    const INCLUDED: &[E] = &[E::LockIncluded];
    const READIED: &[E] = &[E::LockIncluded, E::AgentReady { at: READY }];
    const FUNDED: &[E] = &[E::LockIncluded, E::LockFinal { now: LOCKED }];
    const ACTIVE: &[E] =
        &[E::LockIncluded, E::LockFinal { now: LOCKED }, E::AgentReady { at: READY }];
    const STARTED: &[E] = &[E::StartFinal { started_at: READY }];
    const LOST: &[E] = &[E::EvidenceLost { last_good: LAST_GOOD }];
    const STOP: &[E] = &[E::StopRequested { by: Party::Renter, now: STOPPED }];
    const CLEAN: &[E] = &[E::AgentStopped];
    const CLOSED: &[E] = &[E::ClosedFinal { outcome: CloseOutcome::ClosedByOperator }];
    const HELD: &[E] = &[E::ContestedFinal { deadline: DEADLINE }];
    const DECIDED: &[E] = &[E::ClosedFinal { outcome: CloseOutcome::Resolved }];
    const CANCELLED: &[E] = &[E::ClosedFinal { outcome: CloseOutcome::Cancelled }];
    let paths: [(&'static str, &[&[E]]); 22] = [
        ("awaiting_funds, no lock", &[]),
        ("awaiting_funds, lock included", &[INCLUDED]),
        ("awaiting_funds, lock included, agent ready", &[READIED]),
        ("funded", &[FUNDED]),
        ("provisioning", &[FUNDED, &[E::AgentAcked]]),
        ("active, start requested", &[ACTIVE]),
        ("active, start final", &[ACTIVE, STARTED]),
        ("interrupted, start requested", &[ACTIVE, LOST]),
        ("interrupted, start final", &[ACTIVE, STARTED, LOST]),
        ("stopping, start requested", &[ACTIVE, STOP]),
        ("stopping, start final", &[ACTIVE, STARTED, STOP]),
        ("settling, start requested", &[ACTIVE, STOP, CLEAN]),
        ("settling, start final", &[ACTIVE, STARTED, STOP, CLEAN]),
        ("contested", &[ACTIVE, STARTED, STOP, CLEAN, HELD]),
        ("settled", &[ACTIVE, STARTED, STOP, CLEAN, CLOSED]),
        ("resolved", &[ACTIVE, STARTED, STOP, CLEAN, HELD, DECIDED]),
        ("expired", &[&[E::FundingDeadline]]),
        ("cancelled, no lock", &[STOP]),
        ("cancelled, lock included", &[INCLUDED, STOP]),
        ("start_failed", &[INCLUDED, &[E::ReadyDeadline]]),
        ("refunding", &[FUNDED, STOP]),
        ("refunded", &[FUNDED, STOP, CANCELLED]),
    ];
    let mut situations = Vec::new();
    for (name, path) in paths {
        let mut progress = book().next;
        for event in path.iter().copied().flatten() {
            progress = step(&progress, event)?.next;
        }
        situations.push((name, progress));
    }
    Ok(situations)
}

/// All tables: per situation the events that change something, then those that change nothing and those refused.
///
/// # Errors
/// As [`rental_situations`].
pub fn rental_tables() -> Result<String, StepError> {
    let situations = rental_situations()?;
    let sections: Vec<String> =
        situations.iter().map(|(name, progress)| section(name, progress)).collect();
    Ok(sections.join("\n\n"))
}

fn section(name: &str, p: &Progress) -> String {
    let mut rows = Vec::new();
    let mut idle = Vec::new();
    let mut refused = Vec::new();
    for event in rental_events() {
        match step(p, &event) {
            Ok(Step { next, effects }) if next == *p && effects.is_empty() => {
                idle.push(title(&event));
            }
            Ok(Step { next, effects }) => rows.push(format!(
                "| {} | {} | {} | {} |",
                title(&event),
                next.state,
                changes(p, &next),
                effects.iter().map(Effect::name).collect::<Vec<_>>().join(", "),
            )),
            Err(StepError::Illegal { .. }) => refused.push(title(&event)),
            Err(StepError::FinalLockDropped { .. }) => {
                refused.push(format!("{} (alarm)", title(&event)));
            }
        }
    }
    let mut lines = vec![format!("### {name}"), String::new()];
    if !rows.is_empty() {
        lines.push("| event | next state | remembers | effects |".to_owned());
        lines.push("| --- | --- | --- | --- |".to_owned());
        lines.append(&mut rows);
        lines.push(String::new());
    }
    lines.push(format!("No change: {}.", list(&idle)));
    lines.push(String::new());
    lines.push(format!("Refused: {}.", list(&refused)));
    lines.join("\n")
}

fn list(titles: &[String]) -> String {
    if titles.is_empty() { "none".to_owned() } else { titles.join(", ") }
}

fn title(event: &E) -> String {
    match event {
        E::ClosedFinal { outcome } if outcome.is_decision() => "closed_final (decided)".to_owned(),
        E::ClosedFinal { outcome } if outcome.was_started() => "closed_final (paid)".to_owned(),
        E::ClosedFinal { .. } => "closed_final (all back)".to_owned(),
        E::LockIncluded
        | E::LockDropped
        | E::LockFinal { .. }
        | E::FundingDeadline
        | E::AgentAcked
        | E::AgentReady { .. }
        | E::AgentFailed { .. }
        | E::ReadyDeadline
        | E::EvidenceLost { .. }
        | E::EvidenceBack
        | E::OutageTooLong { .. }
        | E::StopRequested { .. }
        | E::DurationEnd { .. }
        | E::AgentStopped
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
        | E::FinalizeRefused { .. } => event.name().to_owned(),
    }
}

/// What of the rest of the progress changes.
fn changes(before: &Progress, after: &Progress) -> String {
    let mut all = Vec::new();
    let mut name = |field: &str, from: &str, to: &str| {
        if from != to {
            all.push(format!("{field} {to}"));
        }
    };
    name("lock", before.lock.as_str(), after.lock.as_str());
    name("agent", before.agent.as_str(), after.agent.as_str());
    name("start", before.start.as_str(), after.start.as_str());
    if let Some(end) = after.end {
        name("end", before.end.map_or("", |end| end.as_str()), end.as_str());
    }
    let mut time = |field: &str, from: Option<UnixSeconds>, to: Option<UnixSeconds>| {
        if from != to {
            all.push(format!("{field} = {}", time_name(before, to)));
        }
    };
    time("ready_at", before.ready_at, after.ready_at);
    time("started_at", before.started_at, after.started_at);
    time("interrupted_since", before.interrupted_since, after.interrupted_since);
    time("stopped_at", before.stopped_at, after.stopped_at);
    time("held_until", before.held_until, after.held_until);
    all.join(", ")
}

fn time_name(before: &Progress, time: Option<UnixSeconds>) -> &'static str {
    match time {
        None => "none",
        Some(LATER | LATEST) => "the event's time",
        Some(_) if time == before.interrupted_since => "interrupted_since",
        Some(_) if time == before.ready_at => "ready_at",
        Some(_) => "unchanged",
    }
}
