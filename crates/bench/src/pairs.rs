//! Subject and limit in turn. Neighbouring slices see the same disk and the same neighbours, so
//! their ratio stays put where either rate alone swings by a factor of two within minutes.

use std::time::Duration;

use serde::Serialize;

use crate::{BenchError, Histogram, Scenario, Slice, Verdict, machine::load_average};

/// One side of all pairs.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Latencies of all its sound slices together.
    pub latency: Histogram,
    /// Rightly refused operations, in all its slices.
    pub refused: u64,
    /// Requests that were sent again, in all its slices.
    pub retried: u64,
}

/// One subject slice beside one limit slice.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// `AB`: the subject went first; `BA`: the limit did.
    pub order: &'static str,
    /// Operations of the subject per second.
    pub subject_tps: f64,
    /// Transactions of the limit per second.
    pub limit_tps: f64,
    /// The first divided by the second; `None` if either slice is void.
    pub ratio: Option<f64>,
    /// Why the pair is void.
    pub void: Option<String>,
}

/// Everything that a scenario's pairs gave.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The scenario.
    pub name: &'static str,
    /// In the order in which they were taken.
    pub pairs: Vec<Pair>,
    /// What is wrong beyond the pairs: a void slice of the warming up, or a side that could not
    /// begin or go on.
    pub other_faults: Vec<String>,
    /// The subject.
    pub subject: Side,
    /// The limit.
    pub limit: Side,
    /// Load averages of 1, 5 and 15 minutes when the last pair was taken.
    pub load_average: [f64; 3],
}

impl Measured {
    /// The ratios of the sound pairs.
    #[must_use]
    pub fn ratios(&self) -> Vec<f64> {
        self.pairs.iter().filter_map(|pair| pair.ratio).collect()
    }

    /// Everything that is wrong with it; nothing for a sound one.
    pub fn faults(&self) -> impl Iterator<Item = &str> {
        let pairs = self.pairs.iter().filter_map(|pair| pair.void.as_deref());
        self.other_faults.iter().map(String::as_str).chain(pairs)
    }
}

/// Warms both sides up with a slice each, then takes `pairs` pairs in the order AB, BA, AB, ...:
/// what a slice leaves behind for the next one falls on both sides alike. If a side cannot go on,
/// that is a fault and the pairs so far are kept.
pub async fn measure<S: Scenario, L: Scenario>(
    subject: &mut S,
    limit: &mut L,
    pairs: u32,
    span: Duration,
) -> Measured {
    let mut measured = Measured::new(subject.name());
    if let Err(error) = measured.take(subject, limit, pairs, span).await {
        measured.other_faults.push(format!("broken off: {error}"));
    }
    measured.load_average = load_average();
    measured
}

/// A slice, and why it is void.
type Taken = (Slice, Option<String>);

async fn take<S: Scenario>(side: &mut S, span: Duration) -> Result<Taken, BenchError> {
    let slice = side.slice(span).await?;
    let void = match side.verify(&slice).await? {
        Verdict::Sound if slice.count == 0 => Some("nothing was done".to_owned()),
        Verdict::Sound => None,
        Verdict::Void(reason) => Some(reason),
    };
    Ok((slice, void.map(|reason| format!("{}: {reason}", side.name()))))
}

impl Measured {
    /// Nothing yet.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            pairs: Vec::new(),
            other_faults: Vec::new(),
            subject: Side::default(),
            limit: Side::default(),
            load_average: [0.0; 3],
        }
    }

    async fn take<S: Scenario, L: Scenario>(
        &mut self,
        subject: &mut S,
        limit: &mut L,
        pairs: u32,
        span: Duration,
    ) -> Result<(), BenchError> {
        for number in 0..=pairs {
            subject.prepare(span).await?;
            limit.prepare(span).await?;
            let subject_first = number % 2 == 1;
            let (ours, theirs) = if subject_first {
                let ours = take(subject, span).await?;
                (ours, take(limit, span).await?)
            } else {
                let theirs = take(limit, span).await?;
                (take(subject, span).await?, theirs)
            };
            if number == 0 {
                self.other_faults.extend(ours.1.or(theirs.1));
            } else {
                self.add(if subject_first { "AB" } else { "BA" }, ours, theirs);
            }
        }
        Ok(())
    }

    fn add(&mut self, order: &'static str, ours: Taken, theirs: Taken) {
        let (subject_tps, limit_tps) = (ours.0.rate(), theirs.0.rate());
        for (side, (slice, void)) in [(&mut self.subject, &ours), (&mut self.limit, &theirs)] {
            side.refused = side.refused.saturating_add(slice.refused);
            side.retried = side.retried.saturating_add(slice.retried);
            if void.is_none() {
                side.latency.merge(&slice.latency);
            }
        }
        let void = ours.1.or(theirs.1);
        let ratio = void.is_none().then(|| subject_tps / limit_tps);
        self.pairs.push(Pair { order, subject_tps, limit_tps, ratio, void });
    }
}
