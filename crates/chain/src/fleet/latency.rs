//! When an answer is late, by how long the answers before it took.

use std::time::Duration;

/// Until the first answers.
const AT_FIRST: Duration = Duration::from_secs(1);
/// A pause of a busy machine is no reason to ask twice.
const SHORTEST: Duration = Duration::from_millis(150);
const LONGEST: Duration = Duration::from_secs(2);
/// Late is what takes so many times as long as the middle one of the answers before. Not their mean: a few that are
/// slow would make us wait for the next that hangs.
const TIMES: u32 = 4;
/// So many answers are remembered.
const REMEMBERED: usize = 32;

/// The newest answers' times. Late is what takes four times as long as their median, within 0.15 and 2 s.
#[derive(Debug, Default)]
pub(super) struct Latency {
    took: Vec<Duration>,
    /// Where the next goes.
    next: usize,
}

impl Latency {
    /// Notes how long an answer took.
    pub(super) fn note(&mut self, took: Duration) {
        match self.took.get_mut(self.next) {
            Some(oldest) => *oldest = took,
            None => self.took.push(took),
        }
        self.next = self.next.saturating_add(1).checked_rem(REMEMBERED).unwrap_or_default();
    }

    /// An answer that takes longer is late.
    pub(super) fn late_after(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let Some(median) = took.get(took.len() / 2) else { return AT_FIRST };
        median.saturating_mul(TIMES).clamp(SHORTEST, LONGEST)
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
        assert_eq!(latency.took.len(), REMEMBERED);
        assert_eq!(latency.late_after(), SHORTEST);
        for _ in 0..10 {
            latency.note(Duration::from_secs(4));
        }
        assert_eq!(latency.late_after(), SHORTEST, "a few slow ones change nothing");
        for _ in 0..20 {
            latency.note(Duration::from_millis(100));
        }
        assert_eq!(latency.late_after(), Duration::from_millis(400));
        for _ in 0..40 {
            latency.note(Duration::from_secs(4));
        }
        assert_eq!(latency.late_after(), LONGEST);
    }
}
