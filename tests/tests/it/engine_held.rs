//! Seconds that the contract holds at the end: who gets them when nobody says anything, when somebody gives in,
//! and when the arbiter decides. Money must add up to the unit at every step.

use std::sync::atomic::Ordering;

use domain::{
    ledger::LedgerAccount,
    money::Amount,
    rental::{EndReason, RentalState},
    time::Seconds,
};
use escrow::{EscrowEvent, Outcome, calldata};
use store::ends::Side;
use testkit::DEV_KEYS;
use tests::market::{Booked, Market, people};

const DAY: u64 = 24 * 3_600;
const RENTER_KEY: &str = DEV_KEYS[4];

/// A rental with an outage, up to the moment at which its end waits to be told.
async fn ended(market: &Market, holdback: u32) -> Booked {
    let rental = market.book_holding(market.usdc, Seconds(holdback)).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 200).await;
    market.pass(60).await;
    market.run_for(&rental, 100).await;
    market.stop(&rental).await;
    rental
}

/// What the contract holds of the rental, by its last word: settled, held, and the first of those that are claimed.
async fn held(market: &Market, rental: &Booked) -> [u128; 3] {
    let told = market.told(rental, "contested").await;
    let EscrowEvent::Contested { settled, held, claim, .. } = told[0] else { panic!("{told:?}") };
    [settled, held, claim].map(|seconds| u128::from(seconds.get()))
}

/// All but the held seconds is paid, and the ledger still has them in the deposit.
async fn assert_rest_is_held(market: &Market, rental: &Booked) -> [u128; 3] {
    let [settled, held, claim] = held(market, rental).await;
    let row = market.rental(rental).await;
    let (early, late) =
        (rental.parts(row.locked, settled), rental.parts(row.locked, settled + held));
    let paid = [row.paid_provider, row.paid_fee, row.paid_refund].map(Amount::get);
    assert_eq!(paid, [early[0], early[1], late[2]], "paid so far");
    let deposit = LedgerAccount::renter_deposit(rental.escrow_id, rental.terms.token);
    let rest = row.locked.get() - paid.iter().sum::<u128>();
    assert!(rest > 0);
    assert_eq!(market.booked(deposit).await, rest);
    assert_eq!(market.purse(market.usdc, market.site.escrow).await, row.locked.get() - paid[2]);
    assert!(row.billed.is_none() && row.progress.held_until.is_some());
    market.assert_reconciled().await;
    [settled, held, claim]
}

/// The outcome on the chain, and the whole deposit divided as for so many seconds.
async fn assert_came_to(market: &Market, rental: &Booked, wanted: Outcome, seconds: u128) {
    let told = market.told(rental, "closed").await;
    let EscrowEvent::Closed { outcome, billed, .. } = told[0] else { panic!("{told:?}") };
    assert_eq!((outcome, u128::from(billed.get())), (wanted, seconds));
    let row = market.rental(rental).await;
    assert_eq!((row.billed, row.progress.held_until), (Some(billed), None));
    market.assert_divided(rental, rental.parts(row.locked, seconds)).await;
}

#[tokio::test]
async fn a_credit_that_the_provider_does_not_sign_is_held_for_a_day() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    let rental = ended(&market, 0).await;
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    let [settled, _, claim] = assert_rest_is_held(&market, &rental).await;
    assert_eq!((settled, claim), (300, 0));
    market.pass(DAY - 60).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Contested, "not before its time");
    market.pass(60).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Undisputed, 300).await;
    let end = market.progress(&rental).await.end;
    assert_eq!(end, Some(EndReason::RenterStop));
}

#[tokio::test]
async fn the_last_seconds_are_held_unless_the_renter_signs() {
    let market = Market::new().await;
    let rental = ended(&market, 50).await;
    // the platform gives the renter half a minute
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Settling);
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    let [settled, held, claim] = assert_rest_is_held(&market, &rental).await;
    assert_eq!([settled, held, claim], [250, 50, 50]);
    market.pass(DAY).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Undisputed, 300).await;
}

#[tokio::test]
async fn an_end_that_both_sides_sign_is_final_at_once() {
    let market = Market::new().await;
    let rental = ended(&market, 50).await;
    market.sign_end(rental.id, rental.escrow_id, Side::Renter, RENTER_KEY).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert!(market.told(&rental, "contested").await.is_empty());
    assert_came_to(&market, &rental, Outcome::ClosedByOperator, 300).await;
}

#[tokio::test]
async fn a_signature_that_the_contract_does_not_take_is_dropped() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    let rental = ended(&market, 50).await;
    market.sign_end(rental.id, rental.escrow_id, Side::Renter, RENTER_KEY).await;
    // a key that is not the provider's agent on the chain
    market.sign_end(rental.id, rental.escrow_id, Side::Provider, DEV_KEYS[8]).await;
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    let [settled, _, claim] = assert_rest_is_held(&market, &rental).await;
    assert_eq!((settled, claim), (300, 0), "the renter's signature counts");
    let refused = "SELECT count(*) FROM end_signatures WHERE refused";
    assert_eq!(market.count(refused).await, 1);
    market.pass(DAY).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Undisputed, 300).await;
}

#[tokio::test]
async fn what_the_provider_disputes_is_the_arbiters() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    let rental = ended(&market, 0).await;
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    let [_, held, _] = assert_rest_is_held(&market, &rental).await;
    market.call(people::provider(), calldata::dispute(&rental.terms)).await;
    market.settle_in().await;
    market.pass(DAY).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Contested, "the arbiter has more time");
    let to_renter = Seconds(20);
    market.call(people::arbiter(), calldata::resolve(&rental.terms, to_renter)).await;
    market.until(&rental, RentalState::Resolved).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Resolved, 300 + held - 20).await;
}

#[tokio::test]
async fn an_arbiter_who_stays_silent_leaves_it_to_the_clock() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    let rental = ended(&market, 0).await;
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    let [_, held, _] = assert_rest_is_held(&market, &rental).await;
    market.call(people::provider(), calldata::dispute(&rental.terms)).await;
    market.settle_in().await;
    market.pass(15 * DAY).await;
    market.until(&rental, RentalState::Resolved).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Defaulted, 300 + held).await;
}

#[tokio::test]
async fn a_side_that_gives_in_ends_it_at_once() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    let rental = ended(&market, 0).await;
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    market.call(people::provider(), calldata::concede(&rental.terms)).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Conceded, 300).await;
}

#[tokio::test]
async fn a_renter_who_contests_on_the_chain_is_followed() {
    let market = Market::new().await;
    let rental = market.book_holding(market.usdc, Seconds(50)).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 300).await;
    market.call(people::renter(), calldata::contest(&rental.terms, Seconds(40))).await;
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    let [settled, held, claim] = assert_rest_is_held(&market, &rental).await;
    assert_eq!([held, claim], [40, 40]);
    assert_eq!(market.progress(&rental).await.end, Some(EndReason::StoppedOnChain));
    market.call(people::arbiter(), calldata::resolve(&rental.terms, Seconds(40))).await;
    market.until(&rental, RentalState::Resolved).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Resolved, settled).await;
}

#[tokio::test]
async fn a_provider_who_stops_leaves_the_last_seconds_to_the_renter() {
    let market = Market::new().await;
    let rental = market.book_holding(market.usdc, Seconds(50)).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 300).await;
    market.call(people::provider(), calldata::stop(&rental.terms)).await;
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    let [settled, held, claim] = assert_rest_is_held(&market, &rental).await;
    assert_eq!([held, claim], [50, 50]);
    market.pass(DAY).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Undisputed, settled + 50).await;
}

#[tokio::test]
async fn a_stranger_who_finalises_first_settles_nothing_twice() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    let rental = ended(&market, 0).await;
    market.until(&rental, RentalState::Contested).await;
    market.settle_in().await;
    market.pass(DAY).await;
    market.call(people::stranger(), calldata::finalize(&rental.terms)).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_came_to(&market, &rental, Outcome::Undisputed, 300).await;
}

#[tokio::test]
async fn what_is_prepaid_can_be_locked_and_the_rest_withdrawn() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    let paid_in = Amount::new(rental.deposit.get() + 1_000).unwrap();
    let approval = calldata::approve(market.site.escrow, paid_in);
    market.send(people::renter(), market.usdc, approval).await;
    market.call(people::renter(), calldata::prepay(people::renter(), market.usdc, paid_in)).await;
    market.settle_in().await;
    let credit = LedgerAccount::renter_credit(people::renter(), market.usdc);
    assert_eq!(market.booked(credit).await, paid_in.get());
    market.assert_reconciled().await;
    let nothing = alloy::primitives::Bytes::new();
    let lock = calldata::lock_prepaid(&rental.terms, rental.deposit, &nothing);
    market.call(people::renter(), lock).await;
    market.settle_in().await;
    assert_eq!(market.booked(credit).await, 1_000);
    market.make_active(&rental).await;
    market.run_for(&rental, 9).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    market.assert_divided(&rental, rental.parts(rental.deposit, 9)).await;
    let all = calldata::withdraw(market.usdc, people::renter(), Amount::ZERO);
    market.call(people::renter(), all).await;
    market.settle_in().await;
    assert_eq!(market.booked(credit).await, 0);
    market.assert_at_rest().await;
}
