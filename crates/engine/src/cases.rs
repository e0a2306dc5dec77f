//! Disputes follow what the chain says about their rentals.

use domain::{
    dispute::{DisputeEvent, Side, step},
    id::RentalId,
    rental::CloseOutcome,
    time::UnixSeconds,
};
use escrow::EscrowEvent;
use serde_json::json;
use store::{Connection, StoreError, disputes, quotes, rentals, timeline};

/// Tells the rental's case, if one is not over, what a final event says.
///
/// # Errors
/// The store's.
pub(crate) async fn follow(
    tx: &mut Connection,
    rental: RentalId,
    event: &EscrowEvent,
    outcome_of: impl Fn(escrow::Outcome) -> CloseOutcome,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let told = match event {
        EscrowEvent::Contested { renter_disputes, .. } => {
            DisputeEvent::HeldFinal { renter_disputes: *renter_disputes }
        }
        EscrowEvent::Disputed { by, .. } => {
            let booked =
                rentals::get(tx, rental).await?.ok_or(StoreError::Missing("the rental"))?;
            let quote = quotes::get(tx, booked.quote_id).await?;
            let quote = quote.ok_or(StoreError::Missing("the quote"))?;
            let by = if *by == quote.renter { Side::Renter } else { Side::Provider };
            DisputeEvent::DisputedFinal { by }
        }
        EscrowEvent::Closed { outcome, .. } => {
            DisputeEvent::ClosedFinal { outcome: outcome_of(*outcome) }
        }
        EscrowEvent::Locked { .. }
        | EscrowEvent::ToppedUp { .. }
        | EscrowEvent::Started { .. }
        | EscrowEvent::Released { .. }
        | EscrowEvent::Credited { .. }
        | EscrowEvent::Prepaid { .. }
        | EscrowEvent::Withdrawn { .. }
        | EscrowEvent::Skipped { .. }
        | EscrowEvent::TreasurySet { .. }
        | EscrowEvent::AgentSet { .. }
        | EscrowEvent::Config { .. } => return Ok(()),
    };
    let Some(case) = disputes::lock_live(tx, rental).await? else { return Ok(()) };
    // the chain's words are never refused: only a withdrawal is
    let Ok(next) = step(&case.progress, &told) else { return Ok(()) };
    if next == case.progress {
        return Ok(());
    }
    disputes::advance(tx, &case, &next, now).await?;
    let detail = json!({ "dispute": case.id.to_string(), "state": next.state });
    timeline::append(tx, rental, now, "dispute", &detail).await
}
