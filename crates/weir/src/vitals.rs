//! Looks at queues, chain, signers and the pool every few seconds, and tells what it saw as metrics.
//! Decides nothing and writes nothing.

use std::time::Duration;

use alloy::primitives::Address;
use chain::{ChainError, FeePolicy, ReadClient};
use domain::time::UnixSeconds;
use store::{
    Store, StoreError, blocks,
    health::{self, Queues, Waiting},
};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, purse};

/// Prometheus asks every 15 s or so; figures are at most this much older.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the worker looks at.
pub(crate) struct Vitals {
    pub(crate) store: Store,
    pub(crate) client: ReadClient,
    pub(crate) signers: Vec<Address>,
    pub(crate) fees: FeePolicy,
}

impl Vitals {
    /// Looks until `stop`.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            let looked = self.look().await;
            if let Err(error) = &looked {
                metrics::counter!("weir_tick_failures_total", "loop" => "vitals").increment(1);
                if !failing {
                    tracing::warn!(%error, "queues, chain and signers cannot be looked at; tried again");
                }
            }
            failing = looked.is_err();
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), Failure> {
        pool(&self.store);
        let followed = self.database().await.map_err(Failure::during("the database"))?;
        let now = self.store.now().seconds();
        self.chain(followed, now).await.map_err(Failure::during("the chain"))
    }

    /// Tells about the queues; the newest block that the watcher has read.
    async fn database(&self) -> Result<Option<u64>, StoreError> {
        let mut connection = self.store.read().await?;
        queues(&health::queues(&mut connection, self.store.now()).await?);
        let freezes = health::open_freezes(&mut connection).await?;
        metrics::gauge!("weir_freezes_open").set(float(freezes.unwrap_or_default()));
        Ok(blocks::tip(&mut connection).await?.map(|block| block.number))
    }

    async fn chain(&self, followed: Option<u64>, now: UnixSeconds) -> Result<(), ChainError> {
        let head = self.client.head().await?;
        metrics::gauge!("weir_chain_head_block").set(float(head.number));
        metrics::gauge!("weir_base_fee_wei").set(parsed(head.base_fee));
        // before the first block was read there is nothing to be behind of
        if let Some(followed) = followed {
            metrics::gauge!("weir_blocks_behind").set(float(head.number.saturating_sub(followed)));
        }
        if let Some(last) = self.client.finalized().await? {
            metrics::gauge!("weir_blocks_unfinal")
                .set(float(head.number.saturating_sub(last.number)));
            metrics::gauge!("weir_final_block_age_seconds")
                .set(now.saturating_since(last.timestamp).get());
        }
        let fees = self.fees.fees(head.base_fee, self.client.suggested_tip().await?);
        for signer in &self.signers {
            let wei = self.client.balance(*signer).await?;
            let name = signer.to_string();
            metrics::gauge!("weir_signer_balance_wei", "signer" => name.clone()).set(parsed(wei));
            metrics::gauge!("weir_signer_closes_left", "signer" => name)
                .set(float(purse::closes_left(wei, fees)));
        }
        Ok(())
    }
}

fn queues(queues: &Queues) {
    for (state, Waiting { count, oldest }) in [
        ("waiting", queues.intents_waiting),
        ("due", queues.intents_due),
        ("sent", queues.intents_sent),
    ] {
        metrics::gauge!("weir_intents", "state" => state).set(float(count));
        metrics::gauge!("weir_intent_oldest_seconds", "state" => state).set(oldest.get());
    }
    metrics::gauge!("weir_transactions_open").set(float(queues.transactions.count));
    metrics::gauge!("weir_transaction_oldest_seconds").set(queues.transactions.oldest.get());
    metrics::gauge!("weir_jobs_due").set(float(queues.jobs_due.count));
    metrics::gauge!("weir_job_oldest_due_seconds").set(queues.jobs_due.oldest.get());
}

/// The pool of this process's database connections.
fn pool(store: &Store) {
    let pool = store.pool();
    let open = pool.size();
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX).min(open);
    metrics::gauge!("weir_db_connections", "state" => "used").set(open.saturating_sub(idle));
    metrics::gauge!("weir_db_connections", "state" => "idle").set(idle);
    metrics::gauge!("weir_db_connections", "state" => "limit")
        .set(pool.options().get_max_connections());
}

/// Tells about the pool until `stop`; for the process that looks at nothing else.
pub(crate) async fn keep_pool(store: Store, stop: CancellationToken) {
    while !stop.is_cancelled() {
        pool(&store);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// A gauge is a float: a count above 2^32 is shown as that.
fn float(count: u64) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

/// The nearest float: for a look, not for a comparison.
fn parsed(amount: impl ToString) -> f64 {
    amount.to_string().parse().unwrap_or(f64::INFINITY)
}
