//! Money-moving requests act once. The key is claimed first and its answer stored last, both in the
//! transaction of the effect: a concurrent twin waits on the primary key and then finds the answer, and
//! a request that was refused or failed leaves nothing behind, so it can be sent again. A booking, which locks the
//! account anyway, looks for the key under that lock and writes it once, with its answer. One that shares a transaction leaves
//! the answer out: it is made anew of the rental, of which nothing that it tells ever changes (docs/adr/0018).

use domain::{id::AccountId, time::UnixSeconds};
use serde_json::Value;

use crate::{Connection, StoreError, convert::ts};

/// How many old keys each new one clears away, so that the table stays small without a timer.
const KEYS_CLEARED: i64 = 20;

/// What a key is known for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: this transaction holds it now and must [`finish`] it.
    Fresh,
    /// The same request, which was answered so.
    Replay {
        /// HTTP status.
        status: u16,
        /// The body.
        response: Value,
    },
    /// Another request.
    OtherRequest,
}

/// What the key of a booking is known for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    New,
    /// The same request, which was answered so.
    Answered {
        /// HTTP status.
        status: u16,
        /// The body; `None` if it is to be made of the rental.
        response: Option<Value>,
    },
    /// Another request.
    OtherRequest,
}

/// Claims a key for a request, waiting for a concurrent transaction that claimed it first.
///
/// # Errors
/// The database's.
pub async fn claim(
    tx: &mut Connection,
    account: AccountId,
    key: &str,
    request_hash: &[u8; 32],
    now: UnixSeconds,
) -> Result<Claim, StoreError> {
    if put(tx, account, key, request_hash, 500, &Value::Null, now).await? {
        return Ok(Claim::Fresh);
    }
    match look(tx, account, key, request_hash).await? {
        Known::New => Err(StoreError::Missing("the key that was there")),
        Known::Answered { status, response } => {
            // only a booking leaves it out, and that looks by itself
            let response = response.ok_or(StoreError::Missing("the answer under the key"))?;
            Ok(Claim::Replay { status, response })
        }
        Known::OtherRequest => Ok(Claim::OtherRequest),
    }
}

/// What a booking's key is known for. [`Known::New`] is a promise only while the caller holds the account's row, as
/// [`crate::rentals::hold_ground`] does, and [`record`] decides in the end.
///
/// # Errors
/// The database's.
pub async fn look(
    tx: &mut Connection,
    account: AccountId,
    key: &str,
    request_hash: &[u8; 32],
) -> Result<Known, StoreError> {
    let row = sqlx::query!(
        "SELECT request_hash, status, response FROM idempotency_keys WHERE account_id = $1 AND key = $2",
        account.uuid(),
        key,
    )
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(Known::New) };
    if row.request_hash != request_hash {
        return Ok(Known::OtherRequest);
    }
    let status = u16::try_from(row.status).map_err(StoreError::corrupt)?;
    Ok(Known::Answered { status, response: row.response })
}

/// Writes a key with its answer, in the transaction of the effect. False if another request has taken the
/// key meanwhile: then the effect must not happen.
///
/// # Errors
/// The database's.
pub async fn record(
    tx: &mut Connection,
    account: AccountId,
    key: &str,
    request_hash: &[u8; 32],
    (status, response): (u16, &Value),
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let status = i16::try_from(status).map_err(StoreError::corrupt)?;
    put(tx, account, key, request_hash, status, response, now).await
}

/// Writes a key unless it is there, and clears a few old ones away: a key is remembered for 30 days at
/// least, longer than anybody repeats a request.
async fn put(
    tx: &mut Connection,
    account: AccountId,
    key: &str,
    request_hash: &[u8; 32],
    status: i16,
    response: &Value,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query!(
        "WITH old AS (
             DELETE FROM idempotency_keys WHERE (account_id, key) IN
                (SELECT account_id, key FROM idempotency_keys
                 WHERE created_at < $6::timestamptz - interval '30 days'
                   AND (account_id, key) <> ($1, $2)
                 ORDER BY created_at LIMIT $7 FOR UPDATE SKIP LOCKED))
         INSERT INTO idempotency_keys (account_id, key, request_hash, status, response, created_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, key) DO NOTHING",
        account.uuid(),
        key,
        request_hash.as_slice(),
        status,
        response,
        ts(now)?,
        KEYS_CLEARED,
    )
    .execute(tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Stores the answer under a key that this transaction claimed.
///
/// # Errors
/// [`StoreError::Missing`] if it did not.
pub async fn finish(
    tx: &mut Connection,
    account: AccountId,
    key: &str,
    status: u16,
    response: &Value,
) -> Result<(), StoreError> {
    let updated = sqlx::query!(
        "UPDATE idempotency_keys SET status = $3, response = $4
         WHERE account_id = $1 AND key = $2 AND status = 500",
        account.uuid(),
        key,
        i16::try_from(status).map_err(StoreError::corrupt)?,
        response,
    )
    .execute(tx)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Missing("the claimed key")) }
}
