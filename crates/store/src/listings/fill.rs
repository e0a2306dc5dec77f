//! Puts a generated market into the database, for demonstrations and measurements.

use domain::time::UnixSeconds;
use market::Listing;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// Stores generated listings with accounts, machines, GPUs and reliability: rows as providers would have made them, but
/// without agents. Their machines count as heard of until `heard_until`.
///
/// # Errors
/// The database's; [`StoreError::Conflict`] if they were stored before.
pub async fn fill(
    tx: &mut Connection,
    listings: &[Listing],
    heard_until: UnixSeconds,
) -> Result<(), StoreError> {
    accounts(tx, listings).await?;
    machines(tx, listings, heard_until).await?;
    gpus(tx, listings).await?;
    offers(tx, listings).await?;
    reliability(tx, listings).await?;
    know_sizes(tx).await
}

/// What was planned for empty tables reads them whole for every row that refers to one: the plans are made anew once the
/// tables are known to have rows.
async fn know_sizes(tx: &mut Connection) -> Result<(), StoreError> {
    let known = sqlx::query_scalar!(
        r#"SELECT reltuples >= 1000 AS "known!" FROM pg_class WHERE oid = 'machines'::regclass"#
    )
    .fetch_one(&mut *tx)
    .await?;
    if !known {
        // the triggers' tables, too
        sqlx::raw_sql("ANALYZE").execute(tx).await?;
    }
    Ok(())
}

/// What [`fill`] has stored so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// How many offers, each of a machine of its own.
    pub offers: u32,
    /// The second that the first of them were made as of.
    pub as_of: Option<UnixSeconds>,
}

/// What [`fill`] has stored so far. A machine that somebody has registered under the same name has an agent, or had one,
/// or was never heard of.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn filled(connection: &mut Connection) -> Result<Filled, StoreError> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "offers!", min(contact_since) FILTER (WHERE last_heartbeat_at > contact_since) AS as_of
           FROM machines m WHERE name = 'generated' AND agent_key IS NULL AND last_heartbeat_at IS NOT NULL
             AND NOT EXISTS (SELECT FROM ended_agent_keys e WHERE e.machine_id = m.id)"#
    )
    .fetch_one(connection)
    .await?;
    Ok(Filled {
        offers: u32::try_from(row.offers).map_err(StoreError::corrupt)?,
        as_of: row.as_of.map(seconds).transpose()?,
    })
}

/// Has up to `limit` machines that [`fill`] made online heard of until `heard_until`, after the one given, by id; those that
/// it made offline stay so. Returns the last, or `None` if there is none left.
///
/// # Errors
/// The database's.
pub async fn renew(
    tx: &mut Connection,
    after: Option<Uuid>,
    heard_until: UnixSeconds,
    limit: i64,
) -> Result<Option<Uuid>, StoreError> {
    let renewed = sqlx::query_scalar!(
        "WITH due AS (
             SELECT id FROM machines g
             WHERE ($1::uuid IS NULL OR id > $1) AND name = 'generated' AND agent_key IS NULL
               AND NOT EXISTS (SELECT FROM ended_agent_keys e WHERE e.machine_id = g.id)
               AND last_heartbeat_at > contact_since AND last_heartbeat_at < $2
             ORDER BY id LIMIT $3)
         UPDATE machines m SET last_heartbeat_at = $2 FROM due WHERE m.id = due.id RETURNING m.id",
        after,
        ts(heard_until)?,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(renewed.into_iter().max())
}

fn column<T>(listings: &[Listing], of: impl Fn(&Listing) -> T) -> Vec<T> {
    listings.iter().map(of).collect()
}

fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn small(value: u16) -> i16 {
    i16::try_from(value).unwrap_or(i16::MAX)
}

async fn accounts(tx: &mut Connection, listings: &[Listing]) -> Result<(), StoreError> {
    let mut ids = column(listings, |listing| listing.provider);
    ids.sort_unstable();
    ids.dedup();
    // an address that nobody has the key of: the id, made as long as an address
    sqlx::query!(
        "INSERT INTO accounts (id, address, created_at)
         SELECT id, substr(sha256(uuid_send(id)), 1, 20), to_timestamp(0) FROM unnest($1::uuid[]) AS id
         ON CONFLICT (id) DO NOTHING",
        &ids,
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn machines(
    tx: &mut Connection,
    listings: &[Listing],
    heard_until: UnixSeconds,
) -> Result<(), StoreError> {
    let regions = column(listings, |listing| listing.region.clone());
    let verification = column(listings, |listing| listing.verification.as_str().to_owned());
    let cuda: Vec<Option<i16>> = column(listings, |listing| listing.cuda.map(small));
    let known = |of: fn(&Listing) -> Option<u32>| -> Vec<Option<i32>> {
        column(listings, |listing| of(listing).map(int))
    };
    // whoever was heard of at the moment of making goes on being heard of
    let newest = listings.iter().map(|listing| listing.heard_at).max().unwrap_or(0);
    let online = column(listings, |listing| listing.heard_at == newest);
    sqlx::query!(
        "INSERT INTO machines (id, account_id, name, region, cpu_cores, ram_gb, disk_gb, cuda_version, inet_up_mbps,
                               inet_down_mbps, disk_mb_s, pcie_mb_s, ports, static_ip, templates, verification,
                               verification_reason, datacenter, service, last_heartbeat_at, contact_since, created_at)
         SELECT id, account, 'generated', region, cores, ram, greatest(disk, 1), cuda, up, down, disk_speed, pcie,
                ports, static_ip, templates, verification,
                CASE verification WHEN 'deverified' THEN 'the self-test failed' END, datacenter,
                CASE WHEN open THEN 'open' ELSE 'draining' END,
                CASE WHEN online THEN $19 ELSE to_timestamp(heard) END, to_timestamp(heard), to_timestamp(created)
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::int[], $6::int[], $7::smallint[], $8::int[],
                     $9::int[], $10::int[], $11::int[], $12::int[], $13::bool[], $14::text[], $15::bool[], $16::bool[],
                     $17::bigint[], $18::bigint[], $20::bool[], $21::bool[])
              AS t (id, account, region, cores, ram, disk, cuda, up, down, disk_speed, pcie, ports, static_ip,
                    verification, datacenter, open, heard, created, online, templates)",
        &column(listings, |listing| listing.machine),
        &column(listings, |listing| listing.provider),
        &regions,
        &column(listings, |listing| int(listing.cpu_cores)),
        &column(listings, |listing| int(listing.ram_gb)),
        &column(listings, |listing| int(listing.disk_gb)),
        &cuda as _,
        &known(|listing| listing.inet_up_mbps) as _,
        &known(|listing| listing.inet_down_mbps) as _,
        &known(|listing| listing.disk_mb_s) as _,
        &known(|listing| listing.pcie_mb_s) as _,
        &column(listings, |listing| i32::from(listing.ports)),
        &column(listings, |listing| listing.static_ip),
        &verification,
        &column(listings, |listing| listing.datacenter),
        &column(listings, |listing| listing.open),
        &column(listings, |listing| i64::from(listing.heard_at)),
        &column(listings, |listing| i64::from(listing.created_at)),
        ts(heard_until)?,
        &online,
        &column(listings, |listing| listing.runs_templates),
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn gpus(tx: &mut Connection, listings: &[Listing]) -> Result<(), StoreError> {
    // GPUs that are not free stay unmade: only a rental could hold them
    let made = column(listings, |listing| int(u32::from(listing.gpus_free)));
    sqlx::query!(
        "INSERT INTO gpus (id, machine_id, vendor_uuid, model, ordinal)
         SELECT gen_random_uuid(), machine, 'GPU-' || gen_random_uuid(), model, n::smallint
         FROM unnest($1::uuid[], $2::text[], $3::int[]) AS t (machine, model, made),
              generate_series(0, made - 1) AS n",
        &column(listings, |listing| listing.machine),
        &column(listings, |listing| listing.model.clone()),
        &made,
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn offers(tx: &mut Connection, listings: &[Listing]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = column(listings, |listing| listing.id);
    sqlx::query!(
        "INSERT INTO offers (id, machine_id, account_id, state, version, created_at, updated_at)
         SELECT id, machine, account, 'listed', version, to_timestamp(created), to_timestamp(updated)
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::bigint[], $6::bigint[])
              AS t (id, machine, account, version, created, updated)",
        &ids,
        &column(listings, |listing| listing.machine),
        &column(listings, |listing| listing.provider),
        &column(listings, |listing| int(listing.version)),
        &column(listings, |listing| i64::from(listing.created_at)),
        &column(listings, |listing| i64::from(listing.updated_at)),
    )
    .execute(&mut *tx)
    .await?;
    let chunks = column(listings, |listing| {
        let chunks: Vec<String> = listing.chunks.iter().map(u16::to_string).collect();
        format!("{{{}}}", chunks.join(","))
    });
    let reserved = column(listings, |listing| {
        let step = |step: &market::Step| serde_json::json!({"min_duration_s": step.min_duration_s, "discount_bps": step.discount_bps});
        serde_json::Value::Array(listing.reserved.iter().map(step).collect())
    });
    let until: Vec<Option<i64>> =
        column(listings, |listing| listing.available_until.map(i64::from));
    sqlx::query!(
        "INSERT INTO offer_versions (offer_id, version, model, gpu_count, chunks, usd_micros_per_hour, reserved,
                                     disk_micros_per_gb_month, disk_gb, up_micros_per_gb, down_micros_per_gb,
                                     min_duration_s, max_duration_s, notice_s, isolation, available_until, created_at)
         SELECT id, version, model, gpus, chunks::smallint[], price, reserved, disk_price, disk, up, down, shortest,
                longest, notice, isolation, to_timestamp(until), to_timestamp(updated)
         FROM unnest($1::uuid[], $2::int[], $3::text[], $4::smallint[], $5::text[], $6::bigint[], $7::jsonb[],
                     $8::bigint[], $9::int[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::int[],
                     $15::text[], $16::bigint[], $17::bigint[])
              AS t (id, version, model, gpus, chunks, price, reserved, disk_price, disk, up, down, shortest, longest,
                    notice, isolation, until, updated)",
        &ids,
        &column(listings, |listing| int(listing.version)),
        &column(listings, |listing| listing.model.clone()),
        &column(listings, |listing| small(listing.gpu_count)),
        &chunks,
        &column(listings, |listing| i64::from(listing.price_micros)),
        &reserved,
        &column(listings, |listing| i64::from(listing.disk_price_micros)),
        &column(listings, |listing| int(listing.disk_gb)),
        &column(listings, |listing| i64::from(listing.up_price_micros)),
        &column(listings, |listing| i64::from(listing.down_price_micros)),
        &column(listings, |listing| i64::from(listing.min_duration_s)),
        &column(listings, |listing| i64::from(listing.max_duration_s)),
        &column(listings, |listing| int(listing.notice_s)),
        &column(listings, |listing| listing.isolation.as_str().to_owned()),
        &until as _,
        &column(listings, |listing| i64::from(listing.updated_at)),
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn reliability(tx: &mut Connection, listings: &[Listing]) -> Result<(), StoreError> {
    let score: Vec<Option<i32>> =
        column(listings, |listing| listing.reliability_bps.map(|bps| int(bps.into())));
    let ready: Vec<Option<i32>> = column(listings, |listing| listing.ready_p95_ms.map(int));
    sqlx::query!(
        "INSERT INTO machine_reliability (machine_id, window_days, promised_s, good_s, idle_s, idle_good_s, rented_s,
                                          rented_good_s, starts, starts_ok, ready_p50_ms, ready_p95_ms, interruptions,
                                          disputes_lost, score_bps, as_of, computed_at)
         SELECT machine, 30, 2592000, 259 * score, 2592000, 259 * score, 0, 0, starts, starts, ready, ready, 0, 0, score,
                to_timestamp(updated), to_timestamp(updated)
         FROM unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::int[])
              AS t (machine, score, ready, updated, starts)
         WHERE score IS NOT NULL",
        &column(listings, |listing| listing.machine),
        &score as _,
        &ready as _,
        &column(listings, |listing| i64::from(listing.updated_at)),
        &column(listings, |listing| i32::from(listing.starts)),
    )
    .execute(tx)
    .await?;
    Ok(())
}
