//! Rentals that have fallen silent: running, and without a reading for longer than the evidence timeout.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::{
    id::RentalId,
    rental::{RentalEvent, RentalState},
    time::{Seconds, UnixSeconds},
};
use store::{
    Connection, Policy, Store, StoreError, TxError,
    advance::{self, AdvanceError},
    readings,
};

use crate::EngineError;

/// Rentals that one look reads at most.
const BATCH: i64 = 64;
/// After a failure.
const RETRY: Seconds = Seconds(2);

/// The watch over all running rentals. It keeps nothing but the time of its next look, and reads everything
/// from the readings themselves: a process that is killed loses nothing.
pub(super) struct Silence {
    store: Store,
    /// Before this second nobody can have been silent for too long.
    next: AtomicU64,
}

impl Silence {
    pub(super) const fn new(store: Store) -> Self {
        Self { store, next: AtomicU64::new(0) }
    }

    /// Interrupts whoever has been silent for too long. Returns how many that were.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn look(&self) -> Result<usize, EngineError> {
        let now = self.store.now().seconds();
        let timeout = self.store.policy().evidence_timeout;
        let latest = now.saturating_plus(timeout);
        let next = UnixSeconds(self.next.load(Ordering::Relaxed));
        // a next look beyond the longest wait was set before the clock went back
        if now < next && next <= latest {
            return Ok(0);
        }
        let least = {
            let mut connection = self.store.read().await?;
            readings::least_heard(&mut connection, BATCH).await?
        };
        let mut silent = 0_usize;
        // whoever starts to run from now on is not silent for too long before that
        let mut next = latest;
        for heard in &least {
            let until = heard.until.saturating_plus(timeout);
            if now < until {
                next = next.min(until);
                break;
            }
            silent = silent.saturating_add(1);
            if let Err(error) = self.interrupt(heard.rental, now).await {
                tracing::warn!(rental.id = %heard.rental, %error, "silence is not noted yet");
                metrics::counter!("weir_timer_failures_total").increment(1);
                next = next.min(now.saturating_plus(RETRY));
            }
        }
        if i64::try_from(silent).is_ok_and(|silent| silent >= BATCH) {
            // there may be more of them
            next = now;
        }
        self.next.store(next.get(), Ordering::Relaxed);
        Ok(silent)
    }

    async fn interrupt(&self, id: RentalId, now: UnixSeconds) -> Result<(), EngineError> {
        let policy = self.store.policy().clone();
        self.store
            .write("note silence", move |tx| {
                let policy = policy.clone();
                Box::pin(async move {
                    Ok::<_, TxError<EngineError>>(interrupt(tx, &policy, id, now).await?)
                })
            })
            .await?;
        Ok(())
    }
}

/// Looks again under the rental's lock: a reading may have come meanwhile.
async fn interrupt(
    tx: &mut Connection,
    policy: &Policy,
    id: RentalId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let Some(rental) = readings::lock_rental(tx, id).await? else { return Ok(()) };
    let running = rental.progress.state == RentalState::Active;
    let Some(started) = rental.progress.started_at.filter(|_| running) else { return Ok(()) };
    let newest = readings::head(tx, id).await?.map(|head| head.to);
    let last_good = newest.map_or(started, |to| to.max(started));
    if now < last_good.saturating_plus(policy.evidence_timeout) {
        return Ok(());
    }
    match advance::apply(tx, policy, id, &RentalEvent::EvidenceLost { last_good }, now).await {
        Ok(_) | Err(AdvanceError::Missing) => Ok(()),
        Err(AdvanceError::Illegal(error)) => Err(StoreError::corrupt(error)),
        Err(AdvanceError::Store(error)) => Err(error),
    }
}
