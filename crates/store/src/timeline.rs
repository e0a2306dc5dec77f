//! A rental's timeline: what a person sees, and what an event stream resumes from.

use std::collections::HashMap;

use domain::{
    id::{MachineId, RentalId},
    time::UnixSeconds,
};
use serde_json::Value;

use crate::{
    Connection, StoreError, commands,
    convert::{seconds, ts},
};

/// The channel on which every new entry is announced; the payload is the rental's id in hex.
pub const CHANNEL: &str = "rental_events";

/// One entry. Its id grows with time within a rental.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// Position in the timeline.
    pub id: i64,
    /// When it happened.
    pub at: UnixSeconds,
    /// What kind of thing happened.
    pub kind: String,
    /// The rest of it.
    pub detail: Value,
}

/// Up to `limit` entries after the one with id `after`, oldest first; `after` 0 begins at the start.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn after(
    connection: &mut Connection,
    rental: RentalId,
    after: i64,
    limit: i64,
) -> Result<Vec<TimelineEntry>, StoreError> {
    sqlx::query!(
        "SELECT id, at, kind, detail FROM rental_events
         WHERE rental_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        rental.uuid(),
        after,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(TimelineEntry { id: row.id, at: seconds(row.at)?, kind: row.kind, detail: row.detail })
    })
    .collect()
}

/// Whether a rental's timeline has the entry with this id: ids are of one sequence for all rentals.
///
/// # Errors
/// The database's.
pub async fn has(
    connection: &mut Connection,
    rental: RentalId,
    id: i64,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM rental_events WHERE rental_id = $1 AND id = $2) AS "has!""#,
        rental.uuid(),
        id,
    )
    .fetch_one(connection)
    .await?)
}

/// The newest entry of each of these rentals that has one.
///
/// # Errors
/// The database's.
pub async fn newest(
    connection: &mut Connection,
    rentals: &[RentalId],
) -> Result<HashMap<RentalId, i64>, StoreError> {
    let ids: Vec<_> = rentals.iter().map(|rental| rental.uuid()).collect();
    let rows = sqlx::query!(
        r#"SELECT r.id AS "rental!", e.id AS "newest!" FROM unnest($1::uuid[]) AS r(id)
           CROSS JOIN LATERAL (SELECT id FROM rental_events WHERE rental_id = r.id ORDER BY id DESC LIMIT 1) e"#,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (RentalId::from_uuid(row.rental), row.newest)).collect())
}

/// Hears of new entries and of orders, in whichever process they are written.
#[derive(Debug)]
pub struct Listener {
    inner: sqlx::postgres::PgListener,
}

/// What a [`Listener`] heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This rental has a new entry.
    Rental(RentalId),
    /// This machine may have a new order.
    Machine(MachineId),
    /// The connection was lost and made anew: anything may have been missed in between.
    Gap,
}

impl Listener {
    /// Begins to listen. Takes one connection of the pool for as long as it lives.
    ///
    /// # Errors
    /// The database's.
    pub async fn start(store: &crate::Store) -> Result<Self, StoreError> {
        let mut inner = sqlx::postgres::PgListener::connect_with(store.pool()).await?;
        inner.listen_all([CHANNEL, commands::CHANNEL]).await?;
        Ok(Self { inner })
    }

    /// Waits for the next news.
    ///
    /// # Errors
    /// The database's, if the connection cannot be made anew.
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        loop {
            let Some(notification) = self.inner.try_recv().await? else {
                return Ok(Heard::Gap);
            };
            if let Ok(id) = notification.payload().parse() {
                return Ok(match notification.channel() {
                    commands::CHANNEL => Heard::Machine(MachineId::from_uuid(id)),
                    _ => Heard::Rental(RentalId::from_uuid(id)),
                });
            }
            tracing::warn!(payload = notification.payload(), "a notification that is no id");
        }
    }
}

/// Adds an entry and announces it when the transaction commits.
///
/// # Errors
/// The database's.
pub async fn append(
    tx: &mut Connection,
    rental: RentalId,
    at: UnixSeconds,
    kind: &str,
    detail: &Value,
) -> Result<(), StoreError> {
    sqlx::query!(
        "WITH told AS (INSERT INTO rental_events (rental_id, at, kind, detail) VALUES ($1, $2, $3, $4))
         SELECT pg_notify($5, $6)",
        rental.uuid(),
        ts(at)?,
        kind,
        detail,
        CHANNEL,
        rental.uuid().simple().to_string(),
    )
    .execute(tx)
    .await?;
    Ok(())
}
