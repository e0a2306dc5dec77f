//! The engine on a real chain and a real database: the ways a rental can go. Money must add up to the
//! unit after every one of them, in the row, in the ledger, in the purses and on the chain.

use alloy::{
    primitives::{Address, U256},
    sol_types::SolCall as _,
};
use domain::{
    ledger::LedgerAccount,
    money::Amount,
    rental::{EndReason, RentalState},
    time::Seconds,
};
use escrow::{
    EscrowEvent, Outcome,
    bindings::{Escrow, TestUSDC},
    calldata,
};
use tests::market::{Market, POL, people};

/// What everybody has of a token: renter's purse, provider's and treasury's balances in the escrow, and
/// the escrow itself.
async fn everybody(market: &Market, token: Address) -> [u128; 4] {
    [
        market.purse(token, people::renter()).await,
        market.kept(token, people::provider()).await,
        market.kept(token, people::treasury()).await,
        market.purse(token, market.site.escrow).await,
    ]
}

async fn whole_life(token: fn(&Market) -> Address) {
    let market = Market::new().await;
    let token = token(&market);
    let before = everybody(&market, token).await;
    let rental = market.running(token).await;
    let locked = everybody(&market, token).await;
    assert_eq!(locked[0], before[0] - rental.deposit.get());
    assert_eq!(locked[3], before[3] + rental.deposit.get());

    market.run_for(&rental, 7).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;

    let parts = rental.parts(rental.deposit, 7);
    market.assert_divided(&rental, parts).await;
    let row = market.rental(&rental).await;
    assert_eq!((row.billed, row.progress.end), (Some(Seconds(7)), Some(EndReason::RenterStop)));
    let after = everybody(&market, token).await;
    assert_eq!(before[0] - after[0], parts[0] + parts[1], "the renter pays for 7 s");
    assert_eq!(after[1] - before[1], parts[0]);
    assert_eq!(after[2] - before[2], parts[1]);
    assert_eq!(after[3] - before[3], parts[0] + parts[1]);
    let earned = LedgerAccount::provider_earnings(people::provider(), token);
    let fees = LedgerAccount::platform_fees(people::treasury(), token);
    assert_eq!([market.booked(earned).await, market.booked(fees).await], [parts[0], parts[1]]);

    withdrawals(&market, token, parts, [earned, fees]).await;
}

/// A part to another address, the rest at once: the ledger follows each.
async fn withdrawals(market: &Market, token: Address, parts: [u128; 3], owed: [LedgerAccount; 2]) {
    let had = market.purse(token, people::stranger()).await;
    let some = Amount::new(parts[0] / 3).unwrap();
    let to_stranger = calldata::withdraw(token, people::stranger(), some);
    market.call(people::provider(), to_stranger).await;
    market.settle_in().await;
    assert_eq!(market.booked(owed[0]).await, parts[0] - some.get());
    assert_eq!(market.purse(token, people::stranger()).await, had + some.get());
    for who in [people::provider(), people::treasury()] {
        market.call(who, calldata::withdraw(token, who, Amount::ZERO)).await;
    }
    market.settle_in().await;
    assert_eq!([market.booked(owed[0]).await, market.booked(owed[1]).await], [0, 0]);
    assert_eq!(market.purse(token, market.site.escrow).await, 0, "nothing is left behind");
    market.assert_at_rest().await;
}

#[tokio::test]
async fn a_whole_life_in_the_native_coin_pays_everybody_to_the_unit() {
    whole_life(|_| POL).await;
}

#[tokio::test]
async fn a_whole_life_in_a_token_pays_everybody_to_the_unit() {
    whole_life(|market| market.usdc).await;
}

#[tokio::test]
async fn seconds_without_evidence_are_credited() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 4).await;
    market.pass(11).await;
    market.run_for(&rental, 5).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.rental(&rental).await.billed, Some(Seconds(9)));
    market.assert_divided(&rental, rental.parts(rental.deposit, 9)).await;
}

#[tokio::test]
async fn a_machine_that_falls_silent_is_billed_to_its_last_good_second() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    // more than was quoted: so that the deposit outlasts the silence
    let deposit = Amount::new(rental.deposit.get() * 5).unwrap();
    market.lock(&rental, deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 10).await;
    market.pass(3_601).await;
    market.tick().await;
    assert_eq!(market.state(&rental).await, RentalState::Interrupted);
    market.pass(3_601).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    let row = market.rental(&rental).await;
    assert_eq!(row.progress.end, Some(EndReason::OutageTooLong));
    assert_eq!((row.billed, row.locked), (Some(Seconds(10)), deposit));
    market.assert_divided(&rental, rental.parts(deposit, 10)).await;
}

/// What a quote promised is otherwise than what is promised now.
async fn promise(market: &Market, sql: &'static str) {
    for sql in ["ALTER TABLE quotes DISABLE TRIGGER USER", sql] {
        sqlx::query(sql).execute(market.store.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn an_outage_may_last_as_long_as_its_quote_promised() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    let deposit = Amount::new(rental.deposit.get() * 9).unwrap();
    market.lock(&rental, deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 10).await;
    // what is promised now is an hour; this one was given when it was two and some
    promise(&market, "UPDATE quotes SET evidence_s = 10, max_outage_s = 8000").await;
    market.pass(3_601).await;
    market.tick().await;
    assert_eq!(market.state(&rental).await, RentalState::Interrupted);
    market.pass(3_601).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Interrupted);
    market.pass(4_400).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    let row = market.rental(&rental).await;
    assert_eq!((row.progress.end, row.billed), (Some(EndReason::OutageTooLong), Some(Seconds(10))));
    market.assert_divided(&rental, rental.parts(deposit, 10)).await;
}

#[tokio::test]
async fn a_machine_has_as_long_to_be_ready_as_its_quote_promised() {
    // ten minutes are promised now
    for (sql, most) in [
        ("UPDATE quotes SET ready_s = 1000, notice_s = 0", 1_000),
        ("UPDATE quotes SET ready_s = 300, notice_s = 0", 300),
    ] {
        let market = Market::new().await;
        let rental = market.book_in(market.usdc).await;
        promise(&market, sql).await;
        market.lock(&rental, rental.deposit).await;
        market.settle_in().await;
        let waits = market.state(&rental).await;
        market.pass(most - 30).await;
        market.tick().await;
        assert_eq!(market.state(&rental).await, waits, "{most}");
        market.pass(60).await;
        market.tick().await;
        let failed = [RentalState::StartFailed, RentalState::Refunding, RentalState::Refunded];
        assert!(failed.contains(&market.state(&rental).await), "{most}");
        market.until(&rental, RentalState::Refunded).await;
        market.settle_in().await;
        market.assert_divided(&rental, rental.parts(rental.deposit, 0)).await;
    }
}

/// Closed on the chain without us: all elapsed seconds are billed, and we follow.
async fn follow(market: &Market, rental: &tests::market::Booked, wanted: Outcome) {
    market.until(rental, RentalState::Settled).await;
    market.settle_in().await;
    let told = market.told(rental, "closed").await;
    let EscrowEvent::Closed { outcome, billed, .. } = told[0] else { panic!("{told:?}") };
    assert_eq!(outcome, wanted);
    let row = market.rental(rental).await;
    assert_eq!(row.billed, Some(billed));
    market.assert_divided(rental, rental.parts(row.locked, u128::from(billed.get()))).await;
}

#[tokio::test]
async fn the_renter_can_stop_on_the_chain_without_us() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    market.call(people::renter(), calldata::stop(&rental.terms)).await;
    follow(&market, &rental, Outcome::StoppedByRenter).await;
    assert_eq!(market.progress(&rental).await.end, Some(EndReason::StoppedOnChain));
}

#[tokio::test]
async fn the_provider_can_stop_on_the_chain_without_us() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.call(people::provider(), calldata::stop(&rental.terms)).await;
    follow(&market, &rental, Outcome::StoppedByProvider).await;
}

#[tokio::test]
async fn a_close_of_ours_that_loses_the_race_settles_nothing_twice() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 3).await;
    market.stop(&rental).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    // signed, not sent; the renter is faster
    market.call(people::renter(), calldata::stop(&rental.terms)).await;
    follow(&market, &rental, Outcome::StoppedByRenter).await;
    let reverted = "SELECT count(*) FROM chain_txs WHERE state = 'final_reverted'";
    assert_eq!(market.count(reverted).await, 1, "ours was mined after");
}

#[tokio::test]
async fn anybody_can_close_a_rental_whose_deposit_is_used_up() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.call_refused(people::stranger(), calldata::stop(&rental.terms), 0).await;
    market.pass(3_601).await;
    // the platform has ten minutes more, in which it can credit an outage
    market.call_refused(people::stranger(), calldata::stop(&rental.terms), 0).await;
    market.pass(600).await;
    market.call(people::stranger(), calldata::stop(&rental.terms)).await;
    follow(&market, &rental, Outcome::Exhausted).await;
    let row = market.rental(&rental).await;
    assert_eq!((row.billed, row.paid_refund), (Some(Seconds(3_600)), Amount::ZERO));
}

#[tokio::test]
async fn a_deposit_that_runs_out_ends_the_rental_by_itself() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.pass(2).await;
    market.run_for(&rental, 3_600).await;
    market.until(&rental, RentalState::Stopping).await;
    market.pass(601).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    let row = market.rental(&rental).await;
    assert_eq!(row.progress.end, Some(EndReason::DurationEnd));
    let billed = u128::from(row.billed.unwrap().get());
    // the first seconds, in which the start became final, ran without evidence
    assert!((3_500..=3_598).contains(&billed), "{billed}");
    market.assert_divided(&rental, rental.parts(rental.deposit, billed)).await;
}

#[tokio::test]
async fn a_top_up_lets_the_rental_run_on() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.top_up(people::renter(), &rental, rental.deposit).await;
    market.settle_in().await;
    let whole = Amount::new(rental.deposit.get() * 2).unwrap();
    assert_eq!(market.rental(&rental).await.locked, whole);
    market.run_for(&rental, 3_700).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Active, "past the first deposit");
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.rental(&rental).await.billed, Some(Seconds(3_700)));
    market.assert_divided(&rental, rental.parts(whole, 3_700)).await;
}

#[tokio::test]
async fn what_was_released_meanwhile_changes_no_part() {
    let market = Market::new().await;
    let rental = market.book_holding(market.usdc, Seconds(7_200)).await;
    let deposit = Amount::new(rental.deposit.get() * 4).unwrap();
    market.lock(&rental, deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    // 7,200 s are held back, so that about a thousand and then two thousand can be released
    for span in [8_200, 2_011] {
        market.run_for(&rental, span).await;
        let release = Escrow::releaseCall { t: rental.terms.clone() };
        market.call(people::stranger(), release.abi_encode()).await;
        market.tick().await;
    }
    market.settle_in().await;
    let early = market.rental(&rental).await;
    assert!(early.paid_provider > Amount::ZERO && early.paid_fee > Amount::ZERO);
    assert_eq!(market.told(&rental, "released").await.len(), 2);
    market.assert_reconciled().await;
    market.stop(&rental).await;
    market.wait_out(&rental).await;
    assert_eq!(market.rental(&rental).await.billed, Some(Seconds(10_211)));
    market.assert_divided(&rental, rental.parts(deposit, 10_211)).await;
}

#[tokio::test]
async fn what_is_stopped_before_its_start_is_final_is_closed_after_it() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    market.stop(&rental).await;
    market.tick().await;
    assert_eq!(market.state(&rental).await, RentalState::Settling);
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.rental(&rental).await.billed, Some(Seconds(1)), "the first second");
    market.assert_divided(&rental, rental.parts(rental.deposit, 1)).await;
}

#[tokio::test]
async fn a_stop_on_the_chain_right_after_the_start_is_followed() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    market.sync().await;
    market.engine.lane.tick().await.unwrap();
    while market.told(&rental, "started").await.is_empty() {
        market.mine().await;
    }
    market.call(people::renter(), calldata::stop(&rental.terms)).await;
    follow(&market, &rental, Outcome::StoppedByRenter).await;
}

#[tokio::test]
async fn a_deposit_of_the_largest_size_is_divided_to_the_unit() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    let mint = TestUSDC::mintCall { to: people::renter(), amount: U256::from(Amount::MAX.get()) };
    market.send(people::owner(), market.usdc, mint.abi_encode()).await;
    market.lock(&rental, Amount::MAX).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 11).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    market.assert_divided(&rental, rental.parts(Amount::MAX, 11)).await;
}
