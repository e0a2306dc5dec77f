//! The oracles that tokens are priced by.

use alloy_primitives::Address;
use domain::{
    money::{Decimals, UsdMicros},
    oracle::Answer,
    time::{Seconds, UnixSeconds},
};
use sqlx::types::BigDecimal;

use crate::{
    Connection, StoreError,
    convert::{address, seconds, ts},
    quotes::Bounds,
};

/// The oracle of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The token; zero is the native coin.
    pub token: Address,
    /// The token's symbol.
    pub symbol: String,
    /// The contract that answers.
    pub feed: Address,
    /// The decimals of its answers.
    pub decimals: Decimals,
    /// An answer older than this is none.
    pub max_age: Seconds,
    /// The newest answer that was taken.
    pub newest: Option<Answer>,
}

/// All feeds, by symbol.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(connection: &mut Connection) -> Result<Vec<Feed>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT f.token, t.symbol, f.feed, f.decimals, f.max_age_s, f.round, f.answered_at, f.usd_micros
           FROM price_feeds f JOIN tokens t ON t.address = f.token
           WHERE t.listed ORDER BY t.symbol"#
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let newest = match (row.round, row.answered_at, row.usd_micros) {
                (Some(round), Some(at), Some(usd)) => Some(Answer {
                    usd: UsdMicros::new(u64::try_from(usd).map_err(StoreError::corrupt)?),
                    round: round.to_plain_string().parse().map_err(StoreError::corrupt)?,
                    at: seconds(at)?,
                }),
                (_, _, _) => None,
            };
            Ok(Feed {
                token: address(&row.token)?,
                symbol: row.symbol,
                feed: address(&row.feed)?,
                decimals: u8::try_from(row.decimals)
                    .map_err(StoreError::corrupt)
                    .and_then(|places| Decimals::new(places).map_err(StoreError::corrupt))?,
                max_age: u32::try_from(row.max_age_s).map(Seconds).map_err(StoreError::corrupt)?,
                newest,
            })
        })
        .collect()
}

/// Names a token's oracle. Another contract than before begins anew: what the other one answered is forgotten, and
/// the token's price stays until this one answers, if it is not too old.
///
/// # Errors
/// [`StoreError::Conflict`] if there is no such token.
pub async fn name(
    tx: &mut Connection,
    token: Address,
    feed: Address,
    decimals: Decimals,
    max_age: Seconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO price_feeds (token, feed, decimals, max_age_s) VALUES ($1, $2, $3, $4)
         ON CONFLICT (token) DO UPDATE
         SET feed = EXCLUDED.feed, max_age_s = EXCLUDED.max_age_s,
             decimals = CASE WHEN price_feeds.feed = EXCLUDED.feed
                             THEN price_feeds.decimals ELSE EXCLUDED.decimals END,
             round = CASE WHEN price_feeds.feed = EXCLUDED.feed THEN price_feeds.round END,
             usd_micros = CASE WHEN price_feeds.feed = EXCLUDED.feed THEN price_feeds.usd_micros END,
             doubted_at = CASE WHEN price_feeds.feed = EXCLUDED.feed THEN price_feeds.doubted_at END,
             answered_at = CASE WHEN price_feeds.feed = EXCLUDED.feed THEN price_feeds.answered_at END",
        token.as_slice(),
        feed.as_slice(),
        i16::from(decimals.get()),
        i32::try_from(max_age.get()).map_err(StoreError::corrupt)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes a token's oracle away.
///
/// # Errors
/// The database's.
pub async fn forget(tx: &mut Connection, token: Address) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM price_feeds WHERE token = $1", token.as_slice()).execute(tx).await?;
    Ok(())
}

/// Takes an answer, unless another one was taken meanwhile or the feed is another by now: the token's price and where it
/// is from. A new answer that is taken ends a doubt. Returns whether it was taken.
///
/// # Errors
/// The database's.
pub async fn take(
    tx: &mut Connection,
    feed: &Feed,
    answer: &Answer,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let taken = sqlx::query!(
        "UPDATE price_feeds
         SET round = $3, answered_at = $4, checked_at = $5, usd_micros = $6,
             doubted_at = CASE WHEN round = $3 AND answered_at = $4 THEN doubted_at END
         WHERE token = $1 AND feed = $2
           AND round IS NOT DISTINCT FROM $7 AND answered_at IS NOT DISTINCT FROM $8",
        feed.token.as_slice(),
        feed.feed.as_slice(),
        BigDecimal::from(answer.round),
        ts(answer.at)?,
        ts(now)?,
        i64::try_from(answer.usd.get()).map_err(StoreError::corrupt)?,
        feed.newest.map(|newest| BigDecimal::from(newest.round)),
        feed.newest.map(|newest| ts(newest.at)).transpose()?,
    )
    .execute(&mut *tx)
    .await?;
    if taken.rows_affected() == 0 {
        return Ok(false);
    }
    reprice(tx, feed, answer.usd, answer.at).await?;
    Ok(true)
}

/// Notes that a feed answers another price altogether: nothing is quoted in its token until a new answer is taken, or the
/// one that was taken last becomes too old.
///
/// # Errors
/// The database's.
pub async fn doubt(tx: &mut Connection, feed: &Feed, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE price_feeds SET doubted_at = $3 WHERE token = $1 AND feed = $2 AND doubted_at IS NULL",
        feed.token.as_slice(),
        feed.feed.as_slice(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn reprice(
    tx: &mut Connection,
    feed: &Feed,
    usd: UsdMicros,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE tokens SET usd_micros = $2, price_source = $3, priced_at = $4 WHERE address = $1",
        feed.token.as_slice(),
        i64::try_from(usd.get()).map_err(StoreError::corrupt)?,
        format!("chainlink:{}", feed.feed),
        ts(at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A listed token, and how far its price can be gone by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// The token; zero is the native coin.
    pub token: Address,
    /// Its symbol.
    pub symbol: String,
    /// Since when it has its price.
    pub at: UnixSeconds,
    /// Whether the price is a definition, which needs no oracle.
    pub fixed: bool,
    /// What makes its oracle's price none, if it has an oracle.
    pub bounds: Option<Bounds>,
}

/// All listed tokens with the age of their prices, by symbol.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn priced(connection: &mut Connection) -> Result<Vec<Priced>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT t.address, t.symbol, t.priced_at, t.fixed, f.max_age_s AS "max_age_s?",
                  f.doubted_at AS "doubted_at?"
           FROM tokens t LEFT JOIN price_feeds f ON f.token = t.address
           WHERE t.listed ORDER BY t.symbol"#
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let doubted_since = row.doubted_at.map(seconds).transpose()?;
            let max_age = row.max_age_s.map(u32::try_from).transpose();
            let max_age = max_age.map_err(StoreError::corrupt)?.map(Seconds);
            Ok(Priced {
                token: address(&row.address)?,
                symbol: row.symbol,
                at: seconds(row.priced_at)?,
                fixed: row.fixed,
                bounds: max_age.map(|max_age| Bounds { max_age, doubted_since }),
            })
        })
        .collect()
}
