//! What keeps a machine from being rented for a time.

use domain::{id::MachineId, time::UnixSeconds};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// What is in the way of renting a machine for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacles {
    /// False if the machine takes no new rentals.
    pub open: bool,
    /// The first announced time without service that the rental would run into.
    pub window: Option<Window>,
}

/// An announced time without service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub from: UnixSeconds,
    /// When it is over.
    pub to: UnixSeconds,
    /// What its provider says about it.
    pub reason: String,
}

/// What is in the way of renting a machine from `from` until `to`, without that second.
///
/// # Errors
/// The database's; [`StoreError::Missing`] without the machine.
pub async fn obstacles(
    connection: &mut Connection,
    machine: MachineId,
    from: UnixSeconds,
    to: UnixSeconds,
) -> Result<Obstacles, StoreError> {
    let row = sqlx::query!(
        r#"SELECT m.service, lower(w.during) AS from_at, upper(w.during) AS to_at, w.reason AS "reason?"
           FROM machines m
           LEFT JOIN LATERAL (
               SELECT during, reason FROM maintenance_windows x
               WHERE x.machine_id = m.id AND x.cancelled_at IS NULL AND x.during && tstzrange($2, $3)
               ORDER BY lower(during) LIMIT 1) w ON true
           WHERE m.id = $1"#,
        machine.uuid(),
        ts(from)?,
        ts(to)?,
    )
    .fetch_optional(connection)
    .await?
    .ok_or(StoreError::Missing("the offer's machine"))?;
    let window = match (row.from_at, row.to_at, row.reason) {
        (Some(from), Some(to), Some(reason)) => {
            Some(Window { from: seconds(from)?, to: seconds(to)?, reason })
        }
        (_, _, _) => None,
    };
    Ok(Obstacles { open: row.service == "open", window })
}
