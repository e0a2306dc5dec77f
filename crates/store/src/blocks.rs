//! The canonical chain as the watcher follows it, and the events in it. A reorganisation deletes rows
//! from the fork on; a final block is never deleted.

use alloy_primitives::B256;
use domain::time::UnixSeconds;
use serde_json::Value;

use crate::{
    Connection, StoreError,
    convert::{hash, seconds, ts},
};

mod applying;
mod escrows;
mod ours;
pub use applying::{Waiting, mark_applied, mark_failed, pending, unapplied, waiting};
pub use escrows::{Paid, newest_named, paid};
pub use ours::open_attempts;

/// A block that we follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedBlock {
    /// Height.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of the one before.
    pub parent_hash: B256,
    /// When it was made.
    pub timestamp: UnixSeconds,
    /// True once the chain called it final.
    pub is_final: bool,
}

/// A decoded event on its way into the store.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Position in the block.
    pub log_index: u32,
    /// The transaction that emitted it.
    pub tx_hash: B256,
    /// Its name.
    pub name: &'static str,
    /// The rental's id on the chain, if it is about one.
    pub escrow_id: Option<B256>,
    /// Its fields.
    pub body: Value,
}

/// A stored event.
#[derive(Clone, Debug)]
pub struct SeenEvent {
    /// The block it is in.
    pub block_hash: B256,
    /// Height of that block.
    pub block_number: u64,
    /// When that block was made.
    pub at: UnixSeconds,
    /// Position in the block.
    pub log_index: u32,
    /// The transaction that emitted it.
    pub tx_hash: B256,
    /// Its name.
    pub name: String,
    /// The rental's id on the chain, if it is about one.
    pub escrow_id: Option<B256>,
    /// True once its block is final.
    pub is_final: bool,
    /// Its fields.
    pub body: Value,
}

struct BlockRow {
    number: i64,
    hash: Vec<u8>,
    parent_hash: Vec<u8>,
    timestamp: time::OffsetDateTime,
    is_final: bool,
}

impl TryFrom<BlockRow> for FollowedBlock {
    type Error = StoreError;

    fn try_from(row: BlockRow) -> Result<Self, StoreError> {
        Ok(Self {
            number: u64::try_from(row.number).map_err(StoreError::corrupt)?,
            hash: hash(&row.hash)?,
            parent_hash: hash(&row.parent_hash)?,
            timestamp: seconds(row.timestamp)?,
            is_final: row.is_final,
        })
    }
}

struct EventRow {
    block_hash: Vec<u8>,
    block_number: i64,
    timestamp: time::OffsetDateTime,
    log_index: i32,
    tx_hash: Vec<u8>,
    name: String,
    escrow_id: Option<Vec<u8>>,
    is_final: bool,
    body: Value,
}

impl TryFrom<EventRow> for SeenEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        Ok(Self {
            block_hash: hash(&row.block_hash)?,
            block_number: u64::try_from(row.block_number).map_err(StoreError::corrupt)?,
            at: seconds(row.timestamp)?,
            log_index: u32::try_from(row.log_index).map_err(StoreError::corrupt)?,
            tx_hash: hash(&row.tx_hash)?,
            name: row.name,
            escrow_id: row.escrow_id.as_deref().map(hash).transpose()?,
            is_final: row.is_final,
            body: row.body,
        })
    }
}

fn height(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(StoreError::corrupt)
}

/// The newest block that we follow.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn tip(connection: &mut Connection) -> Result<Option<FollowedBlock>, StoreError> {
    sqlx::query_as!(
        BlockRow,
        r#"SELECT number, hash, parent_hash, timestamp, final AS "is_final!"
           FROM chain_blocks ORDER BY number DESC LIMIT 1"#
    )
    .fetch_optional(connection)
    .await?
    .map(FollowedBlock::try_from)
    .transpose()
}

/// The block that we follow at a height.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn at(
    connection: &mut Connection,
    number: u64,
) -> Result<Option<FollowedBlock>, StoreError> {
    sqlx::query_as!(
        BlockRow,
        r#"SELECT number, hash, parent_hash, timestamp, final AS "is_final!"
           FROM chain_blocks WHERE number = $1"#,
        height(number)?,
    )
    .fetch_optional(connection)
    .await?
    .map(FollowedBlock::try_from)
    .transpose()
}

/// The newest final block that we follow.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn final_tip(connection: &mut Connection) -> Result<Option<FollowedBlock>, StoreError> {
    sqlx::query_as!(
        BlockRow,
        r#"SELECT number, hash, parent_hash, timestamp, final AS "is_final!"
           FROM chain_blocks WHERE final ORDER BY number DESC LIMIT 1"#
    )
    .fetch_optional(connection)
    .await?
    .map(FollowedBlock::try_from)
    .transpose()
}

/// Adds a block and its events on top.
///
/// # Errors
/// [`StoreError::Conflict`] if there is a block at that height already.
pub async fn append(
    tx: &mut Connection,
    block: &FollowedBlock,
    events: &[NewEvent],
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO chain_blocks (number, hash, parent_hash, timestamp, final)
         VALUES ($1, $2, $3, $4, $5)",
        height(block.number)?,
        block.hash.as_slice(),
        block.parent_hash.as_slice(),
        ts(block.timestamp)?,
        block.is_final,
    )
    .execute(&mut *tx)
    .await?;
    for event in events {
        sqlx::query!(
            "INSERT INTO chain_events (block_hash, log_index, block_number, tx_hash, name, escrow_id, body)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            block.hash.as_slice(),
            i32::try_from(event.log_index).map_err(StoreError::corrupt)?,
            height(block.number)?,
            event.tx_hash.as_slice(),
            event.name,
            event.escrow_id.as_ref().map(B256::as_slice),
            event.body,
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Drops every block above `number`, and returns the events that went with them, newest first.
///
/// # Errors
/// [`StoreError::Corrupt`] if one of them was final: the chain broke its word, a human must look.
pub async fn rewind(tx: &mut Connection, number: u64) -> Result<Vec<SeenEvent>, StoreError> {
    let number = height(number)?;
    let broken = sqlx::query_scalar!(
        "SELECT max(number) FROM chain_blocks WHERE number > $1 AND final",
        number
    )
    .fetch_one(&mut *tx)
    .await?;
    if let Some(block) = broken {
        return Err(StoreError::corrupt(format_args!(
            "block {block} was final and has left the chain (a local chain whose process was killed loses \
             its last seconds: remove it together with its database)"
        )));
    }
    let dropped = sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE e.block_number > $1 ORDER BY e.block_number DESC, e.log_index DESC"#,
        number
    )
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query!("DELETE FROM chain_blocks WHERE number > $1", number).execute(tx).await?;
    dropped.into_iter().map(SeenEvent::try_from).collect()
}

/// Marks every block up to the one at `number` final, if that block is the one with `hash`. False if we
/// follow another block there, or none yet.
///
/// # Errors
/// The database's.
pub async fn finalise(tx: &mut Connection, number: u64, hash: B256) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE chain_blocks SET final = true
         WHERE NOT final AND number <= $1
           AND EXISTS (SELECT FROM chain_blocks WHERE number = $1 AND hash = $2)",
        height(number)?,
        hash.as_slice(),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// What the chain said about a rental so far, in order, unfinal events marked so: the newest `limit`
/// events, for anybody can add top-ups without end. Skipped calls are not among them: they say nothing of the rental,
/// and anybody can make them for nothing but gas.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn events_for(
    connection: &mut Connection,
    escrow_id: B256,
    limit: i64,
) -> Result<Vec<SeenEvent>, StoreError> {
    let newest_first = sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE e.escrow_id = $1 AND e.name <> 'skipped'
           ORDER BY e.block_number DESC, e.log_index DESC LIMIT $2"#,
        escrow_id.as_slice(),
        limit
    )
    .fetch_all(connection)
    .await?;
    newest_first.into_iter().rev().map(SeenEvent::try_from).collect()
}

/// What the chain said finally about a rental under these names, in order: the newest `limit`, however much else was said.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn final_named(
    connection: &mut Connection,
    escrow_id: B256,
    names: &[&str],
    limit: i64,
) -> Result<Vec<SeenEvent>, StoreError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let newest_first = sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE e.escrow_id = $1 AND e.name <> 'skipped' AND e.name = ANY($2) AND b.final
           ORDER BY e.block_number DESC, e.log_index DESC LIMIT $3"#,
        escrow_id.as_slice(),
        &names,
        limit
    )
    .fetch_all(connection)
    .await?;
    newest_first.into_iter().rev().map(SeenEvent::try_from).collect()
}

/// The lock of a rental, found by itself however much came after it.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn lock_of(
    connection: &mut Connection,
    escrow_id: B256,
) -> Result<Option<SeenEvent>, StoreError> {
    sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE e.escrow_id = $1 AND e.name = 'locked'
           ORDER BY e.block_number, e.log_index LIMIT 1"#,
        escrow_id.as_slice()
    )
    .fetch_optional(connection)
    .await?
    .map(SeenEvent::try_from)
    .transpose()
}

/// The newest event of this name before the given one, in the chain's order.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn latest_before(
    connection: &mut Connection,
    name: &str,
    before: &SeenEvent,
) -> Result<Option<SeenEvent>, StoreError> {
    sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE e.name = $1 AND (e.block_number, e.log_index) < ($2, $3)
           ORDER BY e.block_number DESC, e.log_index DESC LIMIT 1"#,
        name,
        height(before.block_number)?,
        i32::try_from(before.log_index).map_err(StoreError::corrupt)?,
    )
    .fetch_optional(connection)
    .await?
    .map(SeenEvent::try_from)
    .transpose()
}

/// All final events, in order, after the given position: what the reconciler replays.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn final_events(
    connection: &mut Connection,
    after: (u64, i64),
    limit: i64,
) -> Result<Vec<SeenEvent>, StoreError> {
    sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE b.final AND (e.block_number, e.log_index::bigint) > ($1, $2)
           ORDER BY e.block_number, e.log_index LIMIT $3"#,
        height(after.0)?,
        after.1,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(SeenEvent::try_from)
    .collect()
}

/// Forgets final blocks that carry no event and lie more than `keep` below the newest final one.
///
/// # Errors
/// The database's.
pub async fn prune(tx: &mut Connection, keep: i64) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "DELETE FROM chain_blocks b
         WHERE final AND number < (SELECT max(number) FROM chain_blocks WHERE final) - $1
           AND NOT EXISTS (SELECT FROM chain_events e WHERE e.block_hash = b.hash)",
        keep
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
