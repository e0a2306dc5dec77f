//! The tokens a deposit may be made in, with the price a quote converts at.

use alloy_primitives::Address;
use domain::{
    money::{Decimals, UsdMicros},
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{address, seconds, ts},
};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its contract; the zero address is the chain's native coin.
    pub address: Address,
    /// Symbol, unique here.
    pub symbol: String,
    /// Base units per whole token, as a power of ten.
    pub decimals: Decimals,
    /// The price of one whole token.
    pub usd: UsdMicros,
    /// Who says so.
    pub price_source: String,
    /// Since when.
    pub priced_at: UnixSeconds,
    /// EIP-712 domain name and version, if the token has EIP-2612.
    pub permit: Option<(String, String)>,
}

struct Row {
    address: Vec<u8>,
    symbol: String,
    decimals: i16,
    usd_micros: i64,
    price_source: String,
    priced_at: time::OffsetDateTime,
    permit_name: Option<String>,
    permit_version: Option<String>,
}

impl TryFrom<Row> for Token {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            address: address(&row.address)?,
            symbol: row.symbol,
            decimals: u8::try_from(row.decimals)
                .map_err(StoreError::corrupt)
                .and_then(|places| Decimals::new(places).map_err(StoreError::corrupt))?,
            usd: UsdMicros::new(u64::try_from(row.usd_micros).map_err(StoreError::corrupt)?),
            price_source: row.price_source,
            priced_at: seconds(row.priced_at)?,
            permit: row.permit_name.zip(row.permit_version),
        })
    }
}

/// All listed tokens, by symbol.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(connection: &mut Connection) -> Result<Vec<Token>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT address, symbol, decimals, usd_micros, price_source, priced_at, permit_name, permit_version
         FROM tokens WHERE listed ORDER BY symbol"
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Token::try_from)
    .collect()
}

/// The token at this address, listed or not: rentals outlive the list.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn at(connection: &mut Connection, at: Address) -> Result<Option<Token>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT address, symbol, decimals, usd_micros, price_source, priced_at, permit_name, permit_version
         FROM tokens WHERE address = $1",
        at.as_slice()
    )
    .fetch_optional(connection)
    .await?
    .map(Token::try_from)
    .transpose()
}

/// The listed token with this symbol.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn find(connection: &mut Connection, symbol: &str) -> Result<Option<Token>, StoreError> {
    Ok(list(connection).await?.into_iter().find(|token| token.symbol == symbol))
}

/// Lists a token or renews its price.
///
/// # Errors
/// [`StoreError::Conflict`] if the symbol belongs to another address.
pub async fn upsert(tx: &mut Connection, token: &Token) -> Result<(), StoreError> {
    let (name, version) = token.permit.clone().unzip();
    sqlx::query!(
        "INSERT INTO tokens (address, symbol, decimals, usd_micros, price_source, priced_at,
                             permit_name, permit_version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (address) DO UPDATE
         SET usd_micros = EXCLUDED.usd_micros, price_source = EXCLUDED.price_source,
             priced_at = EXCLUDED.priced_at, listed = true",
        token.address.as_slice(),
        token.symbol,
        i16::from(token.decimals.get()),
        i64::try_from(token.usd.get()).map_err(StoreError::corrupt)?,
        token.price_source,
        ts(token.priced_at)?,
        name,
        version,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The listed token with this symbol, and since when its price must be renewed: a price older than the bound of its
/// feed is none. A token without a feed has a price that somebody fixed.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn priced(
    connection: &mut Connection,
    symbol: &str,
) -> Result<Option<(Token, Option<Seconds>)>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT t.address, t.symbol, t.decimals, t.usd_micros, t.price_source, t.priced_at,
                  t.permit_name, t.permit_version, f.max_age_s AS "max_age_s?"
           FROM tokens t LEFT JOIN price_feeds f ON f.token = t.address
           WHERE t.listed AND t.symbol = $1"#,
        symbol
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let max_age = row.max_age_s.map(u32::try_from).transpose().map_err(StoreError::corrupt)?;
        let token = Token::try_from(Row {
            address: row.address,
            symbol: row.symbol,
            decimals: row.decimals,
            usd_micros: row.usd_micros,
            price_source: row.price_source,
            priced_at: row.priced_at,
            permit_name: row.permit_name,
            permit_version: row.permit_version,
        })?;
        Ok((token, max_age.map(Seconds)))
    })
    .transpose()
}
