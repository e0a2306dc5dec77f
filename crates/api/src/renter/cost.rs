//! What a rental has cost so far.

use domain::{
    billing::{auto_stop_second, split},
    metering::{Interval, counted},
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
    let Some((window, auto_stop)) = window(rental, quote, now) else { return Ok(Seconds::ZERO) };
    Ok(readings::billed(connection, rental.id, window, auto_stop).await?)
}

/// The same without a look at the readings, where what they come to is enough to say.
pub(crate) fn billed_known(
    rental: &Rental,
    quote: &Quote,
    evidence: Option<&Evidence>,
    now: UnixSeconds,
) -> Option<Seconds> {
    let Some((window, auto_stop)) = window(rental, quote, now) else { return Some(Seconds::ZERO) };
    billed_in(counted(window, auto_stop), evidence)
}

/// What is billed of the time that counts, if the sums tell.
fn billed_in(counted: Interval, evidence: Option<&Evidence>) -> Option<Seconds> {
    let covered = match evidence {
        Some(evidence) => evidence.coverage().within(counted)?,
        None => Seconds::ZERO,
    };
    Some(covered.max(Seconds::ONE))
}

/// The time that is billed, up to now, and the second at which the deposit is used up; none before the start.
fn window(rental: &Rental, quote: &Quote, now: UnixSeconds) -> Option<(Interval, Seconds)> {
    let started = rental.progress.started_at?;
    let until = rental.progress.stopped_at.unwrap_or(now).max(started);
    Some((Interval::new(started, until), auto_stop_second(rental.locked, quote.rate)))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use domain::metering::{ReadingHead, meter};

    use super::*;

    const START: UnixSeconds = UnixSeconds(1_800_000_000);

    /// What is billed so many seconds after the start, of a deposit for so many, by readings of ten seconds that end here.
    fn told(passed: u32, funded: u32, ends: &[u32]) -> (Option<Seconds>, Seconds) {
        let at = |second: u32| START.saturating_plus(Seconds(second));
        let parts: Vec<Interval> =
            ends.iter().map(|end| Interval::new(at(end.saturating_sub(10)), at(*end))).collect();
        let covered =
            parts.iter().fold(Seconds::ZERO, |sum, part| sum.saturating_add(part.seconds()));
        let evidence = parts.first().zip(parts.last()).map(|(first, last)| Evidence {
            first_from: first.from,
            head: ReadingHead { seq: 1, to: last.to, hash: B256::ZERO },
            covered,
        });
        let window = Interval::new(START, at(passed));
        let known = billed_in(counted(window, Seconds(funded)), evidence.as_ref());
        (known, meter(window, &parts, Seconds(funded)).billed)
    }

    #[test]
    fn a_clock_that_is_ahead_has_no_chain_read() {
        for (passed, funded, ends) in [
            (30, 3_600, vec![10, 20, 30]),
            // an agent may be two seconds ahead
            (29, 3_600, vec![10, 20, 30]),
            (28, 3_600, vec![10, 20, 30]),
            (58, 3_600, vec![10, 30, 60]),
            // the deposit ends before we look
            (60, 58, vec![10, 30, 60]),
            (8, 3_600, vec![10]),
            // without evidence the first second is billed
            (30, 3_600, vec![]),
            (0, 3_600, vec![]),
        ] {
            let (known, looked_up) = told(passed, funded, &ends);
            assert_eq!(known, Some(looked_up), "{passed} s of {funded}, {ends:?}");
        }
        // far ahead of what counts, they have to be looked at
        assert_eq!(told(50, 3_600, &[10, 30, 60]).0, None);
        assert_eq!(told(60, 50, &[10, 30, 60]).0, None);
    }
}
