//! What the contract holds of a rental whose clock has stopped.

use domain::{
    billing::held_between,
    rental::RentalState,
    time::{Seconds, UnixSeconds},
};
use escrow::EscrowEvent;
use serde::Serialize;
use store::{Connection, StoreError, blocks, quotes::Quote, rentals::Rental};
use utoipa::ToSchema;

use crate::{
    Problem,
    problem::internal,
    views::{Time, TokenAmount, Unit},
};

/// Events that tell of held seconds: the contract holds them once, and each side disputes once.
const MAX_WORDS: i64 = 3;

/// Held seconds: who may dispute them until when, and who gets them if nobody says anything more.
#[derive(Serialize, ToSchema)]
pub(crate) struct HeldView {
    /// The last second to dispute, or the arbiter's last once somebody does; afterwards anybody can have the seconds
    /// paid out, and the platform does.
    until: Time,
    /// How many seconds are held.
    #[schema(value_type = u32)]
    seconds: Seconds,
    /// The first of them, which go to the provider unless the renter disputes; the others are credited to the renter
    /// unless the provider disputes.
    #[schema(value_type = u32)]
    claim_s: Seconds,
    renter_disputes: bool,
    provider_disputes: bool,
    /// What they come to.
    amount: TokenAmount,
    /// To whom, if nobody says anything more.
    default: DefaultView,
}

/// Who gets what of the held seconds.
#[derive(Serialize, ToSchema)]
pub(crate) struct DefaultView {
    provider: TokenAmount,
    fee: TokenAmount,
    refund: TokenAmount,
}

/// The chain's last word on held seconds.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) settled: Seconds,
    pub(super) seconds: Seconds,
    pub(super) claim: Seconds,
    pub(super) until: UnixSeconds,
    pub(super) renter_disputes: bool,
    pub(super) provider_disputes: bool,
}

/// What the chain said of held seconds, finally; none before it said anything.
pub(super) async fn word(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
) -> Result<Option<Word>, Problem> {
    let mut word = None;
    let names = ["contested", "disputed"];
    for seen in blocks::final_named(connection, rental.escrow_id, &names, MAX_WORDS).await? {
        let event = serde_json::from_value(seen.body).map_err(StoreError::corrupt)?;
        if let EscrowEvent::Contested { settled, held, claim, deadline, renter_disputes, .. } =
            event
        {
            word = Some(Word {
                settled,
                seconds: held,
                claim,
                until: deadline,
                renter_disputes,
                provider_disputes: false,
            });
        } else if let (EscrowEvent::Disputed { by, deadline, .. }, Some(word)) = (&event, &mut word)
        {
            word.until = *deadline;
            word.renter_disputes |= *by == quote.renter;
            word.provider_disputes |= *by == quote.provider;
        }
    }
    Ok(word)
}

/// What is held, while the rental is contested.
///
/// # Errors
/// The store's.
pub(super) async fn held(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
    unit: &Unit,
) -> Result<Option<HeldView>, Problem> {
    if rental.progress.state != RentalState::Contested {
        return Ok(None);
    }
    let Some(word) = word(connection, rental, quote).await? else { return Ok(None) };
    // the clock decides where the arbiter stays silent, and a credit that nobody disputes stands
    let credited = if word.provider_disputes {
        Seconds::ZERO
    } else {
        word.seconds.saturating_sub(word.claim)
    };
    let clock = word.settled.saturating_add(word.seconds);
    let billed = clock.saturating_sub(credited);
    let of = |billed| {
        held_between(quote.rate, quote.fee, rental.locked, word.settled, billed, clock)
            .map_err(internal)
    };
    let (all, default) = (of(word.settled)?, of(billed)?);
    Ok(Some(HeldView {
        until: Time(word.until),
        seconds: word.seconds,
        claim_s: word.claim,
        renter_disputes: word.renter_disputes,
        provider_disputes: word.provider_disputes,
        amount: unit.amount(all.refund),
        default: DefaultView {
            provider: unit.amount(default.net),
            fee: unit.amount(default.fee),
            refund: unit.amount(default.refund),
        },
    }))
}
