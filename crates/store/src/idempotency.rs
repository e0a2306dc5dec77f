//! Money-moving requests act once. The key is claimed first and its answer stored last, both in the
//! transaction of the effect: a concurrent twin waits on the primary key and then finds the answer, and
//! a request that was refused or failed leaves nothing behind, so it can be sent again.

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
    let inserted = sqlx::query!(
        "INSERT INTO idempotency_keys (account_id, key, request_hash, status, response, created_at)
         VALUES ($1, $2, $3, 500, 'null', $4) ON CONFLICT (account_id, key) DO NOTHING",
        account.uuid(),
        key,
        request_hash.as_slice(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    if inserted.rows_affected() == 1 {
        forget_old(tx, now).await?;
        return Ok(Claim::Fresh);
    }
    let row = sqlx::query!(
        "SELECT request_hash, status, response FROM idempotency_keys WHERE account_id = $1 AND key = $2",
        account.uuid(),
        key,
    )
    .fetch_one(tx)
    .await?;
    if row.request_hash != request_hash {
        return Ok(Claim::OtherRequest);
    }
    let status = u16::try_from(row.status).map_err(StoreError::corrupt)?;
    Ok(Claim::Replay { status, response: row.response })
}

/// A key is remembered for 30 days at least: longer than anybody repeats a request.
async fn forget_old(tx: &mut Connection, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM idempotency_keys WHERE (account_id, key) IN
            (SELECT account_id, key FROM idempotency_keys
             WHERE created_at < $1::timestamptz - interval '30 days'
             ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ts(now)?,
        KEYS_CLEARED,
    )
    .execute(tx)
    .await?;
    Ok(())
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
