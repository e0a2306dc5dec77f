//! Shapes shared by many answers: money, times, pages.

use alloy::primitives::Address;
use domain::{
    money::{Amount, UsdDelta, UsdMicros, mul_div_floor},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize, Serializer};
use store::{
    Connection, StoreError,
    quotes::Quote,
    tokens::{self, Token},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use crate::{Code, Problem, problem::internal};

/// The most items of one page.
pub(crate) const MAX_LIMIT: u16 = 200;
/// The items of a page when none are asked for.
pub(crate) const DEFAULT_LIMIT: u16 = 50;

/// The one currency of prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Currency {
    /// US dollars.
    #[default]
    #[serde(rename = "USD")]
    Usd,
}

/// US dollars, exact to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"amount": "0.650000", "currency": "USD"}))]
pub struct Usd {
    /// A decimal string with at most six fraction digits; never a JSON number.
    #[schema(value_type = String, example = "0.650000")]
    pub amount: UsdMicros,
    /// `USD`.
    pub currency: Currency,
}

impl From<UsdMicros> for Usd {
    fn from(amount: UsdMicros) -> Self {
        Self { amount, currency: Currency::Usd }
    }
}

/// An amount of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"base_units": "2070000", "token": "USDC", "decimals": 6, "chain": "eip155:31337"}))]
pub struct TokenAmount {
    /// A whole number of base units as a decimal string.
    #[schema(value_type = String, example = "2070000")]
    pub base_units: Amount,
    /// The token's symbol; its address, with 0 `decimals`, if the chain knows it and this market does not.
    pub token: String,
    /// One token is 10 to this power base units.
    pub decimals: u8,
    /// The chain, by CAIP-2.
    pub chain: String,
}

/// Makes [`TokenAmount`]s of one token on one chain.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    token: Token,
    chain_id: u64,
}

impl Unit {
    pub(crate) fn new(token: Token, chain_id: u64) -> Self {
        Self { token, chain_id }
    }

    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn amount(&self, base_units: Amount) -> TokenAmount {
        TokenAmount {
            base_units,
            token: self.token.symbol.clone(),
            decimals: self.token.decimals.get(),
            chain: format!("eip155:{}", self.chain_id),
        }
    }
}

/// What a sum on the chain is in. The ledger follows every token that the contract takes, and the
/// list of tokens may be younger than it is.
#[derive(Clone, Debug)]
pub(crate) enum Coin {
    Known(Unit),
    Unknown { address: Address, chain_id: u64 },
}

impl Coin {
    /// The token at `address`, listed or not.
    pub(crate) async fn at(
        connection: &mut Connection,
        address: Address,
        chain_id: u64,
    ) -> Result<Self, StoreError> {
        let found = tokens::at(connection, address).await?;
        Ok(match found {
            Some(token) => Self::Known(Unit::new(token, chain_id)),
            None => Self::Unknown { address, chain_id },
        })
    }

    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Known(unit) => unit.token.address,
            Self::Unknown { address, .. } => *address,
        }
    }

    pub(crate) fn amount(&self, base_units: Amount) -> TokenAmount {
        match self {
            Self::Known(unit) => unit.amount(base_units),
            Self::Unknown { address, chain_id } => TokenAmount {
                base_units,
                token: address.to_string(),
                decimals: 0,
                chain: format!("eip155:{chain_id}"),
            },
        }
    }
}

/// A point in time, written by RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00Z")]
pub struct Time(pub UnixSeconds);

impl Time {
    /// The same as text.
    pub(crate) fn text(self) -> Option<String> {
        let seconds = i64::try_from(self.0.get()).ok()?;
        OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.text().ok_or_else(|| serde::ser::Error::custom("a time after 9999"))?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        let text = String::deserialize(deserializer)?;
        let parsed = OffsetDateTime::parse(&text, &Rfc3339).ok();
        let seconds = parsed.and_then(|at| u64::try_from(at.unix_timestamp()).ok());
        seconds
            .map(|at| Self(UnixSeconds(at)))
            // an offset may lead beyond the year 9999, which no answer could say
            .filter(|at| at.text().is_some())
            .ok_or_else(|| D::Error::custom("not a time since 1970 as RFC 3339 writes it"))
    }
}

/// US dollars with a sign, exact to a millionth: what is taken off is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"amount": "-0.650000", "currency": "USD"}))]
pub struct SignedUsd {
    /// A decimal string with six fraction digits, a minus before it if it is negative; never a JSON number.
    #[schema(value_type = String, example = "-0.650000")]
    pub amount: UsdDelta,
    /// `USD`.
    pub currency: Currency,
}

impl From<UsdDelta> for SignedUsd {
    fn from(amount: UsdDelta) -> Self {
        Self { amount, currency: Currency::Usd }
    }
}

/// An amount in dollars at the rate that the quote fixed, rounded down. For showing: what is paid is the
/// token amount.
///
/// # Errors
/// [`Code::Internal`] for figures out of range.
pub(crate) fn usd_of(amount: Amount, quote: &Quote) -> Result<Usd, Problem> {
    let micros = u128::from(quote.usd_per_hour.usd().get());
    let usd = mul_div_floor(amount.get(), micros, quote.rate.get()).map_err(internal)?;
    u64::try_from(usd).map(|usd| UsdMicros::new(usd).into()).map_err(internal)
}

/// The `limit` of a page.
///
/// # Errors
/// [`Code::InvalidRequest`] unless 1 to [`MAX_LIMIT`].
pub(crate) fn page_limit(limit: Option<u16>) -> Result<u16, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit must be 1 to {MAX_LIMIT}");
    Err(Problem::new(Code::InvalidRequest, detail.clone()).at("?limit", detail))
}

/// JSON of a value that always has one.
///
/// # Errors
/// [`Code::Internal`] otherwise.
pub(crate) fn json_of(value: &impl Serialize) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(value).map_err(internal)
}
