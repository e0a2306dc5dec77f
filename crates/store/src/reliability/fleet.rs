//! What all machines of an account have shown together.

use domain::{
    id::{AccountId, MachineId},
    reliability::{Reliability, lower_bound_bps},
    time::UnixSeconds,
};

use super::{Shown, of_many};
use crate::{Connection, StoreError, convert::seconds};

/// What the machines of an account have shown in a window, theirs added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// How long the window is.
    pub days: u16,
    /// Machines that have figures for it.
    pub machines: u32,
    /// Where the oldest of their windows ends.
    pub oldest_as_of: UnixSeconds,
    /// Where the newest ends.
    pub as_of: UnixSeconds,
    /// The sums, and the score by the formula of a machine on them. No time to ready: percentiles do not add up.
    pub figures: Reliability,
}

/// What the machines of an account have shown together, by window; of `only` those, if they are named. One that is retired
/// shows nothing any more.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn of_account(
    connection: &mut Connection,
    account: AccountId,
    only: Option<&[MachineId]>,
) -> Result<Vec<Fleet>, StoreError> {
    let only: Option<Vec<_>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let rows = sqlx::query!(
        r#"SELECT r.window_days, count(*) AS "machines!", min(r.as_of) AS "oldest!", max(r.as_of) AS "newest!",
                  sum(r.promised_s)::bigint AS "promised!", sum(r.good_s)::bigint AS "good!",
                  sum(r.idle_s)::bigint AS "idle!", sum(r.idle_good_s)::bigint AS "idle_good!",
                  sum(r.rented_s)::bigint AS "rented!", sum(r.rented_good_s)::bigint AS "rented_good!",
                  sum(r.starts) AS "starts!", sum(r.starts_ok) AS "starts_ok!",
                  sum(r.interruptions) AS "interruptions!", sum(r.disputes_lost) AS "disputes_lost!"
           FROM machines m JOIN machine_reliability r ON r.machine_id = m.id
           WHERE m.account_id = $1 AND m.service <> 'retired' AND ($2::uuid[] IS NULL OR m.id = ANY($2))
           GROUP BY r.window_days ORDER BY r.window_days"#,
        account.uuid(),
        only.as_deref(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let long = |value: i64| u64::try_from(value).map_err(StoreError::corrupt);
            let short = |value: i64| u32::try_from(value).map_err(StoreError::corrupt);
            let (promised_s, good_s) = (long(row.promised)?, long(row.good)?);
            Ok(Fleet {
                days: u16::try_from(row.window_days).map_err(StoreError::corrupt)?,
                machines: short(row.machines)?,
                oldest_as_of: seconds(row.oldest)?,
                as_of: seconds(row.newest)?,
                figures: Reliability {
                    idle_s: long(row.idle)?,
                    idle_good_s: long(row.idle_good)?,
                    rented_s: long(row.rented)?,
                    rented_good_s: long(row.rented_good)?,
                    promised_s,
                    good_s,
                    starts: short(row.starts)?,
                    starts_ok: short(row.starts_ok)?,
                    ready_p50_ms: None,
                    ready_p95_ms: None,
                    interruptions: short(row.interruptions)?,
                    disputes_lost: short(row.disputes_lost)?,
                    score_bps: lower_bound_bps(good_s, promised_s),
                },
            })
        })
        .collect()
}

/// Up to `limit` machines of an account after `after`, by id, with what each has shown.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn by_machine(
    connection: &mut Connection,
    account: AccountId,
    only: Option<&[MachineId]>,
    after: Option<MachineId>,
    limit: i64,
) -> Result<Vec<(MachineId, Vec<Shown>)>, StoreError> {
    let only: Option<Vec<_>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let machines = sqlx::query_scalar!(
        "SELECT id FROM machines
         WHERE account_id = $1 AND ($2::uuid[] IS NULL OR id = ANY($2)) AND ($3::uuid IS NULL OR id > $3)
         ORDER BY id LIMIT $4",
        account.uuid(),
        only.as_deref(),
        after.map(MachineId::uuid),
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let machines: Vec<MachineId> = machines.into_iter().map(MachineId::from_uuid).collect();
    let mut shown = of_many(connection, &machines).await?;
    Ok(machines.into_iter().map(|id| (id, shown.remove(&id).unwrap_or_default())).collect())
}
