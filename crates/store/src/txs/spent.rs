//! Numbers that something else than our transactions has spent.

use alloy_primitives::{Address, B256};
use domain::{id::TxId, time::UnixMillis, tx::TxEvent};

use super::{advance, int};
use crate::{
    Connection, StoreError,
    convert::{address, hash, ts_millis},
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

/// Open transactions of a signer with a number below `next_nonce` that are in no block that we know of, at most
/// `limit`, lowest number first, with the hashes of all their attempts.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn open_below(
    connection: &mut Connection,
    signer: Address,
    next_nonce: u64,
    limit: i64,
) -> Result<Vec<(TxId, Vec<B256>)>, StoreError> {
    sqlx::query!(
        r#"SELECT t.id, ARRAY(SELECT a.hash FROM chain_tx_attempts a
                              WHERE a.tx_id = t.id ORDER BY a.attempt DESC) AS "hashes!"
           FROM chain_txs t
           WHERE t.signer = $1 AND t.nonce < $2 AND t.block_number IS NULL
             AND t.state IN ('numbered', 'signed', 'flying', 'void')
           ORDER BY t.nonce LIMIT $3"#,
        signer.as_slice(),
        int(next_nonce)?,
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let hashes = row.hashes.iter().map(|bytes| hash(bytes)).collect::<Result<_, _>>()?;
        Ok((TxId::from_uuid(row.id), hashes))
    })
    .collect()
}

/// Locks signers, in the order of their addresses. Numbering takes a signer's row before its transactions': whoever
/// changes transactions and then signers takes the signers first.
///
/// # Errors
/// The database's.
pub async fn lock_signers(tx: &mut Connection, signers: &[Address]) -> Result<(), StoreError> {
    let signers: Vec<Vec<u8>> = signers.iter().map(|signer| signer.to_vec()).collect();
    sqlx::query!(
        "SELECT address FROM chain_signers WHERE address = ANY($1) ORDER BY address FOR UPDATE",
        &signers
    )
    .fetch_all(tx)
    .await?;
    Ok(())
}

/// Ends these transactions if they are open still and in no block: their numbers were spent by some that are none of
/// ours. The signer's next nonce in a final block is `next_nonce`, all blocks up to it are read, and none of their
/// attempts is in them. New transactions are numbered from there on. Returns those that it ended. The signer's row is
/// the caller's ([`lock_signers`]).
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn void_spent(
    tx: &mut Connection,
    signer: Address,
    next_nonce: u64,
    spent: &[TxId],
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
    let spent: Vec<_> = spent.iter().map(|id| id.uuid()).collect();
    let ids = sqlx::query_scalar!(
        "SELECT id FROM chain_txs
         WHERE id = ANY($3) AND signer = $1 AND nonce < $2 AND block_number IS NULL
           AND state IN ('numbered', 'signed', 'flying', 'void')
         ORDER BY nonce FOR UPDATE",
        signer.as_slice(),
        int(next_nonce)?,
        &spent
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
