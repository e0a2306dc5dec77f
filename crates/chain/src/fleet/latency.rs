//! When an answer is late, by how long the answers before it took.

use std::time::Duration;

/// Until the first answer.
const AT_FIRST: Duration = Duration::from_secs(1);
/// A pause of a busy machine is no reason to ask twice.
const SHORTEST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(2);

/// The smoothed time of answers and its deviation, as TCP has them for its own retransmissions (RFC 6298): late is what
/// takes longer than the mean and four deviations, within 0.3 and 2 s.
#[derive(Debug, Default)]
pub(super) struct Latency {
    known: Option<(Duration, Duration)>,
}

impl Latency {
    /// Notes how long an answer took.
    pub(super) fn note(&mut self, took: Duration) {
        self.known = Some(match self.known {
            None => (took, took / 2),
            Some((mean, deviation)) => {
                let off = mean.abs_diff(took);
                (
                    (mean.saturating_mul(7).saturating_add(took)) / 8,
                    (deviation.saturating_mul(3).saturating_add(off)) / 4,
                )
            }
        });
    }

    /// An answer that takes longer is late.
    pub(super) fn late_after(&self) -> Duration {
        let Some((mean, deviation)) = self.known else { return AT_FIRST };
        mean.saturating_add(deviation.saturating_mul(4)).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_answers_within_its_bounds() {
        let mut latency = Latency::default();
        assert_eq!(latency.late_after(), AT_FIRST);
        for _ in 0..50 {
            latency.note(Duration::from_millis(4));
        }
        assert_eq!(latency.late_after(), SHORTEST);
        for _ in 0..50 {
            latency.note(Duration::from_millis(500));
        }
        let late = latency.late_after();
        assert!((500..800).contains(&late.as_millis()), "{late:?}");
        for _ in 0..50 {
            latency.note(Duration::from_secs(4));
        }
        assert_eq!(latency.late_after(), LONGEST);
    }
}
