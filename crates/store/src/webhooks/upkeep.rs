//! What waits for webhooks, and clearing away what nobody waits for, a little at a time.

use domain::time::{Seconds, UnixSeconds};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// Gives up to `limit` deliveries up that wait for webhooks which are called no more, and forgets up to as many of
/// webhooks that were deleted, and those of which nothing is left. Returns how many deliveries that were.
///
/// # Errors
/// The database's.
pub async fn clear(tx: &mut Connection, limit: i64) -> Result<u64, StoreError> {
    let given_up = sqlx::query!(
        "UPDATE deliveries SET state = 'failed', leased_until = NULL,
                last_error = COALESCE(last_error, 'the webhook was disabled')
         WHERE id IN (SELECT d.id FROM webhooks w JOIN deliveries d ON d.webhook_id = w.id AND d.state = 'pending'
                      WHERE w.state = 'disabled' AND w.deleted_at IS NULL
                      LIMIT $1 FOR UPDATE OF d SKIP LOCKED)",
        limit,
    )
    .execute(&mut *tx)
    .await?;
    let forgotten = sqlx::query!(
        "DELETE FROM deliveries
         WHERE id IN (SELECT d.id FROM webhooks w JOIN deliveries d ON d.webhook_id = w.id
                      WHERE w.state = 'disabled' AND w.deleted_at IS NOT NULL
                      LIMIT $1 FOR UPDATE OF d SKIP LOCKED)",
        limit,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "DELETE FROM webhooks w WHERE w.state = 'disabled' AND w.deleted_at IS NOT NULL
           AND NOT EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = w.id)",
    )
    .execute(tx)
    .await?;
    Ok(given_up.rows_affected().saturating_add(forgotten.rows_affected()))
}

/// How much waits: deliveries that are due, and for how long the oldest has been whose endpoint is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries that are due or being tried.
    pub due: u64,
    /// Seconds since the oldest of those was due whose endpoints have not failed lately, or since an event was made
    /// that is not fanned out.
    pub oldest: Seconds,
}

/// Looks at what waits.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn backlog(connection: &mut Connection, now: UnixSeconds) -> Result<Backlog, StoreError> {
    let row = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id
                   WHERE d.state = 'pending' AND d.due_at <= $1 AND w.state = 'active') AS "due!",
                  LEAST((SELECT min(d.due_at) FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id
                         WHERE d.state = 'pending' AND d.due_at <= $1 AND w.state = 'active'
                           AND w.failing_since IS NULL),
                        (SELECT min(at) FROM hook_events WHERE NOT fanned)) AS since"#,
        ts(now)?,
    )
    .fetch_one(connection)
    .await?;
    let since = row.since.map(seconds).transpose()?;
    let oldest = since.map_or(0, |since| now.get().saturating_sub(since.get()));
    Ok(Backlog {
        due: u64::try_from(row.due).map_err(StoreError::corrupt)?,
        oldest: Seconds(u32::try_from(oldest).unwrap_or(u32::MAX)),
    })
}

/// Forgets up to `limit` events from before `before` that nobody waits for. Returns how many.
///
/// # Errors
/// The database's.
pub async fn forget(
    tx: &mut Connection,
    before: UnixSeconds,
    limit: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "DELETE FROM hook_events WHERE id IN (
           SELECT e.id FROM hook_events e WHERE e.at < $1 AND e.fanned
             AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event_id = e.id AND d.state = 'pending')
           ORDER BY e.at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ts(before)?,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
