//! When a running rental's parties are told how far its deposit is used up. A row per rental that runs.

use domain::{
    deposit::DepositTold,
    id::RentalId,
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{duration, seconds, ts},
};

/// Looks at a rental's deposit at `due_at`, whether or not that was to be done before. What was told stays told.
///
/// # Errors
/// The database's.
pub async fn arm(
    tx: &mut Connection,
    rental: RentalId,
    due_at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO deposit_notices (rental_id, due_at) VALUES ($1, $2)
         ON CONFLICT (rental_id) DO UPDATE SET due_at = EXCLUDED.due_at",
        rental.uuid(),
        ts(due_at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The rentals to look at, longest due first, `limit` at most.
///
/// # Errors
/// The database's.
pub async fn due(
    connection: &mut Connection,
    now: UnixSeconds,
    limit: i64,
) -> Result<Vec<RentalId>, StoreError> {
    let rows = sqlx::query_scalar!(
        "SELECT rental_id FROM deposit_notices WHERE due_at <= $1 ORDER BY due_at LIMIT $2",
        ts(now)?,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(RentalId::from_uuid).collect())
}

/// What was told of a rental's deposit, if it is to be looked at by now. To be asked under the rental's lock.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn told(
    tx: &mut Connection,
    rental: RentalId,
    now: UnixSeconds,
) -> Result<Option<DepositTold>, StoreError> {
    let row = sqlx::query!(
        "SELECT budget_50_s, budget_80_s, expiring_at FROM deposit_notices
         WHERE rental_id = $1 AND due_at <= $2",
        rental.uuid(),
        ts(now)?,
    )
    .fetch_optional(tx)
    .await?;
    row.map(|row| {
        Ok(DepositTold {
            budget_50: row.budget_50_s.map(duration).transpose()?,
            budget_80: row.budget_80_s.map(duration).transpose()?,
            expiring: row.expiring_at.map(seconds).transpose()?,
        })
    })
    .transpose()
}

/// Notes what was told, in the transaction that tells it, and when to look again.
///
/// # Errors
/// The database's.
pub async fn note(
    tx: &mut Connection,
    rental: RentalId,
    told: DepositTold,
    due_at: UnixSeconds,
) -> Result<(), StoreError> {
    let billed = |told: Option<Seconds>| told.map(|seconds| i64::from(seconds.get()));
    sqlx::query!(
        "UPDATE deposit_notices SET due_at = $2, budget_50_s = $3, budget_80_s = $4, expiring_at = $5
         WHERE rental_id = $1",
        rental.uuid(),
        ts(due_at)?,
        billed(told.budget_50),
        billed(told.budget_80),
        told.expiring.map(ts).transpose()?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Puts off a look that failed.
///
/// # Errors
/// The database's.
pub async fn put_off(
    connection: &mut Connection,
    rental: RentalId,
    due_at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE deposit_notices SET due_at = $2 WHERE rental_id = $1",
        rental.uuid(),
        ts(due_at)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets a rental that does not run any more.
///
/// # Errors
/// The database's.
pub async fn forget(tx: &mut Connection, rental: RentalId) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM deposit_notices WHERE rental_id = $1", rental.uuid())
        .execute(tx)
        .await?;
    Ok(())
}
