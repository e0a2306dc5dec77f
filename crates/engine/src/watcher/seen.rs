//! What blocks do to rentals before and as they become final.

use alloy::primitives::B256;
use domain::{id::TxId, rental::RentalEvent};
use escrow::EscrowEvent;
use store::{
    Connection, Policy, StoreError, TxError,
    advance::{self, AdvanceError},
    blocks::SeenEvent,
    intents::{self, Call},
    quotes, rentals, timeline,
};

use crate::{EngineError, apply};

/// An unfinal lock starts provisioning; no money moves. A lock below the quoted deposit starts nothing.
pub(super) async fn included(
    tx: &mut Connection,
    policy: &Policy,
    event: &EscrowEvent,
    tx_hash: B256,
    now: domain::time::UnixSeconds,
) -> Result<(), TxError<EngineError>> {
    let EscrowEvent::Locked { id, deposit, .. } = event else {
        return Ok(());
    };
    let Some(rental) = apply::known(tx, *id).await? else {
        tracing::info!(escrow.id = %id, tx.hash = %tx_hash, "a lock of terms we never quoted; ignored");
        return Ok(());
    };
    if apply::quoted_deposit(tx, rental).await? > *deposit {
        tracing::warn!(rental.id = %rental, "the lock is below the quoted deposit; it will be returned");
        return Ok(());
    }
    lenient(advance::apply(tx, policy, rental, &RentalEvent::LockIncluded, now).await)
}

pub(super) async fn excluded(
    tx: &mut Connection,
    policy: &Policy,
    event: &SeenEvent,
    now: domain::time::UnixSeconds,
) -> Result<(), TxError<EngineError>> {
    let (true, Some(id)) = (event.name == "locked", event.escrow_id) else {
        return Ok(());
    };
    let Some(rental) = rentals::id_of(tx, id).await? else {
        return Ok(());
    };
    lenient(advance::apply(tx, policy, rental, &RentalEvent::LockDropped, now).await)
}

pub(super) fn lost(id: TxId) {
    tracing::error!(tx.id = %id, "a transaction that is none of ours spent the number of this one; see the runbook");
    metrics::counter!("weir_lost_nonces_total").increment(1);
}

/// A transaction of ours was mined and reverted, or never can be mined: the state machine asks for another
/// try.
pub(super) async fn failed(
    tx: &mut Connection,
    policy: &Policy,
    carried: &[intents::Intent],
    now: domain::time::UnixSeconds,
) -> Result<(), TxError<EngineError>> {
    for intent in carried {
        let rental =
            rentals::get(tx, intent.rental).await?.ok_or(StoreError::Missing("the rental"))?;
        let quote =
            quotes::get(tx, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
        let event = match intent.call {
            Call::Start { .. } if now > quote.start_by => RentalEvent::StartExpired { now },
            Call::Start { .. } => RentalEvent::StartRefused { now },
            Call::Close { .. } | Call::Cancel => RentalEvent::CloseRefused { now },
            Call::Finalize => RentalEvent::FinalizeRefused { now },
            Call::Lock { .. } => {
                let detail = serde_json::json!({ "reason": "the transaction reverted" });
                timeline::append(tx, intent.rental, now, "funding_refused", &detail).await?;
                continue;
            }
        };
        lenient(advance::apply(tx, policy, intent.rental, &event, now).await)?;
    }
    Ok(())
}

/// What the chain shows before it is final may come in any order; a state that refuses it is logged.
fn lenient(applied: Result<advance::Applied, AdvanceError>) -> Result<(), TxError<EngineError>> {
    match applied {
        Ok(_) => Ok(()),
        Err(AdvanceError::Illegal(error)) => {
            tracing::warn!(%error, "an event of the chain does not fit the rental's state");
            Ok(())
        }
        Err(AdvanceError::Missing) => Err(StoreError::Missing("the rental").into()),
        Err(AdvanceError::Store(error)) => Err(error.into()),
    }
}
