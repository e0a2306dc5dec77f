//! Attempts: signed bytes, stored before they are sent, and sent until one of a row is mined.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use domain::{
    id::TxId,
    time::{UnixMillis, UnixSeconds},
    tx::TxEvent,
};
use sqlx::types::BigDecimal;

use super::{advance, state_of};
use crate::{
    Connection, StoreError,
    convert::{hash, seconds, ts, ts_millis},
};

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
    /// Whether it only spends the number of a row that is given up.
    pub noop: bool,
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

/// A transaction whose newest attempt is not taken.
#[derive(Clone, Debug)]
pub struct Stuck {
    /// The transaction.
    pub id: TxId,
    /// Its nonce.
    pub nonce: u64,
    /// The newest attempt's bytes.
    pub raw: Vec<u8>,
    /// Most that it pays per gas, in wei.
    pub max_fee: u128,
    /// Most of it that goes to the block's producer, in wei.
    pub tip: u128,
    /// Whether that attempt is a no-op.
    pub noop: bool,
    /// When that attempt was signed.
    pub signed_at: UnixSeconds,
    /// What the node said last, if it refused the bytes: a name of the table of refusals.
    pub refusal: Option<String>,
    /// Whether a rental still waits for it, and it does not pay for what its evidence did not cover.
    pub wanted: bool,
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
        "INSERT INTO chain_tx_attempts (hash, tx_id, attempt, raw, max_fee, tip, noop, created_at)
         SELECT $1, $2, (COALESCE(max(attempt), 0) + 1)::smallint, $3, $4, $5, $6, $7
         FROM chain_tx_attempts WHERE tx_id = $2",
        attempt.hash.as_slice(),
        id.uuid(),
        attempt.raw,
        BigDecimal::from(attempt.max_fee),
        BigDecimal::from(attempt.tip),
        attempt.noop,
        ts_millis(now)?,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "UPDATE chain_txs SET next_send_at = $2, refusal = NULL WHERE id = $1",
        id.uuid(),
        ts_millis(now)?
    )
    .execute(&mut *tx)
    .await?;
    advance(tx, id, TxEvent::Sign, now).await
}

/// Transactions whose bytes should be sent now, lowest nonce first. Not those of a release whose time is over, by our clock
/// or the chain's: what spends its number then is a no-op.
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
           CROSS JOIN LATERAL (SELECT hash, raw, noop FROM chain_tx_attempts
                               WHERE tx_id = t.id ORDER BY attempt DESC LIMIT 1) a
           WHERE t.signer = $1 AND t.state IN ('signed', 'flying', 'void') AND t.block_number IS NULL
             AND t.next_send_at <= $2
             AND (a.noop OR NOT EXISTS (
                     SELECT FROM chain_intents i
                     WHERE i.tx_id = t.id AND i.state = 'sent' AND i.purpose = 'release'
                       AND to_timestamp((i.args ->> 'until')::bigint) <= GREATEST($2,
                           (SELECT timestamp FROM chain_blocks ORDER BY number DESC LIMIT 1))))
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

/// Notes that the bytes of an attempt left, to be sent again after `again` unless they are mined by then, and what
/// the node said if it refused them; nothing of that if another attempt was signed meanwhile. One that has come to its end
/// stays there.
///
/// # Errors
/// The database's.
pub async fn broadcast(
    tx: &mut Connection,
    id: TxId,
    attempt: B256,
    now: UnixMillis,
    again: Duration,
    refusal: Option<&str>,
) -> Result<(), StoreError> {
    let next = ts_millis(now)?
        .checked_add(again.try_into().map_err(StoreError::corrupt)?)
        .ok_or_else(|| StoreError::corrupt("the next send lies beyond time"))?;
    sqlx::query!(
        "UPDATE chain_txs SET next_send_at = $2, refusal = $3
         WHERE id = $1 AND $4 = (SELECT hash FROM chain_tx_attempts
                                 WHERE tx_id = $1 ORDER BY attempt DESC LIMIT 1)",
        id.uuid(),
        next,
        refusal,
        attempt.as_slice()
    )
    .execute(&mut *tx)
    .await?;
    if state_of(tx, id).await?.is_terminal() {
        return Ok(());
    }
    advance(tx, id, TxEvent::Broadcast, now).await
}

/// Transactions of a signer that are in no block though their newest attempt is older than `before`, or was refused with
/// one of these words, or it is a release that comes too late; lowest nonce first. `now` decides what is too late, or the
/// newest block's time if that is later.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn stuck(
    connection: &mut Connection,
    signer: Address,
    (now, before): (UnixSeconds, UnixMillis),
    refused: &[String],
    limit: i64,
) -> Result<Vec<Stuck>, StoreError> {
    sqlx::query!(
        r#"WITH clock AS (
               SELECT GREATEST($5, (SELECT timestamp FROM chain_blocks ORDER BY number DESC LIMIT 1)) AS now)
           SELECT t.id, t.nonce, a.raw AS "raw!", a.max_fee AS "max_fee!", a.tip AS "tip!",
                  a.noop AS "noop!", a.created_at AS "signed_at!", t.refusal,
                  EXISTS (SELECT FROM chain_intents i JOIN rentals r ON r.id = i.rental_id
                          WHERE i.tx_id = t.id AND i.state = 'sent' AND r.state NOT IN
                          ('settled', 'expired', 'cancelled', 'refunded', 'resolved'))
                  AND NOT late.late AS "wanted!"
           FROM chain_txs t
           CROSS JOIN LATERAL (SELECT raw, max_fee, tip, noop, created_at FROM chain_tx_attempts
                               WHERE tx_id = t.id ORDER BY attempt DESC LIMIT 1) a
           CROSS JOIN LATERAL (SELECT EXISTS (
                   SELECT FROM chain_intents i, clock
                   WHERE i.tx_id = t.id AND i.state = 'sent' AND i.purpose = 'release'
                     AND to_timestamp((i.args ->> 'until')::bigint) <= clock.now) AS late) late
           WHERE t.signer = $1 AND t.state IN ('signed', 'flying', 'void') AND t.block_number IS NULL
             AND (a.created_at < $2 OR t.refusal = ANY($3) OR (late.late AND NOT a.noop))
           ORDER BY t.nonce LIMIT $4"#,
        signer.as_slice(),
        ts_millis(before)?,
        refused,
        limit,
        ts(now)?
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Stuck {
            id: TxId::from_uuid(row.id),
            nonce: u64::try_from(row.nonce).map_err(StoreError::corrupt)?,
            raw: row.raw,
            max_fee: wei(&row.max_fee)?,
            tip: wei(&row.tip)?,
            noop: row.noop,
            signed_at: seconds(row.signed_at)?,
            refusal: row.refusal,
            wanted: row.wanted,
        })
    })
    .collect()
}

fn wei(value: &BigDecimal) -> Result<u128, StoreError> {
    value.with_scale(0).to_plain_string().parse().map_err(StoreError::corrupt)
}
