//! Whether a rental that runs may be paid for up to now, and when to ask again.
//!
//! The contract's `release` pays by its own clock: all seconds since the start but the last `holdback`, whatever the
//! evidence says. What it has paid, no credit at the end brings back. So it is asked for only if all that it could pay, if it
//! is mined as late as half a holdback from now, is covered by evidence already; and it may be sent for half of that time.
//! What happens after the question then makes no difference: the evidence only grows.

use serde::{Deserialize, Serialize};

use super::Interval;
use crate::time::{Seconds, UnixSeconds};

/// Readings that are taken lie no further ahead of anybody's clock.
const AHEAD: Seconds = Seconds(3);

/// Releases that come due in one slot go in one batch: an interval has so many slots.
const SLOTS: u32 = 24;

/// What the readings of a rental come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// From the first covered second to the end of the last.
    pub span: Interval,
    /// How many seconds in it are covered.
    pub covered: Seconds,
}

impl Coverage {
    /// How many seconds of `window` are covered, without a look at the readings; `None` where these sums do not tell,
    /// because something lies before the window or far beyond it.
    ///
    /// An agent's clock may be a little ahead: the time between the window's end and the last covered second is taken to
    /// be covered, which it is if no more than the newest reading reaches there. Otherwise the answer is too little, by the
    /// gaps in those few seconds.
    #[must_use]
    pub fn within(&self, window: Interval) -> Option<Seconds> {
        let beyond = self.span.to.saturating_since(window.to);
        let told = self.span.from >= window.from && beyond <= AHEAD;
        told.then(|| self.covered.saturating_sub(beyond))
    }
}

/// Whether to release now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseAnswer {
    /// Yes. It must be mined before `until`.
    Now {
        /// The second from which on it may not be sent any more.
        until: UnixSeconds,
    },
    /// Not yet: all is younger than the holdback, or the newest evidence is too old.
    NotYet,
    /// Never again: outages have used up what the holdback can make good.
    Never,
}

/// Whether a rental that has run since `started_at` may be released at `now`, the later of our time and the chain's, by
/// evidence up to then, of which nothing after `funded_until` counts.
///
/// A rental may lose half its holdback to outages and still be released; then no more, so that the other half is there to
/// credit them and to bear what comes between this question and the block. Of the coverage only a lower bound is used
/// where it reaches outside of the time that counts.
#[must_use]
pub fn may_release(
    started_at: UnixSeconds,
    now: UnixSeconds,
    funded_until: UnixSeconds,
    holdback: Seconds,
    coverage: Option<&Coverage>,
) -> ReleaseAnswer {
    let (slack, patience) = (Seconds(holdback.get() / 2), Seconds(holdback.get() / 4));
    if patience == Seconds::ZERO {
        return ReleaseAnswer::Never;
    }
    let end = now.min(funded_until);
    let (good_until, covered) = coverage.map_or((started_at, Seconds::ZERO), |coverage| {
        let Interval { from, to } = coverage.span;
        let outside = started_at.saturating_since(from).saturating_add(to.saturating_since(end));
        (to.min(end).max(started_at), coverage.covered.saturating_sub(outside))
    });
    let gone = good_until.saturating_since(started_at).saturating_sub(covered);
    if gone > slack {
        return ReleaseAnswer::Never;
    }
    let missing = gone.saturating_add(now.saturating_since(good_until));
    if missing > slack || now.saturating_since(started_at) <= holdback {
        return ReleaseAnswer::NotYet;
    }
    ReleaseAnswer::Now { until: now.saturating_plus(patience) }
}

/// When to release next, after `now`: a whole number of intervals `every` after the start, a little later so that
/// rentals which started close together are released together. `None` if the deposit is used up before or so soon after
/// that the end will pay for all of it, and with an interval of 0.
#[must_use]
pub fn next_release(
    started_at: UnixSeconds,
    now: UnixSeconds,
    funded_until: UnixSeconds,
    holdback: Seconds,
    every: Seconds,
) -> Option<UnixSeconds> {
    let passed = now.saturating_since(started_at).get().checked_div(every.get())?;
    let due = started_at.plus(Seconds(passed.checked_add(1)?.checked_mul(every.get())?))?;
    let slot = u64::from(every.get() / SLOTS).max(1);
    let due = UnixSeconds(due.get().checked_next_multiple_of(slot)?);
    (due.plus(holdback)? <= funded_until).then_some(due)
}

#[cfg(test)]
mod tests;
