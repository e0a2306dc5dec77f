//! From events to endpoints: fanned out, claimed for a short while, tried, and recorded by the holder of the lease alone.

use domain::{
    id::{DeliveryId, EventId, WebhookId},
    time::{Seconds, UnixSeconds},
    webhook::PATIENCE,
};
use time::OffsetDateTime;

use super::claim::Due;
use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
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

/// Whether `most` deliveries of a webhook wait that somebody asked for. Whoever asks at the same time waits for the answer.
async fn enough_asked(
    tx: &mut Connection,
    webhook: WebhookId,
    most: i64,
) -> Result<bool, StoreError> {
    sqlx::query!("SELECT id FROM webhooks WHERE id = $1 FOR NO KEY UPDATE", webhook.uuid())
        .fetch_optional(&mut *tx)
        .await?;
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) >= $2 AS "enough!" FROM (
             SELECT FROM deliveries WHERE webhook_id = $1 AND state = 'pending' AND asked LIMIT $2) waiting"#,
        webhook.uuid(),
        most,
    )
    .fetch_one(tx)
    .await?)
}

/// Makes a delivery of an event that nothing but the wish for it has caused. `None` if `most` that somebody asked for
/// wait already.
///
/// # Errors
/// The database's.
pub async fn test(
    tx: &mut Connection,
    webhook: WebhookId,
    most: i64,
    now: UnixSeconds,
) -> Result<Option<DeliveryId>, StoreError> {
    if enough_asked(tx, webhook, most).await? {
        return Ok(None);
    }
    let id = sqlx::query_scalar!(
        r#"WITH event AS (
             INSERT INTO hook_events (account_id, kind, at, data, fanned)
             SELECT account_id, 'webhook.test', $2,
                    jsonb_build_object('webhook_id', 'whk_' || replace(id::text, '-', '')), true
             FROM webhooks WHERE id = $1 RETURNING id)
           INSERT INTO deliveries (webhook_id, event_id, due_at, created_at, asked)
           SELECT $1, id, $2, $2, true FROM event
           RETURNING id"#,
        webhook.uuid(),
        ts(now)?,
    )
    .fetch_optional(tx)
    .await?
    .ok_or(StoreError::Missing("the webhook"))?;
    Ok(Some(DeliveryId::from_uuid(id)))
}

/// Has a delivery tried again from now on, whatever came of it before. One that is being tried is done if that comes through,
/// and else tried once more at once, as [`record`] sees. False if `most` that somebody asked for wait already, and this is
/// none of them.
///
/// # Errors
/// The database's.
pub async fn again(
    tx: &mut Connection,
    delivery: &Delivery,
    most: i64,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    if delivery.state != "pending" && enough_asked(tx, delivery.webhook, most).await? {
        return Ok(false);
    }
    sqlx::query!(
        "UPDATE deliveries
         SET asked = asked OR state <> 'pending', state = 'pending', tries = 0, due_at = $2, delivered_at = NULL
         WHERE id = $1",
        delivery.id.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(true)
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

/// Records what came of a try, if the lease still holds. What failed and was asked for [`again`] meanwhile is put off and due
/// since then, however often it was tried and however long it would have waited.
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
    // whoever claims it counts a try: there is none if it was asked for since
    let became = sqlx::query_scalar!(
        "UPDATE deliveries
         SET state = CASE WHEN $8::boolean AND tries = 0 THEN 'pending' ELSE $3::text END,
             due_at = CASE WHEN $8 AND tries = 0 THEN due_at ELSE COALESCE($7, due_at) END,
             last_at = $4, last_status = $5, last_error = $6, leased_until = NULL,
             delivered_at = CASE WHEN $3 = 'delivered' THEN $4::timestamptz END
         WHERE id = $1 AND run_lease = $2 AND state = 'pending'
         RETURNING state",
        due.id.uuid(),
        due.run_lease,
        state,
        ts(now)?,
        status.map(i16::try_from).transpose().map_err(StoreError::corrupt)?,
        error,
        next.map(ts).transpose()?,
        matches!(tried, Tried::Failed(..)),
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some((failing, became)) = failing.zip(became) else {
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
        Tried::Failed(..) => {
            if failing.is_none() {
                note_failing(tx, due.webhook, Some(now)).await?;
            }
            if became == "pending" {
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
