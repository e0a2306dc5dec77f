//! What a rental has cost so far.

use domain::{
    billing::{auto_stop_second, split},
    metering::{Interval, meter},
    rental::RentalState,
    time::{Seconds, UnixSeconds},
};
use serde::Serialize;
use store::{
    Connection,
    quotes::Quote,
    readings::{self, Evidence},
    rentals::Rental,
};
use utoipa::ToSchema;

use super::quotes::{RateView, rate_view};
use crate::{
    Problem,
    problem::internal,
    views::{Time, TokenAmount, Unit, Usd, usd_of},
};

/// The cost of a rental up to now. While it runs this is a preview by the evidence so far; once it is
/// settled, what the chain has paid.
#[derive(Serialize, ToSchema)]
pub(crate) struct CostView {
    as_of: Time,
    /// Seconds that are billed: of the time since the start, those that signed readings cover.
    #[schema(value_type = u32, example = 1800)]
    seconds_billed: Seconds,
    /// What they cost.
    accrued: TokenAmount,
    accrued_usd: Usd,
    /// What of it provider and platform have been paid for good, by the chain's final word: releases while it runs, and
    /// the end.
    paid: TokenAmount,
    /// What is left of the deposit.
    remaining: TokenAmount,
    /// When the deposit is used up, if nothing stops it before.
    exhausts_at: Option<Time>,
    rate: RateView,
}

/// The cost of a rental at `now`.
///
/// # Errors
/// The store's, or [`Code::Internal`](crate::Code::Internal) for figures out of range.
pub(super) async fn cost(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
    unit: &Unit,
    now: UnixSeconds,
) -> Result<CostView, Problem> {
    let billed = if is_closed(rental) {
        rental.billed.unwrap_or(Seconds::ZERO)
    } else {
        billed_by(connection, rental, quote, now).await?
    };
    cost_at(rental, quote, unit, billed, now)
}

fn is_closed(rental: &Rental) -> bool {
    let state = rental.progress.state;
    matches!(state, RentalState::Settled | RentalState::Refunded | RentalState::Resolved)
}

/// The cost of a rental of which so many seconds are billed.
///
/// # Errors
/// [`Code::Internal`](crate::Code::Internal) for figures out of range.
pub(crate) fn cost_at(
    rental: &Rental,
    quote: &Quote,
    unit: &Unit,
    seconds_billed: Seconds,
    now: UnixSeconds,
) -> Result<CostView, Problem> {
    let deposit = rental.locked;
    let paid = rental.paid_provider.checked_add(rental.paid_fee);
    let paid = paid.ok_or_else(|| internal("paid too much"))?;
    let accrued = if is_closed(rental) {
        paid
    } else {
        let parts = split(deposit, quote.rate, quote.fee, seconds_billed).map_err(internal)?;
        let gross = parts.gross().ok_or_else(|| internal("a gross out of range"))?;
        // a provider can release more on the chain than the evidence covers, and keeps it
        gross.max(paid)
    };
    let remaining = deposit.checked_sub(accrued);
    let auto_stop = auto_stop_second(deposit, quote.rate);
    let runs = rental.progress.stopped_at.is_none() && !rental.progress.state.is_terminal();
    let started = rental.progress.started_at.filter(|_| runs);
    Ok(CostView {
        as_of: Time(now),
        seconds_billed,
        accrued_usd: usd_of(accrued, quote)?,
        accrued: unit.amount(accrued),
        paid: unit.amount(paid),
        remaining: unit.amount(remaining.ok_or_else(|| internal("accrued too much"))?),
        exhausts_at: started.map(|at| Time(at.saturating_plus(auto_stop))),
        rate: rate_view(quote, unit),
    })
}

/// The seconds that would be billed if the rental ended now; zero before the start.
///
/// # Errors
/// The store's.
pub(crate) async fn billed_by(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
    now: UnixSeconds,
) -> Result<Seconds, Problem> {
    // what never started has no readings
    if rental.progress.started_at.is_none() {
        return Ok(Seconds::ZERO);
    }
    let evidence = readings::evidence(connection, rental.id).await?;
    if let Some(billed) = billed_known(rental, quote, evidence.as_ref(), now) {
        return Ok(billed);
    }
    let Some((window, auto_stop)) = window(rental, quote, now) else { return Ok(Seconds::ZERO) };
    let covered = readings::covered(connection, rental.id).await?;
    Ok(meter(window, &covered, auto_stop).billed)
}

/// The same without a look at the readings, where what they come to is enough to say.
pub(crate) fn billed_known(
    rental: &Rental,
    quote: &Quote,
    evidence: Option<&Evidence>,
    now: UnixSeconds,
) -> Option<Seconds> {
    let Some((window, auto_stop)) = window(rental, quote, now) else { return Some(Seconds::ZERO) };
    let Some(evidence) = evidence else { return Some(meter(window, &[], auto_stop).billed) };
    let funded = window.from.saturating_plus(auto_stop);
    // readings never overlap: where all of them lie in the time that counts, their sum is the answer,
    // and the chain need not be read
    let inside = evidence.first_from >= window.from && evidence.head.to <= window.to.min(funded);
    inside.then(|| evidence.covered.max(Seconds::ONE))
}

/// The time that is billed, up to now, and the second at which the deposit is used up; none before the start.
fn window(rental: &Rental, quote: &Quote, now: UnixSeconds) -> Option<(Interval, Seconds)> {
    let started = rental.progress.started_at?;
    let until = rental.progress.stopped_at.unwrap_or(now).max(started);
    Some((Interval::new(started, until), auto_stop_second(rental.locked, quote.rate)))
}
