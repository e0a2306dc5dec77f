//! Final events on their way into the ledger.

use domain::time::UnixSeconds;

use super::{EventRow, SeenEvent};
use crate::{Connection, StoreError, convert::ts};

/// Final events whose money is not in the ledger yet and that may be applied now, in the chain's order.
/// What failed waits until its time comes, and later events of the same rental wait behind it; what is frozen waits
/// until it is lifted.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn unapplied(
    connection: &mut Connection,
    now: UnixSeconds,
    limit: i64,
) -> Result<Vec<SeenEvent>, StoreError> {
    sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE NOT e.applied AND b.final AND (e.retry_at IS NULL OR e.retry_at <= $1)
             AND NOT EXISTS (SELECT FROM chain_events f
                             WHERE f.failure IS NOT NULL AND f.retry_at > $1
                               AND f.escrow_id = e.escrow_id
                               AND (f.block_number, f.log_index) < (e.block_number, e.log_index))
             AND NOT EXISTS (
                 SELECT FROM freezes z WHERE z.lifted_at IS NULL
                   AND (z.scope = 'all' OR z.subject = e.escrow_id
                        OR (z.scope = 'token' AND '0x' || encode(z.subject, 'hex') = lower(COALESCE(
                               e.body ->> 'token',
                               (SELECT l.body ->> 'token' FROM chain_events l
                                WHERE l.escrow_id = e.escrow_id AND l.name = 'locked' LIMIT 1))))))
           ORDER BY e.block_number, e.log_index LIMIT $2"#,
        ts(now)?,
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(SeenEvent::try_from)
    .collect()
}

/// Final events that are not in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// True if there is any.
    pub any: bool,
    /// How many could not be applied.
    pub failed: i64,
}

/// What keeps the ledger from being whole.
///
/// # Errors
/// The database's.
pub async fn waiting(connection: &mut Connection) -> Result<Waiting, StoreError> {
    Ok(sqlx::query_as!(
        Waiting,
        r#"SELECT EXISTS (SELECT FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
                          WHERE NOT e.applied AND b.final) AS "any!",
                  (SELECT count(*) FROM chain_events WHERE failure IS NOT NULL) AS "failed!""#
    )
    .fetch_one(connection)
    .await?)
}

/// Every final event that is not in the ledger, whatever keeps it out, in the chain's order, `limit` at most.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn pending(
    connection: &mut Connection,
    limit: i64,
) -> Result<Vec<SeenEvent>, StoreError> {
    sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE NOT e.applied AND b.final ORDER BY e.block_number, e.log_index LIMIT $1"#,
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(SeenEvent::try_from)
    .collect()
}

/// Notes that an event could not be applied, and when to try again.
///
/// # Errors
/// The database's.
pub async fn mark_failed(
    connection: &mut Connection,
    event: &SeenEvent,
    failure: &str,
    retry_at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_events SET failure = $3, retry_at = $4
         WHERE block_hash = $1 AND log_index = $2 AND NOT applied",
        event.block_hash.as_slice(),
        i32::try_from(event.log_index).map_err(StoreError::corrupt)?,
        failure,
        ts(retry_at)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks an event applied, in the transaction that applies it. False if somebody else did.
///
/// # Errors
/// The database's.
pub async fn mark_applied(tx: &mut Connection, event: &SeenEvent) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE chain_events SET applied = true, failure = NULL, retry_at = NULL
         WHERE block_hash = $1 AND log_index = $2 AND NOT applied",
        event.block_hash.as_slice(),
        i32::try_from(event.log_index).map_err(StoreError::corrupt)?,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
