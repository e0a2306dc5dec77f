//! The median of per-pair ratios and how far it may be off.

use serde::Serialize;

use crate::rng::SplitMix64;

/// How often the pairs are drawn anew.
const RESAMPLES: usize = 10_000;

/// The bounds within which a value lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    middle(&sorted)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(half.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// The percentile bootstrap interval of the median: 10,000 draws with replacement. The same `seed`
/// gives the same interval; `None` of nothing.
#[must_use]
pub fn bootstrap(values: &[f64], seed: u64) -> Option<Interval> {
    let mut rng = SplitMix64::new(seed);
    let mut drawn = vec![0.0; values.len()];
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for slot in &mut drawn {
            *slot = *values.get(rng.below(values.len() as u64) as usize)?;
        }
        drawn.sort_unstable_by(f64::total_cmp);
        medians.push(middle(&drawn)?);
    }
    medians.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let last = RESAMPLES.saturating_sub(1) as f64;
        medians.get((last * share).round() as usize).copied()
    };
    Some(Interval { low: at(0.025)?, high: at(0.975)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn the_interval_is_seeded_and_holds_the_median() {
        let ratios = [0.8, 0.9, 1.0, 1.1, 1.3, 0.95, 1.05];
        let interval = bootstrap(&ratios, 1).unwrap();
        assert_eq!(bootstrap(&ratios, 1), Some(interval));
        assert!(interval.low <= 1.0 && 1.0 <= interval.high);
        assert!(interval.low >= 0.8 && interval.high <= 1.3);
        assert_eq!(bootstrap(&[2.0; 7], 5), Some(Interval { low: 2.0, high: 2.0 }));
        assert_eq!(bootstrap(&[], 1), None);
    }
}
