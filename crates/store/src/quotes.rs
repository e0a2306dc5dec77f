//! Quotes: a price promised for a while, with the terms whose hash is the rental's id on the chain.
//! A quote never changes; booking it is a row of its own.

use alloy_primitives::{Address, B256};
use domain::{
    id::{AccountId, MachineId, OfferId, QuoteId},
    money::{Amount, FeeBps, UsdMicros},
    rate::{TokenRate, UsdPerHour},
    terms::RentalTerms,
    time::{Seconds, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{Postgres, pool::PoolConnection, types::BigDecimal};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    accounts::{Session, SessionColumns},
    convert::{address, amount, at_least_ten, duration, hash, numeric, seconds, ts},
    machines::Obstacle,
    offers::{self, Offer},
    sessions,
    tokens::{self, Token},
};

/// A stored quote, with what was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Its id.
    pub id: QuoteId,
    /// Who asked.
    pub account: AccountId,
    /// The offer it prices.
    pub offer: OfferId,
    /// The version of the offer it prices.
    pub offer_version: u32,
    /// The machine that the offer is of.
    pub machine: MachineId,
    /// The GPU model of that version.
    pub model: String,
    /// How many GPUs: one of that version's chunks.
    pub gpu_count: u16,
    /// What is ordered beside the GPUs.
    pub extras: Extras,
    /// For how long the deposit pays.
    pub duration: Seconds,
    /// Dollars per hour for everything together.
    pub usd_per_hour: UsdPerHour,
    /// The lines shown to the renter, as JSON.
    pub lines: Value,
    /// Pays the deposit.
    pub renter: Address,
    /// Earns.
    pub provider: Address,
    /// What it is paid in; zero is the native coin.
    pub token: Address,
    /// Base units per hour for everything together.
    pub rate: TokenRate,
    /// The platform's share of the gross.
    pub fee: FeeBps,
    /// The last second at which the contract accepts a lock or a start.
    pub start_by: UnixSeconds,
    /// The newest seconds that `release` leaves alone.
    pub holdback: Seconds,
    /// Ties the hardware ordered to the money.
    pub order_hash: B256,
    /// The hash of the terms: the rental's id on the chain.
    pub escrow_id: B256,
    /// What the renter locks.
    pub deposit: Amount,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// From this second on it cannot be booked.
    pub expires_at: UnixSeconds,
    /// The token's price that it converts at; quotes from before this was kept have none.
    pub fx: Option<Fx>,
    /// What is promised with the price; quotes from before this was kept have none.
    pub sla: Option<Sla>,
    /// The platform's signature over all of it, if it signs. A quote that is not anybody's yet has none.
    #[serde(skip)]
    pub seal: Option<Seal>,
}

/// What is ordered beside the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extras {
    /// Disk in GB.
    pub disk_gb: u32,
    /// GB that may be sent from the machine.
    pub up_gb: u32,
    /// GB that the machine may receive.
    pub down_gb: u32,
    /// What runs, as slug@version.
    pub template: Option<String>,
}

/// A token's price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fx {
    /// Dollars for one whole token.
    pub usd_per_token: UsdMicros,
    /// Who says so.
    pub source: String,
    /// When that was.
    pub at: UnixSeconds,
}

/// What is promised with a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sla {
    /// Ready within so much of the lock, or everything goes back.
    pub ready: Seconds,
    /// Told so long before the provider ends it.
    pub notice: Seconds,
}

/// Who signed a quote, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The platform's quoting key.
    pub signer: Address,
    /// r, s and v.
    pub signature: [u8; 65],
}

impl Quote {
    /// The terms whose hash is the rental's id on the chain.
    #[must_use]
    pub const fn terms(&self) -> RentalTerms {
        RentalTerms {
            renter: self.renter,
            provider: self.provider,
            token: self.token,
            rate: self.rate,
            fee: self.fee,
            start_by: self.start_by,
            holdback: self.holdback,
            order_hash: self.order_hash,
        }
    }
}

/// Stores a quote. The offer's version must exist; `machine` and `model` are its own and are not stored a second
/// time.
///
/// # Errors
/// [`StoreError::Conflict`] on `quotes_escrow_id_key` if the same terms were quoted before.
pub async fn insert(tx: &mut Connection, quote: &Quote) -> Result<(), StoreError> {
    put(tx, quote, true).await
}

/// Stores a quote in a transaction of its own, and does not wait for the disk: a server that crashes within the second may
/// forget it. Nothing rests on it yet, and what does, a booking, is on the disk only together with it. It takes a
/// connection of the pool, not one that may be inside a transaction, which would not wait for the disk either.
///
/// # Errors
/// As [`insert`].
pub async fn promise(
    connection: &mut PoolConnection<Postgres>,
    quote: &Quote,
) -> Result<(), StoreError> {
    put(connection, quote, false).await
}

async fn put(tx: &mut Connection, quote: &Quote, durable: bool) -> Result<(), StoreError> {
    let (extras, fx) = (&quote.extras, quote.fx.as_ref());
    let gb = |value: u32| i32::try_from(value).map_err(StoreError::corrupt);
    let span = |value: Seconds| i32::try_from(value.get()).map_err(StoreError::corrupt);
    let usd_per_token = fx.map(|fx| i64::try_from(fx.usd_per_token.get())).transpose();
    sqlx::query!(
        "INSERT INTO quotes (id, account_id, offer_id, offer_version, duration_s, usd_micros_per_hour,
                             lines, renter, provider, token, price_per_hour, fee_bps, start_by,
                             holdback_s, order_hash, escrow_id, deposit, created_at, expires_at,
                             gpu_count, disk_gb, up_gb, down_gb, template, usd_micros_per_token,
                             priced_by, priced_at, ready_s, notice_s, signer, signature)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31
         WHERE CASE WHEN $32 THEN true ELSE set_config('synchronous_commit', 'off', true) = 'off' END",
        quote.id.uuid(),
        quote.account.uuid(),
        quote.offer.uuid(),
        i32::try_from(quote.offer_version).map_err(StoreError::corrupt)?,
        i64::from(quote.duration.get()),
        i64::try_from(quote.usd_per_hour.usd().get()).map_err(StoreError::corrupt)?,
        quote.lines,
        quote.renter.as_slice(),
        quote.provider.as_slice(),
        quote.token.as_slice(),
        numeric(quote.rate.amount()),
        i16::try_from(quote.fee.get()).map_err(StoreError::corrupt)?,
        ts(quote.start_by)?,
        i64::from(quote.holdback.get()),
        quote.order_hash.as_slice(),
        quote.escrow_id.as_slice(),
        numeric(quote.deposit),
        ts(quote.created_at)?,
        ts(quote.expires_at)?,
        i16::try_from(quote.gpu_count).map_err(StoreError::corrupt)?,
        gb(extras.disk_gb)?,
        gb(extras.up_gb)?,
        gb(extras.down_gb)?,
        extras.template,
        usd_per_token.map_err(StoreError::corrupt)?,
        fx.map(|fx| fx.source.as_str()),
        fx.map(|fx| ts(fx.at)).transpose()?,
        quote.sla.map(|sla| span(sla.ready)).transpose()?,
        quote.sla.map(|sla| span(sla.notice)).transpose()?,
        quote.seal.as_ref().map(|seal| seal.signer.as_slice()),
        quote.seal.as_ref().map(|seal| seal.signature.as_slice()),
        durable,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a quote is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The offer.
    pub offer: OfferId,
    /// The symbol of the token that is paid in.
    pub token: &'a str,
    /// The first second of the rental: now.
    pub from: UnixSeconds,
    /// Its last one, at the latest.
    pub to: UnixSeconds,
    /// By whom, if it is to be looked up together with the rest: the hash of a session's token, and after how long without
    /// use a session ends.
    pub caller: Option<([u8; 32], Seconds)>,
}

/// What makes an oracle's price none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How old it may be.
    pub max_age: Seconds,
    /// Since when the oracle says another one altogether.
    pub doubted_since: Option<UnixSeconds>,
}

/// What a quote depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The offer.
    pub offer: Offer,
    /// The provider's address.
    pub provider: Address,
    /// Whether the machine runs templates.
    pub templates: bool,
    /// What stands first against a rental of the machine.
    pub obstacle: Option<Obstacle>,
    /// The listed token of this symbol, and its oracle's bounds if it has one.
    pub token: Option<(Token, Option<Bounds>)>,
    /// The caller's session, as [`crate::accounts::find_session`] finds it.
    pub session: Option<Session>,
}

/// What a quote depends on, all of it in one look; `None` without the offer.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn ground(
    connection: &mut Connection,
    asking: &Asking<'_>,
) -> Result<Option<Ground>, StoreError> {
    let (hash, idle) = asking.caller.unzip();
    let row = sqlx::query!(
        r#"SELECT o.id, o.machine_id, o.account_id, o.state, o.version, o.created_at, o.updated_at,
                  v.model, v.gpu_count, v.chunks, v.usd_micros_per_hour, v.min_duration_s,
                  v.max_duration_s, v.reserved, v.disk_micros_per_gb_month, v.disk_gb,
                  v.up_micros_per_gb, v.down_micros_per_gb, v.notice_s, v.isolation,
                  v.available_until, m.region, m.last_heartbeat_at, g.vram_gb,
                  free.gpus AS "gpus_free!", free.of AS "gpus_all!",
                  a.address AS provider, m.templates, m.service, lower(w.during) AS from_at, upper(w.during) AS to_at,
                  w.reason AS "reason?", t.address AS "token?", t.symbol AS "symbol?", t.decimals AS "decimals?",
                  t.usd_micros AS "usd_micros?", t.price_source AS "price_source?", t.priced_at AS "priced_at?",
                  t.permit_name, t.permit_version, f.max_age_s AS "max_age_s?", f.doubted_at,
                  s.id AS "session?", s.machine_id AS agent, s.account_id AS caller, s.expires_at AS "ends_at?",
                  s.last_used_at, c.address AS "wallet?", c.created_at AS "since?"
           FROM offers o
           JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
           JOIN machines m ON m.id = o.machine_id
           JOIN gpu_models g ON g.slug = v.model
           JOIN accounts a ON a.id = o.account_id
           CROSS JOIN LATERAL (
               SELECT count(*) FILTER (WHERE NOT EXISTS (
                          SELECT FROM rental_gpus h
                          WHERE h.gpu_id = u.id AND h.held_until > $3)) AS gpus,
                      count(*) AS of
               FROM gpus u
               WHERE u.machine_id = o.machine_id AND u.model = v.model) AS free
           LEFT JOIN LATERAL (
               SELECT x.during, x.reason FROM maintenance_windows x
               WHERE x.machine_id = o.machine_id AND x.cancelled_at IS NULL AND x.during && tstzrange($3, $4)
               ORDER BY lower(x.during) LIMIT 1) w ON true
           LEFT JOIN tokens t ON t.listed AND t.symbol = $2
           LEFT JOIN price_feeds f ON f.token = t.address
           LEFT JOIN sessions s ON s.token_hash = $5 AND s.revoked_at IS NULL AND s.expires_at > $3
               AND (s.account_id IS NULL OR COALESCE(s.last_used_at, s.created_at) > $6)
           LEFT JOIN accounts c ON c.id = s.account_id
           WHERE o.id = $1"#,
        asking.offer.uuid(),
        asking.token,
        ts(asking.from)?,
        ts(asking.to.max(asking.from))?,
        hash.as_ref().map(<[u8; 32]>::as_slice),
        ts(sessions::unused_since(asking.from, idle.unwrap_or_default()))?,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let offer = offers::Row {
        id: row.id,
        machine_id: row.machine_id,
        account_id: row.account_id,
        state: row.state,
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
        model: row.model,
        gpu_count: row.gpu_count,
        chunks: row.chunks,
        usd_micros_per_hour: row.usd_micros_per_hour,
        min_duration_s: row.min_duration_s,
        max_duration_s: row.max_duration_s,
        reserved: row.reserved,
        disk_micros_per_gb_month: row.disk_micros_per_gb_month,
        disk_gb: row.disk_gb,
        up_micros_per_gb: row.up_micros_per_gb,
        down_micros_per_gb: row.down_micros_per_gb,
        notice_s: row.notice_s,
        isolation: row.isolation,
        available_until: row.available_until,
        region: row.region,
        last_heartbeat_at: row.last_heartbeat_at,
        vram_gb: row.vram_gb,
        gpus_free: row.gpus_free,
        gpus_all: row.gpus_all,
    };
    let obstacle = Obstacle::first(&row.service, (row.from_at, row.to_at, row.reason))?;
    let price = (row.usd_micros, row.price_source, row.priced_at);
    let token = match (row.token, row.symbol, row.decimals, price) {
        (
            Some(address),
            Some(symbol),
            Some(decimals),
            (Some(usd_micros), Some(price_source), Some(priced_at)),
        ) => {
            let (permit_name, permit_version) = (row.permit_name, row.permit_version);
            let token = tokens::Row {
                address,
                symbol,
                decimals,
                usd_micros,
                price_source,
                priced_at,
                permit_name,
                permit_version,
            };
            let max_age =
                row.max_age_s.map(u32::try_from).transpose().map_err(StoreError::corrupt)?;
            let doubted_since = row.doubted_at.map(seconds).transpose()?;
            let bounds = max_age.map(|age| Bounds { max_age: Seconds(age), doubted_since });
            Some((Token::try_from(token)?, bounds))
        }
        _ => None,
    };
    let session = match (row.session, row.ends_at) {
        (Some(id), Some(expires_at)) => Some(SessionColumns {
            id,
            machine: row.agent,
            account: row.caller,
            expires_at,
            last_used_at: row.last_used_at,
            wallet: row.wallet,
            since: row.since,
        }),
        _ => None,
    };
    Ok(Some(Ground {
        offer: offer.try_into()?,
        provider: address(&row.provider)?,
        templates: row.templates,
        obstacle,
        token,
        session: session.map(SessionColumns::read).transpose()?,
    }))
}

struct Row {
    id: Uuid,
    account_id: Uuid,
    offer_id: Uuid,
    offer_version: i32,
    machine_id: Uuid,
    model: String,
    gpu_count: i16,
    disk_gb: i32,
    up_gb: i32,
    down_gb: i32,
    template: Option<String>,
    usd_micros_per_token: Option<i64>,
    priced_by: Option<String>,
    priced_at: Option<OffsetDateTime>,
    ready_s: Option<i32>,
    notice_s: Option<i32>,
    signer: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
    duration_s: i64,
    usd_micros_per_hour: i64,
    lines: Value,
    renter: Vec<u8>,
    provider: Vec<u8>,
    token: Vec<u8>,
    price_per_hour: BigDecimal,
    fee_bps: i16,
    start_by: OffsetDateTime,
    holdback_s: i64,
    order_hash: Vec<u8>,
    escrow_id: Vec<u8>,
    deposit: BigDecimal,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
}

/// The quote with this id.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(connection: &mut Connection, id: QuoteId) -> Result<Option<Quote>, StoreError> {
    Ok(many(connection, &[id]).await?.pop())
}

/// Those of these quotes that there are, in no order.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn many(connection: &mut Connection, ids: &[QuoteId]) -> Result<Vec<Quote>, StoreError> {
    let ids = at_least_ten(ids.iter().map(|id| id.uuid()).collect());
    sqlx::query_as!(
        Row,
        r#"SELECT q.id, q.account_id, q.offer_id, q.offer_version, o.machine_id, v.model,
                coalesce(q.gpu_count, v.gpu_count) AS "gpu_count!", q.disk_gb, q.up_gb, q.down_gb,
                q.template, q.usd_micros_per_token, q.priced_by, q.priced_at, q.ready_s, q.notice_s,
                q.signer, q.signature, q.duration_s, q.usd_micros_per_hour, q.lines, q.renter, q.provider, q.token,
                q.price_per_hour, q.fee_bps, q.start_by, q.holdback_s, q.order_hash, q.escrow_id,
                q.deposit, q.created_at, q.expires_at
         FROM quotes q
         JOIN offers o ON o.id = q.offer_id
         JOIN offer_versions v ON v.offer_id = q.offer_id AND v.version = q.offer_version
         WHERE q.id = ANY($1)"#,
        &ids
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Quote::try_from)
    .collect()
}

impl TryFrom<Row> for Quote {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let usd = u64::try_from(row.usd_micros_per_hour).map_err(StoreError::corrupt)?;
        let fee = u16::try_from(row.fee_bps).map_err(StoreError::corrupt)?;
        let gb = |value: i32| u32::try_from(value).map_err(StoreError::corrupt);
        let span = |value: i32| u32::try_from(value).map(Seconds).map_err(StoreError::corrupt);
        let fx = match (row.usd_micros_per_token, row.priced_by, row.priced_at) {
            (Some(usd), Some(source), Some(at)) => Some(Fx {
                usd_per_token: UsdMicros::new(u64::try_from(usd).map_err(StoreError::corrupt)?),
                source,
                at: seconds(at)?,
            }),
            (_, _, _) => None,
        };
        let sla = match (row.ready_s, row.notice_s) {
            (Some(ready), Some(notice)) => Some(Sla { ready: span(ready)?, notice: span(notice)? }),
            (_, _) => None,
        };
        let seal = match (row.signer, row.signature) {
            (Some(signer), Some(signature)) => Some(Seal {
                signer: address(&signer)?,
                signature: signature
                    .try_into()
                    .map_err(|_| StoreError::corrupt("a signature has 65 bytes"))?,
            }),
            (_, _) => None,
        };
        Ok(Self {
            id: QuoteId::from_uuid(row.id),
            account: AccountId::from_uuid(row.account_id),
            offer: OfferId::from_uuid(row.offer_id),
            offer_version: u32::try_from(row.offer_version).map_err(StoreError::corrupt)?,
            machine: MachineId::from_uuid(row.machine_id),
            model: row.model,
            gpu_count: u16::try_from(row.gpu_count).map_err(StoreError::corrupt)?,
            extras: Extras {
                disk_gb: gb(row.disk_gb)?,
                up_gb: gb(row.up_gb)?,
                down_gb: gb(row.down_gb)?,
                template: row.template,
            },
            duration: duration(row.duration_s)?,
            usd_per_hour: UsdPerHour(UsdMicros::new(usd)),
            lines: row.lines,
            renter: address(&row.renter)?,
            provider: address(&row.provider)?,
            token: address(&row.token)?,
            rate: TokenRate::new(amount(&row.price_per_hour)?).map_err(StoreError::corrupt)?,
            fee: FeeBps::quotable(fee).map_err(StoreError::corrupt)?,
            start_by: seconds(row.start_by)?,
            holdback: duration(row.holdback_s)?,
            order_hash: hash(&row.order_hash)?,
            escrow_id: hash(&row.escrow_id)?,
            deposit: amount(&row.deposit)?,
            created_at: seconds(row.created_at)?,
            expires_at: seconds(row.expires_at)?,
            fx,
            sla,
            seal,
        })
    }
}

/// Holds the quote with these terms until the transaction ends; none is none. A booking and the reading
/// of the terms' lock off the chain thereby see each other.
///
/// # Errors
/// The database's.
pub async fn lock(tx: &mut Connection, escrow_id: B256) -> Result<(), StoreError> {
    sqlx::query!("SELECT FROM quotes WHERE escrow_id = $1 FOR UPDATE", escrow_id.as_slice())
        .fetch_optional(tx)
        .await?;
    Ok(())
}
