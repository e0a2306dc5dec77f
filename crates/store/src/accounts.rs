//! Accounts, single-use sign-in nonces, and the sessions they are exchanged for.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use domain::{
    id::{AccountId, MachineId, SessionId},
    time::{Seconds, UnixSeconds},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    convert::{address, at_least_ten, hash, seconds, ts},
    revocations, sessions,
};

/// Someone known by a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// The wallet.
    pub address: Address,
    /// When it first signed in.
    pub created_at: UnixSeconds,
}

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOwner {
    /// A wallet's.
    Account(Account),
    /// An agent's.
    Machine(MachineId),
}

/// A sign-in that is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub owner: SessionOwner,
    /// When it ends by itself.
    pub expires_at: UnixSeconds,
    /// When it was used last, to the hour.
    pub last_used_at: Option<UnixSeconds>,
}

/// What became of a nonce that was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceUse {
    /// It was good, and is used up now.
    Accepted,
    /// It was good once.
    Expired,
    /// It was never given out, is forgotten, or was used before.
    Unknown,
}

/// How many dead nonces or sessions each new one clears away, so that the tables stay small without a
/// timer.
const CLEARED: i64 = 20;

/// The account of a wallet, made if this is its first sign-in.
///
/// # Errors
/// The database's.
pub async fn find_or_create(
    tx: &mut Connection,
    id: AccountId,
    wallet: Address,
    now: UnixSeconds,
) -> Result<Account, StoreError> {
    sqlx::query!(
        "INSERT INTO accounts (id, address, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (address) DO NOTHING",
        id.uuid(),
        wallet.as_slice(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    let row =
        sqlx::query!("SELECT id, created_at FROM accounts WHERE address = $1", wallet.as_slice())
            .fetch_one(tx)
            .await?;
    Ok(Account {
        id: AccountId::from_uuid(row.id),
        address: wallet,
        created_at: seconds(row.created_at)?,
    })
}

/// The account with this id.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(
    connection: &mut Connection,
    id: AccountId,
) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query!("SELECT address, created_at FROM accounts WHERE id = $1", id.uuid())
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        Ok(Account { id, address: address(&row.address)?, created_at: seconds(row.created_at)? })
    })
    .transpose()
}

/// Stores a nonce that may be used once before `expires_at`, and forgets a few expired ones.
///
/// # Errors
/// The database's.
pub async fn add_nonce(
    tx: &mut Connection,
    nonce: &str,
    now: UnixSeconds,
    expires_at: UnixSeconds,
) -> Result<(), StoreError> {
    let now = ts(now)?;
    sqlx::query!(
        "DELETE FROM sign_in_nonces WHERE nonce IN
            (SELECT nonce FROM sign_in_nonces WHERE expires_at < $1::timestamptz - interval '1 hour'
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        now,
        CLEARED,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO sign_in_nonces (nonce, created_at, expires_at) VALUES ($1, $2, $3)",
        nonce,
        now,
        ts(expires_at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that the chain is asked for a nonce. False if it was `most` times already, or if the nonce could not be used
/// now; only [`use_nonce`] decides that.
///
/// # Errors
/// The database's.
pub async fn note_asked(
    tx: &mut Connection,
    nonce: &str,
    most: i32,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let noted = sqlx::query!(
        "UPDATE sign_in_nonces SET asked = asked + 1
         WHERE nonce = $1 AND used_at IS NULL AND expires_at > $2 AND asked < $3",
        nonce,
        ts(now)?,
        most,
    )
    .execute(tx)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Uses a nonce up. Of any number of concurrent callers one gets [`NonceUse::Accepted`].
///
/// # Errors
/// The database's.
pub async fn use_nonce(
    tx: &mut Connection,
    nonce: &str,
    now: UnixSeconds,
) -> Result<NonceUse, StoreError> {
    let now = ts(now)?;
    let used = sqlx::query!(
        "UPDATE sign_in_nonces SET used_at = $2
         WHERE nonce = $1 AND used_at IS NULL AND expires_at > $2",
        nonce,
        now,
    )
    .execute(&mut *tx)
    .await?;
    if used.rows_affected() == 1 {
        return Ok(NonceUse::Accepted);
    }
    let expired = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM sign_in_nonces
                          WHERE nonce = $1 AND used_at IS NULL AND expires_at <= $2) AS "expired!""#,
        nonce,
        now,
    )
    .fetch_one(tx)
    .await?;
    Ok(if expired { NonceUse::Expired } else { NonceUse::Unknown })
}

/// A session to be stored. The token itself is never stored, only its SHA-256.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// SHA-256 of the bearer token.
    pub token_hash: [u8; 32],
    /// Whose it is; exactly one of the two.
    pub owner: NewOwner,
    /// What program asked for it, in its own words, shortened.
    pub user_agent: Option<String>,
    /// From when.
    pub now: UnixSeconds,
    /// Until when.
    pub expires_at: UnixSeconds,
}

/// Whose a new session is.
#[derive(Clone, Copy, Debug)]
pub enum NewOwner {
    /// A wallet's.
    Account(AccountId),
    /// An agent's.
    Machine(MachineId),
}

/// Sessions of one account that are good at once.
const MOST_SESSIONS: i64 = 64;

/// Opens a session, and forgets a few that ended long ago. Of an account that has [`MOST_SESSIONS`] the oldest ends.
///
/// # Errors
/// The database's.
pub async fn open_session(tx: &mut Connection, session: &NewSession) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM sessions WHERE id IN
            (SELECT id FROM sessions WHERE expires_at < $1::timestamptz - interval '7 days'
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ts(session.now)?,
        CLEARED,
    )
    .execute(&mut *tx)
    .await?;
    let (account, machine) = match session.owner {
        NewOwner::Account(id) => {
            sessions::revoke_beyond(tx, id, MOST_SESSIONS.saturating_sub(1), session.now).await?;
            (Some(id.uuid()), None)
        }
        NewOwner::Machine(id) => (None, Some(id.uuid())),
    };
    sqlx::query!(
        "INSERT INTO sessions (id, token_hash, account_id, machine_id, created_at, expires_at, user_agent,
                               last_used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        session.id.uuid(),
        session.token_hash.as_slice(),
        account,
        machine,
        ts(session.now)?,
        ts(session.expires_at)?,
        session.user_agent,
        ts(sessions::hour(session.now))?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The session of a token, unless it has ended. One of a wallet has also ended if it was not used for `idle` and up to an
/// hour more, as uses are noted to the hour; zero means that only its time ends it.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn find_session(
    connection: &mut Connection,
    token_hash: &[u8; 32],
    now: UnixSeconds,
    idle: Seconds,
) -> Result<Option<Session>, StoreError> {
    Ok(find_sessions(connection, &[*token_hash], now, idle).await?.remove(token_hash))
}

/// The same of several tokens at once, by their hashes.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn find_sessions(
    connection: &mut Connection,
    token_hashes: &[[u8; 32]],
    now: UnixSeconds,
    idle: Seconds,
) -> Result<BTreeMap<[u8; 32], Session>, StoreError> {
    let hashes = at_least_ten(token_hashes.iter().map(|hash| hash.to_vec()).collect());
    let rows = sqlx::query!(
        r#"SELECT s.token_hash, s.id, s.machine_id, s.expires_at, s.account_id, s.last_used_at,
                  a.address AS "address?", a.created_at AS "created_at?"
           FROM sessions s LEFT JOIN accounts a ON a.id = s.account_id
           WHERE s.token_hash = ANY($1) AND s.revoked_at IS NULL AND s.expires_at > $2
             AND (s.account_id IS NULL OR COALESCE(s.last_used_at, s.created_at) > $3)"#,
        &hashes,
        ts(now)?,
        ts(sessions::unused_since(now, idle))?,
    )
    .fetch_all(connection)
    .await?;
    let mut found = BTreeMap::new();
    for row in rows {
        let columns = SessionColumns {
            id: row.id,
            machine: row.machine_id,
            account: row.account_id,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            wallet: row.address,
            since: row.created_at,
        };
        found.insert(hash(&row.token_hash)?.0, columns.read()?);
    }
    Ok(found)
}

/// A session that has not ended, as it is stored.
pub(crate) struct SessionColumns {
    pub(crate) id: Uuid,
    pub(crate) machine: Option<Uuid>,
    pub(crate) account: Option<Uuid>,
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) last_used_at: Option<OffsetDateTime>,
    /// The account's wallet, and when it first signed in.
    pub(crate) wallet: Option<Vec<u8>>,
    pub(crate) since: Option<OffsetDateTime>,
}

impl SessionColumns {
    pub(crate) fn read(self) -> Result<Session, StoreError> {
        let owner = match (self.account, self.wallet, self.since, self.machine) {
            (Some(id), Some(wallet), Some(since), None) => SessionOwner::Account(Account {
                id: AccountId::from_uuid(id),
                address: address(&wallet)?,
                created_at: seconds(since)?,
            }),
            (None, None, None, Some(id)) => SessionOwner::Machine(MachineId::from_uuid(id)),
            _ => return Err(StoreError::corrupt("a session without an owner")),
        };
        Ok(Session {
            id: SessionId::from_uuid(self.id),
            owner,
            expires_at: seconds(self.expires_at)?,
            last_used_at: self.last_used_at.map(seconds).transpose()?,
        })
    }
}

/// Ends a session.
///
/// # Errors
/// The database's.
pub async fn revoke_session(
    tx: &mut Connection,
    id: SessionId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE sessions SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
        id.uuid(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    revocations::announce(tx, &[id.uuid()]).await
}
