//! P9: settlements through the lane, journaled, beside transactions that were signed before and are only thrown at the
//! same chain. P10: how long a settlement takes from being wanted to being known as included.
//!
//! The chain makes a block a second. Everything before the settlements (bookings, locks, starts) is the engine's own
//! work too, and not timed.

mod chain;
mod raw;
mod stage;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ::store::Store;
use domain::id::RentalId;
use tokio::time::{Instant, sleep};

use crate::{BenchError, Histogram, Scenario, Server, Slice, Verdict};
use stage::Stage;

pub use raw::Raw;

/// Rentals that are settled, or transfers that are sent, for a second of a slice.
const PER_SECOND: f64 = 1_000.0;
/// Between two looks at what is known.
const LOOK: Duration = Duration::from_millis(10);
/// Everything of a slice is included by then, or the slice is void.
const LIMIT: Duration = Duration::from_secs(120);
/// Streams of settlements of which each is wanted when the one before is included.
const STREAMS: usize = 4;
/// Settlements, for a second of a slice that is about latency.
const SAMPLES: f64 = 16.0;

/// Settlements of many rentals that are all wanted at once, by one key.
pub struct Settlements {
    stage: Arc<Stage>,
    rentals: Vec<RentalId>,
}

impl Settlements {
    pub(crate) const NAME: &str = "p9_settlements";

    /// A market on a chain of its own, and what throws transactions at the same chain.
    ///
    /// # Errors
    /// If either does not start.
    pub async fn beside_raw(server: &Server) -> Result<(Self, Raw), BenchError> {
        let stage = Arc::new(Stage::start(server).await?);
        let raw = Raw::new(stage.clone(), PER_SECOND);
        Ok((Self { stage, rentals: Vec::new() }, raw))
    }
}

impl Scenario for Settlements {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    /// Rentals that have run and been stopped: their `close` is queued and nobody sends.
    async fn prepare(&mut self, span: Duration) -> Result<(), BenchError> {
        let wanted = (PER_SECOND * span.as_secs_f64()).ceil() as usize;
        let running = self.stage.run_rentals(wanted).await?;
        self.stage.rest().await?;
        self.stage.stop_rentals(&running).await?;
        self.rentals = running.iter().map(|rental| rental.id).collect();
        Ok(())
    }

    async fn slice(&mut self, _span: Duration) -> Result<Slice, BenchError> {
        let began = Instant::now();
        self.stage.work();
        let mut waiting: BTreeSet<RentalId> = self.rentals.iter().copied().collect();
        let mut slice = Slice::default();
        while !waiting.is_empty() {
            if began.elapsed() > LIMIT {
                return Err(late(waiting.len()));
            }
            for rental in included(&self.stage.store, &waiting).await? {
                waiting.remove(&rental);
                slice.count = slice.count.saturating_add(1);
                slice.latency.record(began.elapsed());
            }
            sleep(LOOK).await;
        }
        slice.elapsed = began.elapsed();
        Ok(slice)
    }

    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        self.stage.judge(&self.rentals, slice.count).await
    }
}

/// Settlements that are wanted one by one, four or so at a time.
pub struct OneByOne {
    stage: Arc<Stage>,
    running: Vec<tests::booking::Booked>,
}

impl OneByOne {
    pub(crate) const NAME: &str = "p10_known_included";

    /// As [`Settlements::beside_raw`]; what is beside waits for single transfers in the same way.
    ///
    /// # Errors
    /// If either does not start.
    pub async fn beside_raw(server: &Server) -> Result<(Self, raw::Single), BenchError> {
        let stage = Arc::new(Stage::start(server).await?);
        let single = raw::Single::new(stage.clone(), SAMPLES);
        Ok((Self { stage, running: Vec::new() }, single))
    }
}

impl Scenario for OneByOne {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn prepare(&mut self, span: Duration) -> Result<(), BenchError> {
        let wanted = (SAMPLES * span.as_secs_f64()).ceil() as usize;
        self.running = self.stage.run_rentals(wanted).await?;
        Ok(())
    }

    async fn slice(&mut self, _span: Duration) -> Result<Slice, BenchError> {
        let began = Instant::now();
        let share = self.running.len().div_ceil(STREAMS);
        let streams = self.running.chunks(share).enumerate().map(|(number, part)| {
            let (stage, part) = (self.stage.clone(), part.to_vec());
            async move {
                let mut latency = Histogram::default();
                for (at, rental) in part.into_iter().enumerate() {
                    sleep(phase(number, at)).await;
                    stage.stop_rentals(std::slice::from_ref(&rental)).await?;
                    let wanted = Instant::now();
                    let mut waiting = BTreeSet::from([rental.id]);
                    while !waiting.is_empty() {
                        if wanted.elapsed() > LIMIT {
                            return Err(late(1));
                        }
                        for known in included(&stage.store, &waiting).await? {
                            waiting.remove(&known);
                        }
                        sleep(LOOK).await;
                    }
                    latency.record(wanted.elapsed());
                }
                Ok::<_, BenchError>(latency)
            }
        });
        let mut slice = Slice::default();
        for latency in futures_util::future::join_all(streams).await {
            slice.latency.merge(&latency?);
        }
        slice.count = slice.latency.count();
        slice.elapsed = began.elapsed();
        Ok(slice)
    }

    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        let rentals: Vec<_> = self.running.iter().map(|rental| rental.id).collect();
        self.stage.judge(&rentals, slice.count).await
    }
}

/// A wait that puts wants at all phases of a block, whatever came before.
fn phase(stream: usize, at: usize) -> Duration {
    let step = stream.saturating_mul(13).saturating_add(at.saturating_mul(37)) % 100;
    Duration::from_millis((step as u64).saturating_mul(10))
}

fn late(open: usize) -> BenchError {
    BenchError::subject("settle")(format!("{open} are not included after {LIMIT:?}"))
}

/// Those of `waiting` whose `close` is known to be in a block.
async fn included(
    store: &Store,
    waiting: &BTreeSet<RentalId>,
) -> Result<Vec<RentalId>, BenchError> {
    let ids: Vec<_> = waiting.iter().map(|id| id.uuid()).collect();
    let known: Vec<uuid::Uuid> = sqlx::query_scalar(
        "SELECT i.rental_id FROM chain_intents i JOIN chain_txs t ON t.id = i.tx_id
         WHERE i.rental_id = ANY($1) AND i.purpose = 'close' AND t.block_number IS NOT NULL AND t.succeeded",
    )
    .bind(ids)
    .fetch_all(store.pool())
    .await
    .map_err(BenchError::sql("look for settlements"))?;
    Ok(known.into_iter().map(RentalId::from_uuid).collect())
}
