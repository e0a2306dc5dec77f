//! The end of a rental, looked at by plain arithmetic: who got what, and for how much evidence.

use domain::{money::Amount, rental::RentalState};
use escrow::{EscrowEvent, Outcome};
use store::{blocks, readings, rentals::Rental, timeline};

use super::{
    invariants::{Checked, OURS_IN_TIME},
    world::World,
};

/// Our clock is off by 12 s at the most, one way and then the other.
const CLOCKS: u64 = 24;

/// A rental that has ended is divided as plain arithmetic says, and billed as the evidence says.
pub async fn the_end_is_right(world: &World, at: usize, rental: &Rental) -> Checked {
    let booked = &world.rentals[at].booked;
    let paid = [rental.paid_provider, rental.paid_fee, rental.paid_refund].map(Amount::get);
    if rental.locked == Amount::ZERO {
        return if paid == [0; 3] {
            Ok(())
        } else {
            Err(format!("r{at} was paid {paid:?} of nothing"))
        };
    }
    if matches!(rental.progress.state, RentalState::Expired | RentalState::Cancelled) {
        return Err(format!("r{at} is {} with money locked", rental.progress.state));
    }
    let Some(billed) = rental.billed else { return Err(format!("r{at} ended without a figure")) };
    let parts = booked.parts(rental.locked, billed.get().into());
    if paid != parts {
        return Err(format!("r{at}: {billed} s of {} are {parts:?}, not {paid:?}", rental.locked));
    }
    let mut connection = world.store.read().await.unwrap();
    let entries = timeline::after(&mut connection, rental.id, 0, 500).await.unwrap();
    if let Some(alarm) = entries.iter().find(|entry| entry.kind == "alarm") {
        return Err(format!("r{at}: an alarm, {}", alarm.detail));
    }
    if !closed_by_evidence(world, at).await {
        return Ok(());
    }
    let covered = readings::covered(&mut connection, rental.id).await.unwrap();
    let window = rental.progress.billing_window().unwrap();
    let paid_for = rental.locked.get() * 3_600 / booked.rate;
    let until = window.to.get().min(window.from.get() + u64::try_from(paid_for).unwrap());
    let good: u64 = covered
        .iter()
        .map(|part| part.to.get().min(until).saturating_sub(part.from.max(window.from).get()))
        .sum();
    let billed = u64::from(billed.get());
    if billed == good.max(1) {
        return Ok(());
    }
    // a release counted evidence, and the end was dated before it: it lies within what our clock is off
    let released = blocks::events_for(&mut connection, booked.escrow_id, 1_000)
        .await
        .unwrap()
        .iter()
        .any(|seen| seen.name == "released");
    if released && (good..=good + CLOCKS).contains(&billed) {
        return Ok(());
    }
    Err(format!("r{at} is billed {billed} s on evidence of {good} s"))
}

/// Whether the platform ended it and nobody's word on the chain changed that.
#[allow(clippy::wildcard_enum_match_arm)] // all other events say nothing of the end
async fn closed_by_evidence(world: &World, at: usize) -> bool {
    let mut connection = world.store.read().await.unwrap();
    let id = world.rentals[at].booked.escrow_id;
    let events = blocks::events_for(&mut connection, id, 1_000).await.unwrap();
    let mut outcomes = Vec::new();
    for seen in events.iter().filter(|seen| seen.is_final) {
        match serde_json::from_value(seen.body.clone()).unwrap() {
            EscrowEvent::Closed { outcome, .. } | EscrowEvent::Contested { outcome, .. } => {
                outcomes.push(outcome);
            }
            _ => {}
        }
    }
    // what others release is settled, whatever comes to light later; so is what a node or a halted chain kept for too long
    let query = format!(
        "SELECT count(*) FROM rentals r JOIN quotes q ON q.id = r.quote_id
         JOIN chain_events e ON e.escrow_id = r.escrow_id JOIN chain_blocks b ON b.hash = e.block_hash
         WHERE r.id = $1 AND e.name = 'released' AND NOT ({OURS_IN_TIME})"
    );
    let others: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(world.rentals[at].booked.id.uuid())
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    if others > 0 {
        return false;
    }
    matches!(
        outcomes[..],
        [Outcome::ClosedByOperator] | [Outcome::ClosedByOperator, Outcome::Undisputed]
    )
}
