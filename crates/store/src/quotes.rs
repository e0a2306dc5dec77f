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
use serde_json::Value;

use crate::{
    Connection, StoreError,
    convert::{address, amount, duration, hash, numeric, seconds, ts},
};

/// A stored quote, with what was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The number of GPUs of that version; a rental takes all of them.
    pub gpu_count: u16,
    /// For how long the deposit pays.
    pub duration: Seconds,
    /// Dollars per hour for all GPUs together.
    pub usd_per_hour: UsdPerHour,
    /// The lines shown to the renter, as JSON.
    pub lines: Value,
    /// Pays the deposit.
    pub renter: Address,
    /// Earns.
    pub provider: Address,
    /// What it is paid in; zero is the native coin.
    pub token: Address,
    /// Base units per hour for all GPUs together.
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

/// Stores a quote. The offer's version must exist; `machine`, `model` and `gpu_count` are its own and
/// are not stored a second time.
///
/// # Errors
/// [`StoreError::Conflict`] on `quotes_escrow_id_key` if the same terms were quoted before.
pub async fn insert(tx: &mut Connection, quote: &Quote) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO quotes (id, account_id, offer_id, offer_version, duration_s, usd_micros_per_hour,
                             lines, renter, provider, token, price_per_hour, fee_bps, start_by,
                             holdback_s, order_hash, escrow_id, deposit, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
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
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The quote with this id.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(connection: &mut Connection, id: QuoteId) -> Result<Option<Quote>, StoreError> {
    let row = sqlx::query!(
        "SELECT q.id, q.account_id, q.offer_id, q.offer_version, o.machine_id, v.model, v.gpu_count,
                q.duration_s, q.usd_micros_per_hour, q.lines, q.renter, q.provider, q.token,
                q.price_per_hour, q.fee_bps, q.start_by, q.holdback_s, q.order_hash, q.escrow_id,
                q.deposit, q.created_at, q.expires_at
         FROM quotes q
         JOIN offers o ON o.id = q.offer_id
         JOIN offer_versions v ON v.offer_id = q.offer_id AND v.version = q.offer_version
         WHERE q.id = $1",
        id.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let usd = u64::try_from(row.usd_micros_per_hour).map_err(StoreError::corrupt)?;
        let fee = u16::try_from(row.fee_bps).map_err(StoreError::corrupt)?;
        Ok(Quote {
            id: QuoteId::from_uuid(row.id),
            account: AccountId::from_uuid(row.account_id),
            offer: OfferId::from_uuid(row.offer_id),
            offer_version: u32::try_from(row.offer_version).map_err(StoreError::corrupt)?,
            machine: MachineId::from_uuid(row.machine_id),
            model: row.model,
            gpu_count: u16::try_from(row.gpu_count).map_err(StoreError::corrupt)?,
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
        })
    })
    .transpose()
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
