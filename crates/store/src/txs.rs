//! Transactions of ours: one row per nonce, signed bytes before the wire.

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

mod attempts;
mod given_up;
mod signer;
mod spent;

pub use attempts::{NewAttempt, Outgoing, Stuck, broadcast, due_to_send, store_attempt, stuck};
pub use given_up::{Gap, fill_gap, gap_below, give_up, is_open};
pub use signer::{Lease, Presence, is_held, lease, number, register_signer, release};
pub use spent::{lock_signers, open_below, stale_signers, void_spent};

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

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The contract did the call. Of a batch, items may have been skipped.
    Succeeded,
    /// The contract reverted it.
    Reverted,
    /// It was given up, and the no-op spent its number.
    Voided,
}

/// A transaction that is final.
#[derive(Clone, Copy, Debug)]
pub struct Finalised {
    /// The transaction.
    pub id: TxId,
    /// The attempt that is in the block.
    pub attempt: B256,
    /// How it ended.
    pub outcome: Outcome,
}

fn int(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(StoreError::corrupt)
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

/// Notes that an attempt is in a block. The no-op of a number leaves the row void: its end comes with finality.
///
/// # Errors
/// The database's.
pub async fn mined(
    tx: &mut Connection,
    id: TxId,
    fact: &Mined,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let noop = sqlx::query_scalar!(
        "SELECT noop FROM chain_tx_attempts WHERE hash = $1 AND tx_id = $2",
        fact.attempt.as_slice(),
        id.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(StoreError::Missing("the attempt"))?;
    let event = if noop { TxEvent::Void } else { TxEvent::Include { block: fact.block } };
    let next = step(state_of(tx, id).await?, event).map_err(StoreError::corrupt)?;
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

/// As [`mined`], unless the transaction is in a block by now or has ended.
///
/// # Errors
/// The database's.
pub async fn mined_if_open(
    tx: &mut Connection,
    id: TxId,
    fact: &Mined,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let status = state_of(tx, id).await?.status();
    if status.is_terminal() || status == TxStatus::Mined {
        return Ok(());
    }
    mined(tx, id, fact, now).await
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
        "SELECT id FROM chain_txs WHERE state IN ('mined', 'void') AND block_number > $1 ORDER BY signer, nonce",
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
        r#"SELECT id, state = 'void' AS "voided!", succeeded AS "succeeded!",
                  mined_attempt AS "attempt!" FROM chain_txs
           WHERE state IN ('mined', 'void') AND block_number <= $1 ORDER BY signer, nonce"#,
        int(final_number)?
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut done = Vec::with_capacity(rows.len());
    for row in rows {
        let id = TxId::from_uuid(row.id);
        let (event, outcome) = match (row.voided, row.succeeded) {
            (true, _) => (TxEvent::FinaliseVoid, Outcome::Voided),
            (false, true) => (TxEvent::FinaliseOk, Outcome::Succeeded),
            (false, false) => (TxEvent::FinaliseReverted, Outcome::Reverted),
        };
        advance(tx, id, event, now).await?;
        done.push(Finalised { id, attempt: hash(&row.attempt)?, outcome });
    }
    Ok(done)
}

/// How many numbers of a signer are given and in no block.
///
/// # Errors
/// The database's.
pub async fn in_flight(connection: &mut Connection, signer: Address) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM chain_txs
           WHERE signer = $1 AND state IN ('numbered', 'signed', 'flying', 'void')
             AND block_number IS NULL"#,
        signer.as_slice()
    )
    .fetch_one(connection)
    .await?;
    u64::try_from(count).map_err(StoreError::corrupt)
}

/// The most wei that a signer's transactions in the air can still cost.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn committed(connection: &mut Connection, signer: Address) -> Result<u128, StoreError> {
    let sum = sqlx::query_scalar!(
        r#"SELECT COALESCE(sum(t.gas_limit * (SELECT max(a.max_fee) FROM chain_tx_attempts a
                                              WHERE a.tx_id = t.id)), 0) AS "sum!"
           FROM chain_txs t
           WHERE t.signer = $1 AND t.state IN ('numbered', 'signed', 'flying', 'void')
             AND t.block_number IS NULL"#,
        signer.as_slice()
    )
    .fetch_one(connection)
    .await?;
    sum.with_scale(0).to_plain_string().parse().map_err(StoreError::corrupt)
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
    // A void row that leaves its block stays void: only the block is forgotten.
    if next == state && event != TxEvent::Orphan {
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
