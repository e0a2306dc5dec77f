//! Where a rented machine is reached, as its agent said last.

use domain::{
    id::RentalId,
    reach::{Host, OpenPort},
    time::UnixSeconds,
};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// Where a rental is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The machine, as its provider names it.
    pub host: Host,
    /// Its ports for this rental, in the order of their names.
    pub ports: Vec<OpenPort>,
    /// When that was last said anew.
    pub told_at: UnixSeconds,
}

/// Notes where a rental is reached, in place of what was said before. The caller has seen that it is the machine's own rental
/// and goes on; one that ends meanwhile keeps a row that nobody is shown.
///
/// # Errors
/// The database's.
pub async fn tell(tx: &mut Connection, rental: RentalId, said: &Reach) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO rental_access (rental_id, host, ports, told_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (rental_id) DO UPDATE SET host = $2, ports = $3, told_at = $4
         WHERE (rental_access.host, rental_access.ports) IS DISTINCT FROM ($2, $3)",
        rental.uuid(),
        said.host.as_str(),
        serde_json::to_value(&said.ports).map_err(StoreError::corrupt)?,
        ts(said.told_at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What was said last, whatever has become of the rental.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn of(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Option<Reach>, StoreError> {
    let row = sqlx::query!(
        "SELECT host, ports, told_at FROM rental_access WHERE rental_id = $1",
        rental.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Reach {
            host: row.host.parse().map_err(StoreError::corrupt)?,
            ports: serde_json::from_value(row.ports).map_err(StoreError::corrupt)?,
            told_at: seconds(row.told_at)?,
        })
    })
    .transpose()
}

/// Forgets it: the machine has cleaned up.
///
/// # Errors
/// The database's.
pub async fn forget(tx: &mut Connection, rental: RentalId) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM rental_access WHERE rental_id = $1", rental.uuid())
        .execute(tx)
        .await?;
    Ok(())
}
