//! Transactions of ours: one row per nonce, signed bytes before the wire.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use domain::{
    id::TxId,
    time::{UnixMillis, UnixSeconds},
    tx::{BlockRef, TxEvent, TxState, TxStatus, step},
};
use sqlx::types::BigDecimal;

use crate::{
    Connection, StoreError,
    convert::{hash, ts_millis},
};

mod spent;
pub use spent::{stale_signers, void_spent};

/// A transaction to number and sign.
#[derive(Clone, Debug)]
pub struct NewTx {
    /// Its id.
    pub id: TxId,
    /// Who signs and pays for gas.
    pub signer: Address,
    /// The contract.
    pub to: Address,
    /// What is called.
    pub calldata: Vec<u8>,
    /// Most gas it may use.
    pub gas_limit: u64,
}

/// Signed bytes to store.
#[derive(Clone, Debug)]
pub struct NewAttempt {
    /// The transaction's hash.
    pub hash: B256,
    /// EIP-2718 bytes.
    pub raw: Vec<u8>,
    /// Most that is paid per gas, in wei.
    pub max_fee: u128,
    /// Most of it that goes to the block's producer, in wei.
    pub tip: u128,
}

/// Stored bytes that may have to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The transaction.
    pub id: TxId,
    /// Its nonce.
    pub nonce: u64,
    /// The newest attempt's hash.
    pub hash: B256,
    /// The newest attempt's bytes.
    pub raw: Vec<u8>,
}

/// What the chain says of a mined attempt.
#[derive(Clone, Copy, Debug)]
pub struct Mined {
    /// The attempt.
    pub attempt: B256,
    /// The block it is in.
    pub block: BlockRef,
    /// False if it reverted.
    pub succeeded: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// What was paid per gas, in wei.
    pub gas_price: u128,
}

/// A transaction that is final.
#[derive(Clone, Copy, Debug)]
pub struct Finalised {
    /// The transaction.
    pub id: TxId,
    /// False if it reverted.
    pub succeeded: bool,
}

fn int(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(StoreError::corrupt)
}

/// Takes a signer's account over from `next_nonce` on, which is the chain's. Asked again, nothing changes,
/// unless the chain is past every number that we know of: then the key was used elsewhere, or the database
/// is older than the chain, and the numbers in between are gone.
///
/// # Errors
/// The database's.
pub async fn register_signer(
    tx: &mut Connection,
    address: Address,
    next_nonce: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO chain_signers (address, first_nonce) VALUES ($1, $2)
         ON CONFLICT (address) DO UPDATE
         SET first_nonce = GREATEST(chain_signers.first_nonce, EXCLUDED.first_nonce)
         WHERE EXCLUDED.first_nonce > COALESCE((SELECT max(nonce) + 1 FROM chain_txs
                                                WHERE signer = EXCLUDED.address), 0)",
        address.as_slice(),
        int(next_nonce)?
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes the row of a transaction with the signer's next nonce, in one statement, and returns the nonce.
/// Whoever numbers next waits until this transaction is over, so that a nonce is never skipped.
///
/// # Errors
/// [`StoreError::Missing`] if the signer is not registered.
pub async fn number(tx: &mut Connection, new: &NewTx, now: UnixMillis) -> Result<u64, StoreError> {
    // The lock is a statement of its own: the next one must see what the previous holder wrote.
    sqlx::query_scalar!(
        "SELECT first_nonce FROM chain_signers WHERE address = $1 FOR UPDATE",
        new.signer.as_slice()
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(StoreError::Missing("the signer"))?;
    let at = ts_millis(now)?;
    let nonce = sqlx::query_scalar!(
        "INSERT INTO chain_txs (id, signer, nonce, to_address, calldata, gas_limit, state,
                                next_send_at, created_at, updated_at)
         SELECT $1, s.address,
                GREATEST(s.first_nonce, COALESCE((SELECT max(nonce) + 1 FROM chain_txs t
                                                  WHERE t.signer = s.address), 0)),
                $3, $4, $5, 'numbered', $6, $6, $6
         FROM chain_signers s WHERE s.address = $2
         RETURNING nonce",
        new.id.uuid(),
        new.signer.as_slice(),
        new.to.as_slice(),
        new.calldata,
        int(new.gas_limit)?,
        at,
    )
    .fetch_one(tx)
    .await?;
    u64::try_from(nonce).map_err(StoreError::corrupt)
}

/// Stores the signed bytes of the next attempt. They are never changed.
///
/// # Errors
/// [`StoreError::Conflict`] if these bytes are stored already.
pub async fn store_attempt(
    tx: &mut Connection,
    id: TxId,
    attempt: &NewAttempt,
    now: UnixMillis,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO chain_tx_attempts (hash, tx_id, attempt, raw, max_fee, tip, created_at)
         SELECT $1, $2, (COALESCE(max(attempt), 0) + 1)::smallint, $3, $4, $5, $6
         FROM chain_tx_attempts WHERE tx_id = $2",
        attempt.hash.as_slice(),
        id.uuid(),
        attempt.raw,
        BigDecimal::from(attempt.max_fee),
        BigDecimal::from(attempt.tip),
        ts_millis(now)?,
    )
    .execute(&mut *tx)
    .await?;
    advance(tx, id, TxEvent::Sign, now).await
}

/// Transactions whose bytes should be sent now, lowest nonce first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn due_to_send(
    connection: &mut Connection,
    signer: Address,
    now: UnixMillis,
    limit: i64,
) -> Result<Vec<Outgoing>, StoreError> {
    sqlx::query!(
        r#"SELECT t.id, t.nonce, a.hash AS "hash!", a.raw AS "raw!"
           FROM chain_txs t
           CROSS JOIN LATERAL (SELECT hash, raw FROM chain_tx_attempts
                               WHERE tx_id = t.id ORDER BY attempt DESC LIMIT 1) a
           WHERE t.signer = $1 AND t.state IN ('signed', 'flying') AND t.next_send_at <= $2
           ORDER BY t.nonce LIMIT $3"#,
        signer.as_slice(),
        ts_millis(now)?,
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Outgoing {
            id: TxId::from_uuid(row.id),
            nonce: u64::try_from(row.nonce).map_err(StoreError::corrupt)?,
            hash: hash(&row.hash)?,
            raw: row.raw,
        })
    })
    .collect()
}

/// Notes that the bytes left, to be sent again after `again` unless they are mined by then. One that has
/// come to its end meanwhile stays there.
///
/// # Errors
/// The database's.
pub async fn broadcast(
    tx: &mut Connection,
    id: TxId,
    now: UnixMillis,
    again: Duration,
) -> Result<(), StoreError> {
    let next = ts_millis(now)?
        .checked_add(again.try_into().map_err(StoreError::corrupt)?)
        .ok_or_else(|| StoreError::corrupt("the next send lies beyond time"))?;
    sqlx::query!("UPDATE chain_txs SET next_send_at = $2 WHERE id = $1", id.uuid(), next)
        .execute(&mut *tx)
        .await?;
    if state_of(tx, id).await?.is_terminal() {
        return Ok(());
    }
    advance(tx, id, TxEvent::Broadcast, now).await
}

/// Which of these hashes are attempts of ours that are not final, with their transaction.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn ours(
    connection: &mut Connection,
    hashes: &[B256],
) -> Result<Vec<(B256, TxId)>, StoreError> {
    let hashes: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.to_vec()).collect();
    sqlx::query!(
        "SELECT a.hash, a.tx_id FROM chain_tx_attempts a JOIN chain_txs t ON t.id = a.tx_id
         WHERE a.hash = ANY($1) AND t.state NOT IN ('final_ok', 'final_reverted', 'voided')",
        &hashes
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok((hash(&row.hash)?, TxId::from_uuid(row.tx_id))))
    .collect()
}

/// True if any transaction of ours waits to be mined.
///
/// # Errors
/// The database's.
pub async fn any_open(connection: &mut Connection) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM chain_txs
                          WHERE state NOT IN ('final_ok', 'final_reverted', 'voided')) AS "open!""#
    )
    .fetch_one(connection)
    .await?)
}

/// Notes that an attempt is in a block.
///
/// # Errors
/// The database's.
pub async fn mined(
    tx: &mut Connection,
    id: TxId,
    fact: &Mined,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let state = state_of(tx, id).await?;
    let next = step(state, TxEvent::Include { block: fact.block }).map_err(StoreError::corrupt)?;
    sqlx::query!(
        "UPDATE chain_txs
         SET state = $2, block_number = $3, block_hash = $4, mined_attempt = $5, succeeded = $6,
             gas_used = $7, gas_price = $8, updated_at = $9
         WHERE id = $1",
        id.uuid(),
        next.as_str(),
        int(fact.block.number)?,
        fact.block.hash.as_slice(),
        fact.attempt.as_slice(),
        fact.succeeded,
        int(fact.gas_used)?,
        BigDecimal::from(fact.gas_price),
        ts_millis(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Puts every transaction that was mined above `number` back in the air, to be sent again at once.
///
/// # Errors
/// The database's.
pub async fn orphan_above(
    tx: &mut Connection,
    number: u64,
    now: UnixMillis,
) -> Result<u64, StoreError> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM chain_txs WHERE state = 'mined' AND block_number > $1 ORDER BY nonce",
        int(number)?
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut count = 0_u64;
    for id in ids {
        advance(tx, TxId::from_uuid(id), TxEvent::Orphan, now).await?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// Ends every transaction that was mined at or below the final block.
///
/// # Errors
/// The database's.
pub async fn finalise(
    tx: &mut Connection,
    final_number: u64,
    now: UnixMillis,
) -> Result<Vec<Finalised>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id, succeeded AS "succeeded!" FROM chain_txs
           WHERE state = 'mined' AND block_number <= $1 ORDER BY nonce"#,
        int(final_number)?
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut done = Vec::with_capacity(rows.len());
    for row in rows {
        let id = TxId::from_uuid(row.id);
        let event = if row.succeeded { TxEvent::FinaliseOk } else { TxEvent::FinaliseReverted };
        advance(tx, id, event, now).await?;
        done.push(Finalised { id, succeeded: row.succeeded });
    }
    Ok(done)
}

/// Every change of state but [`mined`], which brings facts along: `domain::tx::step` decides.
async fn advance(
    tx: &mut Connection,
    id: TxId,
    event: TxEvent,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let state = state_of(tx, id).await?;
    let next = step(state, event).map_err(StoreError::corrupt)?;
    if next == state {
        return Ok(());
    }
    let at = ts_millis(now)?;
    if event == TxEvent::Orphan {
        sqlx::query!(
            "UPDATE chain_txs SET state = $2, block_number = NULL, block_hash = NULL,
                    mined_attempt = NULL, succeeded = NULL, gas_used = NULL, gas_price = NULL,
                    next_send_at = $3, updated_at = $3 WHERE id = $1",
            id.uuid(),
            next.as_str(),
            at
        )
        .execute(tx)
        .await?;
    } else {
        sqlx::query!(
            "UPDATE chain_txs SET state = $2, updated_at = $3 WHERE id = $1",
            id.uuid(),
            next.as_str(),
            at
        )
        .execute(tx)
        .await?;
    }
    Ok(())
}

async fn state_of(tx: &mut Connection, id: TxId) -> Result<TxState, StoreError> {
    let row = sqlx::query!(
        "SELECT state, block_number, block_hash FROM chain_txs WHERE id = $1 FOR UPDATE",
        id.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(StoreError::Missing("the transaction"))?;
    let status: TxStatus = row.state.parse().map_err(StoreError::corrupt)?;
    let block = match (status == TxStatus::Mined, row.block_number, row.block_hash) {
        (true, Some(number), Some(bytes)) => Some(BlockRef {
            number: u64::try_from(number).map_err(StoreError::corrupt)?,
            hash: hash(&bytes)?,
        }),
        _ => None,
    };
    TxState::from_parts(status, block)
        .ok_or_else(|| StoreError::corrupt(format_args!("{id} is {status} without a block")))
}

/// How many transactions are in each state.
///
/// # Errors
/// The database's.
pub async fn count_by_state(connection: &mut Connection) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(sqlx::query!(r#"SELECT state, count(*) AS "count!" FROM chain_txs GROUP BY state"#)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| (row.state, row.count))
        .collect())
}

/// When the oldest transaction that still flies was made.
///
/// # Errors
/// The database's.
pub async fn oldest_open(connection: &mut Connection) -> Result<Option<UnixSeconds>, StoreError> {
    sqlx::query_scalar!(
        "SELECT min(created_at) FROM chain_txs
         WHERE state NOT IN ('mined', 'final_ok', 'final_reverted', 'voided')"
    )
    .fetch_one(connection)
    .await?
    .map(crate::convert::seconds)
    .transpose()
}
