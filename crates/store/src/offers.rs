//! Offers and their immutable versions, and the search over what can be rented.

use domain::{
    id::{AccountId, MachineId, OfferId},
    machine::Service,
    offer::{OfferState, OfferTerms},
    time::UnixSeconds,
};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

mod terms;

pub use terms::terms_at;
use terms::{TermsColumns, add_version};

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
    /// The terms of the current version; of disk no more than the machine is sold with.
    pub terms: OfferTerms,
    /// Where the machine stands.
    pub region: String,
    /// Memory of one GPU in GB.
    pub vram_gb: u32,
    /// GPUs of this model in the machine that no rental holds.
    pub gpus_free: u32,
    /// GPUs of this model in the machine.
    pub gpus_all: u32,
    /// When the machine's agent was last heard of.
    pub last_heartbeat_at: Option<UnixSeconds>,
    /// Whether the machine takes new rentals at all.
    pub open: bool,
    /// When its next announced time without service begins, or the one that it is in began.
    pub closed_from: Option<UnixSeconds>,
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

/// Changes an offer that still is as `expected` was read: its state, and, if there are other terms, its
/// version. Those follow from the stored ones ([`terms_at`]), which may promise more disk than `expected` shows.
/// Rentals keep the version they were booked at.
///
/// # Errors
/// [`StoreError::Conflict`] on `offer_version` if somebody changed it in between.
pub async fn change(
    tx: &mut Connection,
    expected: &Offer,
    state: OfferState,
    terms: Option<&OfferTerms>,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let version = i32::try_from(expected.version).map_err(StoreError::corrupt)?;
    let next = if terms.is_some() {
        version.checked_add(1).ok_or_else(|| StoreError::corrupt("2^31 versions"))?
    } else {
        version
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
        return Err(StoreError::Conflict { constraint: "offer_version".to_owned() });
    }
    if let Some(terms) = terms {
        add_version(tx, expected.id, next, &expected.model, terms, now).await?;
    }
    Ok(())
}

/// An offer as it is stored, with what can be seen of its machine.
pub(crate) struct Row {
    pub(crate) id: uuid::Uuid,
    pub(crate) machine_id: uuid::Uuid,
    pub(crate) account_id: uuid::Uuid,
    pub(crate) state: String,
    pub(crate) version: i32,
    pub(crate) created_at: time::OffsetDateTime,
    pub(crate) updated_at: time::OffsetDateTime,
    pub(crate) model: String,
    pub(crate) gpu_count: i16,
    pub(crate) chunks: Vec<i16>,
    pub(crate) usd_micros_per_hour: i64,
    pub(crate) min_duration_s: i64,
    pub(crate) max_duration_s: i64,
    pub(crate) reserved: serde_json::Value,
    pub(crate) disk_micros_per_gb_month: i64,
    pub(crate) disk_gb: i32,
    pub(crate) up_micros_per_gb: i64,
    pub(crate) down_micros_per_gb: i64,
    pub(crate) notice_s: i32,
    pub(crate) isolation: String,
    pub(crate) available_until: Option<time::OffsetDateTime>,
    pub(crate) region: String,
    pub(crate) last_heartbeat_at: Option<time::OffsetDateTime>,
    pub(crate) service: String,
    pub(crate) closed_from: Option<time::OffsetDateTime>,
    pub(crate) vram_gb: i32,
    pub(crate) gpus_free: i64,
    pub(crate) gpus_all: i64,
}

impl TryFrom<Row> for Offer {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let columns = TermsColumns {
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
        };
        Ok(Self {
            id: OfferId::from_uuid(row.id),
            machine: MachineId::from_uuid(row.machine_id),
            account: AccountId::from_uuid(row.account_id),
            state: row.state.parse().map_err(StoreError::corrupt)?,
            version: u32::try_from(row.version).map_err(StoreError::corrupt)?,
            model: row.model,
            terms: columns.read()?,
            region: row.region,
            vram_gb: u32::try_from(row.vram_gb).map_err(StoreError::corrupt)?,
            gpus_free: u32::try_from(row.gpus_free).map_err(StoreError::corrupt)?,
            gpus_all: u32::try_from(row.gpus_all).map_err(StoreError::corrupt)?,
            last_heartbeat_at: row.last_heartbeat_at.map(seconds).transpose()?,
            open: row.service.parse::<Service>().map_err(StoreError::corrupt)? == Service::Open,
            closed_from: row.closed_from.map(seconds).transpose()?,
            created_at: seconds(row.created_at)?,
            updated_at: seconds(row.updated_at)?,
        })
    }
}

/// One text for every read of offers; `$1` is the time at which GPUs count as free, and from which on times without service
/// are to come.
macro_rules! offers {
    ([$($tail:literal),+], $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"SELECT o.id, o.machine_id, o.account_id, o.state, o.version, o.created_at, o.updated_at,
                      v.model, v.gpu_count, v.chunks, v.usd_micros_per_hour, v.min_duration_s,
                      v.max_duration_s, v.reserved, v.disk_micros_per_gb_month, LEAST(v.disk_gb, m.sold_disk_gb) AS "disk_gb!",
                      v.up_micros_per_gb, v.down_micros_per_gb, v.notice_s, v.isolation,
                      v.available_until, m.region, m.last_heartbeat_at, m.service, g.vram_gb,
                      (SELECT min(lower(x.during)) FROM maintenance_windows x
                       WHERE x.machine_id = o.machine_id AND x.cancelled_at IS NULL
                         AND x.during && tstzrange($1, NULL)) AS closed_from,
                      free.gpus AS "gpus_free!", free.of AS "gpus_all!"
               FROM offers o
               JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
               JOIN machines m ON m.id = o.machine_id
               JOIN gpu_models g ON g.slug = v.model
               CROSS JOIN LATERAL (
                   SELECT count(*) FILTER (WHERE NOT EXISTS (
                              SELECT FROM rental_gpus h
                              WHERE h.gpu_id = u.id AND h.held_until > $1)) AS gpus,
                          count(*) AS of
                   FROM gpus u
                   WHERE u.machine_id = o.machine_id AND u.model = v.model) AS free "#
                $(+ $tail)+,
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
    offers!(["WHERE o.id = $2"], ts(now)?, id.uuid())
        .fetch_optional(connection)
        .await?
        .map(Offer::try_from)
        .transpose()
}

/// An account's offers, oldest first: those in one state, or in any.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    account: AccountId,
    state: Option<OfferState>,
    after: Option<OfferId>,
    limit: i64,
    now: UnixSeconds,
) -> Result<Vec<Offer>, StoreError> {
    let rows = offers!(
        [
            "WHERE o.account_id = $2 AND ($3::text IS NULL OR o.state = $3) AND ($4::uuid IS NULL OR o.id > $4)
             ORDER BY o.id LIMIT $5"
        ],
        ts(now)?,
        account.uuid(),
        state.map(OfferState::as_str),
        after.map(OfferId::uuid),
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Offer::try_from).collect()
}

/// The most disk that a live offer of the machine promises, in GB.
///
/// # Errors
/// The database's.
pub async fn promised_disk(
    connection: &mut Connection,
    machine: MachineId,
) -> Result<u32, StoreError> {
    let most = sqlx::query_scalar!(
        r#"SELECT coalesce(max(v.disk_gb), 0) AS "most!" FROM offers o
           JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
           WHERE o.machine_id = $1 AND o.state <> 'withdrawn'"#,
        machine.uuid()
    )
    .fetch_one(connection)
    .await?;
    u32::try_from(most).map_err(StoreError::corrupt)
}
