//! Notices of providers that they will end a rental that runs. One for a rental; it is not taken back.

use domain::{id::RentalId, time::UnixSeconds};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// A notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// When it was given.
    pub given_at: UnixSeconds,
    /// When the rental ends, if nothing ends it before.
    pub ends_at: UnixSeconds,
}

/// Records a notice, in the transaction that holds the rental's row. The timer of the rental's end must be set to it.
///
/// # Errors
/// [`StoreError::Conflict`] on `evictions_pkey` if one was given.
pub async fn give(
    tx: &mut Connection,
    rental: RentalId,
    eviction: &Eviction,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO evictions (rental_id, given_at, ends_at) VALUES ($1, $2, $3)",
        rental.uuid(),
        ts(eviction.given_at)?,
        ts(eviction.ends_at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The notice that was given, if one was.
///
/// # Errors
/// The database's.
pub async fn get(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Option<Eviction>, StoreError> {
    sqlx::query!("SELECT given_at, ends_at FROM evictions WHERE rental_id = $1", rental.uuid())
        .fetch_optional(connection)
        .await?
        .map(|row| {
            let (given_at, ends_at) = (seconds(row.given_at)?, seconds(row.ends_at)?);
            Ok(Eviction { given_at, ends_at })
        })
        .transpose()
}
