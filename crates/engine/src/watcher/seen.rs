//! What blocks do to rentals before and as they become final.

use alloy::primitives::B256;
use domain::rental::RentalEvent;
use escrow::EscrowEvent;
use store::{
    Connection, Policy, StoreError, TxError,
    advance::{self, AdvanceError},
    blocks::SeenEvent,
    rentals,
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

/// What the chain shows before it is final may come in any order; a state that refuses it is logged.
pub(crate) fn lenient(
    applied: Result<advance::Applied, AdvanceError>,
) -> Result<(), TxError<EngineError>> {
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
