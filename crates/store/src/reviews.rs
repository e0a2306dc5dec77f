//! What renters who paid say of machines.

use domain::{
    id::{AccountId, MachineId, RentalId},
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{duration, seconds, ts},
};

/// A review; there is one of a rental at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The rental that was paid for.
    pub rental: RentalId,
    /// The machine that it ran on.
    pub machine: MachineId,
    /// Who paid.
    pub renter: AccountId,
    /// 1 to 5.
    pub stars: u8,
    /// At most 2,000 characters.
    pub body: String,
    /// How long its renter paid for.
    pub billed: Seconds,
    /// When it was written.
    pub at: UnixSeconds,
}

/// Stores a review.
///
/// # Errors
/// [`StoreError::Conflict`] on `reviews_pkey` if there is one of this rental.
pub async fn insert(tx: &mut Connection, review: &Review) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO reviews (rental_id, machine_id, renter_id, stars, body, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        review.rental.uuid(),
        review.machine.uuid(),
        review.renter.uuid(),
        i16::from(review.stars),
        review.body,
        ts(review.at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Up to `limit` reviews of a machine before that of the rental given, newest rental first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn of(
    connection: &mut Connection,
    machine: MachineId,
    before: Option<RentalId>,
    limit: i64,
) -> Result<Vec<Review>, StoreError> {
    sqlx::query!(
        r#"SELECT v.rental_id, v.renter_id, v.stars, v.body, v.created_at, coalesce(r.billed_s, 0)::bigint AS "billed_s!"
           FROM reviews v JOIN rentals r ON r.id = v.rental_id
           WHERE v.machine_id = $1 AND ($2::uuid IS NULL OR v.rental_id < $2)
           ORDER BY v.rental_id DESC LIMIT $3"#,
        machine.uuid(),
        before.map(RentalId::uuid),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Review {
            rental: RentalId::from_uuid(row.rental_id),
            machine,
            renter: AccountId::from_uuid(row.renter_id),
            stars: u8::try_from(row.stars).map_err(StoreError::corrupt)?,
            body: row.body,
            billed: duration(row.billed_s)?,
            at: seconds(row.created_at)?,
        })
    })
    .collect()
}

/// How many renters have reviewed a machine, and the sum of the stars that each of them gave last.
///
/// # Errors
/// The database's.
pub async fn sum(
    connection: &mut Connection,
    machine: MachineId,
) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "n!", coalesce(sum(stars), 0)::bigint AS "stars!"
           FROM (SELECT DISTINCT ON (renter_id) stars FROM reviews WHERE machine_id = $1
                 ORDER BY renter_id, created_at DESC, rental_id DESC) newest"#,
        machine.uuid()
    )
    .fetch_one(connection)
    .await?;
    let number = |value: i64| u64::try_from(value).map_err(StoreError::corrupt);
    Ok((number(row.n)?, number(row.stars)?))
}
