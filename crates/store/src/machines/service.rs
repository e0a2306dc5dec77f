//! Whether a machine takes new rentals, and what stands against one.

use domain::{
    id::MachineId,
    machine::{Service, Verification},
    metering::Interval,
    time::UnixSeconds,
};
use time::OffsetDateTime;

use super::standing::set_verification;
use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
    sessions,
};

/// What stands against a new rental.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The machine takes none.
    Draining,
    /// It never will again.
    Retired,
    /// An announced time without service.
    Maintenance {
        /// When.
        during: Interval,
        /// Why, in its provider's words.
        reason: String,
    },
}

impl Obstacle {
    /// The first of what a machine's service and the first announced time without it mean.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(crate) fn first(
        service: &str,
        window: (Option<OffsetDateTime>, Option<OffsetDateTime>, Option<String>),
    ) -> Result<Option<Self>, StoreError> {
        Ok(match service.parse().map_err(StoreError::corrupt)? {
            Service::Open => match window {
                (Some(from), Some(to), Some(reason)) => {
                    let during = Interval::new(seconds(from)?, seconds(to)?);
                    Some(Self::Maintenance { during, reason })
                }
                _ => None,
            },
            Service::Draining => Some(Self::Draining),
            Service::Retired => Some(Self::Retired),
        })
    }
}

/// What stands first against a rental of this machine from `from` to `to`; nothing if it can be. Sees what was committed
/// before, so that a booking asks after it has locked the offer ([`hold_offers`]).
///
/// # Errors
/// The database's, or [`StoreError::Missing`].
pub async fn obstacle(
    connection: &mut Connection,
    machine: MachineId,
    from: UnixSeconds,
    to: UnixSeconds,
) -> Result<Option<Obstacle>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT m.service, lower(w.during) AS from_at, upper(w.during) AS to_at, w.reason AS "reason?"
           FROM machines m LEFT JOIN maintenance_windows w
             ON w.machine_id = m.id AND w.cancelled_at IS NULL AND w.during && tstzrange($2, $3)
           WHERE m.id = $1 ORDER BY lower(w.during) LIMIT 1"#,
        machine.uuid(),
        ts(from)?,
        ts(to.max(from))?,
    )
    .fetch_optional(connection)
    .await?
    .ok_or(StoreError::Missing("the machine"))?;
    Obstacle::first(&row.service, (row.from_at, row.to_at, row.reason))
}

/// Keeps bookings of the machine waiting until the transaction ends: whoever books holds the offer. So a booking
/// either sees what this transaction changes, or is seen by it.
///
/// # Errors
/// The database's.
pub async fn hold_offers(tx: &mut Connection, machine: MachineId) -> Result<(), StoreError> {
    sqlx::query!(
        "SELECT id FROM offers WHERE machine_id = $1 AND state <> 'withdrawn' ORDER BY id FOR NO KEY UPDATE",
        machine.uuid()
    )
    .fetch_all(tx)
    .await?;
    Ok(())
}

/// Takes the machine's row, so that no offer of it is made until the transaction ends: who makes one holds it
/// ([`hold_service`]).
///
/// # Errors
/// The database's.
pub async fn hold_machine(tx: &mut Connection, machine: MachineId) -> Result<(), StoreError> {
    sqlx::query!("SELECT id FROM machines WHERE id = $1 FOR UPDATE", machine.uuid())
        .fetch_optional(tx)
        .await?;
    Ok(())
}

/// Whether the machine takes rentals; `None` without it. It cannot be retired until the transaction ends.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn hold_service(
    tx: &mut Connection,
    machine: MachineId,
) -> Result<Option<Service>, StoreError> {
    sqlx::query_scalar!("SELECT service FROM machines WHERE id = $1 FOR KEY SHARE", machine.uuid())
        .fetch_optional(tx)
        .await?
        .map(|service| service.parse().map_err(StoreError::corrupt))
        .transpose()
}

/// A GPU of the machine's that counts as given back, though the machine is not retired: another machine may have it.
///
/// # Errors
/// The database's.
pub async fn lost_gpu(
    tx: &mut Connection,
    machine: MachineId,
) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT vendor_uuid FROM gpus WHERE machine_id = $1 AND retired ORDER BY ordinal LIMIT 1",
        machine.uuid()
    )
    .fetch_optional(tx)
    .await?)
}

/// Opens or drains a machine. What it promised by its listed offers ends or begins with that. Not for retiring.
///
/// # Errors
/// The database's; it refuses to open one that has [lost a GPU](lost_gpu).
pub async fn set_service(
    tx: &mut Connection,
    machine: MachineId,
    service: Service,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let now = ts(now)?;
    sqlx::query!(
        "UPDATE machines SET service = $2, version = version + 1 WHERE id = $1 AND service <> $2",
        machine.uuid(),
        service.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "UPDATE machine_listings SET to_at = greatest(from_at, $2)
         WHERE machine_id = $1 AND to_at IS NULL AND $3 <> 'open'",
        machine.uuid(),
        now,
        service.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    // as the trigger on offers does: a stretch that ended less than a minute ago goes on
    sqlx::query!(
        "UPDATE machine_listings l SET to_at = NULL FROM offers o
         WHERE o.machine_id = $1 AND o.state = 'listed' AND $3 = 'open' AND l.offer_id = o.id AND l.machine_id = $1
           AND l.to_at > $2::timestamptz - interval '60 seconds'
           AND l.from_at = (SELECT max(from_at) FROM machine_listings WHERE offer_id = o.id)
           AND NOT EXISTS (SELECT FROM machine_listings WHERE offer_id = o.id AND to_at IS NULL)",
        machine.uuid(),
        now,
        service.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO machine_listings (offer_id, machine_id, from_at)
         SELECT id, machine_id, $2 FROM offers WHERE machine_id = $1 AND state = 'listed' AND $3 = 'open'
         ON CONFLICT (offer_id) WHERE to_at IS NULL DO NOTHING",
        machine.uuid(),
        now,
        service.as_str(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether any of the machine's GPUs are held, or an order to its agent is open.
///
/// # Errors
/// The database's.
pub async fn runs_something(
    tx: &mut Connection,
    machine: MachineId,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM rental_gpus h JOIN gpus g ON g.id = h.gpu_id
                          WHERE g.machine_id = $1 AND h.held_until > $2)
               OR EXISTS (SELECT FROM agent_commands WHERE machine_id = $1 AND acked_at IS NULL) AS "runs!""#,
        machine.uuid(),
        ts(now)?,
    )
    .fetch_one(tx)
    .await?)
}

/// Retires a machine on which nothing runs: its offers are withdrawn, its GPUs may be registered again, and its agent is
/// shut out.
///
/// # Errors
/// The database's.
pub async fn retire(
    tx: &mut Connection,
    machine: MachineId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    set_service(tx, machine, Service::Retired, now).await?;
    sqlx::query!(
        "UPDATE offers SET state = 'withdrawn', updated_at = $2
         WHERE machine_id = $1 AND state <> 'withdrawn'",
        machine.uuid(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("UPDATE gpus SET retired = true WHERE machine_id = $1", machine.uuid())
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "UPDATE machines SET enroll_token_hash = NULL, enroll_expires_at = NULL
         WHERE id = $1 AND enroll_token_hash IS NOT NULL",
        machine.uuid()
    )
    .execute(&mut *tx)
    .await?;
    sessions::revoke_of_machine(tx, machine, now).await
}

/// What came of it that a GPU was to be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// This machine had it and is retired.
    Retired(MachineId),
    /// Something runs on this machine, which has it.
    Runs(MachineId),
    /// No machine in the market has it.
    Nobody,
}

/// Takes a GPU from the machine that was registered with it, for the operator, who has seen whose it is: that machine is
/// retired, and the reason is public. It is not barred: what is barred stays so with its GPUs, whoever registers them.
///
/// # Errors
/// The database's.
pub async fn release_gpu(
    tx: &mut Connection,
    vendor_uuid: &str,
    reason: &str,
    now: UnixSeconds,
) -> Result<Release, StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT machine_id FROM gpus WHERE lower(vendor_uuid) = lower($1) AND NOT retired",
        vendor_uuid
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(machine) = found.map(MachineId::from_uuid) else { return Ok(Release::Nobody) };
    // as its provider retires it: bookings that have an offer are waited for
    hold_offers(tx, machine).await?;
    hold_machine(tx, machine).await?;
    hold_offers(tx, machine).await?;
    if hold_service(tx, machine).await? == Some(Service::Retired) {
        return Ok(Release::Nobody);
    }
    if runs_something(tx, machine, now).await? {
        return Ok(Release::Runs(machine));
    }
    set_verification(tx, machine, Verification::Deverified, Some(reason), now).await?;
    retire(tx, machine, now).await?;
    Ok(Release::Retired(machine))
}
