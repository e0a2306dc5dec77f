//! What rentals want from the chain. An intent is a row written in the transaction of the state that
//! wants it; the lane turns it into a transaction.

use alloy_primitives::B256;
use domain::{
    id::{RentalId, TxId},
    time::{Seconds, UnixMillis, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    convert::{hash, ts, ts_millis},
};

/// A call to the escrow, with its measured arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum Call {
    /// Billing begins.
    Start {
        /// The first billed second.
        started_at: UnixSeconds,
    },
    /// Billing ends and everything is paid.
    Close {
        /// The last measured second.
        stopped_at: UnixSeconds,
        /// Seconds of outage, not billed.
        credit: Seconds,
    },
    /// Never started: everything back.
    Cancel,
}

impl Call {
    /// The stored name.
    #[must_use]
    pub const fn purpose(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Close { .. } => "close",
            Self::Cancel => "cancel",
        }
    }
}

/// A queued intent.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub rental: RentalId,
    /// What.
    pub call: Call,
}

/// An intent as a person follows it.
#[derive(Clone, Debug)]
pub struct ChainStep {
    /// start, close or cancel.
    pub purpose: String,
    /// queued, sent, done or refused.
    pub state: String,
    /// The transaction that carries it, once signed.
    pub tx_hash: Option<B256>,
    /// The block it was mined in.
    pub block: Option<u64>,
    /// Why it was refused or put off.
    pub last_error: Option<String>,
}

/// Queues a call for a rental, under the next sequence number of its purpose.
///
/// # Errors
/// The database's.
pub async fn queue(
    tx: &mut Connection,
    rental: RentalId,
    call: &Call,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let args = serde_json::to_value(call).map_err(StoreError::corrupt)?;
    sqlx::query!(
        "INSERT INTO chain_intents (id, rental_id, purpose, seq, args, state, not_before, created_at)
         SELECT $1, $2, $3, COALESCE(max(seq), 0) + 1, $4, 'queued', $5, $5
         FROM chain_intents WHERE rental_id = $2 AND purpose = $3",
        Uuid::now_v7(),
        rental.uuid(),
        call.purpose(),
        args,
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Queued intents that may be sent now, oldest first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn due(
    connection: &mut Connection,
    now: UnixMillis,
    limit: i64,
) -> Result<Vec<Intent>, StoreError> {
    sqlx::query!(
        "SELECT id, rental_id, args FROM chain_intents
         WHERE state = 'queued' AND not_before <= $1 ORDER BY created_at, id LIMIT $2",
        ts_millis(now)?,
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Intent {
            id: row.id,
            rental: RentalId::from_uuid(row.rental_id),
            call: serde_json::from_value(row.args).map_err(StoreError::corrupt)?,
        })
    })
    .collect()
}

/// Hands an intent to a transaction. False if it is no longer queued: then the transaction must not be
/// made either.
///
/// # Errors
/// The database's.
pub async fn sent(tx: &mut Connection, intent: Uuid, carrier: TxId) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE chain_intents SET state = 'sent', tx_id = $2, last_error = NULL
         WHERE id = $1 AND state = 'queued'",
        intent,
        carrier.uuid()
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts a queued intent off.
///
/// # Errors
/// The database's.
pub async fn defer(
    connection: &mut Connection,
    intent: Uuid,
    until: UnixMillis,
    error: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_intents SET not_before = $2, last_error = $3 WHERE id = $1 AND state = 'queued'",
        intent,
        ts_millis(until)?,
        error
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives a queued intent up. False if it is no longer queued.
///
/// # Errors
/// The database's.
pub async fn refuse(tx: &mut Connection, intent: Uuid, error: &str) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE chain_intents SET state = 'refused', last_error = $2 WHERE id = $1 AND state = 'queued'",
        intent,
        error
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the intents that a final transaction carried, and returns them.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn finish(
    tx: &mut Connection,
    carrier: TxId,
    succeeded: bool,
) -> Result<Vec<Intent>, StoreError> {
    sqlx::query!(
        "UPDATE chain_intents
         SET state = CASE WHEN $2 THEN 'done' ELSE 'refused' END,
             last_error = CASE WHEN $2 THEN NULL ELSE 'the transaction reverted' END
         WHERE tx_id = $1 AND state = 'sent' RETURNING id, rental_id, args",
        carrier.uuid(),
        succeeded
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Intent {
            id: row.id,
            rental: RentalId::from_uuid(row.rental_id),
            call: serde_json::from_value(row.args).map_err(StoreError::corrupt)?,
        })
    })
    .collect()
}

/// Drops the queued intents of a rental that no longer needs them.
///
/// # Errors
/// The database's.
pub async fn drop_queued(
    tx: &mut Connection,
    rental: RentalId,
    why: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_intents SET state = 'refused', last_error = $2
         WHERE rental_id = $1 AND state = 'queued'",
        rental.uuid(),
        why
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The chain steps of a rental, in order.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn for_rental(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Vec<ChainStep>, StoreError> {
    sqlx::query!(
        r#"SELECT i.purpose, i.state, i.last_error, t.block_number AS "block?",
                  COALESCE(t.mined_attempt, (SELECT a.hash FROM chain_tx_attempts a
                                             WHERE a.tx_id = t.id ORDER BY a.attempt DESC LIMIT 1)) AS hash
           FROM chain_intents i LEFT JOIN chain_txs t ON t.id = i.tx_id
           WHERE i.rental_id = $1 ORDER BY i.created_at, i.id"#,
        rental.uuid()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(ChainStep {
            purpose: row.purpose,
            state: row.state,
            tx_hash: row.hash.as_deref().map(hash).transpose()?,
            block: row.block.map(u64::try_from).transpose().map_err(StoreError::corrupt)?,
            last_error: row.last_error,
        })
    })
    .collect()
}
