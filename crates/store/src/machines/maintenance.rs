//! Announced times without service.

use domain::{
    id::{MachineId, RentalId, WindowId},
    metering::Interval,
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// A time to be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWindow {
    /// Its id.
    pub id: WindowId,
    /// Whose.
    pub machine: MachineId,
    /// When; not empty.
    pub during: Interval,
    /// Why, 1 to 200 characters.
    pub reason: String,
    /// When it is announced.
    pub now: UnixSeconds,
}

/// A time that was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceWindow {
    /// Its id.
    pub id: WindowId,
    /// When.
    pub during: Interval,
    /// Why.
    pub reason: String,
    /// When it was announced.
    pub created_at: UnixSeconds,
    /// When it was called off.
    pub cancelled_at: Option<UnixSeconds>,
}

/// A rental that runs into a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunsInto {
    /// The rental.
    pub rental: RentalId,
    /// When it ends at the latest, as far as it is known.
    pub ends_at: UnixSeconds,
}

/// Announces a window.
///
/// # Errors
/// [`StoreError::Conflict`] on `maintenance_disjoint` if it overlaps another of the machine.
pub async fn announce(tx: &mut Connection, new: &NewWindow) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO maintenance_windows (id, machine_id, during, reason, created_at)
         VALUES ($1, $2, tstzrange($3, $4), $5, $6)",
        new.id.uuid(),
        new.machine.uuid(),
        ts(new.during.from)?,
        ts(new.during.to)?,
        new.reason,
        ts(new.now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Calls a window off. One that is called off stays so.
///
/// # Errors
/// The database's.
pub async fn cancel_window(
    tx: &mut Connection,
    id: WindowId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE maintenance_windows SET cancelled_at = $2 WHERE id = $1 AND cancelled_at IS NULL",
        id.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

struct Row {
    id: uuid::Uuid,
    from_at: time::OffsetDateTime,
    to_at: time::OffsetDateTime,
    reason: String,
    created_at: time::OffsetDateTime,
    cancelled_at: Option<time::OffsetDateTime>,
}

impl TryFrom<Row> for MaintenanceWindow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: WindowId::from_uuid(row.id),
            during: Interval::new(seconds(row.from_at)?, seconds(row.to_at)?),
            reason: row.reason,
            created_at: seconds(row.created_at)?,
            cancelled_at: row.cancelled_at.map(seconds).transpose()?,
        })
    }
}

/// The machine's window with this id.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn find_window(
    connection: &mut Connection,
    machine: MachineId,
    id: WindowId,
) -> Result<Option<MaintenanceWindow>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"SELECT id, lower(during) AS "from_at!", upper(during) AS "to_at!", reason, created_at, cancelled_at
           FROM maintenance_windows WHERE machine_id = $1 AND id = $2"#,
        machine.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(MaintenanceWindow::try_from)
    .transpose()
}

/// Up to `limit` windows of a machine before the one with id `before`, newest first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn windows(
    connection: &mut Connection,
    machine: MachineId,
    before: Option<WindowId>,
    limit: i64,
) -> Result<Vec<MaintenanceWindow>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"SELECT id, lower(during) AS "from_at!", upper(during) AS "to_at!", reason, created_at, cancelled_at
           FROM maintenance_windows WHERE machine_id = $1 AND ($2::uuid IS NULL OR id < $2)
           ORDER BY id DESC LIMIT $3"#,
        machine.uuid(),
        before.map(WindowId::uuid),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(MaintenanceWindow::try_from)
    .collect()
}

/// Up to `limit` windows of a machine that are under way or ahead, the next first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn windows_ahead(
    connection: &mut Connection,
    machine: MachineId,
    now: UnixSeconds,
    limit: i64,
) -> Result<Vec<MaintenanceWindow>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"SELECT id, lower(during) AS "from_at!", upper(during) AS "to_at!", reason, created_at, cancelled_at
           FROM maintenance_windows WHERE machine_id = $1 AND cancelled_at IS NULL AND upper(during) > $2
           ORDER BY lower(during), id LIMIT $3"#,
        machine.uuid(),
        ts(now)?,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(MaintenanceWindow::try_from)
    .collect()
}

/// How many windows of a machine are ahead or under way.
///
/// # Errors
/// The database's.
pub async fn open_windows(
    connection: &mut Connection,
    machine: MachineId,
    now: UnixSeconds,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "n!" FROM maintenance_windows
           WHERE machine_id = $1 AND cancelled_at IS NULL AND upper(during) > $2"#,
        machine.uuid(),
        ts(now)?,
    )
    .fetch_one(connection)
    .await?)
}

/// The machine's live rentals that may still run at `from`, by id. One that has not started may take `ready` from its
/// booking until it does.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn runs_into(
    tx: &mut Connection,
    machine: MachineId,
    from: UnixSeconds,
    ready: Seconds,
) -> Result<Vec<RunsInto>, StoreError> {
    sqlx::query!(
        r#"SELECT id, ends_at AS "ends_at!" FROM (
               SELECT r.id, coalesce(r.started_at, r.created_at + $3::bigint * interval '1 second')
                            + q.duration_s * interval '1 second' AS ends_at
               FROM rentals r JOIN quotes q ON q.id = r.quote_id
               WHERE r.machine_id = $1 AND r.state IN
                     ('awaiting_funds', 'funded', 'provisioning', 'active', 'interrupted')) live
           WHERE ends_at > $2 ORDER BY id"#,
        machine.uuid(),
        ts(from)?,
        i64::from(ready.get()),
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(|row| Ok(RunsInto { rental: RentalId::from_uuid(row.id), ends_at: seconds(row.ends_at)? }))
    .collect()
}
