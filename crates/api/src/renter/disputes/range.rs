//! Which billed seconds two sides can agree on.

use std::ops::RangeInclusive;

use domain::{
    billing::settlement_seconds,
    rental::RentalState,
    time::{Seconds, UnixSeconds},
};
use escrow::EscrowEvent;
use store::{Connection, StoreError, blocks, quotes::Quote, rentals::Rental};

use crate::{Problem, problem::internal, renter::held::word};

/// The billed seconds that the contract would take now: from what is paid to the clock. None if there is nothing to agree on.
///
/// # Errors
/// The store's.
pub(super) async fn range(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
    now: UnixSeconds,
) -> Result<Option<RangeInclusive<Seconds>>, Problem> {
    let said = word(connection, rental, quote).await?;
    let contested = rental.progress.state == RentalState::Contested;
    Ok(match (said.filter(|_| contested), rental.progress.started_at) {
        (Some(word), _) => Some(word.settled..=word.settled.saturating_add(word.seconds)),
        (None, Some(started)) if !contested => {
            let paid = released(connection, rental).await?;
            let elapsed = now.saturating_since(started);
            let clock = settlement_seconds(rental.locked, quote.rate, paid, elapsed);
            Some(paid.max(Seconds::ONE)..=clock)
        }
        (None, _) => None,
    })
}

/// The seconds that are paid already, finally or not: the contract goes by what it has paid now.
async fn released(connection: &mut Connection, rental: &Rental) -> Result<Seconds, Problem> {
    let newest = blocks::newest_named(connection, rental.escrow_id, &["released"]).await?;
    let Some(seen) = newest else { return Ok(Seconds::ZERO) };
    let said = serde_json::from_value(seen.body).map_err(StoreError::corrupt)?;
    let EscrowEvent::Released { settled, .. } = said else {
        return Err(internal(format!("{} is named released", said.name())));
    };
    Ok(settled)
}
