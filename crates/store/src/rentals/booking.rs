//! Booking: one look at everything that it depends on, and one statement that writes the rental.

use alloy_primitives::B256;
use domain::{
    id::{AccountId, GpuId, MachineId, OfferId, QuoteId, RentalId},
    money::Amount,
    offer::OfferState,
    rental::{Progress, book as book_step},
    time::UnixSeconds,
};

use super::{HeldGpu, ProgressColumns, Rental};
use crate::{Connection, Policy, StoreError, convert::ts, jobs::JobKind, quotes};

/// What a booking needs.
#[derive(Clone, Debug)]
pub struct NewRental {
    /// Its id.
    pub id: RentalId,
    /// The quote it accepts.
    pub quote_id: QuoteId,
    /// The quote's id on the chain.
    pub escrow_id: B256,
    /// Who pays.
    pub renter: AccountId,
    /// Who earns.
    pub provider: AccountId,
    /// Where it will run.
    pub machine: MachineId,
    /// How many of the machine's GPUs.
    pub gpu_count: u16,
    /// When.
    pub now: UnixSeconds,
}

/// The conflict of a booking whose terms are locked on the chain already.
pub const LOCKED_BEFORE_BOOKING: &str = "locked_before_booking";

/// What a booking depends on, as it stays until the transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    /// How many bookings of the account hold GPUs while nothing is locked for them; not counted beyond the
    /// limit that was asked for.
    pub unfunded: i64,
    /// Somebody locked the terms without booking.
    pub locked_before: bool,
    /// The offer's state, version and owner.
    pub offer: (OfferState, u32, AccountId),
}

/// Holds what a booking depends on and looks at it: the account, so that two of its bookings at once count
/// each other; the offer, which nobody changes meanwhile, and of which two bookings take different GPUs, as the
/// second sees what the first took; the quote, so that whoever reads the terms' lock off the chain at this moment
/// waits for us, or we for them.
///
/// # Errors
/// The database's; [`StoreError::Missing`] without the offer; or [`StoreError::Corrupt`].
pub async fn hold_ground(
    tx: &mut Connection,
    account: AccountId,
    offer: OfferId,
    escrow_id: B256,
    limit: i64,
) -> Result<Ground, StoreError> {
    // A statement of its own: the next one sees what those wrote that were waited for.
    sqlx::query!(
        "SELECT (SELECT true FROM accounts WHERE id = $1 FOR NO KEY UPDATE) AS account,
                (SELECT true FROM offers WHERE id = $2 FOR NO KEY UPDATE) AS offer,
                (SELECT true FROM quotes WHERE escrow_id = $3 FOR UPDATE) AS quote",
        account.uuid(),
        offer.uuid(),
        escrow_id.as_slice(),
    )
    .fetch_one(&mut *tx)
    .await?;
    let row = sqlx::query!(
        r#"SELECT o.state, o.version, o.account_id,
                  (SELECT count(*) FROM (SELECT FROM rentals WHERE renter_id = $1
                     AND state = 'awaiting_funds' AND lock_status = 'none' LIMIT $4) u) AS "unfunded!",
                  EXISTS (SELECT FROM chain_events WHERE escrow_id = $3 AND name = 'locked') AS "locked!"
           FROM offers o WHERE o.id = $2"#,
        account.uuid(),
        offer.uuid(),
        escrow_id.as_slice(),
        limit,
    )
    .fetch_optional(tx)
    .await?
    .ok_or(StoreError::Missing("the quote's offer"))?;
    Ok(Ground {
        unfunded: row.unfunded,
        locked_before: row.locked,
        offer: (
            row.state.parse().map_err(StoreError::corrupt)?,
            u32::try_from(row.version).map_err(StoreError::corrupt)?,
            AccountId::from_uuid(row.account_id),
        ),
    })
}

/// Books a quote: the rental awaits its funds and holds its GPUs until it ends.
///
/// # Errors
/// As [`insert`]; [`StoreError::Conflict`] on [`LOCKED_BEFORE_BOOKING`] if somebody locked the terms without
/// booking: that money is mirrored as nobody's rental, and must stay so.
pub async fn book(
    tx: &mut Connection,
    policy: &Policy,
    new: &NewRental,
) -> Result<Rental, StoreError> {
    quotes::lock(tx, new.escrow_id).await?;
    let locked = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM chain_events WHERE escrow_id = $1 AND name = 'locked') AS "locked!""#,
        new.escrow_id.as_slice()
    )
    .fetch_one(&mut *tx)
    .await?;
    if locked {
        return Err(StoreError::Conflict { constraint: LOCKED_BEFORE_BOOKING.to_owned() });
    }
    Ok(insert(tx, policy, new).await?.0)
}

/// Writes the rental with the machine's tier and region of now, its GPUs, the first entry of its timeline and its deadline,
/// all in one statement. It takes the machine's first free GPUs; the exclusion constraint decides between two bookings that see the
/// same GPU free. The entry is not announced: nobody can be waiting for it yet, and transactions that
/// announce something commit one after the other.
///
/// # Errors
/// [`StoreError::Conflict`] on `gpu_rented_once` if too few GPUs of the machine are free, on
/// `rentals_quote_id_key` if the quote is booked already.
pub async fn insert(
    tx: &mut Connection,
    policy: &Policy,
    new: &NewRental,
) -> Result<(Rental, Vec<HeldGpu>), StoreError> {
    let progress = book_step().next;
    let columns = ProgressColumns::write(&progress)?;
    let gpus = sqlx::query!(
        r#"WITH made AS (
               INSERT INTO rentals (id, quote_id, escrow_id, renter_id, provider_id, machine_id, state,
                                    lock_status, agent_status, start_status, created_at, updated_at, tier, region)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11,
                       (SELECT tier FROM machines WHERE id = $6), (SELECT region FROM machines WHERE id = $6))),
           free AS MATERIALIZED (
               SELECT g.id, g.vendor_uuid, g.model, g.ordinal FROM gpus g
               WHERE g.machine_id = $6
                 AND NOT EXISTS (SELECT FROM rental_gpus h
                                 WHERE h.gpu_id = g.id AND h.held_until > $11)
               ORDER BY g.ordinal LIMIT $12),
           held AS (
               INSERT INTO rental_gpus (rental_id, gpu_id, during)
               SELECT $1, id, tstzrange($11, NULL) FROM free),
           told AS (
               INSERT INTO rental_events (rental_id, at, kind, detail)
               VALUES ($1, $11, 'state', jsonb_build_object('state', $7::text))),
           due AS (
               INSERT INTO jobs (id, kind, rental_id, due_at) VALUES ($13, $14, $1, $15))
           SELECT id, vendor_uuid, model FROM free ORDER BY ordinal"#,
        new.id.uuid(),
        new.quote_id.uuid(),
        new.escrow_id.as_slice(),
        new.renter.uuid(),
        new.provider.uuid(),
        new.machine.uuid(),
        columns.state,
        columns.lock_status,
        columns.agent_status,
        columns.start_status,
        ts(new.now)?,
        i64::from(new.gpu_count),
        uuid::Uuid::now_v7(),
        JobKind::FundingDeadline.as_str(),
        ts(new.now.saturating_plus(policy.funding_ttl))?,
    )
    .fetch_all(tx)
    .await?;
    if gpus.len() != usize::from(new.gpu_count) {
        return Err(StoreError::Conflict { constraint: "gpu_rented_once".to_owned() });
    }
    let rental = rental(new, progress);
    let gpus = gpus.into_iter().map(|row| HeldGpu {
        gpu: GpuId::from_uuid(row.id),
        vendor_uuid: row.vendor_uuid,
        model: row.model,
    });
    Ok((rental, gpus.collect()))
}

/// A rental for which nothing is locked yet.
pub(super) fn rental(new: &NewRental, progress: Progress) -> Rental {
    Rental {
        id: new.id,
        quote_id: new.quote_id,
        escrow_id: new.escrow_id,
        renter: new.renter,
        provider: new.provider,
        machine: new.machine,
        progress,
        locked: Amount::ZERO,
        paid_provider: Amount::ZERO,
        paid_fee: Amount::ZERO,
        paid_refund: Amount::ZERO,
        billed: None,
        version: 1,
        created_at: new.now,
        updated_at: new.now,
        label: None,
    }
}
