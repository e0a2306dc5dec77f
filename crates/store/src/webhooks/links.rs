//! Machines that come and go, for webhooks that ask. Nothing is written when an agent falls silent: somebody has to look.

use domain::time::UnixSeconds;

use crate::{Connection, StoreError, convert::ts};

/// Notes which machines have come or gone since the last look, and makes the events. Only machines are looked at whose
/// owners have a webhook or a stream; one that is seen for the first time tells nothing. Returns how many have changed.
///
/// # Errors
/// The database's.
pub async fn watch(
    tx: &mut Connection,
    now: UnixSeconds,
    heard_since: UnixSeconds,
) -> Result<u64, StoreError> {
    let done = sqlx::query_scalar!(
        r#"WITH seen AS (
             SELECT m.id, m.account_id, m.name, m.last_heartbeat_at >= $2 AS online, l.online AS was
             FROM machines m LEFT JOIN machine_links l ON l.machine_id = m.id
             WHERE m.last_heartbeat_at IS NOT NULL
               AND m.account_id IN (SELECT account_id FROM webhooks WHERE state = 'active'
                                      AND events && ARRAY['machine.online', 'machine.offline', '*']
                                    UNION ALL SELECT account_id FROM account_streams)),
           noted AS (
             INSERT INTO machine_links (machine_id, online, at)
             SELECT id, online, $1 FROM seen WHERE was IS DISTINCT FROM online
             ON CONFLICT (machine_id) DO UPDATE SET online = EXCLUDED.online, at = EXCLUDED.at
               WHERE machine_links.online <> EXCLUDED.online
             RETURNING machine_id),
           told AS (
             SELECT hook(seen.account_id, CASE WHEN seen.online THEN 'machine.online' ELSE 'machine.offline' END, $1,
                         jsonb_build_object('machine_id', 'mch_' || replace(seen.id::text, '-', ''), 'name', seen.name))
             FROM seen JOIN noted ON noted.machine_id = seen.id WHERE seen.was IS NOT NULL)
           SELECT count(*) AS "count!" FROM told"#,
        ts(now)?,
        ts(heard_since)?,
    )
    .fetch_one(tx)
    .await?;
    u64::try_from(done).map_err(StoreError::corrupt)
}
