//! A clock that moves only when told to.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::time::{Clock, Seconds, UnixMillis};

/// A [`Clock`] for tests. Share it as `Arc<ManualClock>`.
#[derive(Debug)]
pub struct ManualClock {
    millis: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub const fn new(now: UnixMillis) -> Self {
        Self { millis: AtomicU64::new(now.get()) }
    }

    /// Moves the clock to `now`, also backwards.
    pub fn set(&self, now: UnixMillis) {
        self.millis.store(now.get(), Ordering::SeqCst);
    }

    /// Moves the clock on by whole seconds; wraps after 584 million years.
    pub fn advance(&self, span: Seconds) {
        self.advance_millis(u64::from(span.get()).saturating_mul(1000));
    }

    /// Moves the clock on by milliseconds.
    pub fn advance_millis(&self, millis: u64) {
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.millis.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_only_when_told() {
        let clock = ManualClock::new(UnixMillis(5_000));
        assert_eq!(clock.now(), UnixMillis(5_000));
        clock.advance(Seconds(2));
        clock.advance_millis(1);
        assert_eq!(clock.now(), UnixMillis(7_001));
        clock.set(UnixMillis(1));
        assert_eq!(clock.now(), UnixMillis(1));
    }
}
