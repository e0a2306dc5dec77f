//! What GPUs are asked and rented for, and how many there are: public figures. Prices are per GPU and hour in
//! micro-dollars; percentiles are by nearest rank (`percentile_disc`), so that each is a price that exists.

use domain::time::{Seconds, UnixSeconds};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

mod rollup;
pub use rollup::{
    HOUR, KEPT_FIVE_MINUTES, KEPT_HOURS, Point, STEPS, Series, drop_old, note_asks, note_deals,
    points, roll_up,
};

/// The spread of prices of a model in a tier and a region; `""` for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// The model's slug.
    pub model: String,
    /// The tier, or `""`.
    pub tier: String,
    /// The country, or `""`.
    pub region: String,
    /// How many offers or deals.
    pub n: u64,
    /// The lowest price.
    pub minimum: u64,
    /// The 10th percentile.
    pub p10: u64,
    /// The median.
    pub median: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The highest price.
    pub maximum: u64,
    /// GPUs behind them.
    pub gpus: u64,
    /// Those of them that are rented now.
    pub gpus_rented: u64,
}

struct Row {
    model: String,
    tier: String,
    region: String,
    n: i64,
    minimum: i64,
    p10: i64,
    median: i64,
    p90: i64,
    maximum: i64,
    gpus: i64,
    gpus_rented: i64,
}

impl TryFrom<Row> for Band {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let number = |value: i64| u64::try_from(value).map_err(StoreError::corrupt);
        Ok(Self {
            model: row.model,
            tier: row.tier,
            region: row.region,
            n: number(row.n)?,
            minimum: number(row.minimum)?,
            p10: number(row.p10)?,
            median: number(row.median)?,
            p90: number(row.p90)?,
            maximum: number(row.maximum)?,
            gpus: number(row.gpus)?,
            gpus_rented: number(row.gpus_rented)?,
        })
    }
}

/// The prices that are asked: of listed offers, whether they are rented or not, whose machine takes rentals, was heard of
/// within `online` and is in no maintenance, and that last for the shortest rental that they allow.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn asks(
    connection: &mut Connection,
    now: UnixSeconds,
    online: Seconds,
) -> Result<Vec<Band>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"WITH held AS (
               SELECT g.machine_id, count(*) AS gpus FROM rental_gpus h JOIN gpus g ON g.id = h.gpu_id
               WHERE h.held_until = 'infinity' GROUP BY g.machine_id),
           live AS (
               SELECT v.model, m.tier, split_part(m.region, '-', 1) AS region, v.usd_micros_per_hour AS price,
                      v.gpu_count AS gpus, least(v.gpu_count, coalesce(held.gpus, 0)) AS rented
               FROM offers o JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
               JOIN machines m ON m.id = o.machine_id LEFT JOIN held ON held.machine_id = m.id
               WHERE o.state = 'listed' AND m.service = 'open' AND m.last_heartbeat_at >= $2
                 AND (v.available_until IS NULL OR v.available_until >= $1::timestamptz + v.min_duration_s * interval '1 second')
                 AND NOT EXISTS (SELECT FROM maintenance_windows w
                                 WHERE w.machine_id = m.id AND w.cancelled_at IS NULL AND w.during @> $1::timestamptz))
           SELECT model, coalesce(tier, '') AS "tier!", coalesce(region, '') AS "region!", count(*) AS "n!",
                  min(price) AS "minimum!", percentile_disc(0.1) WITHIN GROUP (ORDER BY price) AS "p10!",
                  percentile_disc(0.5) WITHIN GROUP (ORDER BY price) AS "median!",
                  percentile_disc(0.9) WITHIN GROUP (ORDER BY price) AS "p90!", max(price) AS "maximum!",
                  sum(gpus)::bigint AS "gpus!", sum(rented)::bigint AS "gpus_rented!"
           FROM live GROUP BY GROUPING SETS ((model), (model, tier), (model, region), (model, tier, region))
           ORDER BY 1, 2, 3"#,
        ts(now)?,
        ts(now.saturating_minus(online))?,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Band::try_from)
    .collect()
}

/// Whether the market is so large that a look at every offer is not for a request: the server's own estimate.
///
/// # Errors
/// The database's.
pub async fn is_large(connection: &mut Connection) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT coalesce((SELECT reltuples FROM pg_class WHERE oid = 'offers'::regclass), 0) > 50000 AS "large!""#
    )
    .fetch_one(connection)
    .await?)
}

/// Gives the statements of this transaction a minute: a look at a million offers takes some seconds.
///
/// # Errors
/// The database's.
pub async fn take_time(tx: &mut Connection) -> Result<(), StoreError> {
    sqlx::query!("SET LOCAL statement_timeout = '60s'").execute(tx).await?;
    Ok(())
}

/// Whether it is our turn to survey, until the transaction ends: one surveyor at a time, so that what two of them find is not
/// mixed in a bucket.
///
/// # Errors
/// The database's.
pub async fn take_turn(tx: &mut Connection) -> Result<bool, StoreError> {
    // two numbers: those of leases are one (`txs::signer`)
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock(10, 1) AS "ours!""#)
        .fetch_one(tx)
        .await?)
}

/// When the market was last sampled.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn newest(connection: &mut Connection) -> Result<Option<UnixSeconds>, StoreError> {
    let newest = sqlx::query_scalar!(
        "SELECT max(bucket) FROM price_points WHERE step_s = 300 AND kind = 'ask'"
    );
    newest.fetch_one(connection).await?.map(seconds).transpose()
}

/// What was asked when it was last sampled, and when that was, if it is not before `since`.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn sampled(
    connection: &mut Connection,
    since: UnixSeconds,
) -> Result<Option<(UnixSeconds, Vec<Band>)>, StoreError> {
    let newest = sqlx::query_scalar!(
        "SELECT max(bucket) FROM price_points WHERE step_s = 300 AND kind = 'ask' AND bucket >= $1",
        ts(since)?
    )
    .fetch_one(&mut *connection)
    .await?;
    let Some(bucket) = newest else { return Ok(None) };
    let bands = sqlx::query_as!(
        Row,
        r#"SELECT model, tier, region, n::bigint AS "n!", minimum, p10, median, p90, maximum,
                  gpus::bigint AS "gpus!", gpus_rented::bigint AS "gpus_rented!"
           FROM price_points WHERE step_s = 300 AND kind = 'ask' AND bucket = $1 ORDER BY 1, 2, 3"#,
        bucket
    )
    .fetch_all(connection)
    .await?;
    let bands: Result<Vec<Band>, StoreError> = bands.into_iter().map(Band::try_from).collect();
    Ok(Some((seconds(bucket)?, bands?)))
}

/// The prices that were agreed for GPUs alone, without disk and network in them: of rentals booked from `from` up to `to` whose deposit is locked, finally. What was
/// only booked costs nothing, and says nothing. Tier and region are those that the machine had when it was booked.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn deals(
    connection: &mut Connection,
    from: UnixSeconds,
    to: UnixSeconds,
) -> Result<Vec<Band>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"WITH deal AS (
               SELECT v.model, coalesce(r.tier, m.tier) AS tier,
                      split_part(coalesce(r.region, m.region), '-', 1) AS region,
                      q.usd_micros_per_hour / coalesce(q.gpu_count, v.gpu_count) AS price,
                      coalesce(q.gpu_count, v.gpu_count) AS gpus,
                      CASE WHEN r.state IN ('funded', 'provisioning', 'active', 'interrupted', 'stopping')
                           THEN coalesce(q.gpu_count, v.gpu_count) ELSE 0 END AS rented
               FROM rentals r JOIN quotes q ON q.id = r.quote_id
               JOIN offer_versions v ON v.offer_id = q.offer_id AND v.version = q.offer_version
               JOIN machines m ON m.id = r.machine_id
               WHERE r.created_at >= $1 AND r.created_at < $2 AND r.lock_status = 'final'
                 AND q.disk_gb = 0 AND q.up_gb = 0 AND q.down_gb = 0)
           SELECT model, coalesce(tier, '') AS "tier!", coalesce(region, '') AS "region!", count(*) AS "n!",
                  min(price) AS "minimum!", percentile_disc(0.1) WITHIN GROUP (ORDER BY price) AS "p10!",
                  percentile_disc(0.5) WITHIN GROUP (ORDER BY price) AS "median!",
                  percentile_disc(0.9) WITHIN GROUP (ORDER BY price) AS "p90!", max(price) AS "maximum!",
                  sum(gpus)::bigint AS "gpus!", sum(rented)::bigint AS "gpus_rented!"
           FROM deal GROUP BY GROUPING SETS ((model), (model, tier), (model, region), (model, tier, region))
           ORDER BY 1, 2, 3"#,
        ts(from)?,
        ts(to)?,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Band::try_from)
    .collect()
}
