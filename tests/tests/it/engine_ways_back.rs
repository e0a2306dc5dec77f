//! The ways in which a deposit goes back whole, and locks that are none of ours.

use alloy::primitives::B256;
use domain::{
    ledger::LedgerAccount,
    money::Amount,
    rental::{EndReason, FailReason, RentalEvent, RentalState, StartStatus},
};
use escrow::{EscrowEvent, Outcome, calldata};
use serde_json::json;
use tests::market::{Booked, Market, POL, change, people};

/// At its end everything is back, and whoever brought it back did so as `wanted`.
async fn assert_all_back(market: &Market, rental: &Booked, locked: Amount, wanted: Outcome) {
    market.until(rental, RentalState::Refunded).await;
    market.settle_in().await;
    market.assert_divided(rental, [0, 0, locked.get()]).await;
    let told = market.told(rental, "closed").await;
    let EscrowEvent::Closed { outcome, .. } = told[0] else { panic!("{told:?}") };
    assert_eq!(outcome, wanted);
    assert_eq!(market.purse(rental.terms.token, market.site.escrow).await, 0);
}

#[tokio::test]
async fn a_machine_that_is_never_ready_costs_nothing() {
    let market = Market::new().await;
    let rental = market.book().await;
    let had = market.purse(POL, people::renter()).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Funded);
    market.pass(601).await;
    assert_all_back(&market, &rental, rental.deposit, Outcome::Cancelled).await;
    assert_eq!(market.progress(&rental).await.end, Some(EndReason::ReadyDeadline));
    assert_eq!(market.purse(POL, people::renter()).await, had);
}

#[tokio::test]
async fn a_machine_that_fails_costs_nothing() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.apply(&rental, RentalEvent::AgentFailed { reason: FailReason::Image }).await;
    assert_all_back(&market, &rental, rental.deposit, Outcome::Cancelled).await;
}

#[tokio::test]
async fn a_start_that_is_never_sent_can_be_reclaimed_by_anybody() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    // our lane is down for as long as the contract waits for us
    let reclaim = calldata::reclaim(&rental.terms);
    market.call_refused(people::stranger(), reclaim.clone(), 0).await;
    market.travel(rental.terms.startBy.to::<u64>() + 601).await;
    market.call(people::stranger(), reclaim).await;
    for _ in 0..4 {
        market.engine.watcher.tick().await.unwrap();
        market.mine().await;
    }
    assert_eq!(market.progress(&rental).await.start, StartStatus::Requested);
    assert_all_back(&market, &rental, rental.deposit, Outcome::Reclaimed).await;
    assert!(market.steps(&rental).await.iter().all(|step| step.tx_hash.is_none()));
}

#[tokio::test]
async fn a_start_that_comes_too_late_is_called_off_by_ourselves() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    market.travel(rental.terms.startBy.to::<u64>() + 1).await;
    assert_all_back(&market, &rental, rental.deposit, Outcome::Cancelled).await;
    assert_eq!(market.progress(&rental).await.end, Some(EndReason::StartWindowMissed));
}

#[tokio::test]
async fn the_provider_can_call_it_off_on_the_chain() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    // our start is queued, not signed
    market.call(people::provider(), calldata::cancel(&rental.terms)).await;
    assert_all_back(&market, &rental, rental.deposit, Outcome::Cancelled).await;
}

#[tokio::test]
async fn a_lock_that_comes_after_the_deadline_goes_back_whole() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.pass(601).await;
    market.until(&rental, RentalState::Expired).await;
    market.lock(&rental, rental.deposit).await;
    market.tick().await;
    assert!(!market.provisioned(&rental).await, "nothing is started for it");
    assert_all_back(&market, &rental, rental.deposit, Outcome::Cancelled).await;
}

#[tokio::test]
async fn a_lock_that_comes_after_the_renter_called_it_off_goes_back_whole() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.ask_to_stop(&rental).await;
    assert_eq!(market.state(&rental).await, RentalState::Cancelled);
    market.lock(&rental, rental.deposit).await;
    assert_all_back(&market, &rental, rental.deposit, Outcome::Cancelled).await;
    assert_eq!(market.progress(&rental).await.end, Some(EndReason::RenterCancel));
}

#[tokio::test]
async fn a_lock_below_the_quoted_deposit_goes_back_whole() {
    let market = Market::new().await;
    let rental = market.book().await;
    let little = rental.deposit.checked_sub(Amount::new(1).unwrap()).unwrap();
    market.lock(&rental, little).await;
    market.tick().await;
    assert!(!market.provisioned(&rental).await, "nothing is started for it");
    assert_all_back(&market, &rental, little, Outcome::Cancelled).await;
}

#[tokio::test]
async fn a_refund_that_the_renter_does_not_take_waits_for_him() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    market.run_for(&rental, 5).await;
    // the renter's account refuses coins from now on
    market.chain.anvil().call("anvil_setCode", json!([people::renter(), "0xfe"])).await.unwrap();
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    let parts = rental.parts(rental.deposit, 5);
    market.assert_divided(&rental, parts).await;
    let credit = LedgerAccount::renter_credit(people::renter(), POL);
    assert_eq!(market.booked(credit).await, parts[2]);
    assert_eq!(market.kept(POL, people::renter()).await, parts[2]);

    market.chain.anvil().call("anvil_setCode", json!([people::renter(), "0x"])).await.unwrap();
    let all = calldata::withdraw(POL, people::renter(), Amount::ZERO);
    market.call(people::renter(), all).await;
    market.settle_in().await;
    assert_eq!(market.booked(credit).await, 0);
    market.assert_at_rest().await;
}

#[tokio::test]
async fn terms_that_were_never_quoted_are_ignored_and_their_money_is_mirrored() {
    let market = Market::new().await;
    let rental = market.book().await;
    let mut foreign = rental.clone();
    foreign.terms.orderHash = B256::repeat_byte(9);
    foreign.escrow_id = escrow::terms_hash(&foreign.terms, &market.site.domain);
    let deposit = Amount::new(12_345).unwrap();
    market.lock(&foreign, deposit).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::AwaitingFunds);
    let mirrored = LedgerAccount::renter_deposit(foreign.escrow_id, POL);
    assert_eq!(market.booked(mirrored).await, deposit.get());
    market.assert_reconciled().await;
    assert_eq!(market.count("SELECT count(*) FROM chain_intents").await, 0);
    // refundable on the chain, by anyone, once the start window is over
    market.travel(foreign.terms.startBy.to::<u64>() + 601).await;
    market.call(people::stranger(), calldata::reclaim(&foreign.terms)).await;
    market.settle_in().await;
    assert_eq!(market.booked(mirrored).await, 0);
    market.assert_at_rest().await;
}

#[tokio::test]
async fn the_same_terms_cannot_be_locked_twice() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    let had = market.purse(POL, people::renter()).await;
    let again = calldata::lock(&rental.terms, rental.deposit);
    market.call_refused(people::renter(), again.clone(), rental.deposit.get()).await;
    market.settle_in().await;
    assert_eq!(market.purse(POL, people::renter()).await, had);
    assert_eq!(market.rental(&rental).await.locked, rental.deposit);
    market.assert_at_rest().await;
    // nor after its end
    market.apply(&rental, RentalEvent::ReadyDeadline).await;
    assert_all_back(&market, &rental, rental.deposit, Outcome::Cancelled).await;
    market.call_refused(people::renter(), again, rental.deposit.get()).await;
}

#[tokio::test]
async fn a_new_treasury_gets_later_fees_only() {
    let market = Market::new().await;
    let token = market.usdc;
    let mut fees = Vec::new();
    for seconds in [600, 900] {
        let rental = market.running(token).await;
        market.run_for(&rental, seconds).await;
        market.stop(&rental).await;
        market.until(&rental, RentalState::Settled).await;
        market.settle_in().await;
        let parts = rental.parts(rental.deposit, u128::from(seconds));
        market.assert_divided(&rental, parts).await;
        fees.push(parts[1]);
        market.change(change::SET_TREASURY, people::next_treasury()).await;
        market.settle_in().await;
    }
    for (who, fee) in [people::treasury(), people::next_treasury()].into_iter().zip(fees) {
        assert_eq!(market.kept(token, who).await, fee);
        assert_eq!(market.booked(LedgerAccount::platform_fees(who, token)).await, fee);
    }
    market.assert_at_rest().await;
}
