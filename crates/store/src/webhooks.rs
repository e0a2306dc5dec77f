//! Webhooks: who wants to be told of what. Events are made by triggers, in the transactions in which they happen; from
//! there [`deliveries`] takes them to whoever asked.

pub mod claim;
pub mod deliveries;
pub mod expiries;
pub mod links;
pub mod upkeep;

use domain::{
    id::{AccountId, WebhookId},
    time::UnixSeconds,
};
use time::OffsetDateTime;

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// Deliveries that are given up together with their webhook.
const AT_ONCE: i64 = 200;

/// How the one endpoint stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Whose.
    pub account: AccountId,
    /// Who is called.
    pub url: String,
    /// Of what: names of events, or `*`.
    pub events: Vec<String>,
    /// The owner's words.
    pub description: String,
    /// Until when the old secret signs too.
    pub old_until: Option<UnixSeconds>,
    /// Why it is not called any more, and since when.
    pub disabled: Option<(String, UnixSeconds)>,
    /// Since when nothing came through.
    pub failing_since: Option<UnixSeconds>,
    /// Grows with every change by its owner.
    pub version: u32,
    /// When it was made.
    pub created_at: UnixSeconds,
}

/// What an owner says of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who is called.
    pub url: String,
    /// Of what.
    pub events: Vec<String>,
    /// The owner's words.
    pub description: String,
}

struct Row {
    id: uuid::Uuid,
    account_id: uuid::Uuid,
    url: String,
    events: Vec<String>,
    description: String,
    old_until: Option<OffsetDateTime>,
    disabled_reason: Option<String>,
    disabled_at: Option<OffsetDateTime>,
    failing_since: Option<OffsetDateTime>,
    version: i32,
    created_at: OffsetDateTime,
}

impl Row {
    fn into_webhook(self) -> Result<Webhook, StoreError> {
        let at = |at: Option<OffsetDateTime>| at.map(seconds).transpose();
        Ok(Webhook {
            id: WebhookId::from_uuid(self.id),
            account: AccountId::from_uuid(self.account_id),
            url: self.url,
            events: self.events,
            description: self.description,
            old_until: at(self.old_until)?,
            disabled: self.disabled_reason.zip(at(self.disabled_at)?),
            failing_since: at(self.failing_since)?,
            version: u32::try_from(self.version).map_err(StoreError::corrupt)?,
            created_at: seconds(self.created_at)?,
        })
    }
}

/// Makes a webhook, unless its account has `most` of them. False if it has.
///
/// # Errors
/// The database's.
pub async fn create(
    tx: &mut Connection,
    (id, account): (WebhookId, AccountId),
    wish: &Wish,
    secret: &[u8],
    most: i64,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    // two at once count each other
    sqlx::query!("SELECT id FROM accounts WHERE id = $1 FOR NO KEY UPDATE", account.uuid())
        .fetch_optional(&mut *tx)
        .await?;
    let made = sqlx::query!(
        "INSERT INTO webhooks (id, account_id, url, events, description, secret, created_at, updated_at)
         SELECT $1::uuid, $2::uuid, $3, $4, $5, $6, $7, $7
         WHERE (SELECT count(*) FROM webhooks WHERE account_id = $2 AND deleted_at IS NULL) < $8",
        id.uuid(),
        account.uuid(),
        wish.url,
        &wish.events,
        wish.description,
        secret,
        ts(now)?,
        most,
    )
    .execute(tx)
    .await?;
    Ok(made.rows_affected() == 1)
}

/// All webhooks of an account, oldest first; they are few.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    account: AccountId,
) -> Result<Vec<Webhook>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, account_id, url, events, description, old_until, disabled_reason, disabled_at, failing_since,
                version, created_at
         FROM webhooks WHERE account_id = $1 AND deleted_at IS NULL ORDER BY id LIMIT 1000",
        account.uuid(),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Row::into_webhook)
    .collect()
}

/// The webhook with this id.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(
    connection: &mut Connection,
    id: WebhookId,
) -> Result<Option<Webhook>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, account_id, url, events, description, old_until, disabled_reason, disabled_at, failing_since,
                version, created_at
         FROM webhooks WHERE id = $1 AND deleted_at IS NULL",
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(Row::into_webhook)
    .transpose()
}

/// Changes a webhook that is at `version`. False if it is not.
///
/// # Errors
/// The database's.
pub async fn change(
    tx: &mut Connection,
    id: WebhookId,
    version: u32,
    wish: &Wish,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let version = i32::try_from(version).map_err(StoreError::corrupt)?;
    let done = sqlx::query!(
        "UPDATE webhooks SET url = $3, events = $4, description = $5, updated_at = $6, version = version + 1
         WHERE id = $1 AND version = $2",
        id.uuid(),
        version,
        wish.url,
        &wish.events,
        wish.description,
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Calls a webhook again that was disabled: of what happens from now on.
///
/// # Errors
/// The database's.
pub async fn enable(
    tx: &mut Connection,
    id: WebhookId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE webhooks SET state = 'active', disabled_reason = NULL, disabled_at = NULL, failing_since = NULL,
                updated_at = $2
         WHERE id = $1 AND state = 'disabled'",
        id.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Calls a webhook no more, with the reason. What waits for it is given up: the oldest now, the rest by
/// [`upkeep::clear`].
///
/// # Errors
/// The database's.
pub async fn disable(
    tx: &mut Connection,
    id: WebhookId,
    reason: &str,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE webhooks SET state = 'disabled', disabled_reason = $2, disabled_at = $3, updated_at = $3
         WHERE id = $1 AND state = 'active'",
        id.uuid(),
        reason,
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query!(
        "UPDATE deliveries SET state = 'failed', leased_until = NULL,
                last_error = COALESCE(last_error, 'the webhook was disabled')
         WHERE id IN (SELECT id FROM deliveries WHERE webhook_id = $1 AND state = 'pending'
                      ORDER BY due_at LIMIT $2)",
        id.uuid(),
        AT_ONCE,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes a webhook from its owner, for good. Its deliveries and itself are cleared away by [`upkeep::clear`].
///
/// # Errors
/// The database's.
pub async fn delete(
    tx: &mut Connection,
    id: WebhookId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE webhooks SET state = 'disabled', deleted_at = $2, updated_at = $2,
                disabled_reason = COALESCE(disabled_reason, 'its owner deleted it'),
                disabled_at = COALESCE(disabled_at, $2)
         WHERE id = $1 AND deleted_at IS NULL",
        id.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Gives a webhook a new secret; the one that it had signs beside it until `old_until`. While an older one still signs, that
/// one goes on for as long as was said, and the one that it had signs no more.
///
/// # Errors
/// The database's.
pub async fn rotate(
    tx: &mut Connection,
    id: WebhookId,
    secret: &[u8],
    old_until: UnixSeconds,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE webhooks
         SET old_secret = CASE WHEN old_until > $4 THEN old_secret ELSE secret END,
             old_until = CASE WHEN old_until > $4 THEN old_until ELSE $3::timestamptz END,
             secret = $2, updated_at = $4, version = version + 1
         WHERE id = $1",
        id.uuid(),
        secret,
        ts(old_until)?,
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}
