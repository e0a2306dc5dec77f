//! When to look for the next block: at the pause while none is due, often while one is.

use std::time::Duration;

use tokio::time::Instant;

/// So many blocks between the two arrivals that the interval is taken from, at most.
const SPAN: u32 = 16;
/// While a block is due, looks are so many times as frequent as the pause.
const OFTEN: u32 = 10;
/// It is looked for so much of an interval before it is due, as one in so many parts.
const EARLY: u32 = 20;
/// A chain whose blocks come faster than this is asked at the pause alone.
const FASTEST: Duration = Duration::from_millis(200);

/// What is known of when blocks arrive.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// The arrival from which blocks are counted, and how many came since.
    since: Option<(Instant, u32)>,
    last: Option<Instant>,
    interval: Option<Duration>,
}

impl Pace {
    /// So many new blocks were found at `now`.
    pub(crate) fn arrived(&mut self, blocks: usize, now: Instant) {
        let Ok(blocks) = u32::try_from(blocks) else { return };
        if blocks == 0 {
            return;
        }
        self.last = Some(now);
        // More than one at a time is catching up, and says nothing about when each came.
        let counted = self.since.filter(|_| blocks == 1);
        self.since = match counted {
            None => Some((now, 0)),
            Some((from, count)) => {
                let count = count.saturating_add(1);
                self.interval = now.duration_since(from).checked_div(count);
                if count < SPAN { Some((from, count)) } else { Some((now, 0)) }
            }
        };
    }

    /// How long to wait after a look at `now`, with `pause` between looks when nothing is due: never longer than the
    /// pause, and never so short that a late block is asked for without end.
    pub(crate) fn wait(&self, pause: Duration, now: Instant) -> Duration {
        let (Some(last), Some(interval)) = (self.last, self.interval) else { return pause };
        if interval < FASTEST {
            return pause;
        }
        let often = pause.checked_div(OFTEN).unwrap_or(pause);
        let since = now.duration_since(last);
        let early = interval.saturating_sub(interval.checked_div(EARLY).unwrap_or_default());
        if since < early {
            return early.saturating_sub(since).max(often).min(pause);
        }
        // A block that is later than by half an interval is missed, or blocks come more slowly now.
        if since < interval.saturating_mul(3).checked_div(2).unwrap_or(interval) {
            often
        } else {
            pause
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    const PAUSE: Duration = Duration::from_millis(500);

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn steady() -> (Pace, Instant) {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for number in 0..5 {
            pace.arrived(1, after(start, number * 2_000));
        }
        (pace, start)
    }

    #[test]
    fn nothing_is_known_at_first() {
        let now = Instant::now();
        assert_eq!(Pace::default().wait(PAUSE, now), PAUSE);
        let mut one = Pace::default();
        one.arrived(1, now);
        assert_eq!(one.wait(PAUSE, now), PAUSE, "one block has no interval");
    }

    #[test]
    fn it_looks_often_while_a_block_is_due() {
        let (pace, start) = steady();
        assert_eq!(pace.wait(PAUSE, after(start, 8_000)), PAUSE);
        assert_eq!(pace.wait(PAUSE, after(start, 9_600)), Duration::from_millis(300));
        assert_eq!(pace.wait(PAUSE, after(start, 9_890)), Duration::from_millis(50));
        assert_eq!(pace.wait(PAUSE, after(start, 10_500)), Duration::from_millis(50));
        assert_eq!(pace.wait(PAUSE, after(start, 11_100)), PAUSE, "it is overdue");
    }

    #[test]
    fn catching_up_is_no_pace() {
        let (mut pace, start) = steady();
        pace.arrived(7, after(start, 8_010));
        pace.arrived(1, after(start, 10_010));
        assert_eq!(pace.wait(PAUSE, after(start, 11_710)), Duration::from_millis(200));
    }

    #[test]
    fn a_chain_that_is_faster_than_we_need_is_asked_at_the_pause() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for number in 0..5 {
            pace.arrived(1, after(start, number * 20));
        }
        assert_eq!(pace.wait(PAUSE, after(start, 81)), PAUSE);
    }
}
