//! Numbers that something else than our transactions has spent.

use alloy_primitives::Address;
use domain::{id::TxId, time::UnixMillis, tx::TxEvent};

use super::{advance, int};
use crate::{
    Connection, StoreError,
    convert::{address, ts_millis},
};

/// Signers with a transaction that was made before `before` and is in no block that we know of.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn stale_signers(
    connection: &mut Connection,
    before: UnixMillis,
) -> Result<Vec<Address>, StoreError> {
    sqlx::query_scalar!(
        "SELECT DISTINCT signer FROM chain_txs
         WHERE state IN ('numbered', 'signed', 'flying', 'void') AND block_number IS NULL AND created_at < $1",
        ts_millis(before)?
    )
    .fetch_all(connection)
    .await?
    .iter()
    .map(|bytes| address(bytes))
    .collect()
}

/// Ends every transaction whose number was spent by one that is none of ours: the signer's next nonce in a
/// final block is `next_nonce`, all blocks up to it are read, and none of its attempts is in them. New
/// transactions are numbered from there on.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn void_spent(
    tx: &mut Connection,
    signer: Address,
    next_nonce: u64,
    now: UnixMillis,
) -> Result<Vec<TxId>, StoreError> {
    // as numbering does, so that nobody takes a spent number meanwhile
    sqlx::query!(
        "UPDATE chain_signers SET first_nonce = GREATEST(first_nonce, $2) WHERE address = $1",
        signer.as_slice(),
        int(next_nonce)?
    )
    .execute(&mut *tx)
    .await?;
    let ids = sqlx::query_scalar!(
        "SELECT id FROM chain_txs
         WHERE signer = $1 AND nonce < $2 AND state IN ('numbered', 'signed', 'flying', 'void') AND block_number IS NULL
         ORDER BY nonce",
        signer.as_slice(),
        int(next_nonce)?
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut voided = Vec::with_capacity(ids.len());
    for id in ids {
        let id = TxId::from_uuid(id);
        advance(tx, id, TxEvent::Void, now).await?;
        advance(tx, id, TxEvent::FinaliseVoid, now).await?;
        voided.push(id);
    }
    Ok(voided)
}
