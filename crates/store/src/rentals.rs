//! Rentals: booking, reading, and the columns of their progress. Their state changes only through
//! [`crate::advance`].

use alloy_primitives::B256;
use domain::{
    id::{AccountId, GpuId, MachineId, QuoteId, RentalId},
    money::Amount,
    rental::{Progress, RentalState},
    time::{Seconds, UnixSeconds},
};
use sqlx::types::BigDecimal;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    convert::{amount, duration, hash, numeric, seconds, ts},
};

mod booking;
mod progress;
mod shared;
pub use booking::{Ground, LOCKED_BEFORE_BOOKING, NewRental, book, hold_ground, insert};
pub(crate) use progress::ProgressColumns;
pub use shared::{Clear, Entry, Wanted, as_booked, fresh, hold_clear, insert_clear};

/// A rental as stored.
#[derive(Clone, Debug)]
pub struct Rental {
    /// Its id.
    pub id: RentalId,
    /// What was promised.
    pub quote_id: QuoteId,
    /// Its id on the chain: the hash of the terms.
    pub escrow_id: B256,
    /// Who pays.
    pub renter: AccountId,
    /// Who earns.
    pub provider: AccountId,
    /// Where it runs.
    pub machine: MachineId,
    /// How far it is.
    pub progress: Progress,
    /// What final events locked.
    pub locked: Amount,
    /// What final events paid the provider.
    pub paid_provider: Amount,
    /// What final events paid the platform.
    pub paid_fee: Amount,
    /// What final events gave back.
    pub paid_refund: Amount,
    /// The seconds that the chain billed, once closed.
    pub billed: Option<Seconds>,
    /// Grows with every change.
    pub version: i64,
    /// When it was booked.
    pub created_at: UnixSeconds,
    /// When it last changed.
    pub updated_at: UnixSeconds,
    /// What its renter calls it. That changes neither its version nor the time of its last change.
    pub label: Option<String>,
}

/// A GPU that a rental holds or held.
#[derive(Clone, Debug)]
pub struct HeldGpu {
    /// Its id.
    pub gpu: GpuId,
    /// The vendor's own UUID.
    pub vendor_uuid: String,
    /// The model's slug.
    pub model: String,
}

/// Whose rentals to list.
#[derive(Clone, Copy, Debug)]
pub enum Party {
    /// Those an account pays for.
    Renter(AccountId),
    /// Those an account earns from.
    Provider(AccountId),
}

pub(crate) struct Row {
    id: Uuid,
    quote_id: Uuid,
    escrow_id: Vec<u8>,
    renter_id: Uuid,
    provider_id: Uuid,
    machine_id: Uuid,
    state: String,
    lock_status: String,
    agent_status: String,
    start_status: String,
    ready_at: Option<OffsetDateTime>,
    started_at: Option<OffsetDateTime>,
    interrupted_since: Option<OffsetDateTime>,
    stopped_at: Option<OffsetDateTime>,
    held_until: Option<OffsetDateTime>,
    end_reason: Option<String>,
    locked: BigDecimal,
    paid_provider: BigDecimal,
    paid_fee: BigDecimal,
    paid_refund: BigDecimal,
    billed_s: Option<i64>,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    label: Option<String>,
}

impl TryFrom<Row> for Rental {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let columns = ProgressColumns {
            state: row.state,
            lock_status: row.lock_status,
            agent_status: row.agent_status,
            start_status: row.start_status,
            ready_at: row.ready_at,
            started_at: row.started_at,
            interrupted_since: row.interrupted_since,
            stopped_at: row.stopped_at,
            held_until: row.held_until,
            end_reason: row.end_reason,
        };
        Ok(Self {
            id: RentalId::from_uuid(row.id),
            quote_id: QuoteId::from_uuid(row.quote_id),
            escrow_id: hash(&row.escrow_id)?,
            renter: AccountId::from_uuid(row.renter_id),
            provider: AccountId::from_uuid(row.provider_id),
            machine: MachineId::from_uuid(row.machine_id),
            progress: columns.read()?,
            locked: amount(&row.locked)?,
            paid_provider: amount(&row.paid_provider)?,
            paid_fee: amount(&row.paid_fee)?,
            paid_refund: amount(&row.paid_refund)?,
            billed: row.billed_s.map(duration).transpose()?,
            version: row.version,
            created_at: seconds(row.created_at)?,
            updated_at: seconds(row.updated_at)?,
            label: row.label,
        })
    }
}

/// Gives the GPUs back. A hold of less than a second is kept as one second, so that the range is not
/// empty.
pub(crate) async fn free_gpus(
    tx: &mut Connection,
    id: RentalId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE rental_gpus
         SET during = tstzrange(lower(during), GREATEST($2, lower(during) + interval '1 second'))
         WHERE rental_id = $1 AND upper_inf(during)",
        id.uuid(),
        ts(now)?
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The rental, if it exists.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(connection: &mut Connection, id: RentalId) -> Result<Option<Rental>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, quote_id, escrow_id, renter_id, provider_id, machine_id, state, lock_status,
                agent_status, start_status, ready_at, started_at, interrupted_since, stopped_at,
                held_until, end_reason, locked, paid_provider, paid_fee, paid_refund, billed_s, version,
                created_at, updated_at, label
         FROM rentals WHERE id = $1",
        id.uuid()
    )
    .fetch_optional(connection)
    .await?
    .map(Rental::try_from)
    .transpose()
}

/// The rental with this id on the chain, if it is one of ours.
///
/// # Errors
/// The database's.
pub async fn id_of(
    connection: &mut Connection,
    escrow_id: B256,
) -> Result<Option<RentalId>, StoreError> {
    Ok(sqlx::query_scalar!("SELECT id FROM rentals WHERE escrow_id = $1", escrow_id.as_slice())
        .fetch_optional(connection)
        .await?
        .map(RentalId::from_uuid))
}

/// The rental, locked until the transaction ends.
pub(crate) async fn lock(tx: &mut Connection, id: RentalId) -> Result<Option<Rental>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, quote_id, escrow_id, renter_id, provider_id, machine_id, state, lock_status,
                agent_status, start_status, ready_at, started_at, interrupted_since, stopped_at,
                held_until, end_reason, locked, paid_provider, paid_fee, paid_refund, billed_s, version,
                created_at, updated_at, label
         FROM rentals WHERE id = $1 FOR UPDATE",
        id.uuid()
    )
    .fetch_optional(tx)
    .await?
    .map(Rental::try_from)
    .transpose()
}

/// A party's rentals in any of these states, or in any at all, newest first, after the one given.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    party: Party,
    states: Option<&[RentalState]>,
    after: Option<RentalId>,
    limit: i64,
) -> Result<Vec<Rental>, StoreError> {
    let (renter, provider) = match party {
        Party::Renter(account) => (Some(account.uuid()), None),
        Party::Provider(account) => (None, Some(account.uuid())),
    };
    let states: Option<Vec<String>> =
        states.map(|states| states.iter().map(ToString::to_string).collect());
    sqlx::query_as!(
        Row,
        "SELECT id, quote_id, escrow_id, renter_id, provider_id, machine_id, state, lock_status,
                agent_status, start_status, ready_at, started_at, interrupted_since, stopped_at,
                held_until, end_reason, locked, paid_provider, paid_fee, paid_refund, billed_s, version,
                created_at, updated_at, label
         FROM rentals
         WHERE (renter_id = $1 OR provider_id = $2) AND ($3::uuid IS NULL OR id < $3)
           AND ($5::text[] IS NULL OR state = ANY($5))
         ORDER BY id DESC LIMIT $4",
        renter,
        provider,
        after.map(RentalId::uuid),
        limit,
        states.as_deref(),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Rental::try_from)
    .collect()
}

/// Notes what its renter calls a rental.
///
/// # Errors
/// The database's.
pub async fn set_label(
    tx: &mut Connection,
    id: RentalId,
    label: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!("UPDATE rentals SET label = $2 WHERE id = $1", id.uuid(), label)
        .execute(tx)
        .await?;
    Ok(())
}

/// The GPUs of a rental, in the machine's order.
///
/// # Errors
/// The database's.
pub async fn gpus(connection: &mut Connection, id: RentalId) -> Result<Vec<HeldGpu>, StoreError> {
    Ok(sqlx::query!(
        "SELECT g.id, g.vendor_uuid, g.model FROM rental_gpus h JOIN gpus g ON g.id = h.gpu_id
         WHERE h.rental_id = $1 ORDER BY g.ordinal",
        id.uuid()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| HeldGpu {
        gpu: GpuId::from_uuid(row.id),
        vendor_uuid: row.vendor_uuid,
        model: row.model,
    })
    .collect())
}

/// What a final event adds to a rental's money.
#[derive(Clone, Copy, Debug, Default)]
pub struct MoneyDelta {
    /// To the deposit.
    pub locked: Amount,
    /// To the provider.
    pub provider: Amount,
    /// To the platform.
    pub fee: Amount,
    /// To the renter.
    pub refund: Amount,
    /// The seconds billed, if the event closed the rental.
    pub billed: Option<Seconds>,
}

/// Adds a final event's money to the rental. The table's constraints refuse anything that would pay
/// more than was locked.
///
/// # Errors
/// [`StoreError::Bug`] if a constraint refuses, [`StoreError::Missing`] without the rental.
pub async fn add_money(
    tx: &mut Connection,
    id: RentalId,
    delta: &MoneyDelta,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE rentals SET locked = locked + $2, paid_provider = paid_provider + $3,
                paid_fee = paid_fee + $4, paid_refund = paid_refund + $5,
                billed_s = COALESCE($6, billed_s), version = version + 1
         WHERE id = $1",
        id.uuid(),
        numeric(delta.locked),
        numeric(delta.provider),
        numeric(delta.fee),
        numeric(delta.refund),
        delta.billed.map(|billed| i64::from(billed.get())),
    )
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Missing("the rental")) }
}

/// How many rentals are in each state.
///
/// # Errors
/// The database's.
pub async fn count_by_state(connection: &mut Connection) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(sqlx::query!(r#"SELECT state, count(*) AS "count!" FROM rentals GROUP BY state"#)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| (row.state, row.count))
        .collect())
}
