//! What rentals want from the chain. An intent is a row written in the transaction of the state that
//! wants it; the lane turns it into a transaction.

use alloy_primitives::{B256, Bytes};
use domain::{
    id::RentalId,
    money::Amount,
    time::{Seconds, UnixMillis, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    convert::{hash, ts, ts_millis},
};

/// A call to the escrow, with its measured arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum Call {
    /// Billing begins.
    Start {
        /// The first billed second.
        started_at: UnixSeconds,
    },
    /// Billing ends and everything is paid.
    Close {
        /// The last measured second.
        stopped_at: UnixSeconds,
        /// Seconds of outage, not billed.
        credit: Seconds,
    },
    /// Never started: everything back.
    Cancel,
    /// The time of held seconds is over: they go where they go.
    Finalize,
    /// What has run so far is paid, but for the holdback.
    Release {
        /// From this second on it may not be sent any more: it would pay for more than its evidence covered.
        until: UnixSeconds,
    },
    /// The renter's deposit is locked by an authorization (EIP-3009) that the renter signed.
    Lock {
        /// How much.
        deposit: Amount,
        /// It is valid after this second.
        valid_after: UnixSeconds,
        /// It is valid before this second.
        valid_before: UnixSeconds,
        /// The renter's.
        signature: Bytes,
    },
}

impl Call {
    /// The stored name.
    #[must_use]
    pub const fn purpose(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Close { .. } => "close",
            Self::Cancel => "cancel",
            Self::Finalize => "finalize",
            Self::Release { .. } => "release",
            Self::Lock { .. } => "lock",
        }
    }
}

/// An intent.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub rental: RentalId,
    /// What.
    pub call: Call,
    /// How often it was put off.
    pub deferrals: u32,
}

/// An intent as a person follows it.
#[derive(Clone, Debug)]
pub struct ChainStep {
    /// start, close, cancel, finalize, release or lock.
    pub purpose: String,
    /// queued, sent, done or refused.
    pub state: String,
    /// The transaction that carries it, once signed.
    pub tx_hash: Option<B256>,
    /// The block it was mined in.
    pub block: Option<u64>,
    /// Why it was refused or put off.
    pub last_error: Option<String>,
}

mod carry;
mod claim;
mod operations;

pub use carry::{
    Carried, ask_later, carried, count_failed, refuse_sent, sent, settle, take_anew, to_ask_anew,
};
pub use claim::{Claimed, claim, unclaim};
pub use operations::{Operation, operations};

/// The longest wait before another try of a call that came to nothing; below the ten minutes in which the
/// contract takes a measured second.
const LONGEST_WAIT_S: u32 = 256;

/// How long a call of this purpose waits: not at all the first time, then twice as long each time.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn wait_before(
    connection: &mut Connection,
    rental: RentalId,
    purpose: &str,
) -> Result<Seconds, StoreError> {
    let tried = sqlx::query_scalar!(
        r#"SELECT count(*) AS "tried!" FROM chain_intents WHERE rental_id = $1 AND purpose = $2"#,
        rental.uuid(),
        purpose,
    )
    .fetch_one(connection)
    .await?;
    wait_after(tried)
}

/// The wait of a call of whose purpose so many came before it.
fn wait_after(tried: i64) -> Result<Seconds, StoreError> {
    let tried = u32::try_from(tried).map_err(StoreError::corrupt)?;
    let wait = tried.checked_sub(1).map_or(0, |again| 1_u32.checked_shl(again).unwrap_or(u32::MAX));
    Ok(Seconds(wait.min(LONGEST_WAIT_S)))
}

/// Queues a call for a rental, under the next sequence number of its purpose, to be sent at `not_before` at the
/// earliest. A batch that came to nothing with an earlier one is not repeated at its size.
///
/// # Errors
/// The database's.
pub async fn queue(
    tx: &mut Connection,
    rental: RentalId,
    call: &Call,
    now: UnixSeconds,
    not_before: UnixSeconds,
) -> Result<(), StoreError> {
    let args = serde_json::to_value(call).map_err(StoreError::corrupt)?;
    sqlx::query!(
        "INSERT INTO chain_intents (id, rental_id, purpose, seq, args, state, not_before, created_at,
                                    batch_cap)
         SELECT $1, $2, $3, COALESCE(max(seq), 0) + 1, $4, 'queued', $6, $5, min(batch_cap)
         FROM chain_intents WHERE rental_id = $2 AND purpose = $3",
        Uuid::now_v7(),
        rental.uuid(),
        call.purpose(),
        args,
        ts(now)?,
        ts(not_before)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Lets a rental's queued close go now: it waits for nobody's signature any more. One that was put off keeps its time,
/// and one that follows others that came to nothing waits as long as those before it make it ([`wait_before`]).
///
/// # Errors
/// The database's.
pub async fn hasten_close(
    tx: &mut Connection,
    rental: RentalId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let before = sqlx::query_scalar!(
        r#"SELECT count(*) AS "before!" FROM chain_intents
           WHERE rental_id = $1 AND purpose = 'close' AND state <> 'queued'"#,
        rental.uuid(),
    )
    .fetch_one(&mut *tx)
    .await?;
    let wait = wait_after(before)?;
    sqlx::query!(
        "UPDATE chain_intents
         SET not_before = LEAST(not_before, GREATEST($2, created_at + $3::bigint * INTERVAL '1 second'))
         WHERE rental_id = $1 AND purpose = 'close' AND state = 'queued' AND deferrals = 0",
        rental.uuid(),
        ts(now)?,
        i64::from(wait.get()),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether a call of this purpose is queued or under way.
///
/// # Errors
/// The database's.
pub async fn is_open(
    connection: &mut Connection,
    rental: RentalId,
    purpose: &str,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM chain_intents WHERE rental_id = $1 AND purpose = $2
                          AND state IN ('queued', 'sent')) AS "open!""#,
        rental.uuid(),
        purpose,
    )
    .fetch_one(connection)
    .await?)
}

/// Puts a queued intent off.
///
/// # Errors
/// The database's.
pub async fn defer(
    connection: &mut Connection,
    intent: Uuid,
    until: UnixMillis,
    error: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_intents SET not_before = $2, last_error = $3, deferrals = deferrals + 1,
             claimed_by = NULL, claimed_until = NULL
         WHERE id = $1 AND state = 'queued'",
        intent,
        ts_millis(until)?,
        error
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives a queued intent up. False if it is no longer queued.
///
/// # Errors
/// The database's.
pub async fn refuse(tx: &mut Connection, intent: Uuid, error: &str) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE chain_intents SET state = 'refused', last_error = $2 WHERE id = $1 AND state = 'queued'",
        intent,
        error
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Drops the queued intents of a rental that no longer needs them.
///
/// # Errors
/// The database's.
pub async fn drop_queued(
    tx: &mut Connection,
    rental: RentalId,
    why: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_intents SET state = 'refused', last_error = $2
         WHERE rental_id = $1 AND state = 'queued'",
        rental.uuid(),
        why
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Drops the queued release of a rental that is not running well any more. True if there was one.
///
/// # Errors
/// The database's.
pub async fn drop_release(
    tx: &mut Connection,
    rental: RentalId,
    why: &str,
) -> Result<bool, StoreError> {
    let dropped = sqlx::query!(
        "UPDATE chain_intents SET state = 'refused', last_error = $2
         WHERE rental_id = $1 AND purpose = 'release' AND state = 'queued'",
        rental.uuid(),
        why
    )
    .execute(tx)
    .await?;
    Ok(dropped.rows_affected() > 0)
}

/// The newest transaction of ours that carries a call for a rental: its hash, that of the attempt that was mined, else of
/// the newest. A call has a transaction from the moment on that it is signed.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn newest_transaction(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Option<B256>, StoreError> {
    let newest = sqlx::query_scalar!(
        r#"SELECT COALESCE(t.mined_attempt, (SELECT a.hash FROM chain_tx_attempts a
                                             WHERE a.tx_id = t.id ORDER BY a.attempt DESC LIMIT 1)) AS "hash?"
           FROM chain_intents i JOIN chain_txs t ON t.id = i.tx_id
           WHERE i.rental_id = $1 ORDER BY i.created_at DESC, i.id DESC LIMIT 1"#,
        rental.uuid()
    )
    .fetch_optional(connection)
    .await?;
    newest.flatten().as_deref().map(hash).transpose()
}

/// The chain steps of a rental, in order.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn for_rental(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Vec<ChainStep>, StoreError> {
    sqlx::query!(
        r#"SELECT i.purpose, i.state, i.last_error, t.block_number AS "block?",
                  COALESCE(t.mined_attempt, (SELECT a.hash FROM chain_tx_attempts a
                                             WHERE a.tx_id = t.id ORDER BY a.attempt DESC LIMIT 1)) AS hash
           FROM chain_intents i LEFT JOIN chain_txs t ON t.id = i.tx_id
           WHERE i.rental_id = $1 ORDER BY i.created_at, i.id"#,
        rental.uuid()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(ChainStep {
            purpose: row.purpose,
            state: row.state,
            tx_hash: row.hash.as_deref().map(hash).transpose()?,
            block: row.block.map(u64::try_from).transpose().map_err(StoreError::corrupt)?,
            last_error: row.last_error,
        })
    })
    .collect()
}
