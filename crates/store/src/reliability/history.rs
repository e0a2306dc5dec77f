//! The rows that a machine's reliability is computed from, for whoever wants to compute it.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    id::MachineId,
    metering::Interval,
    reliability::{ANNOUNCED_BEFORE_S, History, RentedTime, Start, without},
    time::UnixSeconds,
};
use time::OffsetDateTime;

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// Rows of one kind that are read at most.
pub const MAX_ROWS: usize = 20_000;

struct Span {
    from_at: OffsetDateTime,
    to_at: OffsetDateTime,
}

fn spans(rows: Vec<Span>, window: Interval) -> Result<Vec<Interval>, StoreError> {
    rows.into_iter()
        .map(|row| Ok(Interval::new(seconds(row.from_at)?, seconds(row.to_at)?).clipped_to(window)))
        .filter(|span: &Result<Interval, StoreError>| {
            span.as_ref().map_or(true, |span| !span.is_empty())
        })
        .collect()
}

fn times(rows: Vec<OffsetDateTime>) -> Result<Vec<UnixSeconds>, StoreError> {
    rows.into_iter().map(seconds).collect()
}

/// What a machine did in `window`, clipped to it; `None` if there are more than [`MAX_ROWS`] rows of a kind. The window
/// should end where nothing changes any more ([`super::settled_until`]), and what readings cover up to there must have been
/// drawn together before: by [`super::draw_together`] in the same transaction, or else it ends where the machine was last
/// looked at ([`super::looked_at_until`]).
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn history(
    connection: &mut Connection,
    machine: MachineId,
    window: Interval,
) -> Result<Option<History>, StoreError> {
    let (id, from, to) = (machine.uuid(), ts(window.from)?, ts(window.to)?);
    let limit = i64::try_from(MAX_ROWS.saturating_add(1)).map_err(StoreError::corrupt)?;
    let listed = sqlx::query_as!(
        Span,
        r#"SELECT from_at, coalesce(to_at, $3) AS "to_at!" FROM machine_listings
           WHERE machine_id = $1 AND from_at < $3 AND coalesce(to_at, $3) > $2
           ORDER BY from_at LIMIT $4"#,
        id,
        from,
        to,
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let contact = sqlx::query_as!(
        Span,
        r#"SELECT c.from_at, coalesce(c.to_at, m.last_heartbeat_at) AS "to_at!"
           FROM machine_contacts c JOIN machines m ON m.id = c.machine_id
           WHERE c.machine_id = $1 AND c.from_at < $3 AND coalesce(c.to_at, m.last_heartbeat_at) > $2
           ORDER BY c.from_at LIMIT $4"#,
        id,
        from,
        to,
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let maintenance = sqlx::query_as!(
        Span,
        r#"SELECT lower(during) AS "from_at!", least(upper(during), cancelled_at) AS "to_at!"
           FROM maintenance_windows
           WHERE machine_id = $1 AND during && tstzrange($2, $3)
             AND created_at <= lower(during) - $5::bigint * interval '1 second'
             AND (cancelled_at IS NULL OR cancelled_at > lower(during))
           ORDER BY lower(during) LIMIT $4"#,
        id,
        from,
        to,
        limit,
        i64::from(ANNOUNCED_BEFORE_S),
    )
    .fetch_all(&mut *connection)
    .await?;
    let gpus =
        sqlx::query_scalar!(r#"SELECT count(*) AS "n!" FROM gpus WHERE machine_id = $1"#, id)
            .fetch_one(&mut *connection)
            .await?;
    let rented = rented(connection, machine, window, limit).await?;
    let starts = starts(connection, machine, window, limit).await?;
    let interruptions = sqlx::query_scalar!(
        "SELECT e.at FROM rentals r JOIN rental_events e ON e.rental_id = r.id
         WHERE r.machine_id = $1 AND r.created_at < $3 AND r.updated_at >= $2
           AND e.kind = 'state' AND e.detail ->> 'state' = 'interrupted'
           AND e.at >= $2 AND e.at < $3 ORDER BY e.at LIMIT $4",
        id,
        from,
        to,
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    // what the arbiter gave the renter of the held seconds, the provider has lost
    let disputes_lost = sqlx::query_scalar!(
        "SELECT e.at FROM rentals r JOIN rental_events e ON e.rental_id = r.id
         WHERE r.machine_id = $1 AND r.state = 'resolved' AND r.created_at < $3 AND r.updated_at >= $2
           AND e.kind = 'state' AND e.detail ->> 'state' = 'resolved' AND e.at >= $2 AND e.at < $3
           AND EXISTS (SELECT FROM chain_events c WHERE c.escrow_id = r.escrow_id AND c.name = 'closed'
                         AND c.applied AND (c.body ->> 'refund')::numeric > 0)
         ORDER BY e.at LIMIT $4",
        id,
        from,
        to,
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let most = [
        listed.len(),
        contact.len(),
        maintenance.len(),
        rented.1,
        starts.len(),
        interruptions.len(),
        disputes_lost.len(),
    ];
    if most.into_iter().any(|rows| rows > MAX_ROWS) {
        return Ok(None);
    }
    Ok(Some(History {
        gpus: u32::try_from(gpus).map_err(StoreError::corrupt)?,
        listed: spans(listed, window)?,
        contact: spans(contact, window)?,
        maintenance: spans(maintenance, window)?,
        rentals: rented.0,
        starts,
        interruptions: times(interruptions)?,
        disputes_lost: times(disputes_lost)?,
    }))
}

/// Its rentals' time, and how many rows that took. A rental's time ends when it left service, by the timeline: an
/// outage that ended it was promised time, too. Of one that has paid no fee only the failures are in it: a rental
/// between two hands of one owner costs nothing then, and must not be worth anything.
async fn rented(
    connection: &mut Connection,
    machine: MachineId,
    window: Interval,
    limit: i64,
) -> Result<(Vec<RentedTime>, usize), StoreError> {
    let rows = sqlx::query!(
        r#"WITH ran AS (
               SELECT r.id, r.paid_fee > 0 AS paid, r.started_at AS from_at,
                      (SELECT count(*) FROM rental_gpus g WHERE g.rental_id = r.id) AS gpus, coalesce(
                   (SELECT min(e.at) FROM rental_events e
                    WHERE e.rental_id = r.id AND e.kind = 'state' AND e.at >= r.started_at
                      AND e.detail ->> 'state' NOT IN
                          ('awaiting_funds', 'funded', 'provisioning', 'active', 'interrupted')), $3) AS to_at
               FROM rentals r
               WHERE r.machine_id = $1 AND r.started_at < $3
                 AND (r.stopped_at IS NULL OR r.updated_at > $2))
           SELECT ran.id AS "id!", ran.from_at AS "from_at!", ran.to_at AS "to_at!",
                  ran.paid AS "paid!", ran.gpus AS "gpus!",
                  c.from_at AS "covered_from?", c.to_at AS "covered_to?"
           FROM ran LEFT JOIN rental_coverage c
             ON c.rental_id = ran.id AND c.from_at < $3 AND c.to_at > $2
           WHERE ran.to_at > $2 ORDER BY ran.id, c.from_at LIMIT $4"#,
        machine.uuid(),
        ts(window.from)?,
        ts(window.to)?,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let number = rows.len();
    let mut rentals: BTreeMap<uuid::Uuid, RentedTime> = BTreeMap::new();
    let mut paid = BTreeSet::new();
    for row in rows {
        let promised = Interval::new(seconds(row.from_at)?, seconds(row.to_at)?).clipped_to(window);
        let rental = rentals.entry(row.id).or_default();
        rental.gpus = u32::try_from(row.gpus).map_err(StoreError::corrupt)?;
        rental.promised = vec![promised];
        if row.paid {
            paid.insert(row.id);
        }
        if let (Some(from), Some(to)) = (row.covered_from, row.covered_to) {
            let covered = Interval::new(seconds(from)?, seconds(to)?).clipped_to(promised);
            rental.covered.extend(Some(covered).filter(|part| !part.is_empty()));
        }
    }
    for (id, rental) in &mut rentals {
        if !paid.contains(id) {
            // the rows came in order, and readings never overlap
            let covered = std::mem::take(&mut rental.covered);
            rental.promised = without(&rental.promised, &covered);
        }
    }
    rentals.retain(|_, rental| rental.promised.iter().any(|part| !part.is_empty()));
    Ok((rentals.into_values().collect(), number))
}

/// Starts that got ready and were paid for, or failed by the machine's or its provider's doing. One that the renter
/// called off says nothing, nor does one that got ready for nothing.
async fn starts(
    connection: &mut Connection,
    machine: MachineId,
    window: Interval,
    limit: i64,
) -> Result<Vec<Start>, StoreError> {
    sqlx::query!(
        r#"SELECT known.at AS "at!", r.ready_at,
                  (SELECT min(e.at) FROM rental_events e WHERE e.rental_id = r.id
                     AND e.detail ->> 'event' IN ('lock_included', 'lock_final')) AS ordered_at
           FROM rentals r CROSS JOIN LATERAL (
               SELECT CASE WHEN r.ready_at IS NOT NULL THEN r.ready_at
                           ELSE (SELECT min(e.at) FROM rental_events e WHERE e.rental_id = r.id
                                   AND e.kind = 'state' AND e.detail ->> 'end' = r.end_reason) END AS at) known
           WHERE r.machine_id = $1 AND r.lock_status <> 'none' AND r.updated_at >= $2
             AND (r.ready_at IS NULL OR r.paid_fee > 0)
             AND (r.ready_at IS NOT NULL OR r.end_reason LIKE 'start\_failed\_%'
                  OR r.end_reason IN ('ready_deadline', 'provider_stop'))
             AND known.at >= $2 AND known.at < $3
           ORDER BY known.at, r.id LIMIT $4"#,
        machine.uuid(),
        ts(window.from)?,
        ts(window.to)?,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let ready = row.ready_at.map(seconds).transpose()?;
        let ordered = row.ordered_at.map(seconds).transpose()?;
        let ready_ms = ready.map(|ready| {
            let took = ordered.map_or(0, |ordered| ready.saturating_since(ordered).get());
            took.saturating_mul(1_000)
        });
        Ok(Start { at: seconds(row.at)?, ready_ms })
    })
    .collect()
}
