//! Telling a rental's parties how far its deposit is used up, in time to add to it.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::{
    billing::auto_stop_second,
    deposit::DepositUse,
    id::RentalId,
    metering::{Interval, counted},
    rental::RentalState,
    time::{Seconds, UnixSeconds},
};
use serde_json::json;
use store::{
    Connection, Policy, Store, StoreError, TxError, deposit_notices, quotes, readings, timeline,
};

use crate::EngineError;

/// Rentals of one look, at most.
const BATCH: i64 = 64;
/// Of one tick, at most: other work waits behind it.
const BATCHES: u32 = 8;
/// Before a look again while evidence is on its way; what is spent is told so much later at the most.
const SOON: Seconds = Seconds(2);
/// The same in an outage, in which nothing is spent.
const OUTAGE: Seconds = Seconds(30);
/// When all is told, before a look whether the rental still runs.
const RARELY: Seconds = Seconds(3_600);
/// After a failure.
const RETRY: Seconds = Seconds(30);

/// The watch over the deposits of running rentals. All that it knows is in the database.
pub(super) struct Deposits {
    store: Store,
    /// The second of the last look: there is no more than one.
    looked: AtomicU64,
}

impl Deposits {
    pub(super) const fn new(store: Store) -> Self {
        Self { store, looked: AtomicU64::new(0) }
    }

    /// Looks at every deposit that is due. Returns how many.
    ///
    /// # Errors
    /// The database's; a rental that fails is put off.
    pub(super) async fn look(&self) -> Result<usize, EngineError> {
        let now = self.store.now().seconds();
        if self.looked.load(Ordering::Relaxed) == now.get() {
            return Ok(0);
        }
        let mut looked = 0_usize;
        for _ in 0..BATCHES {
            let found = self.look_at_some(now).await?;
            looked = looked.saturating_add(found);
            if i64::try_from(found).is_ok_and(|found| found < BATCH) {
                self.looked.store(now.get(), Ordering::Relaxed);
                break;
            }
        }
        Ok(looked)
    }

    async fn look_at_some(&self, now: UnixSeconds) -> Result<usize, EngineError> {
        let due = {
            let mut connection = self.store.read().await?;
            deposit_notices::due(&mut connection, now, BATCH).await?
        };
        for rental in &due {
            if let Err(error) = self.tell(*rental, now).await {
                tracing::warn!(rental.id = %rental, %error, "its deposit is looked at later");
                metrics::counter!("weir_timer_failures_total").increment(1);
                let mut connection = self.store.read().await?;
                let later = now.saturating_plus(RETRY);
                deposit_notices::put_off(&mut connection, *rental, later).await?;
            }
        }
        Ok(due.len())
    }

    async fn tell(&self, rental: RentalId, now: UnixSeconds) -> Result<(), EngineError> {
        let policy = self.store.policy().clone();
        self.store
            .write("tell of a deposit", move |tx| {
                let policy = policy.clone();
                Box::pin(async move {
                    Ok::<_, TxError<EngineError>>(tell(tx, &policy, rental, now).await?)
                })
            })
            .await?;
        Ok(())
    }
}

/// Looks under the rental's lock, so that two workers tell nothing twice.
async fn tell(
    tx: &mut Connection,
    policy: &Policy,
    id: RentalId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let Some(rental) = readings::lock_rental(tx, id).await? else { return Ok(()) };
    let Some(told) = deposit_notices::told(tx, id, now).await? else { return Ok(()) };
    let outage = rental.progress.state == RentalState::Interrupted;
    let runs = outage || rental.progress.state == RentalState::Active;
    let Some(started) = rental.progress.started_at.filter(|_| runs) else {
        return deposit_notices::forget(tx, id).await;
    };
    let quote = quotes::get(tx, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
    let lasts = auto_stop_second(rental.locked, quote.rate);
    let window = counted(Interval::new(started, now.max(started)), lasts);
    let billed = readings::covered_in(tx, id, window).await?;
    let lead = policy.expiring_lead;
    let deposit = DepositUse { started, lasts, billed, lead, now };
    let (notices, told) = deposit.due(told);
    for notice in notices {
        let detail = json!({
            "event": notice,
            "locked": rental.locked,
            "billed_s": billed,
            "exhausts_at": written(started.saturating_plus(lasts)),
        });
        timeline::append(tx, id, now, "deposit", &detail).await?;
    }
    // the readings of the last seconds are on their way
    let least = now.saturating_plus(if outage { OUTAGE } else { SOON });
    let next = deposit.next(told).map_or(now.saturating_plus(RARELY), |at| at.max(least));
    // a near end is told to the second, outage or not
    let end = started.saturating_plus(lasts.saturating_sub(lead));
    deposit_notices::note(tx, id, told, if now < end { next.min(end) } else { next }).await
}

fn written(at: UnixSeconds) -> Option<String> {
    let seconds = i64::try_from(at.get()).ok()?;
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    time.format(&time::format_description::well_known::Rfc3339).ok()
}
