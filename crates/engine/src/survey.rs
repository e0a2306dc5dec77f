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
/// Deals of so many five minutes are looked at again: their deposits become final late.
const DEALS_BACK: u32 = 24;
/// Hours and days that are made once more after a start, in case nobody was there when they ended.
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

    /// Samples the market if a new bucket has begun. True if it has.
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
        let first = done.get() == 0;
        let online = self.store.policy().evidence_timeout;
        self.store
            .write("survey", move |tx| {
                Box::pin(async move {
                    prices::take_time(tx).await?;
                    let asks = prices::asks(tx, now, online).await?;
                    prices::note_asks(tx, bucket, &asks).await?;
                    deals(tx, bucket).await?;
                    draw_together(tx, now, first).await?;
                    let dropped = prices::drop_old(tx, now).await?;
                    tracing::debug!(prices.asks = asks.len(), prices.dropped = dropped, "surveyed");
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        self.done.store(bucket.get(), Ordering::Relaxed);
        metrics::counter!("weir_price_surveys_total").increment(1);
        Ok(true)
    }
}

/// Deals of the last two hours by five minutes, and of the hours and days that they lie in.
async fn deals(tx: &mut Connection, bucket: UnixSeconds) -> Result<(), StoreError> {
    let since = bucket.saturating_minus(Seconds(FIVE_MINUTES.saturating_mul(DEALS_BACK)));
    for step in STEPS {
        let mut from = floor(since, step);
        while from <= bucket {
            let to = from.saturating_plus(Seconds(step));
            let found = prices::deals(tx, from, to).await?;
            if !found.is_empty() {
                prices::note_deals(tx, step, from, &found).await?;
            }
            from = to;
        }
    }
    Ok(())
}

/// Asks of the hours and days that are over.
async fn draw_together(
    tx: &mut Connection,
    now: UnixSeconds,
    first: bool,
) -> Result<(), StoreError> {
    for step in [HOUR, DAY] {
        let over = floor(now, step);
        let back = if first { CATCH_UP } else { Seconds(step) };
        prices::roll_up(tx, step, floor(over.saturating_minus(back), step), over).await?;
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
