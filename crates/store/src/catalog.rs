//! What the program brings along and rows point at, and what others may copy of the market.

use domain::{id::OfferId, money::UsdMicros, rate::UsdPerHour, time::UnixSeconds};

use crate::{Connection, StoreError, convert::ts, gpu_models, templates};

/// Writes the program's GPU models and templates where the database has others or none. Any process may do it at any
/// time; with nothing to do it writes nothing.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn fill(tx: &mut Connection, now: UnixSeconds) -> Result<(), StoreError> {
    let models = gpu_models::fill(tx).await?;
    let templates = templates::fill(tx, now).await?;
    if models > 0 || templates > 0 {
        tracing::info!(models, templates, "the catalog was written");
    }
    Ok(())
}

/// One way to rent an offer: all of its GPUs, or as many as one of its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rentable {
    /// The offer.
    pub offer: OfferId,
    /// Its version.
    pub version: u32,
    /// The model's slug.
    pub model: String,
    /// GPUs that are rented together.
    pub gpus: u32,
    /// Per GPU and hour.
    pub price: UsdPerHour,
    /// Where.
    pub region: String,
    /// The machine's processors that come with so many of its GPUs.
    pub cpu_cores: u32,
    /// The same of its memory, in GB.
    pub ram_gb: u32,
    /// The most disk that can be rented with them, in GB: as a quote reckons it, by the offer's promise and by what the
    /// machine is sold with.
    pub disk_gb: u32,
}

/// What a quote can be had for now, for the offer's shortest duration at least: listed, heard of since, with so many GPUs
/// free, and neither at its end nor in maintenance before a rental that begins at `start_by` has lasted so long. Cheapest
/// per GPU first, at most `limit`: of each model as many as of another, and of these the cheapest in each number of GPUs and
/// region first, then the second of each. So no model is left out for being dear.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn rentable(
    connection: &mut Connection,
    heard_since: UnixSeconds,
    now: UnixSeconds,
    start_by: UnixSeconds,
    limit: i64,
) -> Result<Vec<Rentable>, StoreError> {
    let rows = sqlx::query!(
        r#"WITH ways AS (
           SELECT o.id, o.version, v.model, chunk AS gpus, v.usd_micros_per_hour, m.region,
                  GREATEST(m.sold_cpu_cores * chunk / free.all_gpus, 1) AS cpu_cores,
                  GREATEST(m.sold_ram_gb * chunk / free.all_gpus, 1) AS ram_gb,
                  LEAST(v.disk_gb, m.sold_disk_gb)::bigint * chunk / free.alike AS disk_gb,
                  row_number() OVER (PARTITION BY v.model, chunk, m.region
                                     ORDER BY v.usd_micros_per_hour, o.id) AS place
           FROM offers o
           JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
           JOIN machines m ON m.id = o.machine_id
           CROSS JOIN LATERAL (
               SELECT count(*) AS all_gpus, count(*) FILTER (WHERE u.model = v.model) AS alike,
                      count(*) FILTER (WHERE u.model = v.model AND NOT EXISTS (
                   SELECT FROM rental_gpus h
                   WHERE h.gpu_id = u.id AND h.held_until > $1)) AS gpus
               FROM gpus u WHERE u.machine_id = o.machine_id) AS free
           CROSS JOIN LATERAL unnest(
               CASE WHEN cardinality(v.chunks) = 0 THEN ARRAY[v.gpu_count] ELSE v.chunks END) AS chunk
           CROSS JOIN LATERAL (
               SELECT $4::timestamptz + v.min_duration_s * interval '1 second' AS at) AS ends
           WHERE o.state = 'listed' AND m.service = 'open' AND m.last_heartbeat_at >= $2 AND free.gpus >= chunk
             AND (v.available_until IS NULL OR v.available_until >= ends.at)
             AND NOT EXISTS (
                 SELECT FROM maintenance_windows w
                 WHERE w.machine_id = o.machine_id AND w.cancelled_at IS NULL AND w.during && tstzrange($1, ends.at))),
           turns AS (
               SELECT *, row_number() OVER (PARTITION BY model ORDER BY place, usd_micros_per_hour, id, gpus) AS turn
               FROM ways),
           told AS (SELECT * FROM turns ORDER BY turn, usd_micros_per_hour, id, gpus LIMIT $3)
           SELECT id AS "id!", version AS "version!", model AS "model!", gpus AS "gpus!",
                  usd_micros_per_hour AS "usd_micros_per_hour!", region AS "region!", cpu_cores AS "cpu_cores!",
                  ram_gb AS "ram_gb!", disk_gb AS "disk_gb!"
           FROM told ORDER BY usd_micros_per_hour, id, gpus"#,
        ts(now)?,
        ts(heard_since)?,
        limit,
        ts(start_by.max(now))?,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let number = |stored: i64| u32::try_from(stored).map_err(StoreError::corrupt);
            let usd = u64::try_from(row.usd_micros_per_hour).map_err(StoreError::corrupt)?;
            Ok(Rentable {
                offer: OfferId::from_uuid(row.id),
                version: u32::try_from(row.version).map_err(StoreError::corrupt)?,
                model: row.model,
                gpus: u32::try_from(row.gpus).map_err(StoreError::corrupt)?,
                price: UsdPerHour(UsdMicros::new(usd)),
                region: row.region,
                cpu_cores: number(row.cpu_cores)?,
                ram_gb: number(row.ram_gb)?,
                disk_gb: number(row.disk_gb)?,
            })
        })
        .collect()
}
