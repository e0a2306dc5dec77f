//! The terms of an offer's versions, column by column.

use domain::{
    id::OfferId,
    money::UsdMicros,
    offer::{OfferTerms, Reserved},
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{duration, seconds, ts},
};

/// The columns of `offer_versions` that are the terms.
pub(super) struct TermsColumns {
    pub(super) gpu_count: i16,
    pub(super) chunks: Vec<i16>,
    pub(super) usd_micros_per_hour: i64,
    pub(super) min_duration_s: i64,
    pub(super) max_duration_s: i64,
    pub(super) reserved: serde_json::Value,
    pub(super) disk_micros_per_gb_month: i64,
    pub(super) disk_gb: i32,
    pub(super) up_micros_per_gb: i64,
    pub(super) down_micros_per_gb: i64,
    pub(super) notice_s: i32,
    pub(super) isolation: String,
    pub(super) available_until: Option<time::OffsetDateTime>,
}

fn micros(value: i64) -> Result<UsdMicros, StoreError> {
    u64::try_from(value).map(UsdMicros::new).map_err(StoreError::corrupt)
}

fn big(value: UsdMicros) -> Result<i64, StoreError> {
    i64::try_from(value.get()).map_err(StoreError::corrupt)
}

impl TermsColumns {
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(super) fn read(self) -> Result<OfferTerms, StoreError> {
        let count = |value: i16| u16::try_from(value).map_err(StoreError::corrupt);
        let gpu_count = count(self.gpu_count)?;
        let mut chunks = self.chunks.into_iter().map(count).collect::<Result<Vec<_>, _>>()?;
        // versions from before there were chunks: all together
        if chunks.is_empty() {
            chunks.push(gpu_count);
        }
        let reserved: Vec<Reserved> =
            serde_json::from_value(self.reserved).map_err(StoreError::corrupt)?;
        Ok(OfferTerms {
            price: UsdPerHour(micros(self.usd_micros_per_hour)?),
            gpu_count,
            chunks,
            min_duration: duration(self.min_duration_s)?,
            max_duration: duration(self.max_duration_s)?,
            reserved,
            disk_price: micros(self.disk_micros_per_gb_month)?,
            disk_gb: u32::try_from(self.disk_gb).map_err(StoreError::corrupt)?,
            up_price: micros(self.up_micros_per_gb)?,
            down_price: micros(self.down_micros_per_gb)?,
            notice: u32::try_from(self.notice_s).map(Seconds).map_err(StoreError::corrupt)?,
            isolation: self.isolation.parse().map_err(StoreError::corrupt)?,
            available_until: self.available_until.map(seconds).transpose()?,
        })
    }
}

/// Stores a version.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`] for terms that were not validated.
pub(super) async fn add_version(
    tx: &mut Connection,
    id: OfferId,
    version: i32,
    model: &str,
    terms: &OfferTerms,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let count = |value: u16| i16::try_from(value).map_err(StoreError::corrupt);
    let chunks = terms.chunks.iter().copied().map(count).collect::<Result<Vec<_>, _>>()?;
    let until = terms.available_until.map(ts).transpose()?;
    sqlx::query!(
        "INSERT INTO offer_versions (offer_id, version, model, gpu_count, usd_micros_per_hour,
                                     min_duration_s, max_duration_s, created_at, chunks, reserved,
                                     disk_micros_per_gb_month, disk_gb, up_micros_per_gb,
                                     down_micros_per_gb, notice_s, isolation, available_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        id.uuid(),
        version,
        model,
        count(terms.gpu_count)?,
        big(terms.price.usd())?,
        i64::from(terms.min_duration.get()),
        i64::from(terms.max_duration.get()),
        ts(now)?,
        &chunks,
        serde_json::to_value(&terms.reserved).map_err(StoreError::corrupt)?,
        big(terms.disk_price)?,
        i32::try_from(terms.disk_gb).map_err(StoreError::corrupt)?,
        big(terms.up_price)?,
        big(terms.down_price)?,
        i32::try_from(terms.notice.get()).map_err(StoreError::corrupt)?,
        terms.isolation.as_str(),
        until,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The terms of one version of an offer as they are stored, if there is such a version: of disk what was promised, which
/// may be more than the machine is sold with by now.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn terms_at(
    connection: &mut Connection,
    id: OfferId,
    version: u32,
) -> Result<Option<OfferTerms>, StoreError> {
    let Ok(version) = i32::try_from(version) else {
        return Ok(None);
    };
    sqlx::query_as!(
        TermsColumns,
        "SELECT gpu_count, chunks, usd_micros_per_hour, min_duration_s, max_duration_s, reserved,
                disk_micros_per_gb_month, disk_gb, up_micros_per_gb, down_micros_per_gb, notice_s,
                isolation, available_until
         FROM offer_versions WHERE offer_id = $1 AND version = $2",
        id.uuid(),
        version,
    )
    .fetch_optional(connection)
    .await?
    .map(TermsColumns::read)
    .transpose()
}
