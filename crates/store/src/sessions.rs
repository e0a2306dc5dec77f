//! An account's sessions, as its owner sees and ends them, and those of a machine, which end with its agent's key. How they
//! begin is in [`crate::accounts`].

use domain::{
    id::{AccountId, MachineId, RentalId, SessionId},
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
    payments, revocations,
};

/// A session that is still good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: SessionId,
    /// When its owner signed in.
    pub created_at: UnixSeconds,
    /// When it was used last, to the hour.
    pub last_used_at: Option<UnixSeconds>,
    /// When it ends by itself.
    pub expires_at: UnixSeconds,
    /// What program asked for it, in its own words, shortened.
    pub user_agent: Option<String>,
}

/// The beginning of an hour: so exactly it is noted when something was used.
#[must_use]
pub fn hour(now: UnixSeconds) -> UnixSeconds {
    UnixSeconds(now.get().saturating_sub(now.get() % 3_600))
}

/// A session that was used last, to the hour, at this time or before has ended by not being used for `idle`. Zero is for
/// ever.
#[must_use]
pub fn unused_since(now: UnixSeconds, idle: Seconds) -> UnixSeconds {
    if idle == Seconds::ZERO {
        return UnixSeconds(0);
    }
    // the hour of the last use may have ended an hour after it is noted to have begun
    UnixSeconds(now.get().saturating_sub(u64::from(idle.get())).saturating_sub(3_600))
}

/// Up to `limit` sessions of an account older than the one given, newest first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    account: AccountId,
    before: Option<SessionId>,
    limit: i64,
    (now, idle): (UnixSeconds, Seconds),
) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, created_at, last_used_at, expires_at, user_agent FROM sessions
         WHERE account_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND ($3::uuid IS NULL OR id < $3)
           AND COALESCE(last_used_at, created_at) > $5
         ORDER BY id DESC LIMIT $4",
        account.uuid(),
        ts(now)?,
        before.map(SessionId::uuid),
        limit,
        ts(unused_since(now, idle))?,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Listed {
                id: SessionId::from_uuid(row.id),
                created_at: seconds(row.created_at)?,
                last_used_at: row.last_used_at.map(seconds).transpose()?,
                expires_at: seconds(row.expires_at)?,
                user_agent: row.user_agent,
            })
        })
        .collect()
}

/// Notes that a session was used in the hour that begins at `hour`.
///
/// # Errors
/// The database's.
pub async fn touch(
    tx: &mut Connection,
    id: SessionId,
    hour: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!("UPDATE sessions SET last_used_at = $2 WHERE id = $1", id.uuid(), ts(hour)?)
        .execute(tx)
        .await?;
    Ok(())
}

/// Ends a session of an account. False if it has none with this id that is still good.
///
/// # Errors
/// The database's.
pub async fn revoke(
    tx: &mut Connection,
    account: AccountId,
    id: SessionId,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let revoked = sqlx::query!(
        "UPDATE sessions SET revoked_at = $3
         WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL AND expires_at > $3",
        id.uuid(),
        account.uuid(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    revocations::announce(tx, &[id.uuid()]).await?;
    Ok(revoked.rows_affected() == 1)
}

/// Ends every session of an account but one, and every token that it has for a rental. How many there were.
///
/// # Errors
/// The database's.
pub async fn revoke_others(
    tx: &mut Connection,
    account: AccountId,
    but: SessionId,
    now: UnixSeconds,
) -> Result<u64, StoreError> {
    let mut revoked = sqlx::query_scalar!(
        "UPDATE sessions SET revoked_at = $3
         WHERE account_id = $1 AND id <> $2 AND revoked_at IS NULL AND expires_at > $3 RETURNING id",
        account.uuid(),
        but.uuid(),
        ts(now)?,
    )
    .fetch_all(&mut *tx)
    .await?;
    revoked.extend(payments::end_tokens(tx, account, now).await?.into_iter().map(RentalId::uuid));
    revocations::announce(tx, &revoked).await?;
    u64::try_from(revoked.len()).map_err(StoreError::corrupt)
}

/// Ends every session of a machine's agents.
///
/// # Errors
/// The database's.
pub(crate) async fn revoke_of_machine(
    tx: &mut Connection,
    machine: MachineId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let revoked = sqlx::query_scalar!(
        "UPDATE sessions SET revoked_at = $2 WHERE machine_id = $1 AND revoked_at IS NULL RETURNING id",
        machine.uuid(),
        ts(now)?,
    )
    .fetch_all(&mut *tx)
    .await?;
    revocations::announce(tx, &revoked).await
}

/// Ends all but the newest `most` sessions of an account.
///
/// # Errors
/// The database's.
pub(crate) async fn revoke_beyond(
    tx: &mut Connection,
    account: AccountId,
    most: i64,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let revoked = sqlx::query_scalar!(
        "UPDATE sessions SET revoked_at = $3 WHERE id IN (
           SELECT id FROM sessions WHERE account_id = $1 AND revoked_at IS NULL AND expires_at > $3
           ORDER BY id DESC OFFSET $2 FOR UPDATE SKIP LOCKED) RETURNING id",
        account.uuid(),
        most,
        ts(now)?,
    )
    .fetch_all(&mut *tx)
    .await?;
    if revoked.is_empty() {
        return Ok(());
    }
    revocations::announce(tx, &revoked).await
}
