//! The engine on a real chain and a real database: what the renter, a stranger or the chain itself may do
//! to it. Money must add up to the unit after every one of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects
)] // a test stops at the first surprise

use domain::{
    money::Amount,
    rental::{EndReason, RentalEvent, RentalState},
    time::Seconds,
};
use escrow::calldata;
use tests::market::{self, Market};

#[tokio::test]
async fn a_whole_life_pays_everybody_to_the_unit() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 7).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;

    let row = market.rental(&rental).await;
    assert_eq!(row.billed, Some(Seconds(7)));
    let gross = 7 * market::RATE / 3_600;
    let fee = gross * 1_200 / 10_000;
    assert_eq!(row.paid_fee.get(), fee);
    assert_eq!(row.paid_provider.get(), gross - fee);
    assert_eq!(row.paid_refund.get(), rental.deposit.get() - gross);
    assert_eq!(market.kept(market.provider()).await, gross - fee);
    assert_eq!(market.kept(market.treasury()).await, fee);
    assert_eq!(row.progress.end, Some(EndReason::RenterStop));

    market
        .send(&market.provider, calldata::withdraw(market::POL, market.provider(), Amount::ZERO))
        .await;
    market.settle_in().await;
    assert_eq!(market.kept(market.provider()).await, 0);
    market.assert_reconciled().await;
}

#[tokio::test]
async fn a_lock_that_leaves_the_chain_is_forgotten_and_one_that_returns_is_found() {
    let market = Market::new().await;
    let rental = market.book().await;
    let raw = market.lock(&rental, rental.deposit).await;
    market.tick().await;
    assert!(market.provisioned(&rental).await, "an unfinal lock orders the machine");
    market.chain.anvil().call("anvil_reorg", serde_json::json!([1, []])).await.unwrap();
    market.tick().await;
    assert!(!market.provisioned(&rental).await, "the order is taken back");
    assert_eq!(market.rental(&rental).await.locked, Amount::ZERO);

    market.send_raw(&raw).await;
    market.settle_in().await;
    let row = market.rental(&rental).await;
    assert_eq!((row.progress.state, row.locked), (RentalState::Funded, rental.deposit));
    market.assert_reconciled().await;
}

#[tokio::test]
async fn a_close_that_leaves_the_chain_is_sent_again_and_settles_once() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 3).await;
    market.stop(&rental).await;
    let closed = market.events("closed").await;
    assert_eq!(closed.len(), 1, "included, not final");
    market.chain.anvil().call("anvil_reorg", serde_json::json!([1, []])).await.unwrap();
    market.tick().await;
    assert_eq!(market.rental(&rental).await.progress.state, RentalState::Settling);
    market.until(&rental, RentalState::Settled).await;
    let again = market.events("closed").await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].tx_hash, closed[0].tx_hash, "the same bytes");
    assert_ne!(again[0].block_hash, closed[0].block_hash);
    market.assert_reconciled().await;
}

#[tokio::test]
async fn the_renter_can_stop_on_the_chain_without_us() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.send(&market.renter, calldata::stop(&rental.terms)).await;
    market.until(&rental, RentalState::Settled).await;
    let row = market.rental(&rental).await;
    assert_eq!(row.progress.end, Some(EndReason::StoppedOnChain));
    market.assert_reconciled().await;
}

#[tokio::test]
async fn terms_that_were_never_quoted_are_ignored_and_their_money_is_mirrored() {
    let market = Market::new().await;
    let rental = market.book().await;
    let mut foreign = rental.clone();
    foreign.terms.orderHash = alloy::primitives::B256::repeat_byte(9);
    market.lock(&foreign, Amount::new(12_345).unwrap()).await;
    market.settle_in().await;
    assert_eq!(market.rental(&rental).await.progress.state, RentalState::AwaitingFunds);
    market.assert_reconciled().await;
    // refundable on the chain, by anyone, once the start window is over
    market.travel(foreign.terms.startBy.to::<u64>() + 601).await;
    market.send(&market.provider, calldata::reclaim(&foreign.terms)).await;
    market.settle_in().await;
    market.assert_reconciled().await;
}

#[tokio::test]
async fn a_lock_below_the_quoted_deposit_goes_back_whole() {
    let market = Market::new().await;
    let rental = market.book().await;
    let little = rental.deposit.checked_sub(Amount::new(1).unwrap()).unwrap();
    market.lock(&rental, little).await;
    market.tick().await;
    assert!(!market.provisioned(&rental).await, "nothing is started for it");
    market.until(&rental, RentalState::Refunded).await;
    let row = market.rental(&rental).await;
    assert_eq!((row.locked, row.paid_refund), (little, little));
    market.assert_reconciled().await;
}

#[tokio::test]
async fn a_machine_that_is_never_ready_costs_nothing() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.apply(&rental, RentalEvent::ReadyDeadline).await;
    market.until(&rental, RentalState::Refunded).await;
    let row = market.rental(&rental).await;
    assert_eq!(
        (row.paid_refund, row.paid_provider, row.paid_fee),
        (rental.deposit, Amount::ZERO, Amount::ZERO)
    );
    market.assert_reconciled().await;
}

#[tokio::test]
async fn an_outage_is_credited() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    market.run_for(&rental, 4).await;
    market.silence(11).await;
    market.run_for(&rental, 5).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    assert_eq!(market.rental(&rental).await.billed, Some(Seconds(9)));
    market.assert_reconciled().await;
}

#[tokio::test]
async fn signed_bytes_survive_the_lane_that_signed_them() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    // the lane's tick is cut between storing and sending: its chain is gone
    market.sign_without_sending().await;
    let signed = market.steps(&rental).await;
    assert_eq!((signed.len(), signed[0].state.as_str()), (1, "sent"));
    assert_eq!(market.events("started").await.len(), 0);
    market.settle_in().await;
    assert_eq!(market.events("started").await.len(), 1);
    assert_eq!(market.steps(&rental).await[0].tx_hash, signed[0].tx_hash, "the same bytes");
}

#[tokio::test]
async fn a_planted_unit_is_found() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.assert_reconciled().await;
    market.plant_one_unit().await;
    let report = market.reconcile().await;
    assert!(!report.agrees(), "{report:?}");
}
