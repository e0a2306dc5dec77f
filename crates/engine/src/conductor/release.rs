//! Whether a rental that runs is to be paid for up to now, and timers that were never set.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::{
    billing::auto_stop_second,
    metering::{ReleaseAnswer, may_release},
    rental::{RentalEvent, RentalState, StartStatus},
    time::{Seconds, UnixSeconds},
};
use store::{
    Connection, Policy, Store, StoreError, TxError, advance, blocks, deposit_notices, intents,
    jobs, quotes, readings, rentals::Rental,
};

use super::Due;
use crate::EngineError;

/// Between two looks at rentals without a timer, and before a timer is looked at while nothing is released.
const RARELY: Seconds = Seconds(3_600);

/// Between two looks at rentals that end by notice and whose timer says otherwise.
const OFTEN: Seconds = Seconds(60);

/// Rentals whose timer was never set: their start was seen by a worker of the version before, or while nothing was
/// released.
pub(super) struct Untimed {
    store: Store,
    next: AtomicU64,
    next_notices: AtomicU64,
}

impl Untimed {
    pub(super) const fn new(store: Store) -> Self {
        Self { store, next: AtomicU64::new(0), next_notices: AtomicU64::new(0) }
    }

    /// Once an hour sets the timers that are missing, of releases and of what is told of deposits; once a minute those of
    /// notices. Releases come due an hour later at the earliest: a worker of the version
    /// before, which may still be there, does not know them.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn look(&self) -> Result<(), EngineError> {
        let now = self.store.now().seconds();
        self.look_at_notices(now).await?;
        let Some(later) = turn(&self.next, now, RARELY) else {
            return Ok(());
        };
        let every = self.store.policy().release_every;
        let (deposits, paid) = self
            .store
            .write("arm releases", move |tx| {
                Box::pin(async move {
                    let deposits = deposit_notices::arm_missing(tx, now).await?;
                    let paid = match every {
                        Seconds::ZERO => 0,
                        every => jobs::arm_releases(tx, every, later).await?,
                    };
                    Ok::<_, TxError<EngineError>>((deposits, paid))
                })
            })
            .await?;
        if paid > 0 {
            tracing::info!(paid, "rentals that had no timer are paid on the way from now on");
        }
        if deposits > 0 {
            tracing::info!(deposits, "rentals are told of their deposits from now on");
        }
        self.next.store(later.get(), Ordering::Relaxed);
        Ok(())
    }

    async fn look_at_notices(&self, now: UnixSeconds) -> Result<(), EngineError> {
        let Some(later) = turn(&self.next_notices, now, OFTEN) else {
            return Ok(());
        };
        let set = self.store.write("arm evictions", move |tx| {
            Box::pin(
                async move { Ok::<_, TxError<EngineError>>(jobs::arm_evictions(tx, now).await?) },
            )
        });
        let set = set.await?;
        if set > 0 {
            tracing::warn!(
                set,
                "rentals end by their providers' notices, though their timers said later"
            );
        }
        self.next_notices.store(later.get(), Ordering::Relaxed);
        Ok(())
    }
}

/// When the turn after this one is, if it is one now. A next one beyond the longest wait was set before the clock went back.
fn turn(next: &AtomicU64, now: UnixSeconds, every: Seconds) -> Option<UnixSeconds> {
    let (next, later) = (UnixSeconds(next.load(Ordering::Relaxed)), now.saturating_plus(every));
    (now >= next || next > later).then_some(later)
}

/// Looks at the evidence under the rental's lock, so that it stays as it is until the call is queued.
///
/// # Errors
/// The database's.
pub(super) async fn look(
    tx: &mut Connection,
    policy: &Policy,
    rental: &Rental,
    now: UnixSeconds,
) -> Result<Due, StoreError> {
    let progress = &rental.progress;
    let interrupted = progress.state == RentalState::Interrupted;
    let runs = interrupted || progress.state == RentalState::Active;
    let started = progress.started_at.filter(|_| runs && progress.start == StartStatus::Final);
    let Some(started) = started else {
        return Ok(Due::Settled);
    };
    if policy.release_every == Seconds::ZERO {
        // until somebody wants it again
        return Ok(Due::Later(now.saturating_plus(RARELY)));
    }
    let quote = quotes::get(tx, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
    let funded_until = started.saturating_plus(auto_stop_second(rental.locked, quote.rate));
    if now.saturating_plus(quote.holdback) > funded_until {
        // the end is near, and pays for all of it
        return Ok(Due::Settled);
    }
    // an outage is over by then, or the rental
    let soon = policy.max_outage.min(Seconds(policy.release_every.get() / 8));
    let later = now.saturating_plus(soon.max(Seconds::ONE));
    if interrupted {
        return Ok(Due::Later(later));
    }
    if intents::is_open(tx, rental.id, "release").await? {
        let next = advance::release_due(tx, policy, rental, now).await?;
        return Ok(next.map_or(Due::Settled, Due::Later));
    }
    // the contract pays by its own clock, which may be ahead of ours
    let at = blocks::tip(tx).await?.map_or(now, |block| block.timestamp.max(now));
    let coverage = readings::evidence(tx, rental.id).await?.map(|evidence| evidence.coverage());
    Ok(match may_release(started, at, funded_until, quote.holdback, coverage.as_ref()) {
        ReleaseAnswer::Now { until } => Due::Event(RentalEvent::ReleaseDue { until }),
        ReleaseAnswer::NotYet => Due::Later(later),
        ReleaseAnswer::Never => {
            tracing::info!(
                rental.id = %rental.id,
                "outages have used up half the holdback: all that is open is paid at the end"
            );
            Due::Settled
        }
    })
}
