//! Metering: from signed evidence that a machine was good to the seconds that are billed.
//!
//! Billing is a pure function of the evidence: recomputing it from the readings gives the same seconds.

mod reading;
mod release;

pub use reading::{ReadingClaim, ReadingError, ReadingHead, ReadingRules, check_reading};
pub use release::{Coverage, ReleaseAnswer, may_release, next_release};

use serde::{Deserialize, Serialize};

use crate::time::{Seconds, UnixSeconds};

/// A half-open stretch of time: `from` belongs to it, `to` does not. One whose `to` is not later is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// The first second.
    pub from: UnixSeconds,
    /// The second after the last.
    pub to: UnixSeconds,
}

impl Interval {
    /// The stretch from `from` up to, not including, `to`.
    #[must_use]
    pub const fn new(from: UnixSeconds, to: UnixSeconds) -> Self {
        Self { from, to }
    }

    /// Whether no second lies in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.to <= self.from
    }

    /// The seconds in it, at most 2^32 - 1.
    #[must_use]
    pub fn seconds(self) -> Seconds {
        self.to.saturating_since(self.from)
    }

    /// The part of it inside `window`; empty if there is none.
    #[must_use]
    pub fn clipped_to(self, window: Self) -> Self {
        Self { from: self.from.max(window.from), to: self.to.min(window.to) }
    }
}

/// What a window of time comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// The seconds that count: those of the window, no more than the deposit pays for, at least 1.
    pub elapsed: Seconds,
    /// The seconds of them that evidence covers, at least 1.
    pub billed: Seconds,
    /// The rest, which the renter does not pay: `elapsed - billed`, the contract's `creditSecs`.
    pub credit: Seconds,
    /// Where the rest lies: in order, disjoint, none empty; together `credit` seconds.
    pub outages: Vec<Interval>,
}

/// The arguments of the contract's `close`, which bills `stopped_at - started_at`, but no more than the deposit pays
/// for, less `credit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseCall {
    /// When the contract is told that the rental ended.
    pub stopped_at: UnixSeconds,
    /// Seconds before that which are not billed.
    pub credit: Seconds,
}

impl CloseCall {
    /// How to tell the contract, which refuses an end before `earliest` (ten minutes before its own time), that of the time
    /// that [`counted`] so many seconds are billed.
    ///
    /// An end that is too long ago is told later, and the difference is credited as far as the deposit pays for it
    /// (`auto_stop` seconds): the same seconds are billed. `None` past the end of the range.
    #[must_use]
    pub fn of(
        counted: Interval,
        billed: Seconds,
        earliest: UnixSeconds,
        auto_stop: Seconds,
    ) -> Option<Self> {
        let stopped_at = counted.to.max(earliest);
        let by_the_clock = stopped_at.since(counted.from)?.min(auto_stop).max(Seconds::ONE).get();
        let credit = by_the_clock.checked_sub(billed.get()).map(Seconds)?;
        Some(Self { stopped_at, credit })
    }
}

impl Metered {
    /// The same for what was metered from `started_at` on.
    #[must_use]
    pub fn close_call(
        &self,
        started_at: UnixSeconds,
        earliest: UnixSeconds,
        auto_stop: Seconds,
    ) -> Option<CloseCall> {
        let counted = Interval::new(started_at, started_at.plus(self.elapsed)?);
        CloseCall::of(counted, self.billed, earliest, auto_stop)
    }
}

/// The part of `window` that counts: no more of it than the deposit pays for (`auto_stop` seconds), and at least a second.
#[must_use]
pub fn counted(window: Interval, auto_stop: Seconds) -> Interval {
    Interval::new(window.from, window.from.saturating_plus(elapsed(window, auto_stop)))
}

fn elapsed(window: Interval, auto_stop: Seconds) -> Seconds {
    window.seconds().min(auto_stop).max(Seconds::ONE)
}

/// Meters `window` (from the start of billing to its end) against the stretches that `evidence` covers.
///
/// Evidence may be in any order, overlap and reach outside. Time after `auto_stop` seconds, when the deposit is used
/// up, does not count. A rental that started is billed its first second even without any evidence, because the
/// contract bills at least one.
#[must_use]
pub fn meter(window: Interval, evidence: &[Interval], auto_stop: Seconds) -> Metered {
    let (elapsed, counted) = (elapsed(window, auto_stop), counted(window, auto_stop));
    let mut good = merged_within(counted, evidence);
    if good.is_empty() {
        good.push(Interval::new(counted.from, counted.from.saturating_plus(Seconds::ONE)));
    }
    let outages = gaps(counted, &good);
    let credit = total(&outages);
    Metered { elapsed, billed: elapsed.saturating_sub(credit), credit, outages }
}

/// The parts of `evidence` inside `window`: in order, disjoint, none empty.
fn merged_within(window: Interval, evidence: &[Interval]) -> Vec<Interval> {
    let mut parts: Vec<Interval> = evidence
        .iter()
        .map(|part| part.clipped_to(window))
        .filter(|part| !part.is_empty())
        .collect();
    parts.sort_unstable();
    let mut merged: Vec<Interval> = Vec::with_capacity(parts.len());
    for part in parts {
        match merged.last_mut() {
            Some(last) if part.from <= last.to => last.to = last.to.max(part.to),
            _ => merged.push(part),
        }
    }
    merged
}

/// What of `window` the ordered, disjoint `parts` leave uncovered.
fn gaps(window: Interval, parts: &[Interval]) -> Vec<Interval> {
    let mut gaps = Vec::new();
    let mut covered_to = window.from;
    for part in parts {
        gaps.push(Interval::new(covered_to, part.from));
        covered_to = part.to;
    }
    gaps.push(Interval::new(covered_to, window.to));
    gaps.retain(|gap| !gap.is_empty());
    gaps
}

fn total(parts: &[Interval]) -> Seconds {
    parts.iter().fold(Seconds::ZERO, |sum, part| sum.saturating_add(part.seconds()))
}

#[cfg(test)]
mod tests;
