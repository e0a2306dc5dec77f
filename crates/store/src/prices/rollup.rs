//! Prices over time: a bucket each five minutes, hours and days made from them. Every statement may be repeated, by
//! whomever, and comes to the same.

use domain::{
    money::UsdMicros,
    time::{Seconds, UnixSeconds},
};

use super::Band;
use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// The steps that a history can have, in seconds.
pub const STEPS: [u32; 3] = [300, HOUR, DAY];
/// An hour, in seconds.
pub const HOUR: u32 = 3_600;
const DAY: u32 = 86_400;
/// Buckets of five minutes are kept so long: seven days.
pub const KEPT_FIVE_MINUTES: Seconds = Seconds(7 * DAY);
/// Buckets of an hour are kept so long: 400 days. Days are kept for ever.
pub const KEPT_HOURS: Seconds = Seconds(400 * DAY);

/// One bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where it begins.
    pub at: UnixSeconds,
    /// How many offers or deals.
    pub n: u64,
    /// The lowest price.
    pub minimum: UsdMicros,
    /// The 10th percentile.
    pub p10: UsdMicros,
    /// The median.
    pub median: UsdMicros,
    /// The 90th percentile.
    pub p90: UsdMicros,
    /// The highest price.
    pub maximum: UsdMicros,
    /// GPUs behind them.
    pub gpus: u64,
    /// Those of them that were rented.
    pub gpus_rented: u64,
}

/// The columns of many bands, as one statement takes them.
#[derive(Default)]
struct Columns {
    names: [Vec<String>; 3],
    numbers: [Vec<i64>; 6],
    counts: [Vec<i32>; 2],
}

impl Columns {
    fn of(bands: &[Band]) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        for band in bands {
            for (column, name) in
                columns.names.iter_mut().zip([&band.model, &band.tier, &band.region])
            {
                column.push(name.clone());
            }
            let numbers = [band.n, band.minimum, band.p10, band.median, band.p90, band.maximum];
            for (column, number) in columns.numbers.iter_mut().zip(numbers) {
                column.push(i64::try_from(number).map_err(StoreError::corrupt)?);
            }
            for (column, count) in columns.counts.iter_mut().zip([band.gpus, band.gpus_rented]) {
                column.push(i32::try_from(count).map_err(StoreError::corrupt)?);
            }
        }
        Ok(columns)
    }
}

/// Stores what is asked in the bucket of five minutes that begins at `bucket`. What is stored stays, as a whole: of a sample
/// beside it nothing is added, as an offer whose tier changed in between would be in both.
///
/// # Errors
/// The database's.
pub async fn note_asks(
    tx: &mut Connection,
    bucket: UnixSeconds,
    bands: &[Band],
) -> Result<(), StoreError> {
    let sampled = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM price_points
                          WHERE step_s = 300 AND bucket = $1 AND kind = 'ask') AS "sampled!""#,
        ts(bucket)?,
    )
    .fetch_one(&mut *tx)
    .await?;
    if sampled { Ok(()) } else { note(tx, "ask", 300, bucket, Columns::of(bands)?).await }
}

/// Stores what was agreed in a bucket, in place of all that was known of it before: a deposit becomes final later. Without
/// bands nothing is left.
///
/// # Errors
/// The database's.
pub async fn note_deals(
    tx: &mut Connection,
    step: u32,
    bucket: UnixSeconds,
    bands: &[Band],
) -> Result<(), StoreError> {
    let columns = Columns::of(bands)?;
    let [models, tiers, regions] = &columns.names;
    sqlx::query!(
        "DELETE FROM price_points p
         WHERE p.kind = 'deal' AND p.step_s = $1 AND p.bucket = $2
           AND NOT EXISTS (SELECT FROM unnest($3::text[], $4::text[], $5::text[]) AS b (model, tier, region)
                           WHERE b.model = p.model AND b.tier = p.tier AND b.region = p.region)",
        i32::try_from(step).map_err(StoreError::corrupt)?,
        ts(bucket)?,
        models,
        tiers,
        regions,
    )
    .execute(&mut *tx)
    .await?;
    if bands.is_empty() { Ok(()) } else { note(tx, "deal", step, bucket, columns).await }
}

async fn note(
    tx: &mut Connection,
    kind: &str,
    step: u32,
    bucket: UnixSeconds,
    columns: Columns,
) -> Result<(), StoreError> {
    let Columns {
        names: [models, tiers, regions],
        numbers: [n, minimum, p10, median, p90, maximum],
        counts: [gpus, rented],
    } = columns;
    sqlx::query!(
        "INSERT INTO price_points (kind, model, tier, region, step_s, bucket, n, minimum, p10, median, p90,
                                   maximum, gpus, gpus_rented)
         SELECT $1, b.model, b.tier, b.region, $2, $3, b.n::int, b.minimum, b.p10, b.median, b.p90, b.maximum,
                b.gpus, b.rented
         FROM unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
                     $11::bigint[], $12::bigint[], $13::int[], $14::int[])
              AS b (model, tier, region, n, minimum, p10, median, p90, maximum, gpus, rented)
         ON CONFLICT (kind, model, step_s, tier, region, bucket) DO UPDATE SET
             n = excluded.n, minimum = excluded.minimum, p10 = excluded.p10, median = excluded.median,
             p90 = excluded.p90, maximum = excluded.maximum, gpus = excluded.gpus,
             gpus_rented = excluded.gpus_rented
         WHERE price_points.kind = 'deal'",
        kind,
        i32::try_from(step).map_err(StoreError::corrupt)?,
        ts(bucket)?,
        &models,
        &tiers,
        &regions,
        &n,
        &minimum,
        &p10,
        &median,
        &p90,
        &maximum,
        &gpus,
        &rented,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes what was asked in the hours or days (`step`) from `from` up to `to`, both on their bounds, from the buckets of
/// the next smaller step: of the percentiles, counts and GPUs the median of the buckets', of the extremes the extreme.
/// What is made stays.
///
/// # Errors
/// The database's.
pub async fn roll_up(
    tx: &mut Connection,
    step: u32,
    from: UnixSeconds,
    to: UnixSeconds,
) -> Result<(), StoreError> {
    let smaller = if step == HOUR { 300_i32 } else { 3_600_i32 };
    sqlx::query!(
        "INSERT INTO price_points (kind, model, tier, region, step_s, bucket, n, minimum, p10, median, p90,
                                   maximum, gpus, gpus_rented)
         SELECT kind, model, tier, region, $1::int, date_bin($1::int * interval '1 second', bucket, 'epoch'),
                percentile_disc(0.5) WITHIN GROUP (ORDER BY n), min(minimum),
                percentile_disc(0.5) WITHIN GROUP (ORDER BY p10),
                percentile_disc(0.5) WITHIN GROUP (ORDER BY median),
                percentile_disc(0.5) WITHIN GROUP (ORDER BY p90), max(maximum),
                percentile_disc(0.5) WITHIN GROUP (ORDER BY gpus),
                percentile_disc(0.5) WITHIN GROUP (ORDER BY gpus_rented)
         FROM price_points
         WHERE kind = 'ask' AND step_s = $2 AND bucket >= $3 AND bucket < $4
         GROUP BY 1, 2, 3, 4, 6
         ON CONFLICT (kind, model, step_s, tier, region, bucket) DO NOTHING",
        i32::try_from(step).map_err(StoreError::corrupt)?,
        smaller,
        ts(from)?,
        ts(to)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes buckets that are kept no longer. Returns how many.
///
/// # Errors
/// The database's.
pub async fn drop_old(tx: &mut Connection, now: UnixSeconds) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "DELETE FROM price_points WHERE (step_s = 300 AND bucket < $1) OR (step_s = 3600 AND bucket < $2)",
        ts(now.saturating_minus(KEPT_FIVE_MINUTES))?,
        ts(now.saturating_minus(KEPT_HOURS))?,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Which history.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// `ask` or `deal`.
    pub kind: &'a str,
    /// The model's slug.
    pub model: &'a str,
    /// The tier, or `""` for all.
    pub tier: &'a str,
    /// The country, or `""` for all.
    pub region: &'a str,
    /// One of [`STEPS`].
    pub step: u32,
}

/// Up to `limit` buckets that begin from `from` up to `to`, oldest first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn points(
    connection: &mut Connection,
    series: &Series<'_>,
    from: UnixSeconds,
    to: UnixSeconds,
    limit: i64,
) -> Result<Vec<Point>, StoreError> {
    sqlx::query!(
        "SELECT bucket, n, minimum, p10, median, p90, maximum, gpus, gpus_rented FROM price_points
         WHERE kind = $1 AND model = $2 AND step_s = $3 AND tier = $4 AND region = $5
           AND bucket >= $6 AND bucket < $7 ORDER BY bucket LIMIT $8",
        series.kind,
        series.model,
        i32::try_from(series.step).map_err(StoreError::corrupt)?,
        series.tier,
        series.region,
        ts(from)?,
        ts(to)?,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let usd =
            |value: i64| u64::try_from(value).map(UsdMicros::new).map_err(StoreError::corrupt);
        let count = |value: i32| u64::try_from(value).map_err(StoreError::corrupt);
        Ok(Point {
            at: seconds(row.bucket)?,
            n: count(row.n)?,
            minimum: usd(row.minimum)?,
            p10: usd(row.p10)?,
            median: usd(row.median)?,
            p90: usd(row.p90)?,
            maximum: usd(row.maximum)?,
            gpus: count(row.gpus)?,
            gpus_rented: count(row.gpus_rented)?,
        })
    })
    .collect()
}
