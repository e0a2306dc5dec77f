//! When an answer is late, by how long the answers before it took.

use std::time::Duration;

/// What a question asks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A look at what it has.
    Light,
    /// Work: a call that it has to play, a range of logs to read. A second one beside it doubles that.
    Heavy,
}

impl Effort {
    /// An answer that takes no longer is never late: a pause of a busy machine is no reason to ask twice.
    const fn shortest(self) -> Duration {
        match self {
            Self::Light => Duration::from_millis(150),
            Self::Heavy => Duration::from_millis(500),
        }
    }
}

/// Until the first answers.
const AT_FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(2);
/// Late is what takes so many times as long as the middle one of the answers before. Not their mean: a few that are
/// slow would make us wait for the next that hangs.
const TIMES: u32 = 4;
/// So many answers are remembered.
const REMEMBERED: usize = 32;

/// The newest answers' times. Late is what takes four times as long as their median, within [`Effort::shortest`] and
/// 2 s. What is work has times of its own: a node that is slow at it is not asked twice each time.
#[derive(Debug)]
pub(super) struct Latency {
    shortest: Duration,
    took: Vec<Duration>,
    /// Where the next goes.
    next: usize,
}

impl Latency {
    pub(super) const fn of(effort: Effort) -> Self {
        Self { shortest: effort.shortest(), took: Vec::new(), next: 0 }
    }

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
        median.saturating_mul(TIMES).clamp(self.shortest, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_answers_within_its_bounds() {
        let mut latency = Latency::of(Effort::Light);
        assert_eq!(latency.late_after(), AT_FIRST);
        for _ in 0..50 {
            latency.note(Duration::from_millis(4));
        }
        assert_eq!(latency.took.len(), REMEMBERED);
        assert_eq!(latency.late_after(), Effort::Light.shortest());
        for _ in 0..10 {
            latency.note(Duration::from_secs(4));
        }
        assert_eq!(
            latency.late_after(),
            Effort::Light.shortest(),
            "a few slow ones change nothing"
        );
        for _ in 0..20 {
            latency.note(Duration::from_millis(100));
        }
        assert_eq!(latency.late_after(), Duration::from_millis(400));
        for _ in 0..40 {
            latency.note(Duration::from_secs(4));
        }
        assert_eq!(latency.late_after(), LONGEST);
    }

    #[test]
    fn work_is_waited_for_longer() {
        let mut latency = Latency::of(Effort::Heavy);
        assert_eq!(latency.late_after(), AT_FIRST);
        latency.note(Duration::from_millis(20));
        assert_eq!(latency.late_after(), Duration::from_millis(500));
    }
}
