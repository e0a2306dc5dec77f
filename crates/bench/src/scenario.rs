//! What can be measured: something that is prepared, driven for a while, and checked.

use std::{future::Future, time::Duration};

use crate::{BenchError, Histogram};

/// What a slice did.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Operations that were answered as done.
    pub count: u64,
    /// Operations that were rightly refused, such as a GPU that another client took first. They
    /// cost time and do not count.
    pub refused: u64,
    /// Requests that were sent again because the service said that they may succeed later.
    pub retried: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of each transaction or request, the refused ones included.
    pub latency: Histogram,
    /// A client found nothing left to do, so that the rate is not the subject's.
    pub ran_dry: bool,
}

impl Slice {
    /// Adds what one client did.
    pub(crate) fn add(&mut self, part: &Self) {
        self.count = self.count.saturating_add(part.count);
        self.refused = self.refused.saturating_add(part.refused);
        self.latency.merge(&part.latency);
        self.ran_dry |= part.ran_dry;
    }

    /// Operations per second; 0 for no time.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.count as f64 / seconds } else { 0.0 }
    }
}

/// Whether a slice counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What is stored is what was counted.
    Sound,
    /// It is not, and the slice is void; the reason in one line.
    Void(String),
}

impl Verdict {
    /// [`Verdict::Void`] for the first of `checks` that does not hold.
    pub(crate) fn of(checks: impl IntoIterator<Item = (bool, String)>) -> Self {
        checks
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Self::Sound, |(_, reason)| Self::Void(reason))
    }
}

/// Something that is measured, or that it is measured against.
pub trait Scenario: Send {
    /// Its name in the report.
    fn name(&self) -> &'static str;

    /// Gets ready for a slice of this length; not timed.
    fn prepare(&mut self, span: Duration) -> impl Future<Output = Result<(), BenchError>> + Send;

    /// Works for this long at full speed. What was begun is finished and counted.
    fn slice(&mut self, span: Duration) -> impl Future<Output = Result<Slice, BenchError>> + Send;

    /// Compares what the slice counted with what the database holds. Called once after each slice;
    /// a fault of one slice does not make the next one void.
    fn verify(&mut self, slice: &Slice)
    -> impl Future<Output = Result<Verdict, BenchError>> + Send;
}
