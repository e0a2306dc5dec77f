//! What machines have shown: the rows that the formula looks at, and what it came to.

use std::collections::HashMap;

use domain::{
    id::MachineId,
    metering::Interval,
    reliability::Reliability,
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, Policy, StoreError,
    convert::{seconds, ts},
};

mod coverage;
mod fleet;
mod history;
pub use coverage::draw_together;
pub use fleet::{Fleet, by_machine, of_account};
pub use history::{MAX_ROWS, history};

/// The windows, in days.
pub const WINDOWS: [u16; 3] = [7, 30, 90];

/// Up to here nothing about the past changes any more: readings are in or refused, silences have been noticed. What the
/// readings cover is told later, when the machine was looked at ([`looked_at_until`]).
#[must_use]
pub fn settled_until(policy: &Policy, now: UnixSeconds) -> UnixSeconds {
    let late = policy.evidence_timeout.saturating_add(policy.evidence_timeout);
    now.saturating_minus(late.saturating_add(Seconds(60)))
}

/// The window of so many days that ends at `as_of`.
#[must_use]
pub fn window(days: u16, as_of: UnixSeconds) -> Interval {
    let long = Seconds(u32::from(days).saturating_mul(86_400));
    Interval::new(as_of.saturating_minus(long), as_of)
}

/// What a machine has shown in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// How long the window is.
    pub days: u16,
    /// Where it ends.
    pub as_of: UnixSeconds,
    /// What it came to.
    pub figures: Reliability,
    /// When it was computed.
    pub computed_at: UnixSeconds,
}

/// Up to `limit` machines whose agent was ever heard of, after the one given, by id; those whose agent's key was revoked
/// are among them. A machine without an agent has shown nothing, and what a generated one is said to have shown stays.
///
/// # Errors
/// The database's.
pub async fn machines_after(
    connection: &mut Connection,
    after: Option<MachineId>,
    limit: i64,
) -> Result<Vec<MachineId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM machines m
         WHERE ($1::uuid IS NULL OR id > $1) AND last_heartbeat_at IS NOT NULL AND service <> 'retired'
           AND (agent_key IS NOT NULL OR EXISTS (SELECT FROM ended_agent_keys e WHERE e.machine_id = m.id))
         ORDER BY id LIMIT $2",
        after.map(MachineId::uuid),
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(MachineId::from_uuid).collect())
}

/// Takes away what a machine has shown, at a look that went up to `as_of`: it has no score until the next is stored.
///
/// # Errors
/// The database's.
pub async fn forget(
    tx: &mut Connection,
    machine: MachineId,
    as_of: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM machine_reliability WHERE machine_id = $1", machine.uuid())
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "INSERT INTO machines_without_figures (machine_id, as_of) VALUES ($1, $2)
         ON CONFLICT (machine_id) DO UPDATE
             SET as_of = greatest(machines_without_figures.as_of, excluded.as_of)",
        machine.uuid(),
        ts(as_of)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Up to where a machine was looked at: what its readings cover before was drawn together ([`draw_together`]), and no row of
/// it changes any more. `None` if it never was.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn looked_at_until(
    connection: &mut Connection,
    machine: MachineId,
) -> Result<Option<UnixSeconds>, StoreError> {
    sqlx::query_scalar!(
        "SELECT max(as_of) FROM (SELECT as_of FROM machine_reliability WHERE machine_id = $1
                                 UNION ALL SELECT as_of FROM machines_without_figures WHERE machine_id = $1) looks",
        machine.uuid(),
    )
    .fetch_one(connection)
    .await?
    .map(seconds)
    .transpose()
}

/// Stores what a machine has shown. Of two that are stored at once the later window stays.
///
/// # Errors
/// The database's.
pub async fn store(
    tx: &mut Connection,
    machine: MachineId,
    shown: &Shown,
) -> Result<(), StoreError> {
    let long = |value: u64| i64::try_from(value).map_err(StoreError::corrupt);
    let short = |value: u32| i32::try_from(value).map_err(StoreError::corrupt);
    let f = &shown.figures;
    sqlx::query!(
        "INSERT INTO machine_reliability (machine_id, window_days, promised_s, good_s, idle_s, idle_good_s,
             rented_s, rented_good_s, starts, starts_ok, ready_p50_ms, ready_p95_ms, interruptions,
             disputes_lost, score_bps, as_of, computed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
         ON CONFLICT (machine_id, window_days) DO UPDATE SET
             promised_s = excluded.promised_s, good_s = excluded.good_s, idle_s = excluded.idle_s,
             idle_good_s = excluded.idle_good_s, rented_s = excluded.rented_s,
             rented_good_s = excluded.rented_good_s, starts = excluded.starts,
             starts_ok = excluded.starts_ok, ready_p50_ms = excluded.ready_p50_ms,
             ready_p95_ms = excluded.ready_p95_ms, interruptions = excluded.interruptions,
             disputes_lost = excluded.disputes_lost, score_bps = excluded.score_bps,
             as_of = excluded.as_of, computed_at = excluded.computed_at
         WHERE machine_reliability.as_of <= excluded.as_of",
        machine.uuid(),
        i16::try_from(shown.days).map_err(StoreError::corrupt)?,
        long(f.promised_s)?,
        long(f.good_s)?,
        long(f.idle_s)?,
        long(f.idle_good_s)?,
        long(f.rented_s)?,
        long(f.rented_good_s)?,
        short(f.starts)?,
        short(f.starts_ok)?,
        f.ready_p50_ms.map(short).transpose()?,
        f.ready_p95_ms.map(short).transpose()?,
        short(f.interruptions)?,
        short(f.disputes_lost)?,
        short(f.score_bps)?,
        ts(shown.as_of)?,
        ts(shown.computed_at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a machine has shown, by window.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn of(connection: &mut Connection, machine: MachineId) -> Result<Vec<Shown>, StoreError> {
    let mut shown = of_many(connection, &[machine]).await?;
    Ok(shown.remove(&machine).unwrap_or_default())
}

/// What each of these machines has shown, by window; nothing of those that have no figures.
async fn of_many(
    connection: &mut Connection,
    machines: &[MachineId],
) -> Result<HashMap<MachineId, Vec<Shown>>, StoreError> {
    let ids: Vec<_> = machines.iter().map(|machine| machine.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT machine_id, window_days, promised_s, good_s, idle_s, idle_good_s, rented_s, rented_good_s, starts,
                starts_ok, ready_p50_ms, ready_p95_ms, interruptions, disputes_lost, score_bps, as_of, computed_at
         FROM machine_reliability WHERE machine_id = ANY($1) ORDER BY window_days",
        &ids
    )
    .fetch_all(connection)
    .await?;
    let mut all: HashMap<MachineId, Vec<Shown>> = HashMap::new();
    for row in rows {
        let long = |value: i64| u64::try_from(value).map_err(StoreError::corrupt);
        let short = |value: i32| u32::try_from(value).map_err(StoreError::corrupt);
        all.entry(MachineId::from_uuid(row.machine_id)).or_default().push(Shown {
            days: u16::try_from(row.window_days).map_err(StoreError::corrupt)?,
            as_of: seconds(row.as_of)?,
            figures: Reliability {
                idle_s: long(row.idle_s)?,
                idle_good_s: long(row.idle_good_s)?,
                rented_s: long(row.rented_s)?,
                rented_good_s: long(row.rented_good_s)?,
                promised_s: long(row.promised_s)?,
                good_s: long(row.good_s)?,
                starts: short(row.starts)?,
                starts_ok: short(row.starts_ok)?,
                ready_p50_ms: row.ready_p50_ms.map(short).transpose()?,
                ready_p95_ms: row.ready_p95_ms.map(short).transpose()?,
                interruptions: short(row.interruptions)?,
                disputes_lost: short(row.disputes_lost)?,
                score_bps: short(row.score_bps)?,
            },
            computed_at: seconds(row.computed_at)?,
        });
    }
    Ok(all)
}
