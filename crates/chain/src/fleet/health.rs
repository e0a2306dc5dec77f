//! When an endpoint is left alone for a while.

use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row, and it rests.
const FAILURES: u32 = 3;
/// The first rest; each further one without an answer in between is twice as long.
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// So often in a row overtaken by another endpoint, without an answer in time in between, and it rests as if it had
/// failed. Less than that is the machine's own pause, or chance.
const OVERTAKEN: u32 = 8;

/// Three failures in a row: a rest of 1 s. After a rest one more failure is enough for the next, twice as long, a
/// minute at most. One answer makes all well again. Failures during a rest come from questions asked before it and
/// do not count.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    overtaken: u32,
    rests: u32,
    until: Option<Instant>,
}

impl Health {
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Notes that another answered while it was late; returns the rest that begins with it, if one does.
    pub(super) fn overtaken(&mut self, now: Instant) -> Option<Duration> {
        self.overtaken = self.overtaken.saturating_add(1);
        if self.overtaken < OVERTAKEN {
            return None;
        }
        self.failures = FAILURES;
        self.failed(now)
    }

    /// Notes a failure; returns the rest that begins with it, if one does.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        if self.rests(now) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES {
            return None;
        }
        let rest = SHORTEST_REST.saturating_mul(1_u32 << self.rests.min(6)).min(LONGEST_REST);
        self.rests = self.rests.saturating_add(1);
        self.until = now.checked_add(rest);
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_a_minute_and_one_answer_ends_them() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        assert_eq!((health.failed(now), health.failed(now)), (None, None));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(health.failed(now), Some(Duration::from_secs(seconds)));
            assert_eq!(health.failed(now), None, "asked before the rest began");
            assert!(health.rests(now));
            now += Duration::from_secs(seconds);
            assert!(!health.rests(now));
        }
        health.answered();
        assert_eq!((health.failed(now), health.failed(now)), (None, None));
        assert_eq!(health.failed(now), Some(SHORTEST_REST));
    }

    #[test]
    fn one_that_is_late_again_and_again_rests_and_one_that_is_late_now_and_then_does_not() {
        let (mut health, now) = (Health::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(health.overtaken(now), None);
            health.answered();
        }
        for _ in 1..OVERTAKEN {
            assert_eq!(health.overtaken(now), None);
        }
        assert_eq!(health.overtaken(now), Some(SHORTEST_REST));
    }
}
