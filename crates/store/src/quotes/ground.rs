//! What quotes depend on, read for several at once: a look costs more than what it looks for.

use alloy_primitives::Address;
use domain::{
    id::OfferId,
    time::{Seconds, UnixSeconds},
};
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    accounts::{Session, SessionColumns},
    convert::{address, seconds, ts},
    machines::Obstacle,
    offers::{self, Offer},
    sessions,
    tokens::{self, Token},
};

/// What a quote is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The offer.
    pub offer: OfferId,
    /// The symbol of the token that is paid in.
    pub token: &'a str,
    /// The rental's last second, at the latest.
    pub to: UnixSeconds,
    /// By whom, if it is to be looked up together with the rest: the hash of a session's token.
    pub caller: Option<[u8; 32]>,
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
    asking: Asking<'_>,
    now: UnixSeconds,
    idle: Seconds,
) -> Result<Option<Ground>, StoreError> {
    Ok(grounds(connection, &[asking], now, idle).await?.pop().flatten())
}

/// So long is one of the arrays at least: PostgreSQL takes those of unknown length to have ten, and plans anew with each
/// execution what it believes to be cheaper for fewer. The others are filled up with nulls, which find nothing.
pub(super) const TEN: usize = 10;

/// What several quotes depend on that are asked for now, in the order of asking. A session that was not used for `idle` has
/// ended, zero means never.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`] of one that is asked for alone. Of several, what cannot be read is `None`.
#[expect(clippy::as_conversions, reason = "how sqlx is told that an array may hold nulls")]
pub async fn grounds(
    connection: &mut Connection,
    asked: &[Asking<'_>],
    now: UnixSeconds,
    idle: Seconds,
) -> Result<Vec<Option<Ground>>, StoreError> {
    let offers: Vec<Uuid> = asked.iter().map(|one| one.offer.uuid()).collect();
    let mut symbols: Vec<&str> = asked.iter().map(|one| one.token).collect();
    symbols.resize(asked.len().max(TEN), "");
    let hash = |one: &Asking<'_>| one.caller.map(|hash| hash.to_vec());
    let hashes: Vec<Option<Vec<u8>>> = asked.iter().map(hash).collect();
    let rows = sqlx::query!(
        r#"SELECT w.place AS "place!", o.id, o.machine_id, o.account_id, o.state, o.version, o.created_at, o.updated_at,
                  v.model, v.gpu_count, v.chunks, v.usd_micros_per_hour, v.min_duration_s,
                  v.max_duration_s, v.reserved, v.disk_micros_per_gb_month, LEAST(v.disk_gb, m.sold_disk_gb) AS "disk_gb!",
                  v.up_micros_per_gb, v.down_micros_per_gb, v.notice_s, v.isolation,
                  v.available_until, m.region, m.last_heartbeat_at, g.vram_gb,
                  free.gpus AS "gpus_free!", free.of AS "gpus_all!",
                  a.address AS provider, m.templates, m.service, lower(x.during) AS from_at, upper(x.during) AS to_at,
                  x.reason AS "reason?", t.address AS "token?", t.symbol AS "symbol?", t.decimals AS "decimals?",
                  t.usd_micros AS "usd_micros?", t.price_source AS "price_source?", t.priced_at AS "priced_at?",
                  t.fixed AS "fixed?",
                  t.permit_name, t.permit_version, f.max_age_s AS "max_age_s?", f.doubted_at,
                  s.id AS "session?", s.machine_id AS agent, s.account_id AS caller, s.expires_at AS "ends_at?",
                  s.last_used_at, c.address AS "wallet?", c.created_at AS "since?"
           FROM unnest($1::uuid[], $2::text[], $3::bytea[])
                WITH ORDINALITY AS w (offer, symbol, token_hash, place)
           JOIN offers o ON o.id = w.offer
           JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
           JOIN machines m ON m.id = o.machine_id
           JOIN gpu_models g ON g.slug = v.model
           JOIN accounts a ON a.id = o.account_id
           CROSS JOIN LATERAL (
               SELECT count(*) FILTER (WHERE NOT EXISTS (
                          SELECT FROM rental_gpus h
                          WHERE h.gpu_id = u.id AND h.held_until > $4)) AS gpus,
                      count(*) AS of
               FROM gpus u
               WHERE u.machine_id = o.machine_id AND u.model = v.model) AS free
           LEFT JOIN LATERAL (
               SELECT x.during, x.reason FROM maintenance_windows x
               WHERE x.machine_id = o.machine_id AND x.cancelled_at IS NULL AND x.during && tstzrange($4, NULL)
               ORDER BY lower(x.during) LIMIT 1) x ON true
           LEFT JOIN tokens t ON t.listed AND t.symbol = w.symbol
           LEFT JOIN price_feeds f ON f.token = t.address
           LEFT JOIN sessions s ON s.token_hash = w.token_hash AND s.revoked_at IS NULL AND s.expires_at > $4
               AND (s.account_id IS NULL OR COALESCE(s.last_used_at, s.created_at) > $5)
           LEFT JOIN accounts c ON c.id = s.account_id"#,
        &offers,
        &symbols as &[&str],
        &hashes as &[Option<Vec<u8>>],
        ts(now)?,
        ts(sessions::unused_since(now, idle))?,
    )
    .fetch_all(connection)
    .await?;
    let mut found = Vec::with_capacity(asked.len());
    found.resize_with(asked.len(), || None);
    for row in rows {
        let place = usize::try_from(row.place.saturating_sub(1)).map_err(StoreError::corrupt)?;
        let (Some(found), Some(one)) = (found.get_mut(place), asked.get(place)) else { continue };
        let read = || {
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
                service: row.service.clone(),
                closed_from: row.from_at,
                vram_gb: row.vram_gb,
                gpus_free: row.gpus_free,
                gpus_all: row.gpus_all,
            };
            let begins = row.from_at.map(seconds).transpose()?;
            let window = if begins.is_some_and(|begins| begins < one.to.max(now)) {
                (row.from_at, row.to_at, row.reason)
            } else {
                (None, None, None)
            };
            let obstacle = Obstacle::first(&row.service, window)?;
            let price = (row.usd_micros, row.price_source, row.priced_at, row.fixed);
            let token = match (row.token, row.symbol, row.decimals, price) {
                (
                    Some(address),
                    Some(symbol),
                    Some(decimals),
                    (Some(usd_micros), Some(price_source), Some(priced_at), Some(fixed)),
                ) => {
                    let (permit_name, permit_version) = (row.permit_name, row.permit_version);
                    let token = tokens::Row {
                        address,
                        symbol,
                        decimals,
                        usd_micros,
                        price_source,
                        priced_at,
                        fixed,
                        permit_name,
                        permit_version,
                    };
                    let max_age = row
                        .max_age_s
                        .map(u32::try_from)
                        .transpose()
                        .map_err(StoreError::corrupt)?;
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
            Ok::<_, StoreError>(Ground {
                offer: offer.try_into()?,
                provider: address(&row.provider)?,
                templates: row.templates,
                obstacle,
                token,
                session: session.map(SessionColumns::read).transpose()?,
            })
        };
        match read() {
            Ok(ground) => *found = Some(ground),
            Err(error) if asked.len() == 1 => return Err(error),
            // the others are not to blame; whoever asked for it hears of it alone
            Err(error) => tracing::debug!(%error, "an offer that cannot be read"),
        }
    }
    Ok(found)
}
