//! How long to wait before trying again.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

/// Doubling waits up to a limit, each between half of the full wait and all of it, so that many agents do
/// not come back at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    limit: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, limit: Duration) -> Self {
        Self { base, limit, failures: 0 }
    }

    /// The wait after one more failure.
    pub(crate) fn failed(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let full = self.base.saturating_mul(factor).min(self.limit);
        let full = u64::try_from(full.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rand::rng().random_range(full.div_ceil(2)..=full))
    }

    /// It worked: the next failure waits the shortest time again.
    pub(crate) const fn worked(&mut self) {
        self.failures = 0;
    }
}

/// Something that is tried again at a loop's turns, but not before its back-off has passed.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Retry {
    pub(crate) const fn new(base: Duration, limit: Duration) -> Self {
        Self { backoff: Backoff::new(base, limit), not_before: None }
    }

    /// Whether it may be tried now.
    pub(crate) fn is_due(&self) -> bool {
        self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// It failed once more.
    pub(crate) fn failed(&mut self) {
        self.not_before = Instant::now().checked_add(self.backoff.failed());
    }

    /// It worked.
    pub(crate) fn worked(&mut self) {
        self.backoff.worked();
        self.not_before = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.failed();
            assert!(wait >= Duration::from_millis(full / 2), "{wait:?}");
            assert!(wait <= Duration::from_millis(full), "{wait:?}");
        }
        for _ in 0..100 {
            assert!(backoff.failed() <= Duration::from_secs(1));
        }
        backoff.worked();
        assert!(backoff.failed() <= Duration::from_millis(100));
    }
}
