//! What a machine has shown in a window of time: the published formula, as a pure function of public rows.
//! docs/MARKET.md says it in words.

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

/// What it comes to. Seconds of rentals are summed over them, each by its share of the machine's GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reliability {
    /// Seconds listed and not rented.
    pub idle_s: u64,
    /// Those in contact.
    pub idle_good_s: u64,
    /// Seconds rented, of the whole machine; rounded up.
    pub rented_s: u64,
    /// Those that readings cover; rounded down.
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
    let rented: Vec<Interval> =
        history.rentals.iter().flat_map(|rental| rental.promised.iter().copied()).collect();
    let listed = within(&history.listed, window);
    let idle =
        without(&without(&listed, &within(&rented, window)), &within(&history.maintenance, window));
    let idle_s = seconds(&idle);
    let idle_good_s = seconds(&both(&idle, &within(&history.contact, window)));
    // seconds of single GPUs: divided once, at the end, so that a machine in many pieces loses nothing by rounding
    let mut rented_gpu_s = 0_u64;
    let mut rented_good_gpu_s = 0_u64;
    for rental in &history.rentals {
        let promised = within(&rental.promised, window);
        let by_gpus = |parts: &[Interval]| seconds(parts).saturating_mul(u64::from(rental.gpus));
        rented_gpu_s = rented_gpu_s.saturating_add(by_gpus(&promised));
        let good = both(&promised, &within(&rental.covered, window));
        rented_good_gpu_s = rented_good_gpu_s.saturating_add(by_gpus(&good));
    }
    let gpus = u64::from(history.gpus.max(1));
    let rented_s = rented_gpu_s.div_ceil(gpus);
    let rented_good_s = rented_good_gpu_s.checked_div(gpus).unwrap_or(0);
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
