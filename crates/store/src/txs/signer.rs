//! The accounts that pay for gas: which process numbers for them, and the numbers that it gives.

use std::time::Duration;

use alloy_primitives::Address;
use domain::time::UnixMillis;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use time::OffsetDateTime;

use super::{NewTx, int};
use crate::{Connection, Store, StoreError, convert::ts_millis};

/// A process as a holder of leases: a number, and a session with the database that holds the advisory lock of
/// that number as long as the process lives. When the process dies, however, the lock is free at once.
pub struct Presence {
    holder: i64,
    session: PgConnection,
}

impl Presence {
    /// Opens the session and takes the lock.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no connection to be had.
    pub async fn open(store: &Store) -> Result<Self, StoreError> {
        tokio::time::timeout(ANSWER, Self::take(store))
            .await
            .map_err(|_| StoreError::Unavailable("no session in time".to_owned()))?
    }

    async fn take(store: &Store) -> Result<Self, StoreError> {
        let mut session = store.pool().connect_options().connect().await?;
        // numbers from the database, so that no two processes can have the same
        let holder = sqlx::query_scalar!(
            r#"SELECT ('x' || substr(md5(gen_random_uuid()::text), 1, 16))::bit(64)::bigint AS "holder!""#
        )
        .fetch_one(&mut session)
        .await?;
        sqlx::query!("SELECT pg_advisory_lock($1)", holder).execute(&mut session).await?;
        Ok(Self { holder, session })
    }

    /// The holder's number.
    #[must_use]
    pub const fn holder(&self) -> i64 {
        self.holder
    }

    /// Whether the session still stands, and with it the lock.
    pub async fn stands(&mut self) -> bool {
        tokio::time::timeout(ANSWER, self.session.ping()).await.is_ok_and(|answer| answer.is_ok())
    }
}

/// A database that says nothing for so long is gone.
const ANSWER: Duration = Duration::from_secs(5);
/// The chain's next nonce is never so far beyond ours: a node that says so is not believed.
const LARGEST_JUMP: i64 = 10_000;

/// The right to number for a key, until it is taken by another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Grows with every taking.
    pub number: i64,
    /// When it ends, unless it is renewed.
    pub until: UnixMillis,
}

/// Takes a signer's account over from `next_nonce` on, which is the chain's. Asked again, nothing changes,
/// unless the chain is past every number that we know of: then the key was used elsewhere, or the database
/// is older than the chain, and the numbers in between are gone. A number that is absurdly far ahead changes nothing.
///
/// # Errors
/// The database's.
pub async fn register_signer(
    tx: &mut Connection,
    address: Address,
    next_nonce: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO chain_signers (address, first_nonce) VALUES ($1, $2)
         ON CONFLICT (address) DO UPDATE
         SET first_nonce = GREATEST(chain_signers.first_nonce, EXCLUDED.first_nonce)
         WHERE EXCLUDED.first_nonce > COALESCE((SELECT max(nonce) + 1 FROM chain_txs
                                                WHERE signer = EXCLUDED.address), 0)
           AND EXCLUDED.first_nonce < $3 + GREATEST(chain_signers.first_nonce, COALESCE(
                   (SELECT max(nonce) FROM chain_txs WHERE signer = EXCLUDED.address), 0))",
        address.as_slice(),
        int(next_nonce)?,
        LARGEST_JUMP
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes or renews the lease of a registered signer for `term`. `None` while another process holds it: its time
/// is not over and it lives.
///
/// # Errors
/// The database's; [`StoreError::Missing`] if the signer is not registered.
pub async fn lease(
    tx: &mut Connection,
    address: Address,
    presence: i64,
    now: UnixMillis,
    term: Duration,
) -> Result<Option<Lease>, StoreError> {
    let row = sqlx::query!(
        "SELECT run_lease, holder, leased_until FROM chain_signers WHERE address = $1 FOR UPDATE",
        address.as_slice()
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(StoreError::Missing("the signer"))?;
    let at = ts_millis(now)?;
    let is_mine = row.holder == Some(presence);
    let term = u64::try_from(term.as_millis()).map_err(StoreError::corrupt)?;
    let until = UnixMillis(now.get().saturating_add(term));
    // Longer than anybody may hold it from now on: it was given by a clock that is ahead.
    let absurd = ts_millis(UnixMillis(until.get().saturating_add(term)))?;
    let held = row.leased_until.filter(|until| *until > at && *until <= absurd);
    if !is_mine && !is_free(tx, row.holder, held).await? {
        return Ok(None);
    }
    let number = if is_mine { row.run_lease } else { row.run_lease.saturating_add(1) };
    sqlx::query!(
        "UPDATE chain_signers SET run_lease = $2, holder = $3, leased_until = $4, seen_at = $5
         WHERE address = $1",
        address.as_slice(),
        number,
        presence,
        ts_millis(until)?,
        at
    )
    .execute(tx)
    .await?;
    Ok(Some(Lease { number, until }))
}

/// Whether nobody holds a lease: never taken, over, or its holder's session is gone.
async fn is_free(
    tx: &mut Connection,
    holder: Option<i64>,
    held_until: Option<OffsetDateTime>,
) -> Result<bool, StoreError> {
    let (Some(holder), Some(_)) = (holder, held_until) else { return Ok(true) };
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "free!""#, holder)
        .fetch_one(tx)
        .await?)
}

/// Gives the lease back, so that the next process need not wait for its end.
///
/// # Errors
/// The database's.
pub async fn release(
    tx: &mut Connection,
    address: Address,
    lease: Lease,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_signers SET holder = NULL, leased_until = NULL
         WHERE address = $1 AND run_lease = $2",
        address.as_slice(),
        lease.number
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether a lease is the newest still. Nobody takes another until this transaction is over.
///
/// # Errors
/// The database's.
pub async fn is_held(
    tx: &mut Connection,
    address: Address,
    lease: Lease,
) -> Result<bool, StoreError> {
    // The lock is a statement of its own: the next one must see what the previous holder wrote.
    let held = sqlx::query_scalar!(
        "SELECT run_lease FROM chain_signers WHERE address = $1 FOR UPDATE",
        address.as_slice()
    )
    .fetch_optional(tx)
    .await?;
    Ok(held == Some(lease.number))
}

/// Makes the row of a transaction with the signer's next nonce, in one statement, and returns the nonce; `None`
/// if the lease is another's by now. Whoever numbers next waits until this transaction is over, so that a nonce
/// is never skipped.
///
/// # Errors
/// The database's.
pub async fn number(
    tx: &mut Connection,
    lease: Lease,
    new: &NewTx,
    now: UnixMillis,
) -> Result<Option<u64>, StoreError> {
    if !is_held(tx, new.signer, lease).await? {
        return Ok(None);
    }
    let nonce = sqlx::query_scalar!(
        "INSERT INTO chain_txs (id, signer, nonce, to_address, calldata, gas_limit, state,
                                next_send_at, created_at, updated_at)
         SELECT $1, s.address,
                GREATEST(s.first_nonce, COALESCE((SELECT max(nonce) + 1 FROM chain_txs t
                                                  WHERE t.signer = s.address), 0)),
                $3, $4, $5, 'numbered', $6, $6, $6
         FROM chain_signers s WHERE s.address = $2
         RETURNING nonce",
        new.id.uuid(),
        new.signer.as_slice(),
        new.to.as_slice(),
        new.calldata,
        int(new.gas_limit)?,
        ts_millis(now)?,
    )
    .fetch_one(tx)
    .await?;
    u64::try_from(nonce).map(Some).map_err(StoreError::corrupt)
}
