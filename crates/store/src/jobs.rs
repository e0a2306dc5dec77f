//! The work queue: timers of rentals. A job is claimed in a short transaction, run outside it, and
//! finished only by the holder of the lease number it was claimed with.

use std::{collections::BTreeSet, time::Duration};

use domain::{
    id::{JobId, RentalId},
    time::{Seconds, UnixMillis, UnixSeconds},
};
use time::OffsetDateTime;

use crate::{
    Connection, StoreError,
    convert::{ts, ts_millis},
};

/// What a job looks at when it comes due. At most one of a kind is open per rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// The lock did not come.
    FundingDeadline,
    /// The machine did not become ready.
    ReadyDeadline,
    /// The deposit is used up, or the provider's notice is over.
    DurationEnd,
    /// The stopped machine did not answer.
    StopDeadline,
    /// Has the outage lasted too long?
    OutageLimit,
    /// The time of held seconds is over.
    Finalize,
    /// May it be paid for up to now?
    Release,
}

impl JobKind {
    /// Every kind, in the order of a rental's life.
    pub const ALL: [Self; 7] = [
        Self::FundingDeadline,
        Self::ReadyDeadline,
        Self::DurationEnd,
        Self::StopDeadline,
        Self::OutageLimit,
        Self::Release,
        Self::Finalize,
    ];

    /// The stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FundingDeadline => "funding_deadline",
            Self::ReadyDeadline => "ready_deadline",
            Self::DurationEnd => "duration_end",
            Self::StopDeadline => "stop_deadline",
            Self::OutageLimit => "outage_limit",
            Self::Finalize => "finalize",
            Self::Release => "release",
        }
    }

    fn parse(name: &str) -> Result<Self, StoreError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| StoreError::corrupt(format_args!("job kind {name:?}")))
    }
}

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What to look at.
    pub kind: JobKind,
    /// Whose timer it is.
    pub rental: RentalId,
    /// The lease number to finish it with.
    pub run_lease: i64,
    /// How often it was claimed, this time included.
    pub attempts: i32,
}

/// Sets the timer of a rental to `due_at`, whether or not one is open. A run in progress loses its
/// lease, so that it cannot finish the timer that replaced its own.
///
/// # Errors
/// The database's.
pub async fn schedule(
    tx: &mut Connection,
    rental: RentalId,
    kind: JobKind,
    due_at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO jobs (id, kind, rental_id, due_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (rental_id, kind) WHERE done_at IS NULL
         DO UPDATE SET due_at = EXCLUDED.due_at, leased_until = NULL,
                       run_lease = jobs.run_lease + 1, attempts = 0",
        uuid::Uuid::now_v7(),
        kind.as_str(),
        rental.uuid(),
        ts(due_at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Sets the timer of a rental to `due_at`, if none is open.
///
/// # Errors
/// The database's.
pub async fn schedule_if_none(
    tx: &mut Connection,
    rental: RentalId,
    kind: JobKind,
    due_at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO jobs (id, kind, rental_id, due_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (rental_id, kind) WHERE done_at IS NULL DO NOTHING",
        uuid::Uuid::now_v7(),
        kind.as_str(),
        rental.uuid(),
        ts(due_at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Sets the release timer of every running rental that never had one and has a deposit for longer than an interval and
/// its holdback: `every` seconds after its start, and not before `earliest`. Returns how many.
///
/// # Errors
/// The database's.
pub async fn arm_releases(
    tx: &mut Connection,
    every: Seconds,
    earliest: UnixSeconds,
) -> Result<u64, StoreError> {
    let armed = sqlx::query!(
        "INSERT INTO jobs (id, kind, rental_id, due_at)
         SELECT gen_random_uuid(), 'release', r.id,
                GREATEST(r.started_at + make_interval(secs => $1::bigint), $2)
         FROM rentals r JOIN quotes q ON q.id = r.quote_id
         WHERE r.state IN ('active', 'interrupted') AND r.start_status = 'final'
           AND r.locked * 3600 >= q.price_per_hour * ($1::bigint + q.holdback_s)
           AND NOT EXISTS (SELECT FROM jobs j WHERE j.rental_id = r.id AND j.kind = 'release')
         ORDER BY r.id
         ON CONFLICT (rental_id, kind) WHERE done_at IS NULL DO NOTHING",
        i64::from(every.get()),
        ts(earliest)?,
    )
    .execute(tx)
    .await?;
    Ok(armed.rows_affected())
}

/// Sets the end's timer of every running rental to its provider's notice, where it is later: a worker of the version before
/// found the deposit not used up, and set it again. How many.
///
/// # Errors
/// The database's.
pub async fn arm_evictions(tx: &mut Connection, now: UnixSeconds) -> Result<u64, StoreError> {
    let armed = sqlx::query!(
        "WITH late AS (
             SELECT j.id, e.ends_at
             FROM evictions e
             JOIN rentals r ON r.id = e.rental_id AND r.state IN ('active', 'interrupted')
             JOIN jobs j ON j.rental_id = e.rental_id AND j.kind = $1 AND j.done_at IS NULL AND j.due_at > e.ends_at
             WHERE e.ends_at > $2::timestamptz - interval '60 days'
             ORDER BY j.id FOR UPDATE OF j SKIP LOCKED)
         UPDATE jobs SET due_at = late.ends_at, leased_until = NULL, run_lease = run_lease + 1
         FROM late WHERE jobs.id = late.id",
        JobKind::DurationEnd.as_str(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(armed.rows_affected())
}

/// Closes every open timer of a rental that has ended.
///
/// # Errors
/// The database's.
pub async fn close_all(
    tx: &mut Connection,
    rental: RentalId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE jobs SET done_at = $2 WHERE rental_id = $1 AND done_at IS NULL",
        rental.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes up to `limit` due jobs that nobody holds, for `lease`.
///
/// # Errors
/// The database's.
pub async fn claim(
    connection: &mut Connection,
    now: UnixMillis,
    lease: Duration,
    limit: i64,
) -> Result<Vec<Job>, StoreError> {
    let now = ts_millis(now)?;
    let until = now.checked_add(lease.try_into().map_err(StoreError::corrupt)?);
    let mut rows = sqlx::query!(
        "UPDATE jobs SET run_lease = run_lease + 1, leased_until = $2, attempts = attempts + 1
         WHERE id IN (SELECT id FROM jobs
                      WHERE done_at IS NULL AND due_at <= $1
                        AND (leased_until IS NULL OR leased_until < $1)
                      ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING id, kind, rental_id, run_lease, attempts",
        now,
        until,
        limit,
    )
    .fetch_all(connection)
    .await?;
    // an UPDATE returns its rows in any order: oldest first, so that the same state leads to the same steps
    rows.sort_by_key(|row| row.id);
    rows.into_iter()
        .map(|row| {
            Ok(Job {
                id: JobId::from_uuid(row.id),
                kind: JobKind::parse(&row.kind)?,
                rental: RentalId::from_uuid(row.rental_id),
                run_lease: row.run_lease,
                attempts: row.attempts,
            })
        })
        .collect()
}

/// Marks jobs done in the transaction of their effects. Returns those that were: of the others the lease was
/// lost, and their effects must not happen.
///
/// # Errors
/// The database's.
pub async fn finish_many(
    tx: &mut Connection,
    jobs: &[Job],
    now: UnixSeconds,
) -> Result<BTreeSet<JobId>, StoreError> {
    let ids: Vec<uuid::Uuid> = jobs.iter().map(|job| job.id.uuid()).collect();
    let leases: Vec<i64> = jobs.iter().map(|job| job.run_lease).collect();
    let done = sqlx::query_scalar!(
        "UPDATE jobs j SET done_at = $3
         FROM unnest($1::uuid[], $2::bigint[]) AS held(id, run_lease)
         WHERE j.id = held.id AND j.run_lease = held.run_lease AND j.done_at IS NULL
         RETURNING j.id",
        &ids,
        &leases,
        ts(now)?,
    )
    .fetch_all(tx)
    .await?;
    Ok(done.into_iter().map(JobId::from_uuid).collect())
}

/// Gives a job back, to be taken again at `due_at`.
///
/// # Errors
/// The database's.
pub async fn retry(
    connection: &mut Connection,
    job: &Job,
    due_at: UnixSeconds,
    error: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE jobs SET due_at = $3, leased_until = NULL, last_error = $4
         WHERE id = $1 AND run_lease = $2 AND done_at IS NULL",
        job.id.uuid(),
        job.run_lease,
        ts(due_at)?,
        error,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// When the next job comes due, if any.
///
/// # Errors
/// The database's.
pub async fn next_due(connection: &mut Connection) -> Result<Option<OffsetDateTime>, StoreError> {
    Ok(sqlx::query_scalar!("SELECT min(due_at) FROM jobs WHERE done_at IS NULL")
        .fetch_one(connection)
        .await?)
}
