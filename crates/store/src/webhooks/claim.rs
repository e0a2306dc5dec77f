//! Which deliveries are tried next, so that whoever is slow or fails holds up as few others as can be.

use std::{fmt, time::Duration};

use domain::{
    id::{DeliveryId, EventId, WebhookId},
    time::{UnixMillis, UnixSeconds},
};
use serde_json::Value;

use crate::{
    Connection, StoreError,
    convert::{seconds, ts_millis},
};

/// A delivery to be tried now.
#[derive(Clone)]
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

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Due")
            .field("id", &self.id)
            .field("run_lease", &self.run_lease)
            .field("tries", &self.tries)
            .field("webhook", &self.webhook)
            .field("event", &self.event)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// How many deliveries may be tried at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// More of them, by whoever asks.
    pub free: i64,
    /// Of one webhook; of one to which nothing came through lately, one.
    pub webhook: i64,
    /// Of one account.
    pub account: i64,
    /// To one host.
    pub host: i64,
    /// To all webhooks together to which nothing came through lately.
    pub failing: i64,
}

/// Takes due deliveries for `lease`, as many as there are places, of all processes together but for `free`. First come
/// those whose endpoints are well, and of them whose account has the fewest places.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn claim(
    connection: &mut Connection,
    now: UnixMillis,
    lease: Duration,
    places: Places,
) -> Result<Vec<Due>, StoreError> {
    let now = ts_millis(now)?;
    let until = now.checked_add(lease.try_into().map_err(StoreError::corrupt)?);
    sqlx::query!(
        r#"WITH busy AS MATERIALIZED (
             SELECT d.webhook_id, w.account_id, w.host, w.failing_since IS NOT NULL AS failing
             FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id
             WHERE d.state = 'pending' AND d.leased_until > $1),
           room AS (
             SELECT w.id, w.account_id, w.host, w.failing_since IS NOT NULL AS failing,
                    CASE WHEN w.failing_since IS NULL THEN $4::bigint ELSE 1 END
                    - (SELECT count(*) FROM busy b WHERE b.webhook_id = w.id) AS free
             FROM webhooks w
             WHERE w.state = 'active' AND EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = w.id
                                                  AND d.state = 'pending' AND d.due_at <= $1)),
           waiting AS (
             SELECT one.id, one.due_at, room.account_id, room.host, room.failing
             FROM room, LATERAL (
               SELECT d.id, d.due_at FROM deliveries d
               WHERE d.webhook_id = room.id AND d.state = 'pending' AND d.due_at <= $1
                 AND (d.leased_until IS NULL OR d.leased_until <= $1)
               ORDER BY d.due_at, d.seq LIMIT greatest(room.free, 0)) one),
           by_account AS (
             SELECT w.*, (SELECT count(*) FROM busy b WHERE b.account_id = w.account_id)
                    + row_number() OVER (PARTITION BY w.account_id ORDER BY w.failing, w.due_at, w.id) AS turn
             FROM waiting w),
           by_host AS (
             SELECT a.*, (SELECT count(*) FROM busy b WHERE b.host = a.host)
                    + row_number() OVER (PARTITION BY a.host ORDER BY a.failing, a.turn, a.due_at, a.id) AS at_host
             FROM by_account a WHERE a.turn <= $5),
           by_health AS (
             SELECT h.*, (SELECT count(*) FROM busy b WHERE b.failing)
                    + row_number() OVER (PARTITION BY h.failing ORDER BY h.turn, h.due_at, h.id) AS failed
             FROM by_host h WHERE h.at_host <= $6),
           picked AS (
             SELECT d.id FROM deliveries d
             WHERE d.id IN (SELECT id FROM by_health WHERE NOT failing OR failed <= $7
                            ORDER BY failing, turn, due_at, id LIMIT $3)
               AND d.state = 'pending' AND (d.leased_until IS NULL OR d.leased_until <= $1)
             FOR UPDATE SKIP LOCKED)
           UPDATE deliveries d
           SET run_lease = d.run_lease + 1, leased_until = $2, attempts = d.attempts + 1, tries = d.tries + 1
           FROM picked, webhooks w, hook_events e
           WHERE d.id = picked.id AND w.id = d.webhook_id AND e.id = d.event_id
           RETURNING d.id, d.run_lease, d.tries, w.id AS webhook, w.url, w.secret,
                     CASE WHEN w.old_until > $1 THEN w.old_secret END AS old_secret,
                     e.id AS event, e.kind, e.at, e.data"#,
        now,
        until,
        places.free,
        places.webhook,
        places.account,
        places.host,
        places.failing,
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
