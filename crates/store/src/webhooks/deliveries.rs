//! From events to endpoints: fanned out, claimed for a short while, tried, and recorded by the holder of the lease alone.

use std::time::Duration;

use domain::{
    id::{DeliveryId, EventId, WebhookId},
    time::{Seconds, UnixMillis, UnixSeconds},
    webhook::PATIENCE,
};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    Connection, StoreError,
    convert::{seconds, ts, ts_millis},
};

/// The longest error that is kept, in characters.
const MAX_ERROR: usize = 500;

/// One event for one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Its place in the webhook's list.
    pub seq: i64,
    /// For whom.
    pub webhook: WebhookId,
    /// What is sent as `webhook-id`, with every try.
    pub event: EventId,
    /// What has happened.
    pub kind: String,
    /// `pending`, `delivered` or `failed`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, if it is.
    pub due_at: Option<UnixSeconds>,
    /// When it was tried last.
    pub last_at: Option<UnixSeconds>,
    /// What was answered then.
    pub last_status: Option<u16>,
    /// Or what went wrong.
    pub last_error: Option<String>,
    /// When it came through.
    pub delivered_at: Option<UnixSeconds>,
    /// When it was made.
    pub created_at: UnixSeconds,
}

struct Row {
    id: uuid::Uuid,
    seq: i64,
    webhook_id: uuid::Uuid,
    event_id: uuid::Uuid,
    kind: String,
    state: String,
    attempts: i32,
    due_at: OffsetDateTime,
    last_at: Option<OffsetDateTime>,
    last_status: Option<i16>,
    last_error: Option<String>,
    delivered_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
}

impl Row {
    fn into_delivery(self) -> Result<Delivery, StoreError> {
        let pending = self.state == "pending";
        let status = self.last_status.map(u16::try_from).transpose();
        Ok(Delivery {
            id: DeliveryId::from_uuid(self.id),
            seq: self.seq,
            webhook: WebhookId::from_uuid(self.webhook_id),
            event: EventId::from_uuid(self.event_id),
            kind: self.kind,
            state: self.state,
            attempts: u32::try_from(self.attempts).map_err(StoreError::corrupt)?,
            due_at: Some(seconds(self.due_at)?).filter(|_| pending),
            last_at: self.last_at.map(seconds).transpose()?,
            last_status: status.map_err(StoreError::corrupt)?,
            last_error: self.last_error,
            delivered_at: self.delivered_at.map(seconds).transpose()?,
            created_at: seconds(self.created_at)?,
        })
    }
}

/// Up to `limit` deliveries of a webhook before the one with number `before`, newest first; of one state or of all.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    webhook: WebhookId,
    state: Option<&str>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Delivery>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT d.id, d.seq, d.webhook_id, d.event_id, e.kind, d.state, d.attempts, d.due_at, d.last_at, d.last_status,
                d.last_error, d.delivered_at, d.created_at
         FROM deliveries d JOIN hook_events e ON e.id = d.event_id
         WHERE d.webhook_id = $1 AND d.seq < $3 AND ($2::text IS NULL OR d.state = $2)
         ORDER BY d.seq DESC LIMIT $4",
        webhook.uuid(),
        state,
        before.unwrap_or(i64::MAX),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Row::into_delivery)
    .collect()
}

/// The delivery with this id.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(
    connection: &mut Connection,
    id: DeliveryId,
) -> Result<Option<Delivery>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT d.id, d.seq, d.webhook_id, d.event_id, e.kind, d.state, d.attempts, d.due_at, d.last_at, d.last_status,
                d.last_error, d.delivered_at, d.created_at
         FROM deliveries d JOIN hook_events e ON e.id = d.event_id WHERE d.id = $1",
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(Row::into_delivery)
    .transpose()
}

/// Makes a delivery of an event that nothing but the wish for it has caused.
///
/// # Errors
/// The database's.
pub async fn test(
    tx: &mut Connection,
    webhook: WebhookId,
    now: UnixSeconds,
) -> Result<DeliveryId, StoreError> {
    let id = sqlx::query_scalar!(
        r#"WITH event AS (
             INSERT INTO hook_events (account_id, kind, at, data, fanned)
             SELECT account_id, 'webhook.test', $2,
                    jsonb_build_object('webhook_id', 'whk_' || replace(id::text, '-', '')), true
             FROM webhooks WHERE id = $1 RETURNING id)
           INSERT INTO deliveries (webhook_id, event_id, due_at, created_at) SELECT $1, id, $2, $2 FROM event
           RETURNING id"#,
        webhook.uuid(),
        ts(now)?,
    )
    .fetch_optional(tx)
    .await?
    .ok_or(StoreError::Missing("the webhook"))?;
    Ok(DeliveryId::from_uuid(id))
}

/// Has a delivery tried again from now on, whatever came of it before. One that is being tried goes on.
///
/// # Errors
/// The database's.
pub async fn again(
    tx: &mut Connection,
    id: DeliveryId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE deliveries SET state = 'pending', tries = 0, due_at = $2, delivered_at = NULL
         WHERE id = $1 AND (leased_until IS NULL OR leased_until <= $2)",
        id.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes the deliveries of up to `limit` events. Returns how many events that were.
///
/// # Errors
/// The database's.
pub async fn fan_out(tx: &mut Connection, now: UnixSeconds, limit: i64) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "WITH news AS (
           SELECT id, account_id, kind FROM hook_events WHERE NOT fanned ORDER BY seq LIMIT $2
           FOR UPDATE SKIP LOCKED),
         made AS (
           INSERT INTO deliveries (webhook_id, event_id, due_at, created_at)
           SELECT w.id, n.id, $1, $1 FROM news n
           JOIN webhooks w ON w.account_id = n.account_id AND w.state = 'active' AND w.events && ARRAY[n.kind, '*']
           ON CONFLICT (webhook_id, event_id) DO NOTHING)
         UPDATE hook_events e SET fanned = true FROM news WHERE e.id = news.id",
        ts(now)?,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// A delivery to be tried now.
#[derive(Clone, Debug)]
pub struct Due {
    /// Which.
    pub id: DeliveryId,
    /// The lease number to record it with.
    pub run_lease: i64,
    /// How often it was tried since it was last asked for, this time included.
    pub tries: u32,
    /// For whom.
    pub webhook: WebhookId,
    /// Who is called.
    pub url: String,
    /// What it is signed with: the secret, and the one before it while that is good.
    pub secrets: Vec<Vec<u8>>,
    /// Which event.
    pub event: EventId,
    /// What has happened.
    pub kind: String,
    /// When.
    pub at: UnixSeconds,
    /// The rest of it.
    pub data: Value,
}

/// Takes up to `limit` due deliveries for `lease`; of each webhook at most `each` at a time, and one of those to which
/// nothing came through lately: so a slow endpoint has few of the places, and the others go on.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn claim(
    connection: &mut Connection,
    now: UnixMillis,
    lease: Duration,
    (limit, each): (i64, i64),
) -> Result<Vec<Due>, StoreError> {
    let now = ts_millis(now)?;
    let until = now.checked_add(lease.try_into().map_err(StoreError::corrupt)?);
    sqlx::query!(
        r#"WITH room AS (
             SELECT w.id, CASE WHEN w.failing_since IS NULL THEN $4::bigint ELSE 1 END
                    - (SELECT count(*) FROM deliveries d
                       WHERE d.webhook_id = w.id AND d.state = 'pending' AND d.leased_until > $1) AS free
             FROM webhooks w
             WHERE w.state = 'active' AND EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = w.id
                                                  AND d.state = 'pending' AND d.due_at <= $1)),
           picked AS (
             SELECT one.id FROM room, LATERAL (
               SELECT d.id, d.due_at FROM deliveries d
               WHERE d.webhook_id = room.id AND d.state = 'pending' AND d.due_at <= $1
                 AND (d.leased_until IS NULL OR d.leased_until <= $1)
               ORDER BY d.due_at, d.seq LIMIT greatest(room.free, 0) FOR UPDATE SKIP LOCKED) one
             ORDER BY one.due_at LIMIT $3)
           UPDATE deliveries d
           SET run_lease = d.run_lease + 1, leased_until = $2, attempts = d.attempts + 1, tries = d.tries + 1
           FROM picked, webhooks w, hook_events e
           WHERE d.id = picked.id AND w.id = d.webhook_id AND e.id = d.event_id
           RETURNING d.id, d.run_lease, d.tries, w.id AS webhook, w.url, w.secret,
                     CASE WHEN w.old_until > $1 THEN w.old_secret END AS old_secret,
                     e.id AS event, e.kind, e.at, e.data"#,
        now,
        until,
        limit,
        each,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Due {
            id: DeliveryId::from_uuid(row.id),
            run_lease: row.run_lease,
            tries: u32::try_from(row.tries).map_err(StoreError::corrupt)?,
            webhook: WebhookId::from_uuid(row.webhook),
            url: row.url,
            secrets: std::iter::once(row.secret).chain(row.old_secret).collect(),
            event: EventId::from_uuid(row.event),
            kind: row.kind,
            at: seconds(row.at)?,
            data: row.data,
        })
    })
    .collect()
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It came through, with this status.
    Taken(u16),
    /// It did not: the status if there was one, why, and how long to wait; for ever if there is no next time.
    Failed(Option<u16>, String, Option<Seconds>),
    /// The endpoint is gone for good.
    Gone,
}

/// What follows from a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It came through.
    Delivered,
    /// It is tried again.
    PutOff,
    /// It is not tried again.
    GivenUp,
    /// It is not, and neither is anything else of its webhook.
    Disabled,
    /// Somebody else holds it by now: what came of it does not count.
    Lost,
}

/// Records what came of a try, if the lease still holds.
///
/// # Errors
/// The database's.
pub async fn record(
    tx: &mut Connection,
    due: &Due,
    tried: &Tried,
    now: UnixSeconds,
) -> Result<Recorded, StoreError> {
    let (state, status, error, next) = match tried {
        Tried::Taken(status) => ("delivered", Some(*status), None, None),
        Tried::Gone => ("failed", Some(410), Some("the endpoint answered 410 Gone"), None),
        Tried::Failed(status, why, Some(wait)) => {
            ("pending", *status, Some(why.as_str()), Some(now.saturating_plus(*wait)))
        }
        Tried::Failed(status, why, None) => ("failed", *status, Some(why.as_str()), None),
    };
    let error: Option<String> = error.map(|text| text.chars().take(MAX_ERROR).collect());
    // the webhook first, as everybody does who changes it and its deliveries
    let failing = sqlx::query_scalar!(
        "SELECT failing_since FROM webhooks WHERE id = $1 FOR NO KEY UPDATE",
        due.webhook.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    let done = sqlx::query!(
        "UPDATE deliveries
         SET state = $3, last_at = $4, last_status = $5, last_error = $6, due_at = COALESCE($7, due_at),
             leased_until = NULL, delivered_at = CASE WHEN $3 = 'delivered' THEN $4::timestamptz END
         WHERE id = $1 AND run_lease = $2 AND state = 'pending'",
        due.id.uuid(),
        due.run_lease,
        state,
        ts(now)?,
        status.map(i16::try_from).transpose().map_err(StoreError::corrupt)?,
        error,
        next.map(ts).transpose()?,
    )
    .execute(&mut *tx)
    .await?;
    let Some(failing) = failing.filter(|_| done.rows_affected() == 1) else {
        return Ok(Recorded::Lost);
    };
    let failing = failing.map(seconds).transpose()?;
    match tried {
        Tried::Taken(_) => {
            if failing.is_some() {
                note_failing(tx, due.webhook, None).await?;
            }
            Ok(Recorded::Delivered)
        }
        Tried::Gone => {
            super::disable(tx, due.webhook, "the endpoint answered 410 Gone", now).await?;
            Ok(Recorded::Disabled)
        }
        Tried::Failed(.., next) => {
            if failing.is_none() {
                note_failing(tx, due.webhook, Some(now)).await?;
            }
            if next.is_some() {
                return Ok(Recorded::PutOff);
            }
            if failing.is_none_or(|since| now < since.saturating_plus(PATIENCE)) {
                return Ok(Recorded::GivenUp);
            }
            let reason = "nothing came through for three days";
            super::disable(tx, due.webhook, reason, now).await?;
            Ok(Recorded::Disabled)
        }
    }
}

async fn note_failing(
    tx: &mut Connection,
    webhook: WebhookId,
    since: Option<UnixSeconds>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE webhooks SET failing_since = $2 WHERE id = $1",
        webhook.uuid(),
        since.map(ts).transpose()?,
    )
    .execute(tx)
    .await?;
    Ok(())
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
