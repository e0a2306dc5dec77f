//! The stretches that readings cover, drawn together from them as they come: each reading is read once, however often
//! a machine is looked at.

use domain::{id::MachineId, time::UnixSeconds};

use crate::{Connection, StoreError, convert::ts};

/// Readings of one rental that one statement takes.
const AT_ONCE: i64 = 10_000;
/// Rounds of one call: a month of readings every two seconds has 130 of them.
const ROUNDS: u32 = 1_000;

/// Draws together what came since the last time for the machine's rentals that had not ended at `since`. Doing it twice,
/// or in two processes at once, comes to the same: a stretch is named by where it begins, and only grows.
///
/// # Errors
/// The database's.
pub async fn draw_together(
    connection: &mut Connection,
    machine: MachineId,
    since: UnixSeconds,
) -> Result<(), StoreError> {
    for _ in 0..ROUNDS {
        let most = sqlx::query_scalar!(
            r#"WITH ours AS (
                   SELECT r.id, c.from_at, c.to_at, coalesce(c.seq, 0) AS seq
                   FROM rentals r LEFT JOIN LATERAL (
                       SELECT from_at, to_at, seq FROM rental_coverage WHERE rental_id = r.id
                       ORDER BY from_at DESC LIMIT 1) c ON true
                   WHERE r.machine_id = $1 AND r.started_at IS NOT NULL
                     AND (r.stopped_at IS NULL OR r.stopped_at > $2)),
               fresh AS (
                   SELECT ours.id, n.seq, n.from_at, n.to_at FROM ours CROSS JOIN LATERAL (
                       SELECT seq, from_at, to_at FROM readings
                       WHERE rental_id = ours.id AND readings.seq > ours.seq ORDER BY seq LIMIT $3) n),
               marked AS (
                   SELECT id, seq, from_at, to_at,
                          (from_at IS DISTINCT FROM lag(to_at) OVER (PARTITION BY id ORDER BY seq))::int AS begins
                   FROM (SELECT * FROM fresh
                         UNION ALL SELECT id, seq, from_at, to_at FROM ours WHERE from_at IS NOT NULL) both_),
               numbered AS (
                   SELECT id, seq, from_at, to_at, sum(begins) OVER (PARTITION BY id ORDER BY seq) AS stretch
                   FROM marked),
               written AS (
                   INSERT INTO rental_coverage (rental_id, from_at, to_at, seq)
                   SELECT id, min(from_at), max(to_at), max(seq) FROM numbered GROUP BY id, stretch
                   ON CONFLICT (rental_id, from_at) DO UPDATE SET to_at = excluded.to_at, seq = excluded.seq
                   WHERE rental_coverage.seq < excluded.seq)
               SELECT coalesce(max(n), 0) AS "n!" FROM (SELECT count(*) AS n FROM fresh GROUP BY id) counted"#,
            machine.uuid(),
            ts(since)?,
            AT_ONCE,
        )
        .fetch_one(&mut *connection)
        .await?;
        if most < AT_ONCE {
            return Ok(());
        }
    }
    Ok(())
}
