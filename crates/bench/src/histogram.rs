//! Latencies in a fixed number of counters.

use std::time::Duration;

/// Counters per power of two: a value is known to better than one part in 64.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.ilog2();
/// Enough for microseconds up to 2^36, which is 19 hours.
const COUNTERS: usize = 2_048;

/// A histogram of latencies in microseconds: exact up to 63, then within 1.6 %.
#[derive(Clone, Debug)]
pub struct Histogram {
    counters: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counters: vec![0; COUNTERS], count: 0 }
    }
}

impl Histogram {
    /// Counts one latency; above 2^36 us it counts as that.
    pub fn record(&mut self, latency: Duration) {
        self.record_micros(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one latency in microseconds.
    pub fn record_micros(&mut self, micros: u64) {
        let last = COUNTERS.saturating_sub(1);
        if let Some(counter) = self.counters.get_mut(index(micros).min(last)) {
            *counter = counter.saturating_add(1);
            self.count = self.count.saturating_add(1);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counters.iter_mut().zip(&other.counters) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count = self.count.saturating_add(other.count);
    }

    /// The latency that `share` (0 to 1) of all stay within, in milliseconds: the upper end of the
    /// counter it falls into. `None` if nothing was counted.
    #[must_use]
    pub fn percentile_ms(&self, share: f64) -> Option<f64> {
        let rank = ((self.count as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0_u64;
        let at = self.counters.iter().position(|counter| {
            seen = seen.saturating_add(*counter);
            seen >= rank
        })?;
        Some(upper_end(at as u64) as f64 / 1_000.0)
    }
}

/// The counter of a value: its own up to 63; above, 64 for each further power of two.
fn index(micros: u64) -> usize {
    let Some(shift) = micros.checked_ilog2().and_then(|log| log.checked_sub(STEP_BITS)) else {
        return micros as usize;
    };
    let step = (micros >> shift).saturating_sub(STEPS);
    let row = u64::from(shift).saturating_add(1);
    row.saturating_mul(STEPS).saturating_add(step) as usize
}

/// The largest value that counts in counter `index`.
fn upper_end(index: u64) -> u64 {
    let Some(shift) = (index / STEPS).checked_sub(1) else {
        return index;
    };
    let step = (index % STEPS).saturating_add(STEPS);
    (step.saturating_add(1) << shift).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_its_counter() {
        let values = (0..3_000).chain([12_345, 999_999, 1 << 30, (1 << 36) - 1]);
        for value in values {
            let top = upper_end(index(value) as u64);
            assert!(top >= value, "{value} is above its counter's end, {top}");
            assert!(top - value <= value / 64, "{value} is too far below {top}");
            assert_eq!(index(top), index(value));
            assert_eq!(index(top + 1), index(value) + 1, "no value is left out after {top}");
        }
    }

    #[test]
    fn percentiles_of_a_known_row() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_ms(0.5), None);
        for micros in 1..=50 {
            histogram.record_micros(micros);
        }
        let mut other = Histogram::default();
        other.record(Duration::from_secs(100_000_000));
        assert_eq!(histogram.percentile_ms(0.5), Some(0.025));
        assert_eq!(histogram.percentile_ms(1.0), Some(0.05));
        histogram.merge(&other);
        assert_eq!(histogram.count(), 51);
        assert!(histogram.percentile_ms(1.0).unwrap() > 60_000_000.0);
    }
}
