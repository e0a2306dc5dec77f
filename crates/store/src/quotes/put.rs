//! Quotes are stored: several that were given at the same time in one statement, which costs little more than that of one.

use sqlx::{Postgres, pool::PoolConnection, types::BigDecimal};

use super::Quote;
use crate::{
    Connection, StoreError,
    convert::{numeric, ts},
};

/// Stores a quote. The offer's version must exist; `machine` and `model` are its own and are not stored a second
/// time.
///
/// # Errors
/// [`StoreError::Conflict`] on `quotes_escrow_id_key` if the same terms were quoted before.
pub async fn insert(tx: &mut Connection, quote: &Quote) -> Result<(), StoreError> {
    put(tx, &[quote], true).await
}

/// Stores quotes in a transaction of their own, all or none, and does not wait for the disk: a server that crashes within
/// the second may forget them. Nothing rests on them yet, and what does, a booking, is on the disk only together with its
/// quote. It takes a connection of the pool, not one that may be inside a transaction, which would not wait for the disk
/// either.
///
/// # Errors
/// As [`insert`].
pub async fn promise(
    connection: &mut PoolConnection<Postgres>,
    quotes: &[&Quote],
) -> Result<(), StoreError> {
    put(connection, quotes, false).await
}

/// One value of each.
fn column<T>(
    quotes: &[&Quote],
    of: impl Fn(&Quote) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    quotes.iter().map(|quote| of(quote)).collect()
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
async fn put(tx: &mut Connection, quotes: &[&Quote], durable: bool) -> Result<(), StoreError> {
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
    let signers = column(quotes, |quote| Ok(quote.seal.map(|seal| seal.signer.to_vec())))?;
    let signatures = column(quotes, |quote| Ok(quote.seal.map(|seal| seal.signature.to_vec())))?;
    sqlx::query!(
        "INSERT INTO quotes (id, account_id, offer_id, offer_version, duration_s, usd_micros_per_hour,
                             lines, renter, provider, token, price_per_hour, fee_bps, start_by,
                             holdback_s, order_hash, escrow_id, deposit, created_at, expires_at,
                             gpu_count, disk_gb, up_gb, down_gb, template, usd_micros_per_token,
                             priced_by, priced_at, ready_s, notice_s, signer, signature)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::bigint[], $6::bigint[], $7::jsonb[],
                              $8::bytea[], $9::bytea[], $10::bytea[], $11::numeric[], $12::smallint[],
                              $13::timestamptz[], $14::bigint[], $15::bytea[], $16::bytea[], $17::numeric[],
                              $18::timestamptz[], $19::timestamptz[], $20::smallint[], $21::int[], $22::int[],
                              $23::int[], $24::text[], $25::bigint[], $26::text[], $27::timestamptz[], $28::int[],
                              $29::int[], $30::bytea[], $31::bytea[])
         WHERE CASE WHEN $32 THEN true ELSE set_config('synchronous_commit', 'off', true) = 'off' END",
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
        durable,
    )
    .execute(tx)
    .await?;
    Ok(())
}
