//! Quotes are stored: several that were given at the same time in one statement, which costs little more than that of one.

use std::collections::BTreeSet;

use domain::{
    id::QuoteId,
    money::Decimals,
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};
use sqlx::{Postgres, pool::PoolConnection, types::BigDecimal};

use super::{Quote, ground::TEN};
use crate::{
    Connection, StoreError,
    convert::{numeric, ts},
    sessions,
};

/// What a quote was made from without a look, and must still be so when the quote is stored: beside the quote itself, which
/// names the offer's version, the account and the token's price.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The hash of the token of the caller's session.
    pub caller: [u8; 32],
    /// The price that the offer's version lists, by which its other terms are taken to be the same.
    pub listed: UsdPerHour,
    /// GPUs of the model in the machine.
    pub gpus_all: u32,
    /// What the token is called.
    pub symbol: String,
    /// What it is divided into.
    pub decimals: Decimals,
    /// How old the token's price may be, if it is an oracle's, who must not doubt it.
    pub max_age: Option<Seconds>,
}

/// As of when what was remembered must be so.
#[derive(Clone, Copy, Debug)]
pub struct AsOf {
    /// When it is stored.
    pub now: UnixSeconds,
    /// The machine must have been heard of since then.
    pub heard_since: UnixSeconds,
    /// A session that was not used for so long has ended; zero means never.
    pub idle: Seconds,
}

/// A quote, and what it rests on if that was not looked at.
pub type Promise<'a> = (&'a Quote, Option<&'a Remembered>);

/// Stores a quote. The offer's version must exist; `machine` and `model` are its own and are not stored a second
/// time.
///
/// # Errors
/// [`StoreError::Conflict`] on `quotes_escrow_id_key` if the same terms were quoted before.
pub async fn insert(tx: &mut Connection, quote: &Quote) -> Result<(), StoreError> {
    let never = UnixSeconds(0);
    let as_of = AsOf { now: never, heard_since: never, idle: Seconds::ZERO };
    put(tx, &[(quote, None)], &as_of, true).await?;
    Ok(())
}

/// Stores quotes in a transaction of their own, and says which: all but those of which something that was remembered is not so.
/// It does not wait for the disk: a server that crashes within the second may forget them. Nothing rests on them yet, and what
/// does, a booking, is on the disk only together with its quote. It takes a connection of the pool, not one that may be
/// inside a transaction, which would not wait for the disk either.
///
/// # Errors
/// As [`insert`]; then none is stored.
pub async fn promise(
    connection: &mut PoolConnection<Postgres>,
    promises: &[Promise<'_>],
    as_of: &AsOf,
) -> Result<BTreeSet<QuoteId>, StoreError> {
    put(connection, promises, as_of, false).await
}

/// One value of each.
fn column<T>(
    promises: &[Promise<'_>],
    of: impl Fn(&Quote) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    promises.iter().map(|(quote, _)| of(quote)).collect()
}

/// A number as a column holds it.
fn int<A, B>(value: A) -> Result<B, StoreError>
where
    B: TryFrom<A>,
    B::Error: std::fmt::Display,
{
    B::try_from(value).map_err(StoreError::corrupt)
}

#[expect(clippy::as_conversions, reason = "how sqlx is told that an array may hold nulls")]
async fn put(
    tx: &mut Connection,
    quotes: &[Promise<'_>],
    as_of: &AsOf,
    durable: bool,
) -> Result<BTreeSet<QuoteId>, StoreError> {
    let mut models = column(quotes, |quote| Ok(quote.model.clone()))?;
    // rows of nothing but this, which are left out: see `TEN`
    models.resize(models.len().max(TEN), String::new());
    let ids = column(quotes, |quote| Ok(quote.id.uuid()))?;
    let accounts = column(quotes, |quote| Ok(quote.account.uuid()))?;
    let offers = column(quotes, |quote| Ok(quote.offer.uuid()))?;
    let versions: Vec<i32> = column(quotes, |quote| int(quote.offer_version))?;
    let durations = column(quotes, |quote| Ok(i64::from(quote.duration.get())))?;
    let prices: Vec<i64> = column(quotes, |quote| int(quote.usd_per_hour.usd().get()))?;
    let lines = column(quotes, |quote| Ok(quote.lines.clone()))?;
    let renters = column(quotes, |quote| Ok(quote.renter.to_vec()))?;
    let providers = column(quotes, |quote| Ok(quote.provider.to_vec()))?;
    let tokens = column(quotes, |quote| Ok(quote.token.to_vec()))?;
    let rates: Vec<BigDecimal> = column(quotes, |quote| Ok(numeric(quote.rate.amount())))?;
    let fees: Vec<i16> = column(quotes, |quote| int(quote.fee.get()))?;
    let starts = column(quotes, |quote| ts(quote.start_by))?;
    let holdbacks = column(quotes, |quote| Ok(i64::from(quote.holdback.get())))?;
    let orders = column(quotes, |quote| Ok(quote.order_hash.to_vec()))?;
    let escrow_ids = column(quotes, |quote| Ok(quote.escrow_id.to_vec()))?;
    let deposits: Vec<BigDecimal> = column(quotes, |quote| Ok(numeric(quote.deposit)))?;
    let created = column(quotes, |quote| ts(quote.created_at))?;
    let expiries = column(quotes, |quote| ts(quote.expires_at))?;
    let counts: Vec<i16> = column(quotes, |quote| int(quote.gpu_count))?;
    let disks: Vec<i32> = column(quotes, |quote| int(quote.extras.disk_gb))?;
    let ups: Vec<i32> = column(quotes, |quote| int(quote.extras.up_gb))?;
    let downs: Vec<i32> = column(quotes, |quote| int(quote.extras.down_gb))?;
    let templates = column(quotes, |quote| Ok(quote.extras.template.clone()))?;
    let dollars: Vec<Option<i64>> = column(quotes, |quote| {
        quote.fx.as_ref().map(|fx| int(fx.usd_per_token.get())).transpose()
    })?;
    let sources = column(quotes, |quote| Ok(quote.fx.as_ref().map(|fx| fx.source.clone())))?;
    let priced = column(quotes, |quote| quote.fx.as_ref().map(|fx| ts(fx.at)).transpose())?;
    let ready: Vec<Option<i32>> =
        column(quotes, |quote| quote.sla.map(|sla| int(sla.ready.get())).transpose())?;
    let notices: Vec<Option<i32>> =
        column(quotes, |quote| quote.sla.map(|sla| int(sla.notice.get())).transpose())?;
    let outages = |quote: &Quote| quote.sla.and_then(|sla| sla.outages);
    let evidence: Vec<Option<i32>> =
        column(quotes, |quote| outages(quote).map(|of| int(of.evidence.get())).transpose())?;
    let outages: Vec<Option<i32>> =
        column(quotes, |quote| outages(quote).map(|of| int(of.most.get())).transpose())?;
    let signers = column(quotes, |quote| Ok(quote.seal.map(|seal| seal.signer.to_vec())))?;
    let signatures = column(quotes, |quote| Ok(quote.seal.map(|seal| seal.signature.to_vec())))?;
    let remembered = || quotes.iter().map(|(_, remembered)| *remembered);
    let callers = remembered().map(|known| known.map(|known| known.caller.to_vec()));
    let callers: Vec<Option<Vec<u8>>> = callers.collect();
    let gpus = remembered().map(|known| known.map_or(Ok(0), |known| int(known.gpus_all)));
    let gpus: Vec<i64> = gpus.collect::<Result<_, _>>()?;
    let listed = remembered().map(|known| match known {
        Some(known) => int(known.listed.usd().get()),
        None => Ok(0),
    });
    let listed: Vec<i64> = listed.collect::<Result<_, _>>()?;
    let symbols = remembered().map(|known| known.map_or("", |known| &known.symbol));
    let symbols: Vec<&str> = symbols.collect();
    let decimals = remembered().map(|known| known.map_or(0, |known| known.decimals.get().into()));
    let decimals: Vec<i16> = decimals.collect();
    let machines = column(quotes, |quote| Ok(quote.machine.uuid()))?;
    let ages = remembered()
        .map(|known| known.and_then(|known| known.max_age).map(|age| int(age.get())).transpose());
    let ages: Vec<Option<i32>> = ages.collect::<Result<_, _>>()?;
    let stored = sqlx::query_scalar!(
        "INSERT INTO quotes (id, account_id, offer_id, offer_version, duration_s, usd_micros_per_hour,
                             lines, renter, provider, token, price_per_hour, fee_bps, start_by,
                             holdback_s, order_hash, escrow_id, deposit, created_at, expires_at,
                             gpu_count, disk_gb, up_gb, down_gb, template, usd_micros_per_token,
                             priced_by, priced_at, ready_s, notice_s, signer, signature, evidence_s,
                             max_outage_s)
         SELECT n.id, n.account, n.offer, n.version, n.duration, n.usd, n.lines, n.renter, n.provider, n.token, n.rate, n.fee,
                n.start_by, n.holdback, n.order_hash, n.escrow_id, n.deposit, n.created_at, n.expires_at, n.gpus, n.disk,
                n.up, n.down, n.template, n.usd_per_token, n.priced_by, n.priced_at, n.ready, n.notice, n.signer, n.signature,
                n.evidence, n.max_outage
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::bigint[], $6::bigint[], $7::jsonb[],
                     $8::bytea[], $9::bytea[], $10::bytea[], $11::numeric[], $12::smallint[], $13::timestamptz[],
                     $14::bigint[], $15::bytea[], $16::bytea[], $17::numeric[], $18::timestamptz[], $19::timestamptz[],
                     $20::smallint[], $21::int[], $22::int[], $23::int[], $24::text[], $25::bigint[], $26::text[],
                     $27::timestamptz[], $28::int[], $29::int[], $30::bytea[], $31::bytea[], $32::bytea[],
                     $33::bigint[], $34::int[], $35::text[], $40::bigint[], $41::text[], $42::smallint[], $43::uuid[],
                     $44::int[], $45::int[])
              AS n (id, account, offer, version, duration, usd, lines, renter, provider, token, rate, fee, start_by,
                    holdback, order_hash, escrow_id, deposit, created_at, expires_at, gpus, disk, up, down, template,
                    usd_per_token, priced_by, priced_at, ready, notice, signer, signature, caller, gpus_all, max_age, model,
                    listed, symbol, decimals, machine, evidence, max_outage)
         WHERE CASE WHEN $36 THEN true ELSE set_config('synchronous_commit', 'off', true) = 'off' END
           AND n.id IS NOT NULL AND (n.caller IS NULL OR EXISTS (
               SELECT FROM offers o
               JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
               JOIN machines m ON m.id = o.machine_id
               JOIN sessions s ON s.token_hash = n.caller
               JOIN tokens t ON t.address = n.token
               LEFT JOIN price_feeds f ON f.token = t.address
               WHERE o.id = n.offer AND o.state = 'listed' AND o.version = n.version AND o.machine_id = n.machine
                 AND v.usd_micros_per_hour = n.listed AND v.model = n.model AND n.expires_at > $38
                 AND m.service = 'open' AND m.last_heartbeat_at >= $37
                 -- GPUs share the disk as they are counted below
                 AND n.disk * n.gpus_all <= LEAST(v.disk_gb, m.sold_disk_gb)::bigint * n.gpus
                 AND s.account_id = n.account AND s.revoked_at IS NULL AND s.expires_at > $38
                 AND COALESCE(s.last_used_at, s.created_at) > $39
                 AND t.listed AND t.usd_micros = n.usd_per_token AND t.price_source = n.priced_by
                 AND t.priced_at = n.priced_at AND t.symbol = n.symbol AND t.decimals = n.decimals
                 AND f.max_age_s IS NOT DISTINCT FROM n.max_age AND f.doubted_at IS NULL
                 AND CASE WHEN f.token IS NULL THEN t.fixed
                     ELSE t.priced_at + make_interval(secs => f.max_age_s) >= $38 END
                 AND NOT EXISTS (
                     SELECT FROM maintenance_windows x
                     WHERE x.machine_id = o.machine_id AND x.cancelled_at IS NULL
                       AND x.during && tstzrange($38, n.start_by + make_interval(secs => n.duration)))
                 AND (SELECT count(*) = n.gpus_all AND n.gpus <= count(*) FILTER (WHERE NOT EXISTS (
                          SELECT FROM rental_gpus h WHERE h.gpu_id = u.id AND h.held_until > $38))
                      FROM gpus u WHERE u.machine_id = o.machine_id AND u.model = n.model)))
         RETURNING id",
        &ids,
        &accounts,
        &offers,
        &versions,
        &durations,
        &prices,
        &lines,
        &renters,
        &providers,
        &tokens,
        &rates,
        &fees,
        &starts,
        &holdbacks,
        &orders,
        &escrow_ids,
        &deposits,
        &created,
        &expiries,
        &counts,
        &disks,
        &ups,
        &downs,
        &templates as &[Option<String>],
        &dollars as &[Option<i64>],
        &sources as &[Option<String>],
        &priced as &[Option<time::OffsetDateTime>],
        &ready as &[Option<i32>],
        &notices as &[Option<i32>],
        &signers as &[Option<Vec<u8>>],
        &signatures as &[Option<Vec<u8>>],
        &callers as &[Option<Vec<u8>>],
        &gpus,
        &ages as &[Option<i32>],
        &models,
        durable,
        ts(as_of.heard_since)?,
        ts(as_of.now)?,
        ts(sessions::unused_since(as_of.now, as_of.idle))?,
        &listed,
        &symbols as &[&str],
        &decimals,
        &machines,
        &evidence as &[Option<i32>],
        &outages as &[Option<i32>],
    )
    .fetch_all(tx)
    .await?;
    Ok(stored.into_iter().map(QuoteId::from_uuid).collect())
}
