//! What a machine has shown in a window of time: the published formula, as a pure function of public rows.
//! docs/MARKET.md says it in words.

use std::collections::BTreeMap;

use crate::{metering::Interval, rank::nearest_rank, time::UnixSeconds};

mod wilson;
pub use wilson::lower_bound_bps;

/// Rented time counts so many times as much as idle time.
pub const RENTED_WEIGHT: u64 = 2;
/// With fewer starts than this a score says little.
pub const ENOUGH_STARTS: u32 = 20;
/// A maintenance window takes time out of what was promised only if it was announced so long before, in seconds.
pub const ANNOUNCED_BEFORE_S: u32 = 24 * 3_600;

/// A rental's time on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RentedTime {
    /// How many of the machine's GPUs it has.
    pub gpus: u32,
    /// From the start of billing to its end, an outage that ended it included. Of a rental that has paid no fee, only
    /// what no reading covers: what costs nobody anything earns nothing, but it can fail.
    pub promised: Vec<Interval>,
    /// What its readings cover, disjoint.
    pub covered: Vec<Interval>,
}

/// A start that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// When it was known how it went.
    pub at: UnixSeconds,
    /// From the order to ready, in milliseconds; `None` if the machine failed.
    pub ready_ms: Option<u32>,
}

/// Everything that the formula looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// GPUs of the machine.
    pub gpus: u32,
    /// When an offer of the machine was listed and it was open for service.
    pub listed: Vec<Interval>,
    /// When its agent was in contact.
    pub contact: Vec<Interval>,
    /// Maintenance that was announced early enough.
    pub maintenance: Vec<Interval>,
    /// Its rentals.
    pub rentals: Vec<RentedTime>,
    /// Its starts.
    pub starts: Vec<Start>,
    /// When rentals were interrupted.
    pub interruptions: Vec<UnixSeconds>,
    /// When disputes were decided against its provider.
    pub disputes_lost: Vec<UnixSeconds>,
}

/// What it comes to, in seconds of the whole machine: seconds of single GPUs are added up and divided once by how many it
/// has. What was promised is rounded up, and so is what is missing of it: of a machine that misses nothing all is good, and
/// never less because more of it was rented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reliability {
    /// Listed, of the GPUs that were not rented: `rented_s` and this are rounded up together.
    pub idle_s: u64,
    /// That in contact.
    pub idle_good_s: u64,
    /// Rented, of the GPUs that were.
    pub rented_s: u64,
    /// That which readings cover.
    pub rented_good_s: u64,
    /// `idle_s` and twice `rented_s`.
    pub promised_s: u64,
    /// `idle_good_s` and twice `rented_good_s`.
    pub good_s: u64,
    /// Starts tried.
    pub starts: u32,
    /// Starts that got ready.
    pub starts_ok: u32,
    /// The median time to ready.
    pub ready_p50_ms: Option<u32>,
    /// The 95th percentile of it.
    pub ready_p95_ms: Option<u32>,
    /// How often a rental was interrupted.
    pub interruptions: u32,
    /// Disputes decided against the provider.
    pub disputes_lost: u32,
    /// Wilson's lower bound at 95 % of the good hours among the promised ones, in basis points, rounded down.
    pub score_bps: u32,
}

/// Computes what a machine has shown in `window`.
#[must_use]
pub fn compute(history: &History, window: Interval) -> Reliability {
    let gpus = u64::from(history.gpus.max(1));
    // all in seconds of single GPUs: divided once, at the end, so that a machine in many pieces loses nothing by rounding
    let (mut rented, mut uncovered) = (0_u64, 0_u64);
    for rental in &history.rentals {
        let by_gpus = |parts: &[Interval]| seconds(parts).saturating_mul(u64::from(rental.gpus));
        let promised = within(&rental.promised, window);
        let missing = without(&promised, &within(&rental.covered, window));
        rented = rented.saturating_add(by_gpus(&promised));
        uncovered = uncovered.saturating_add(by_gpus(&missing));
    }
    let taken = by_rented(&history.rentals, window, gpus);
    let idle_of = |parts: &[Interval]| {
        let all = seconds(parts).saturating_mul(gpus);
        taken.iter().fold(all, |left, (rented, when)| {
            left.saturating_sub(seconds(&both(parts, when)).saturating_mul(*rented))
        })
    };
    let open = without(&within(&history.listed, window), &within(&history.maintenance, window));
    let idle = idle_of(&open);
    let silent = idle_of(&without(&open, &within(&history.contact, window)));
    let rented_s = rented.div_ceil(gpus);
    // rounded together: else a GPU's second that is rented instead of idle could make a second less of both
    let idle_s = idle.saturating_add(rented).div_ceil(gpus).saturating_sub(rented_s);
    let idle_good_s = idle_s.saturating_sub(silent.div_ceil(gpus));
    let rented_good_s = rented_s.saturating_sub(uncovered.div_ceil(gpus));
    let promised_s = idle_s.saturating_add(rented_s.saturating_mul(RENTED_WEIGHT));
    let good_s = idle_good_s.saturating_add(rented_good_s.saturating_mul(RENTED_WEIGHT));
    let inside = |at: &&UnixSeconds| window.from <= **at && **at < window.to;
    let starts: Vec<&Start> = history.starts.iter().filter(|start| inside(&&start.at)).collect();
    let mut ready: Vec<u32> = starts.iter().filter_map(|start| start.ready_ms).collect();
    ready.sort_unstable();
    Reliability {
        idle_s,
        idle_good_s,
        rented_s,
        rented_good_s,
        promised_s,
        good_s,
        starts: count(starts.len()),
        starts_ok: count(ready.len()),
        ready_p50_ms: nearest_rank(&ready, 50),
        ready_p95_ms: nearest_rank(&ready, 95),
        interruptions: count(history.interruptions.iter().filter(inside).count()),
        disputes_lost: count(history.disputes_lost.iter().filter(inside).count()),
        score_bps: lower_bound_bps(good_s, promised_s),
    }
}

/// When so many of `gpus` were rented, by how many, 0 left out; each in order and disjoint. More than all count as all.
fn by_rented(rentals: &[RentedTime], window: Interval, gpus: u64) -> BTreeMap<u64, Vec<Interval>> {
    // GPUs whose time begins and ends, by when
    let mut moments: BTreeMap<UnixSeconds, (u64, u64)> = BTreeMap::new();
    for rental in rentals {
        let share = u64::from(rental.gpus);
        for part in within(&rental.promised, window) {
            let (begun, _) = moments.entry(part.from).or_default();
            *begun = begun.saturating_add(share);
            let (_, ended) = moments.entry(part.to).or_default();
            *ended = ended.saturating_add(share);
        }
    }
    let mut by_rented: BTreeMap<u64, Vec<Interval>> = BTreeMap::new();
    let (mut since, mut rented) = (window.from, 0_u64);
    for (at, (begun, ended)) in moments {
        if rented > 0 {
            by_rented.entry(rented.min(gpus)).or_default().push(Interval::new(since, at));
        }
        rented = rented.saturating_add(begun).saturating_sub(ended);
        since = at;
    }
    by_rented
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn seconds(parts: &[Interval]) -> u64 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(u64::from(part.seconds().get())))
}

/// The parts inside `window`: in order, disjoint, none empty.
fn within(parts: &[Interval], window: Interval) -> Vec<Interval> {
    let mut inside: Vec<Interval> =
        parts.iter().map(|part| part.clipped_to(window)).filter(|part| !part.is_empty()).collect();
    inside.sort_unstable();
    let mut merged: Vec<Interval> = Vec::with_capacity(inside.len());
    for part in inside {
        match merged.last_mut() {
            Some(last) if part.from <= last.to => last.to = last.to.max(part.to),
            _ => merged.push(part),
        }
    }
    merged
}

/// What both have; each in order and disjoint.
fn both(left: &[Interval], right: &[Interval]) -> Vec<Interval> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut common = Vec::new();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let part = a.clipped_to(**b);
        if !part.is_empty() {
            common.push(part);
        }
        if a.to <= b.to {
            left.next();
        } else {
            right.next();
        }
    }
    common
}

/// What `whole` has and `taken` has not; each in order and disjoint.
#[must_use]
pub fn without(whole: &[Interval], taken: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    // those that end before a part begins are of no use to any later part
    let mut first = 0_usize;
    for part in whole {
        let mut from = part.from;
        for gone in taken.iter().skip(first) {
            if gone.to <= part.from {
                first = first.saturating_add(1);
                continue;
            }
            if gone.from >= part.to {
                break;
            }
            left.push(Interval::new(from, gone.from));
            from = from.max(gone.to);
        }
        left.push(Interval::new(from, part.to));
    }
    left.retain(|part| !part.is_empty());
    left
}

#[cfg(test)]
mod tests;
