//! What has happened to an account, for its event stream. Rows are made by `hook` (migration 0021), in the transaction of
//! what they tell, for accounts that have opened a stream in the last week.

use domain::{id::AccountId, time::UnixSeconds};
use serde_json::Value;
use uuid::Uuid;

use crate::{Connection, StoreError, convert::seconds};

/// The channel on which news of accounts are announced, all but bookings; the payload is the account's id.
pub(crate) const CHANNEL: &str = "weir_accounts";

/// A place among an account's events. It grows in the order in which they can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The transaction that wrote the event.
    pub xid: u64,
    /// Its number; from 1 on.
    pub id: i64,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEvent {
    /// Its place.
    pub position: Position,
    /// Such as `rental.ready`: a name of [`domain::webhook::EVENTS`].
    pub kind: String,
    /// When it happened.
    pub at: UnixSeconds,
    /// When it was written down, by the server's clock: it is kept for a week from then on.
    pub kept_at: UnixSeconds,
    /// The rest of it.
    pub data: Value,
}

/// Some events of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In their order.
    pub events: Vec<AccountEvent>,
    /// There are others whose place is not certain yet: a transaction that began before them goes on.
    pub unsettled: bool,
}

/// How far transactions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The oldest transaction that goes on, or the next one: all below are over.
    pub oldest: u64,
    /// The next transaction has this number or a higher one.
    pub next: u64,
    /// The server's time.
    pub now: UnixSeconds,
}

/// Keeps an account's events from now on, and for a week after the last call. True if they were not kept before:
/// transactions that go on at this moment may still leave none (see [`whole_from`]).
///
/// # Errors
/// The database's.
pub async fn keep(tx: &mut Connection, account: AccountId) -> Result<bool, StoreError> {
    let fresh = sqlx::query_scalar!(
        r#"INSERT INTO account_streams (account_id) VALUES ($1)
           ON CONFLICT (account_id) DO UPDATE SET opened_at = now()
             WHERE account_streams.opened_at < now() - interval '1 hour'
           RETURNING xmax = 0 AS "fresh!""#,
        account.uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(fresh.unwrap_or(false))
}

/// From which transaction on an account's events are all there: those below may have written before it was known that they
/// are kept. Asked for in a transaction that begins after that of [`keep`].
///
/// # Errors
/// The database's, [`StoreError::Missing`] if they are not kept, or [`StoreError::Corrupt`].
pub async fn whole_from(tx: &mut Connection, account: AccountId) -> Result<u64, StoreError> {
    let known = sqlx::query_scalar!(
        r#"SELECT whole_from::text AS "from?" FROM account_streams WHERE account_id = $1"#,
        account.uuid(),
    )
    .fetch_optional(&mut *tx)
    .await?
    .flatten();
    if let Some(from) = known {
        return number(&from);
    }
    // This one's own number, which it gets here: whoever wrote without seeing the row had one by then. The next of a snapshot
    // would not do: it is above those that are over, and may be below others.
    let from = sqlx::query_scalar!(
        r#"UPDATE account_streams SET whole_from = COALESCE(whole_from, pg_current_xact_id())
           WHERE account_id = $1 RETURNING whole_from::text AS "from!""#,
        account.uuid(),
    )
    .fetch_one(tx)
    .await?;
    number(&from)
}

/// How far transactions are at this moment.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn horizon(connection: &mut Connection) -> Result<Horizon, StoreError> {
    let row = sqlx::query!(
        r#"SELECT pg_snapshot_xmin(s)::text AS "oldest!", pg_snapshot_xmax(s)::text AS "next!", now() AS "now!"
           FROM pg_current_snapshot() s"#
    )
    .fetch_one(connection)
    .await?;
    Ok(Horizon { oldest: number(&row.oldest)?, next: number(&row.next)?, now: seconds(row.now)? })
}

/// What everybody sees at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(String);

impl Default for Snapshot {
    /// Before the first transaction.
    fn default() -> Self {
        Self("1:1:".to_owned())
    }
}

/// Which of these accounts have events that were not there at an earlier look, each of which is found once; and what is
/// there now.
///
/// # Errors
/// The database's.
pub async fn news_since(
    connection: &mut Connection,
    accounts: &[AccountId],
    before: &Snapshot,
) -> Result<(Vec<AccountId>, Snapshot), StoreError> {
    let ids: Vec<Uuid> = accounts.iter().map(|account| account.uuid()).collect();
    let row = sqlx::query!(
        r#"SELECT pg_current_snapshot()::text AS "now!",
                  ARRAY(SELECT DISTINCT account_id FROM account_events
                        WHERE account_id = ANY($1) AND xid >= pg_snapshot_xmin($2::text::pg_snapshot)
                          AND NOT pg_visible_in_snapshot(xid, $2::text::pg_snapshot)) AS "accounts!: Vec<Uuid>""#,
        &ids,
        before.0,
    )
    .fetch_one(connection)
    .await?;
    Ok((row.accounts.into_iter().map(AccountId::from_uuid).collect(), Snapshot(row.now)))
}

/// Up to `limit` events of an account after a place, as far as their places are certain.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn after(
    connection: &mut Connection,
    account: AccountId,
    position: Position,
    limit: i64,
) -> Result<Page, StoreError> {
    // One more than is asked for, of which the uncertain ones come last. Visible are the rows of transactions that are
    // over; but below an older one that goes on, another row may yet appear.
    let rows = sqlx::query!(
        r#"SELECT xid::text AS "xid!", id, kind, at, data, kept_at,
                  xid < pg_snapshot_xmin(pg_current_snapshot()) AS "settled!"
           FROM account_events WHERE account_id = $1 AND (xid, id) > ($2::text::xid8, $3)
           ORDER BY xid, id LIMIT $4"#,
        account.uuid(),
        position.xid.to_string(),
        position.id,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let unsettled = rows.iter().any(|row| !row.settled);
    let events = rows.into_iter().take_while(|row| row.settled).map(|row| {
        Ok(AccountEvent {
            position: Position { xid: number(&row.xid)?, id: row.id },
            kind: row.kind,
            at: seconds(row.at)?,
            kept_at: seconds(row.kept_at)?,
            data: row.data,
        })
    });
    Ok(Page { events: events.collect::<Result<_, StoreError>>()?, unsettled })
}

/// Forgets up to `limit` events that are older than a week, and whose accounts have opened no stream for as long.
///
/// # Errors
/// The database's.
pub async fn forget(tx: &mut Connection, limit: i64) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "DELETE FROM account_events WHERE (account_id, xid, id) IN (
           SELECT account_id, xid, id FROM account_events WHERE kept_at < now() - interval '7 days'
           ORDER BY kept_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
        limit,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("DELETE FROM account_streams WHERE opened_at < now() - interval '7 days'")
        .execute(tx)
        .await?;
    Ok(done.rows_affected())
}

fn number(text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(StoreError::corrupt)
}
