//! The one transaction of several bookings.

use std::sync::Arc;

use domain::{id::RentalId, time::UnixSeconds};
use store::{
    Connection, TxError,
    rentals::{self, Clear, Entry, NewRental, Wanted},
};

use super::book::Booking;
use crate::{Problem, problem::internal};

/// The rental that was made of a booking and its answer, as JSON.
pub(super) type Made = (RentalId, String);

/// Makes those of the bookings that are plain and clear: new keys, quotes that still hold, free GPUs. Nothing is made of
/// the others, and nothing said about them.
///
/// # Errors
/// The store's; then none is made.
pub(super) async fn commit(
    tx: &mut Connection,
    bookings: &[Arc<Booking>],
) -> Result<Vec<Option<Made>>, TxError<Problem>> {
    let mut made: Vec<Option<Made>> = Vec::new();
    made.resize_with(bookings.len(), || None);
    let Some(app) = bookings.first().map(|booking| &booking.app) else { return Ok(made) };
    let now = app.now();
    let valid = bookings.iter().enumerate().filter(|(_, booking)| booking.quote.expires_at > now);
    let (places, wanted): (Vec<usize>, Vec<Wanted<'_>>) =
        valid.map(|(place, booking)| (place, wanted(booking))).unzip();
    let clear = rentals::hold_clear(tx, &wanted, app.config.unfunded_limit, now).await?;
    let mut entries = Vec::with_capacity(clear.len());
    let mut rentals = Vec::with_capacity(clear.len());
    for clear in clear {
        let found = places.get(clear.place).and_then(|place| Some((*place, bookings.get(*place)?)));
        let Some((place, booking)) = found else { continue };
        // what cannot be told is booked alone, and fails alone
        if let Ok((entry, answer)) = entry(booking, clear, now) {
            rentals.push((place, (entry.rental.id, answer)));
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        return Ok(made);
    }
    rentals::insert_clear(tx, app.store.policy(), &entries, now).await?;
    for (place, rental) in rentals {
        if let Some(made) = made.get_mut(place) {
            *made = Some(rental);
        }
    }
    Ok(made)
}

fn wanted(booking: &Booking) -> Wanted<'_> {
    let quote = &booking.quote;
    Wanted {
        account: quote.account,
        key: &booking.key,
        quote: quote.id,
        escrow_id: quote.escrow_id,
        offer: quote.offer,
        offer_version: quote.offer_version,
        machine: quote.machine,
        gpu_count: quote.gpu_count,
        until: quote.start_by.saturating_plus(quote.duration),
    }
}

/// What is written, and the answer.
fn entry(
    booking: &Booking,
    clear: Clear,
    now: UnixSeconds,
) -> Result<(Entry<'_>, String), Problem> {
    let new: NewRental = booking.rental(clear.provider, now);
    let gpus = clear.gpus.iter().map(|held| held.gpu).collect();
    let answer = booking.answer(&rentals::fresh(&new), clear.gpus, now)?;
    let answer = serde_json::to_string(&answer).map_err(internal)?;
    let (key, request_hash) = (&booking.key, booking.hash);
    Ok((Entry { rental: new, gpus, key, request_hash, status: 201 }, answer))
}
