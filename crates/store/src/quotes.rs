//! Quotes: a price promised for a while, with the terms whose hash is the rental's id on the chain.
//! A quote never changes; booking it is a row of its own.

mod ground;
mod put;

use alloy_primitives::{Address, B256};
use domain::{
    id::{AccountId, MachineId, OfferId, QuoteId},
    money::{Amount, FeeBps, UsdMicros},
    offer::Isolation,
    rate::{TokenRate, UsdPerHour},
    terms::RentalTerms,
    time::{Seconds, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::BigDecimal;
use time::OffsetDateTime;
use uuid::Uuid;

pub use ground::{Asking, Bounds, Ground, ground, grounds};
pub use put::{AsOf, Promise, Remembered, insert, promise};

use crate::{
    Connection, StoreError,
    convert::{address, amount, at_least_ten, duration, hash, seconds},
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
    /// What the renter shares with nobody, as the offer's version says.
    #[serde(default)]
    pub isolation: Option<Isolation>,
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
    /// What is promised about outages; quotes from before this was kept have none.
    #[serde(default)]
    pub outages: Option<Outages>,
}

/// When time is not billed, and when that ends a rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outages {
    /// Time without evidence for longer than this is an outage.
    pub evidence: Seconds,
    /// An outage of more than this ends the rental.
    pub most: Seconds,
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
    evidence_s: Option<i32>,
    max_outage_s: Option<i32>,
    isolation: String,
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
                q.evidence_s, q.max_outage_s, v.isolation,
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
        let fx = match (row.usd_micros_per_token, row.priced_by, row.priced_at) {
            (Some(usd), Some(source), Some(at)) => Some(Fx {
                usd_per_token: UsdMicros::new(u64::try_from(usd).map_err(StoreError::corrupt)?),
                source,
                at: seconds(at)?,
            }),
            (_, _, _) => None,
        };
        let outages = match (row.evidence_s, row.max_outage_s) {
            (Some(evidence), Some(most)) => {
                Some(Outages { evidence: span(evidence)?, most: span(most)? })
            }
            (_, _) => None,
        };
        let sla = match (row.ready_s, row.notice_s) {
            (Some(ready), Some(notice)) => {
                Some(Sla { ready: span(ready)?, notice: span(notice)?, outages })
            }
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
                isolation: Some(row.isolation.parse().map_err(StoreError::corrupt)?),
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

/// After how long an outage ends a rental, as its quote promised; `None` for a quote from before that was kept.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn max_outage(
    connection: &mut Connection,
    id: QuoteId,
) -> Result<Option<Seconds>, StoreError> {
    let promised = sqlx::query_scalar!("SELECT max_outage_s FROM quotes WHERE id = $1", id.uuid())
        .fetch_optional(connection)
        .await?
        .flatten();
    promised.map(span).transpose()
}

/// Within how long of the lock the machine is ready, as its quote promised; `None` for a quote from before that was kept.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn ready_within(
    connection: &mut Connection,
    id: QuoteId,
) -> Result<Option<Seconds>, StoreError> {
    let promised = sqlx::query_scalar!("SELECT ready_s FROM quotes WHERE id = $1", id.uuid())
        .fetch_optional(connection)
        .await?
        .flatten();
    promised.map(span).transpose()
}

fn span(seconds: i32) -> Result<Seconds, StoreError> {
    u32::try_from(seconds).map(Seconds).map_err(StoreError::corrupt)
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
