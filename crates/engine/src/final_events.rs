//! Applies final events in the chain's order. One that cannot be applied waits with its rental; everybody
//! else's money goes on.

use std::{collections::BTreeSet, time::Duration};

use domain::time::Seconds;
use store::{
    Store, StoreError,
    blocks::{self, SeenEvent},
};
use tokio::time::Instant;

use crate::{EngineError, apply};

/// Events one tick applies at most.
const EVENTS_PER_TICK: i64 = 500;
/// A tick applies events no longer than this: new blocks are to be read meanwhile.
const LONGEST: Duration = Duration::from_secs(2);
/// What could not be applied is tried again after this.
const RETRY_AFTER: Seconds = Seconds(15);

/// Applies what is due, each event with its money in one transaction. Returns how many were applied.
///
/// # Errors
/// If the database is away or busy; whatever else keeps an event from being applied is noted with it.
pub(crate) async fn apply_waiting(store: &Store) -> Result<usize, EngineError> {
    let due = {
        let mut connection = store.read().await?;
        blocks::unapplied(&mut connection, store.now().seconds(), EVENTS_PER_TICK).await?
    };
    let began = Instant::now();
    let mut applied = 0_usize;
    let mut held_back = BTreeSet::new();
    for event in due {
        if began.elapsed() > LONGEST {
            break;
        }
        if event.escrow_id.is_some_and(|id| held_back.contains(&id)) {
            continue;
        }
        match apply_one(store, &event).await {
            Ok(()) => applied = applied.saturating_add(1),
            Err(error @ EngineError::Store(StoreError::Unavailable(_))) => return Err(error),
            Err(error) => {
                set_aside(store, &event, &error).await?;
                held_back.extend(event.escrow_id);
            }
        }
    }
    Ok(applied)
}

async fn apply_one(store: &Store, event: &SeenEvent) -> Result<(), EngineError> {
    let now = store.now().seconds();
    let (event, policy) = (event.clone(), store.policy().clone());
    store
        .write("apply final event", move |tx| {
            let (event, policy) = (event.clone(), policy.clone());
            Box::pin(async move { apply::final_event(tx, &policy, &event, now).await })
        })
        .await?;
    Ok(())
}

async fn set_aside(
    store: &Store,
    event: &SeenEvent,
    error: &EngineError,
) -> Result<(), EngineError> {
    tracing::error!(
        event.name, block.number = event.block_number, tx.hash = %event.tx_hash,
        escrow.id = ?event.escrow_id, %error,
        "a final event cannot be applied; its rental waits, see the runbook"
    );
    metrics::counter!("weir_final_events_failed_total").increment(1);
    let retry_at = store.now().seconds().saturating_plus(RETRY_AFTER);
    let mut connection = store.read().await?;
    blocks::mark_failed(&mut connection, event, &error.to_string(), retry_at).await?;
    Ok(())
}
