//! Offers and their immutable versions, and the search over what can be rented.

use domain::{
    id::{AccountId, MachineId, OfferId},
    money::UsdMicros,
    offer::{OfferState, OfferTerms},
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{duration, seconds, ts},
};

/// An offer at its current version, with what can be seen of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// The machine it is of.
    pub machine: MachineId,
    /// Whose it is.
    pub account: AccountId,
    /// Whether it can be rented.
    pub state: OfferState,
    /// The current version; a change of terms makes a new one.
    pub version: u32,
    /// The GPU model's name.
    pub model: String,
    /// The terms of the current version.
    pub terms: OfferTerms,
    /// Where the machine stands.
    pub region: String,
    /// Memory of one GPU in GB.
    pub vram_gb: u32,
    /// GPUs of this model in the machine that no rental holds.
    pub gpus_free: u32,
    /// When the machine's agent was last heard of.
    pub last_heartbeat_at: Option<UnixSeconds>,
    /// When it was first made.
    pub created_at: UnixSeconds,
    /// When it was last changed.
    pub updated_at: UnixSeconds,
}

/// An offer to be stored, listed, as version 1.
#[derive(Clone, Debug)]
pub struct NewOffer {
    /// Its id.
    pub id: OfferId,
    /// The machine it is of.
    pub machine: MachineId,
    /// Whose it is.
    pub account: AccountId,
    /// The GPU model's name, which must exist.
    pub model: String,
    /// Validated terms.
    pub terms: OfferTerms,
    /// When.
    pub now: UnixSeconds,
}

/// Stores an offer.
///
/// # Errors
/// [`StoreError::Conflict`] on `offers_one_live_per_machine` if the machine has another live one.
pub async fn create(tx: &mut Connection, offer: &NewOffer) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO offers (id, machine_id, account_id, state, version, created_at, updated_at)
         VALUES ($1, $2, $3, 'listed', 1, $4, $4)",
        offer.id.uuid(),
        offer.machine.uuid(),
        offer.account.uuid(),
        ts(offer.now)?,
    )
    .execute(&mut *tx)
    .await?;
    add_version(tx, offer.id, 1, &offer.model, &offer.terms, offer.now).await
}

async fn add_version(
    tx: &mut Connection,
    id: OfferId,
    version: i32,
    model: &str,
    terms: &OfferTerms,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO offer_versions (offer_id, version, model, gpu_count, usd_micros_per_hour,
                                     min_duration_s, max_duration_s, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        id.uuid(),
        version,
        model,
        i16::try_from(terms.gpu_count).map_err(StoreError::corrupt)?,
        i64::try_from(terms.price.usd().get()).map_err(StoreError::corrupt)?,
        i64::from(terms.min_duration.get()),
        i64::from(terms.max_duration.get()),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Changes an offer that still is as `expected` was read: its state, and, if the terms differ, its
/// version. Rentals keep the version they were booked at.
///
/// # Errors
/// [`StoreError::Conflict`] on `offer_version` if somebody changed it in between.
pub async fn change(
    tx: &mut Connection,
    expected: &Offer,
    state: OfferState,
    terms: &OfferTerms,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let version = i32::try_from(expected.version).map_err(StoreError::corrupt)?;
    let next = if expected.terms == *terms {
        version
    } else {
        version
            .checked_add(1)
            .ok_or_else(|| StoreError::corrupt("2^31 versions"))?
    };
    let updated = sqlx::query!(
        "UPDATE offers SET state = $4, version = $5, updated_at = $6
         WHERE id = $1 AND version = $2 AND state = $3",
        expected.id.uuid(),
        version,
        expected.state.as_str(),
        state.as_str(),
        next,
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    if updated.rows_affected() != 1 {
        return Err(StoreError::Conflict {
            constraint: "offer_version".to_owned(),
        });
    }
    if next != version {
        add_version(tx, expected.id, next, &expected.model, terms, now).await?;
    }
    Ok(())
}

struct Row {
    id: uuid::Uuid,
    machine_id: uuid::Uuid,
    account_id: uuid::Uuid,
    state: String,
    version: i32,
    created_at: time::OffsetDateTime,
    updated_at: time::OffsetDateTime,
    model: String,
    gpu_count: i16,
    usd_micros_per_hour: i64,
    min_duration_s: i64,
    max_duration_s: i64,
    region: String,
    last_heartbeat_at: Option<time::OffsetDateTime>,
    vram_gb: i32,
    gpus_free: i64,
}

impl TryFrom<Row> for Offer {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let usd = u64::try_from(row.usd_micros_per_hour).map_err(StoreError::corrupt)?;
        Ok(Self {
            id: OfferId::from_uuid(row.id),
            machine: MachineId::from_uuid(row.machine_id),
            account: AccountId::from_uuid(row.account_id),
            state: row.state.parse().map_err(StoreError::corrupt)?,
            version: u32::try_from(row.version).map_err(StoreError::corrupt)?,
            model: row.model,
            terms: OfferTerms {
                price: UsdPerHour(UsdMicros::new(usd)),
                gpu_count: u16::try_from(row.gpu_count).map_err(StoreError::corrupt)?,
                min_duration: duration(row.min_duration_s)?,
                max_duration: duration(row.max_duration_s)?,
            },
            region: row.region,
            vram_gb: u32::try_from(row.vram_gb).map_err(StoreError::corrupt)?,
            gpus_free: u32::try_from(row.gpus_free).map_err(StoreError::corrupt)?,
            last_heartbeat_at: row.last_heartbeat_at.map(seconds).transpose()?,
            created_at: seconds(row.created_at)?,
            updated_at: seconds(row.updated_at)?,
        })
    }
}

/// One text for every read of offers; `$1` is the time at which GPUs count as free.
macro_rules! offers {
    ($tail:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"SELECT o.id, o.machine_id, o.account_id, o.state, o.version, o.created_at, o.updated_at,
                      v.model, v.gpu_count, v.usd_micros_per_hour, v.min_duration_s, v.max_duration_s,
                      m.region, m.last_heartbeat_at, g.vram_gb, free.gpus AS "gpus_free!"
               FROM offers o
               JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
               JOIN machines m ON m.id = o.machine_id
               JOIN gpu_models g ON g.slug = v.model
               CROSS JOIN LATERAL (
                   SELECT count(*) AS gpus FROM gpus u
                   WHERE u.machine_id = o.machine_id AND u.model = v.model AND NOT EXISTS (
                       SELECT FROM rental_gpus h
                       WHERE h.gpu_id = u.id AND h.during && tstzrange($1, NULL))) AS free "#
                + $tail,
            $($argument),+
        )
    };
}

/// The offer with this id, whatever its state.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(
    connection: &mut Connection,
    id: OfferId,
    now: UnixSeconds,
) -> Result<Option<Offer>, StoreError> {
    offers!("WHERE o.id = $2", ts(now)?, id.uuid())
        .fetch_optional(connection)
        .await?
        .map(Offer::try_from)
        .transpose()
}

/// As [`get`], and nobody can change the offer before this transaction ends. Bookings may hold it at
/// the same time.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get_shared(
    tx: &mut Connection,
    id: OfferId,
    now: UnixSeconds,
) -> Result<Option<Offer>, StoreError> {
    offers!("WHERE o.id = $2 FOR SHARE OF o", ts(now)?, id.uuid())
        .fetch_optional(tx)
        .await?
        .map(Offer::try_from)
        .transpose()
}

/// The terms of one version of an offer, if there is such a version.
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
    let row = sqlx::query!(
        "SELECT gpu_count, usd_micros_per_hour, min_duration_s, max_duration_s
         FROM offer_versions WHERE offer_id = $1 AND version = $2",
        id.uuid(),
        version,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let usd = u64::try_from(row.usd_micros_per_hour).map_err(StoreError::corrupt)?;
        Ok(OfferTerms {
            price: UsdPerHour(UsdMicros::new(usd)),
            gpu_count: u16::try_from(row.gpu_count).map_err(StoreError::corrupt)?,
            min_duration: duration(row.min_duration_s)?,
            max_duration: duration(row.max_duration_s)?,
        })
    })
    .transpose()
}

/// The order of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferSort {
    /// Cheapest per GPU and hour first, then by id.
    Price,
    /// Newest first.
    Newest,
}

/// Where a page of a search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferPosition {
    /// Price per GPU and hour of the last offer seen; not looked at when sorting by age.
    pub price: UsdPerHour,
    /// Id of the last offer seen.
    pub id: OfferId,
}

/// What is looked for; `None` leaves a condition out.
#[derive(Clone, Debug)]
pub struct OfferSearch {
    /// One of these models; empty for any.
    pub models: Vec<String>,
    /// Exactly so many GPUs: an offer is rented whole.
    pub gpu_count: Option<u16>,
    /// At least so much memory per GPU, in GB.
    pub min_vram_gb: Option<u32>,
    /// In this region, or one inside it: `de` finds `de-fra`.
    pub region: Option<String>,
    /// At most this price per GPU and hour.
    pub price_lte: Option<UsdPerHour>,
    /// With a shortest rental of at most this.
    pub min_duration_lte: Option<Seconds>,
    /// That can be rented for exactly so long.
    pub duration: Option<Seconds>,
    /// Of this provider.
    pub provider: Option<AccountId>,
    /// Only offers whose machine was heard of at or after this time and has all its GPUs free.
    pub available_since: Option<UnixSeconds>,
    /// In which order.
    pub sort: OfferSort,
    /// After which offer.
    pub after: Option<OfferPosition>,
    /// At most so many.
    pub limit: i64,
}

/// The listed offers that a search finds.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn search(
    connection: &mut Connection,
    search: &OfferSearch,
    now: UnixSeconds,
) -> Result<Vec<Offer>, StoreError> {
    let now = ts(now)?;
    // a number too large for its column finds what the largest would find
    let gpu_count = search
        .gpu_count
        .map(|count| i16::try_from(count).unwrap_or(i16::MAX));
    let min_vram = search
        .min_vram_gb
        .map(|vram| i32::try_from(vram).unwrap_or(i32::MAX));
    let micros = |rate: UsdPerHour| i64::try_from(rate.usd().get()).unwrap_or(i64::MAX);
    let price_lte = search.price_lte.map(micros);
    let min_duration = search.min_duration_lte.map(|span| i64::from(span.get()));
    let duration = search.duration.map(|span| i64::from(span.get()));
    let provider = search.provider.map(AccountId::uuid);
    let since = search.available_since.map(ts).transpose()?;
    let after_price = search.after.map(|after| micros(after.price));
    let after_id = search.after.map(|after| after.id.uuid());
    // one text per order, so that each can walk its index
    macro_rules! page {
        ($tail:literal) => {
            offers!(
                $tail,
                now,
                &search.models,
                gpu_count,
                min_vram,
                search.region,
                price_lte,
                min_duration,
                duration,
                provider,
                since,
                after_price,
                after_id,
                search.limit,
            )
            .fetch_all(connection)
            .await?
        };
    }
    let rows = match search.sort {
        OfferSort::Price => page!(
            "WHERE o.state = 'listed'
               AND (cardinality($2::text[]) = 0 OR v.model = ANY($2))
               AND ($3::smallint IS NULL OR v.gpu_count = $3)
               AND ($4::int IS NULL OR g.vram_gb >= $4)
               AND ($5::text IS NULL OR m.region = $5 OR starts_with(m.region, $5 || '-'))
               AND ($6::bigint IS NULL OR v.usd_micros_per_hour <= $6)
               AND ($7::bigint IS NULL OR v.min_duration_s <= $7)
               AND ($8::bigint IS NULL OR $8 BETWEEN v.min_duration_s AND v.max_duration_s)
               AND ($9::uuid IS NULL OR o.account_id = $9)
               AND ($10::timestamptz IS NULL
                    OR (m.last_heartbeat_at >= $10 AND free.gpus >= v.gpu_count))
               AND ($11::bigint IS NULL OR (v.usd_micros_per_hour, v.offer_id) > ($11, $12::uuid))
             ORDER BY v.usd_micros_per_hour, v.offer_id LIMIT $13"
        ),
        OfferSort::Newest => page!(
            "WHERE o.state = 'listed'
               AND (cardinality($2::text[]) = 0 OR v.model = ANY($2))
               AND ($3::smallint IS NULL OR v.gpu_count = $3)
               AND ($4::int IS NULL OR g.vram_gb >= $4)
               AND ($5::text IS NULL OR m.region = $5 OR starts_with(m.region, $5 || '-'))
               AND ($6::bigint IS NULL OR v.usd_micros_per_hour <= $6)
               AND ($7::bigint IS NULL OR v.min_duration_s <= $7)
               AND ($8::bigint IS NULL OR $8 BETWEEN v.min_duration_s AND v.max_duration_s)
               AND ($9::uuid IS NULL OR o.account_id = $9)
               AND ($10::timestamptz IS NULL
                    OR (m.last_heartbeat_at >= $10 AND free.gpus >= v.gpu_count))
               AND ($11::bigint IS NULL OR o.id < $12::uuid)
             ORDER BY o.id DESC LIMIT $13"
        ),
    };
    rows.into_iter().map(Offer::try_from).collect()
}
