//! Listed offers as the search index wants them, and the feed of what changed about them (docs/adr/0012).

use domain::time::UnixSeconds;
use futures_util::TryStreamExt as _;
use market::{Form, GpuModel, Isolation, Listing, Step, Vendor, Verification};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Connection, Store, StoreError, convert::ts};

mod fill;

pub use fill::{Filled, fill, filled, renew};

/// The most changes that are read one by one; more than that, and reading everything is cheaper.
pub const MOST_CHANGES: usize = 50_000;
/// Old changes that are deleted at once.
const FORGOTTEN_AT_ONCE: i64 = 10_000;

/// Moments of the database: which transactions had committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment(String);

impl Moment {
    /// As PostgreSQL writes a snapshot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The moment that was written so, if it is one.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let written = |byte: u8| byte.is_ascii_digit() || byte == b':' || byte == b',';
        let parts = text.split(':').count() == 3;
        (parts && text.bytes().all(written)).then(|| Self(text.to_owned()))
    }
}

/// What changed since a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Up to when.
    pub until: Moment,
    /// Offers that have to be read again; `None` for more than [`MOST_CHANGES`].
    pub offers: Option<Vec<Uuid>>,
}

/// A connection of its own, which may read for as long as a whole market takes. It is none of the pool's: nobody else gets
/// its settings, and closing the pool does not wait for it.
#[derive(Debug)]
pub struct Line(sqlx::PgConnection);

impl Line {
    /// Opens one.
    ///
    /// # Errors
    /// The database's.
    pub async fn open(store: &Store) -> Result<Self, StoreError> {
        let mut connection = store.read().await?.detach();
        sqlx::query!("SELECT set_config('statement_timeout', '300s', false) AS set")
            .fetch_one(&mut connection)
            .await?;
        Ok(Self(connection))
    }

    /// The connection.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.0
    }
}

#[derive(serde::Deserialize)]
struct StoredStep {
    min_duration_s: u32,
    discount_bps: u16,
}

struct Row {
    id: Uuid,
    machine_id: Uuid,
    account_id: Uuid,
    version: i32,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    model: String,
    gpu_count: i16,
    chunks: Vec<i16>,
    usd_micros_per_hour: i64,
    reserved: Json<Vec<StoredStep>>,
    disk_micros_per_gb_month: i64,
    disk_gb: i32,
    up_micros_per_gb: i64,
    down_micros_per_gb: i64,
    min_duration_s: i64,
    max_duration_s: i64,
    notice_s: i32,
    isolation: String,
    until: Option<OffsetDateTime>,
    region: String,
    cpu_cores: i32,
    ram_gb: i32,
    cuda_version: Option<i16>,
    disk_mb_s: Option<i32>,
    pcie_mb_s: Option<i32>,
    inet_up_mbps: Option<i32>,
    inet_down_mbps: Option<i32>,
    ports: i32,
    static_ip: bool,
    templates: bool,
    verification: String,
    datacenter: bool,
    service: String,
    last_heartbeat_at: Option<OffsetDateTime>,
    score_bps: Option<i32>,
    starts: Option<i32>,
    ready_p95_ms: Option<i32>,
    gpus: i64,
    gpus_held: i64,
}

fn number<T: TryFrom<I>, I>(value: I) -> Result<T, StoreError>
where
    T::Error: std::fmt::Display,
{
    T::try_from(value).map_err(StoreError::corrupt)
}

fn known<T: TryFrom<I>, I>(value: Option<I>) -> Result<Option<T>, StoreError>
where
    T::Error: std::fmt::Display,
{
    value.map(number).transpose()
}

/// Seconds since 1970, in the 32 bits that last until 2106.
fn second(at: OffsetDateTime) -> u32 {
    u32::try_from(at.unix_timestamp().max(0)).unwrap_or(u32::MAX)
}

impl TryFrom<Row> for Listing {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let step = |step: StoredStep| Step {
            min_duration_s: step.min_duration_s,
            discount_bps: step.discount_bps,
        };
        let gpus: u16 = number(row.gpus)?;
        let held: u16 = number(row.gpus_held)?;
        Ok(Self {
            id: row.id,
            machine: row.machine_id,
            provider: row.account_id,
            version: number(row.version)?,
            model: row.model,
            region: row.region,
            gpu_count: number(row.gpu_count)?,
            chunks: row.chunks.into_iter().map(number).collect::<Result<_, _>>()?,
            gpus_free: gpus.saturating_sub(held),
            gpus_in_machine: gpus,
            price_micros: number(row.usd_micros_per_hour)?,
            reserved: row.reserved.0.into_iter().map(step).collect(),
            disk_price_micros: number(row.disk_micros_per_gb_month)?,
            disk_gb: number(row.disk_gb)?,
            up_price_micros: number(row.up_micros_per_gb)?,
            down_price_micros: number(row.down_micros_per_gb)?,
            min_duration_s: number(row.min_duration_s)?,
            max_duration_s: number(row.max_duration_s)?,
            notice_s: number(row.notice_s)?,
            isolation: row.isolation.parse::<Isolation>().map_err(StoreError::corrupt)?,
            available_until: row.until.map(second),
            cpu_cores: number(row.cpu_cores)?,
            ram_gb: number(row.ram_gb)?,
            cuda: known(row.cuda_version)?,
            disk_mb_s: known(row.disk_mb_s)?,
            pcie_mb_s: known(row.pcie_mb_s)?,
            inet_up_mbps: known(row.inet_up_mbps)?,
            inet_down_mbps: known(row.inet_down_mbps)?,
            ports: number(row.ports)?,
            static_ip: row.static_ip,
            runs_templates: row.templates,
            verification: row.verification.parse::<Verification>().map_err(StoreError::corrupt)?,
            datacenter: row.datacenter,
            reliability_bps: known(row.score_bps)?,
            starts: row.starts.map_or(0, |starts| u16::try_from(starts).unwrap_or(u16::MAX)),
            ready_p95_ms: known(row.ready_p95_ms)?,
            open: row.service == "open",
            heard_at: row.last_heartbeat_at.map_or(0, second),
            created_at: second(row.created_at),
            updated_at: second(row.updated_at),
        })
    }
}

/// One text for both reads; `$1` is the time. A hold that ends within the second counts as ended: nobody tells of the
/// moment when it does.
macro_rules! listings {
    ([$($from:literal),+], $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"SELECT o.id, o.machine_id, o.account_id, o.version, o.created_at, o.updated_at,
                      v.model, v.gpu_count, v.chunks, v.usd_micros_per_hour,
                      v.reserved AS "reserved: Json<Vec<StoredStep>>", v.disk_micros_per_gb_month,
                      LEAST(v.disk_gb, m.sold_disk_gb) AS "disk_gb!",
                      v.up_micros_per_gb, v.down_micros_per_gb, v.min_duration_s, v.max_duration_s, v.notice_s,
                      v.isolation, LEAST(v.available_until, w.starts) AS until,
                      m.region, m.sold_cpu_cores AS "cpu_cores!", m.sold_ram_gb AS "ram_gb!", m.cuda_version,
                      m.disk_mb_s, m.pcie_mb_s, m.inet_up_mbps, m.inet_down_mbps, m.ports,
                      m.static_ip, m.templates, m.verification, m.datacenter, m.service,
                      m.last_heartbeat_at, r.score_bps AS "score_bps?", r.starts AS "starts?", r.ready_p95_ms AS "ready_p95_ms?",
                      COALESCE(g.gpus, 0) AS "gpus!", COALESCE(held, 0) AS "gpus_held!"
               FROM offers o
               JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
               JOIN machines m ON m.id = o.machine_id
               LEFT JOIN machine_reliability r ON r.machine_id = m.id AND r.window_days = 30 "#
                $(+ $from)+,
            $($argument),+
        )
    };
}

/// Hands out every listed offer.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn read_all(
    connection: &mut Connection,
    now: UnixSeconds,
    mut each: impl FnMut(Listing),
) -> Result<(), StoreError> {
    let mut rows = listings!(
        [
            "LEFT JOIN (SELECT machine_id, model, count(*) AS gpus FROM gpus GROUP BY machine_id, model) g
                  ON g.machine_id = o.machine_id AND g.model = v.model
             LEFT JOIN (SELECT u.machine_id, u.model, count(*) AS held
                        FROM rental_gpus t JOIN gpus u ON u.id = t.gpu_id
                        WHERE t.held_until > $1::timestamptz + interval '1 second' GROUP BY u.machine_id, u.model) h
                  ON h.machine_id = o.machine_id AND h.model = v.model
             LEFT JOIN (SELECT machine_id, min(lower(during)) AS starts FROM maintenance_windows
                        WHERE cancelled_at IS NULL AND upper(during) > $1 GROUP BY machine_id) w
                  ON w.machine_id = o.machine_id
             WHERE o.state = 'listed' AND m.service <> 'retired'"
        ],
        ts(now)?,
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        each(row.try_into()?);
    }
    Ok(())
}

/// The listed ones among these offers.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn read(
    connection: &mut Connection,
    offers: &[Uuid],
    now: UnixSeconds,
) -> Result<Vec<Listing>, StoreError> {
    let rows = listings!(
        [
            "CROSS JOIN LATERAL (SELECT count(*) AS gpus,
                                        count(*) FILTER (WHERE EXISTS (
                                            SELECT FROM rental_gpus t WHERE t.gpu_id = u.id
                                            AND t.held_until > $1::timestamptz + interval '1 second')) AS held
                                 FROM gpus u WHERE u.machine_id = o.machine_id AND u.model = v.model) g
             CROSS JOIN LATERAL (SELECT min(lower(during)) AS starts FROM maintenance_windows x
                                 WHERE x.machine_id = o.machine_id AND x.cancelled_at IS NULL
                                   AND upper(x.during) > $1) w
             WHERE o.id = ANY($2) AND o.state = 'listed' AND m.service <> 'retired'"
        ],
        ts(now)?,
        offers,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Listing::try_from).collect()
}

/// The moment of now: what commits later is a change since.
///
/// # Errors
/// The database's.
pub async fn moment(connection: &mut Connection) -> Result<Moment, StoreError> {
    let text = sqlx::query_scalar!(r#"SELECT pg_current_snapshot()::text AS "moment!""#)
        .fetch_one(connection)
        .await?;
    Ok(Moment(text))
}

/// Leaves a mark for a file that tells of an earlier moment, and deletes marks that no file is used for any more. Returns
/// the server's clock, in seconds since 1970.
///
/// # Errors
/// The database's.
pub async fn mark(tx: &mut Connection, mark: Uuid) -> Result<u64, StoreError> {
    let at = sqlx::query_scalar!(
        r#"WITH old AS (DELETE FROM market_images WHERE at < now() - interval '1 hour')
           INSERT INTO market_images (id, database, offers, migration)
           SELECT $1, d.oid, 'offers'::regclass, (SELECT max(version) FROM _sqlx_migrations)
           FROM pg_database d WHERE d.datname = current_database()
           RETURNING floor(extract(epoch FROM now()))::bigint AS "at!""#,
        mark,
    )
    .fetch_one(tx)
    .await?;
    number(at)
}

/// The server's clock, in seconds since 1970, if this is the database that the mark was left in, as far as it had come then
/// at least; else `None`.
///
/// # Errors
/// The database's.
pub async fn has_mark(connection: &mut Connection, mark: Uuid) -> Result<Option<u64>, StoreError> {
    let at = sqlx::query_scalar!(
        r#"SELECT floor(extract(epoch FROM now()))::bigint AS "at!"
           FROM market_images i JOIN pg_database d ON d.oid = i.database AND d.datname = current_database()
           WHERE i.id = $1 AND i.offers = 'offers'::regclass
             AND i.migration = (SELECT max(version) FROM _sqlx_migrations)"#,
        mark,
    )
    .fetch_optional(connection)
    .await?;
    at.map(number).transpose()
}

/// What became visible since a moment: also what was begun before it and committed after.
///
/// # Errors
/// The database's.
pub async fn changes(connection: &mut Connection, since: &Moment) -> Result<Changes, StoreError> {
    let most = i64::try_from(MOST_CHANGES).map_err(StoreError::corrupt)?;
    let row = sqlx::query!(
        r#"SELECT pg_current_snapshot()::text AS "moment!",
                  ARRAY(SELECT offer_id FROM listing_changes
                        WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
                          AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
                        ORDER BY xid LIMIT $2::bigint + 1) AS "offers!: Vec<Uuid>""#,
        since.0,
        most,
    )
    .fetch_one(connection)
    .await?;
    let mut offers = row.offers;
    let too_many = offers.len() > MOST_CHANGES;
    offers.sort_unstable();
    offers.dedup();
    Ok(Changes { until: Moment(row.moment), offers: (!too_many).then_some(offers) })
}

/// When the machines of these offers were last heard of, in seconds since 1970; 0 for never.
///
/// # Errors
/// The database's.
pub async fn heard_at(
    connection: &mut Connection,
    offers: &[Uuid],
) -> Result<Vec<(Uuid, u32)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT o.id, m.last_heartbeat_at FROM offers o JOIN machines m ON m.id = o.machine_id
         WHERE o.id = ANY($1)",
        offers,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.last_heartbeat_at.map_or(0, second))).collect())
}

/// Offers of machines whose maintenance ended in this span: nobody writes anything at that moment.
///
/// # Errors
/// The database's.
pub async fn back_from_maintenance(
    connection: &mut Connection,
    after: UnixSeconds,
    until: UnixSeconds,
) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT o.id FROM maintenance_windows w
         JOIN offers o ON o.machine_id = w.machine_id AND o.state = 'listed'
         WHERE w.cancelled_at IS NULL AND upper(w.during) > $1 AND upper(w.during) <= $2",
        ts(after)?,
        ts(until)?,
    )
    .fetch_all(connection)
    .await?)
}

/// The catalog's models as search needs them.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn models(connection: &mut Connection) -> Result<Vec<GpuModel>, StoreError> {
    let rows = sqlx::query!(
        "SELECT slug, name, aliases, vram_gb, vendor, form, compute_capability, fp32_gflops
         FROM gpu_models ORDER BY slug"
    )
    .fetch_all(connection)
    .await?;
    let models = rows.into_iter().map(|row| {
        let vendor = row.vendor.parse::<Vendor>().map_err(StoreError::corrupt)?;
        // AMD's is HIP's number: its 9.4 is not more than CUDA's 9.0
        let is_cuda = vendor == Vendor::Nvidia;
        Ok(GpuModel {
            slug: row.slug,
            name: row.name,
            aliases: row.aliases,
            vram_gb: number(row.vram_gb)?,
            vendor,
            form: row.form.parse::<Form>().map_err(StoreError::corrupt)?,
            compute_capability: capability(&row.compute_capability).filter(|_| is_cuda),
            fp32_gflops: known(row.fp32_gflops)?,
        })
    });
    models.collect()
}

/// `8.6` as 86.
fn capability(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.')?;
    let minor = minor.parse::<u32>().ok().filter(|minor| *minor < 10)?;
    major.parse::<u32>().ok()?.checked_mul(10)?.checked_add(minor)
}

/// Deletes changes of more than a quarter of an hour ago, at most 10,000 at once; how many.
///
/// # Errors
/// The database's.
pub async fn forget(tx: &mut Connection) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        "DELETE FROM listing_changes WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM listing_changes WHERE at < now() - interval '15 minutes'
             ORDER BY xid LIMIT $1))",
        FORGOTTEN_AT_ONCE,
    )
    .execute(tx)
    .await?;
    Ok(deleted.rows_affected())
}

/// What cursors are sealed with.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn cursor_secret(connection: &mut Connection) -> Result<[u8; 32], StoreError> {
    let secret =
        sqlx::query_scalar!("SELECT secret FROM cursor_seals").fetch_one(connection).await?;
    secret.try_into().map_err(|_| StoreError::corrupt("a secret that is not 32 bytes"))
}
