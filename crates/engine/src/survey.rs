//! The surveyor: samples what GPUs are asked for once in five minutes, draws deals, hours and days together, and drops
//! what is kept no longer. Everything it writes may be written twice.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::time::{Seconds, UnixSeconds};
use store::{
    Connection, Store, StoreError, TxError,
    prices::{self, HOUR, STEPS},
};

use crate::EngineError;

const FIVE_MINUTES: u32 = 300;
const DAY: u32 = 86_400;
/// Deals of so long ago are looked at again: their deposits become final late.
const DEALS_BACK: Seconds = Seconds(2 * HOUR);
/// What nobody surveyed, for as long as that, is made up for.
const CATCH_UP: Seconds = Seconds(3 * DAY);

/// Keeps the market's price history.
pub struct Surveyor {
    store: Store,
    /// The bucket of five minutes that is done; 0 before the first.
    done: AtomicU64,
}

/// Where the step that `at` lies in begins.
fn floor(at: UnixSeconds, step: u32) -> UnixSeconds {
    let into = at.get().checked_rem(u64::from(step)).unwrap_or(0);
    UnixSeconds(at.get().saturating_sub(into))
}

impl Surveyor {
    /// A surveyor of this market.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store, done: AtomicU64::new(0) }
    }

    /// Samples the market if a new bucket has begun and nobody else surveys at the moment. True if it did.
    ///
    /// # Errors
    /// The database's.
    pub async fn tick(&self) -> Result<bool, EngineError> {
        let now = self.store.now().seconds();
        let bucket = floor(now, FIVE_MINUTES);
        let done = UnixSeconds(self.done.load(Ordering::Relaxed));
        // not equal rather than earlier: the clock may have gone back
        if done == bucket {
            return Ok(false);
        }
        let online = self.store.policy().offline_after();
        let surveyed = self
            .store
            .write("survey", move |tx| {
                Box::pin(async move {
                    if !prices::take_turn(tx).await? {
                        return Ok(false);
                    }
                    prices::take_time(tx).await?;
                    let before = prices::newest(tx).await?;
                    let asks = prices::asks(tx, now, online).await?;
                    prices::note_asks(tx, bucket, &asks).await?;
                    let last = if done.get() == 0 { before } else { Some(done) };
                    let last = last.unwrap_or(bucket).max(bucket.saturating_minus(CATCH_UP));
                    deals(tx, last.min(bucket), bucket).await?;
                    draw_together(tx, now, last.min(bucket)).await?;
                    let dropped = prices::drop_old(tx, now).await?;
                    tracing::debug!(prices.asks = asks.len(), prices.dropped = dropped, "surveyed");
                    Ok::<_, TxError<EngineError>>(true)
                })
            })
            .await?;
        if !surveyed {
            return Ok(false);
        }
        self.done.store(bucket.get(), Ordering::Relaxed);
        metrics::counter!("weir_price_surveys_total").increment(1);
        Ok(true)
    }
}

/// Deals since two hours before the `last` survey by five minutes, and of the hours and days that they lie in.
async fn deals(
    tx: &mut Connection,
    last: UnixSeconds,
    bucket: UnixSeconds,
) -> Result<(), StoreError> {
    let since = last.saturating_minus(DEALS_BACK);
    for step in STEPS {
        let mut from = floor(since, step);
        while from <= bucket {
            let to = from.saturating_plus(Seconds(step));
            let found = prices::deals(tx, from, to).await?;
            prices::note_deals(tx, step, from, &found).await?;
            from = to;
        }
    }
    Ok(())
}

/// Asks of the hours and days that are over since the one before the `last` survey.
async fn draw_together(
    tx: &mut Connection,
    now: UnixSeconds,
    last: UnixSeconds,
) -> Result<(), StoreError> {
    for step in [HOUR, DAY] {
        let from = floor(last, step).saturating_minus(Seconds(step));
        prices::roll_up(tx, step, from, floor(now, step)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_begin_on_their_bounds() {
        let at = UnixSeconds(1_800_003_999);
        assert_eq!(floor(at, 300), UnixSeconds(1_800_003_900));
        assert_eq!(floor(at, HOUR), UnixSeconds(1_800_003_600));
        assert_eq!(floor(at, DAY).get() % 86_400, 0);
        assert_eq!(floor(UnixSeconds(1_800_000_000), 300), UnixSeconds(1_800_000_000));
    }
}
