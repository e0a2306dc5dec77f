//! What people who run the service look at: queues and their ages, the server's limits, its clock.

use domain::time::{Seconds, UnixMillis, UnixSeconds};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts_millis},
};

/// How many things wait, and since when the longest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub count: u64,
    /// The age of the oldest, in whole seconds; zero if there is none.
    pub oldest: Seconds,
}

/// All queues at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Calls to the contract that are to be made later.
    pub intents_waiting: Waiting,
    /// Calls that may be made now; their age counts from that moment.
    pub intents_due: Waiting,
    /// Calls that a transaction carries which is not final.
    pub intents_sent: Waiting,
    /// Transactions that are not final; a later one cannot pass an earlier one of the same signer.
    pub transactions: Waiting,
    /// Timers that should have fired; their age counts from that moment.
    pub jobs_due: Waiting,
}

fn waiting(
    count: i64,
    since: Option<time::OffsetDateTime>,
    now: UnixMillis,
) -> Result<Waiting, StoreError> {
    let count = u64::try_from(count).map_err(StoreError::corrupt)?;
    let since = since.map(seconds).transpose()?;
    let oldest = since.map_or(0, |since| now.seconds().get().saturating_sub(since.get()));
    Ok(Waiting { count, oldest: Seconds(u32::try_from(oldest).unwrap_or(u32::MAX)) })
}

/// Looks at all queues. Every figure comes from a partial index: what is done costs nothing.
///
/// # Errors
/// The database's.
pub async fn queues(connection: &mut Connection, now: UnixMillis) -> Result<Queues, StoreError> {
    let at = ts_millis(now)?;
    let queued = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE not_before > $1) AS "later!",
                  min(created_at) FILTER (WHERE not_before > $1) AS later_since,
                  count(*) FILTER (WHERE not_before <= $1) AS "due!",
                  min(GREATEST(created_at, not_before)) FILTER (WHERE not_before <= $1) AS due_since
           FROM chain_intents WHERE state = 'queued'"#,
        at
    )
    .fetch_one(&mut *connection)
    .await?;
    let open = sqlx::query!(
        r#"SELECT count(*) AS "txs!", min(created_at) AS txs_since FROM chain_txs
           WHERE state NOT IN ('final_ok', 'final_reverted', 'voided')"#
    )
    .fetch_one(&mut *connection)
    .await?;
    let sent = sqlx::query!(
        r#"SELECT count(*) AS "count!", min(i.created_at) AS since
           FROM chain_txs t JOIN chain_intents i ON i.tx_id = t.id AND i.state = 'sent'
           WHERE t.state NOT IN ('final_ok', 'final_reverted', 'voided')"#
    )
    .fetch_one(&mut *connection)
    .await?;
    let jobs = sqlx::query!(
        r#"SELECT count(*) AS "count!", min(due_at) AS since FROM jobs
           WHERE done_at IS NULL AND due_at <= $1"#,
        at
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(Queues {
        intents_waiting: waiting(queued.later, queued.later_since, now)?,
        intents_due: waiting(queued.due, queued.due_since, now)?,
        intents_sent: waiting(sent.count, sent.since, now)?,
        transactions: waiting(open.txs, open.txs_since, now)?,
        jobs_due: waiting(jobs.count, jobs.since, now)?,
    })
}

/// When a worker last said that it sends for a key; `None` if none ever did.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn worker_seen(connection: &mut Connection) -> Result<Option<UnixSeconds>, StoreError> {
    let seen = sqlx::query_scalar!("SELECT max(seen_at) FROM chain_signers").fetch_one(connection);
    seen.await?.map(seconds).transpose()
}

/// How many connections may be opened, by everybody, and how many are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// What this role may open on this database: the least of the server's, the database's and the role's limit.
    pub limit: i64,
    /// Open ones, this one included.
    pub open: i64,
}

/// Asks the server for its limit of connections.
///
/// # Errors
/// The database's.
pub async fn connections(connection: &mut Connection) -> Result<Connections, StoreError> {
    // figures of the server, there on every database: nothing for query! to check
    let (limit, open): (i64, i64) = sqlx::query_as(
        "SELECT LEAST(
                    current_setting('max_connections')::bigint
                        - current_setting('superuser_reserved_connections')::bigint,
                    (SELECT NULLIF(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
                    (SELECT NULLIF(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user))::bigint,
                (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')",
    )
    .fetch_one(connection)
    .await?;
    Ok(Connections { limit, open })
}

/// The server's own clock.
///
/// # Errors
/// The database's.
pub async fn clock(connection: &mut Connection) -> Result<UnixSeconds, StoreError> {
    let at: time::OffsetDateTime =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await?;
    seconds(at)
}

/// Open freezes of money, or `None` where the schema has no such table.
///
/// # Errors
/// The database's.
pub async fn open_freezes(connection: &mut Connection) -> Result<Option<u64>, StoreError> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('freezes') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(None);
    }
    // not by query!: the table may not be there
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM freezes WHERE lifted_at IS NULL")
        .fetch_one(connection)
        .await?;
    u64::try_from(open).map(Some).map_err(StoreError::corrupt)
}
