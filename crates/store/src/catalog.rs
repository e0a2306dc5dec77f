//! What the program brings along and rows point at, and what others may copy of the market.

use domain::{
    id::OfferId,
    money::UsdMicros,
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};

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
    /// The same of its disk, in GB.
    pub disk_gb: u32,
}

/// What can be rented now: listed, heard of since, and with so many GPUs free; cheapest per GPU first, at most `limit`.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn rentable(
    connection: &mut Connection,
    heard_since: UnixSeconds,
    now: UnixSeconds,
    limit: i64,
) -> Result<Vec<Rentable>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT o.id, o.version, v.model, chunk AS "gpus!", v.usd_micros_per_hour, m.region,
                  GREATEST(m.cpu_cores * chunk / free.all_gpus, 1) AS "cpu_cores!",
                  GREATEST(m.ram_gb * chunk / free.all_gpus, 1) AS "ram_gb!",
                  GREATEST(m.disk_gb * chunk / free.all_gpus, 1) AS "disk_gb!"
           FROM offers o
           JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
           JOIN machines m ON m.id = o.machine_id
           CROSS JOIN LATERAL (
               SELECT count(*) AS all_gpus, count(*) FILTER (WHERE u.model = v.model AND NOT EXISTS (
                   SELECT FROM rental_gpus h
                   WHERE h.gpu_id = u.id AND h.held_until > $1)) AS gpus
               FROM gpus u WHERE u.machine_id = o.machine_id) AS free
           CROSS JOIN LATERAL unnest(
               CASE WHEN cardinality(v.chunks) = 0 THEN ARRAY[v.gpu_count] ELSE v.chunks END) AS chunk
           WHERE o.state = 'listed' AND m.service = 'open' AND m.last_heartbeat_at >= $2 AND free.gpus >= chunk
           ORDER BY v.usd_micros_per_hour, v.offer_id, chunk LIMIT $3"#,
        ts(now)?,
        ts(heard_since)?,
        limit,
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

/// An offer that could do a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cheapest {
    /// The offer.
    pub offer: OfferId,
    /// The model's slug.
    pub model: String,
    /// Per GPU and hour.
    pub price: UsdPerHour,
}

/// The cheapest offer, by the GPU, that lets exactly so many GPUs of one of these models for so long, now.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn cheapest(
    connection: &mut Connection,
    models: &[String],
    gpus: u32,
    elapsed: Seconds,
    heard_since: UnixSeconds,
    now: UnixSeconds,
) -> Result<Option<Cheapest>, StoreError> {
    let Ok(gpus) = i16::try_from(gpus) else {
        return Ok(None);
    };
    let row = sqlx::query!(
        r#"SELECT o.id, v.model, v.usd_micros_per_hour
           FROM offer_versions v
           JOIN offers o ON o.id = v.offer_id AND o.version = v.version AND o.state = 'listed'
           JOIN machines m ON m.id = o.machine_id AND m.service = 'open' AND m.last_heartbeat_at >= $4
           WHERE v.model = ANY($1) AND $3 BETWEEN v.min_duration_s AND v.max_duration_s
             AND (v.gpu_count = $2 OR $2 = ANY(v.chunks))
             AND $2 <= (SELECT count(*) FROM gpus u
                        WHERE u.machine_id = o.machine_id AND u.model = v.model AND NOT EXISTS (
                            SELECT FROM rental_gpus h
                            WHERE h.gpu_id = u.id AND h.held_until > $5))
           ORDER BY v.usd_micros_per_hour, v.offer_id LIMIT 1"#,
        models,
        gpus,
        i64::from(elapsed.get().max(1)),
        ts(heard_since)?,
        ts(now)?,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let usd = u64::try_from(row.usd_micros_per_hour).map_err(StoreError::corrupt)?;
        let price = UsdPerHour(UsdMicros::new(usd));
        Ok(Cheapest { offer: OfferId::from_uuid(row.id), model: row.model, price })
    })
    .transpose()
}
