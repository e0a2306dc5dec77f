//! The tokens a deposit may be made in, with the price a quote converts at.

use alloy_primitives::Address;
use domain::{
    money::{Decimals, UsdMicros},
    time::UnixSeconds,
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
    /// Whether the price is a definition, such as a dollar's, and needs no oracle. Any other token without one is not quoted.
    pub fixed: bool,
    /// EIP-712 domain name and version, if the token has EIP-2612.
    pub permit: Option<(String, String)>,
}

pub(crate) struct Row {
    pub(crate) address: Vec<u8>,
    pub(crate) symbol: String,
    pub(crate) decimals: i16,
    pub(crate) usd_micros: i64,
    pub(crate) price_source: String,
    pub(crate) priced_at: time::OffsetDateTime,
    pub(crate) fixed: bool,
    pub(crate) permit_name: Option<String>,
    pub(crate) permit_version: Option<String>,
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
            fixed: row.fixed,
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
        "SELECT address, symbol, decimals, usd_micros, price_source, priced_at, fixed, permit_name, permit_version
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
        "SELECT address, symbol, decimals, usd_micros, price_source, priced_at, fixed, permit_name, permit_version
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
                             permit_name, permit_version, fixed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (address) DO UPDATE
         SET usd_micros = EXCLUDED.usd_micros, price_source = EXCLUDED.price_source,
             priced_at = EXCLUDED.priced_at, fixed = EXCLUDED.fixed, listed = true",
        token.address.as_slice(),
        token.symbol,
        i16::from(token.decimals.get()),
        i64::try_from(token.usd.get()).map_err(StoreError::corrupt)?,
        token.price_source,
        ts(token.priced_at)?,
        name,
        version,
        token.fixed,
    )
    .execute(tx)
    .await?;
    Ok(())
}
