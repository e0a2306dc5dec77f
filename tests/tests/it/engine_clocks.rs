//! Clocks that differ, windows that close, and an engine that was away: no second is billed twice, none
//! is invented, and nobody is punished for our absence.

use domain::{
    rental::{EndReason, RentalState, StartStatus},
    time::Seconds,
};
use escrow::EscrowEvent;
use serde_json::json;
use tests::market::{Booked, Market};

/// A life in which our clock and the chain's differ all the time. Returns how much later than ready the
/// start was, and how many calls of the contract were asked for.
async fn life_with_drift(seconds: i64) -> (Seconds, Vec<String>) {
    let market = Market::new().await;
    market.drift(seconds).await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.until(&rental, RentalState::Funded).await;
    market.ready(&rental).await;
    let ready = market.now();
    for _ in 0..60 {
        if market.progress(&rental).await.start == StartStatus::Final {
            break;
        }
        market.tick().await;
        market.mine().await;
    }
    let progress = market.progress(&rental).await;
    assert_eq!(progress.start, StartStatus::Final, "it starts: {progress:?}");
    // what lies before the chain's start by our clock, where that is behind, is not billed
    let before = progress.started_at.unwrap().saturating_since(market.now());
    let billed = 60 - before.get();
    market.run_for(&rental, 60).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.rental(&rental).await.billed, Some(Seconds(billed)));
    market.assert_divided(&rental, rental.parts(rental.deposit, u128::from(billed))).await;
    let asked = market.steps(&rental).await.into_iter().map(|step| step.purpose).collect();
    (progress.started_at.unwrap().saturating_since(ready), asked)
}

#[tokio::test]
async fn a_clock_that_is_ahead_of_the_chains_waits_for_it_and_measures_once() {
    let (late, asked) = life_with_drift(5).await;
    assert_eq!(late, Seconds::ZERO, "no good time is lost");
    assert_eq!(asked, ["start", "close"]);
}

#[tokio::test]
async fn a_clock_that_is_behind_the_chains_loses_little_more_than_it_is_behind() {
    let (late, asked) = life_with_drift(-20).await;
    assert!(late <= Seconds(24), "{late} of good time are lost");
    // the start cannot lie before the lock: it is measured again, by the chain's clock
    assert!(asked.len() <= 4, "{asked:?}");
    assert_eq!(asked.last().map(String::as_str), Some("close"));
}

#[tokio::test]
async fn a_start_that_is_measured_by_the_chains_clock_does_not_wait_for_ours() {
    let market = Market::new().await;
    market.drift(-300).await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.until(&rental, RentalState::Funded).await;
    market.ready(&rental).await;
    let ready = market.now();
    for _ in 0..30 {
        if market.progress(&rental).await.start == StartStatus::Final {
            break;
        }
        market.tick().await;
        market.mine().await;
    }
    let progress = market.progress(&rental).await;
    assert_eq!(progress.start, StartStatus::Final, "{progress:?}");
    assert!(market.now().saturating_since(ready) < Seconds(60), "ours is not there yet");
    assert!(progress.started_at.unwrap() > market.now(), "the contract goes by its own clock");
    // from where ours gets there, seconds are billed
    market.pass(300).await;
    market.run_for(&rental, 60).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    market.assert_reconciled().await;
}

/// What happens to a call that is asked for and then not sent for longer than the contract waits.
#[derive(Clone, Copy, PartialEq)]
enum Delay {
    /// It is not even signed.
    Queued,
    /// It is signed and stored.
    Signed,
}

async fn delay(market: &Market, how: Delay) {
    market.sync().await;
    if how == Delay::Signed {
        market.engine.lane.sign_queued().await.unwrap();
    }
    market.pass(700).await;
}

async fn late_start(how: Delay) {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    let asked = market.progress(&rental).await.started_at.unwrap();
    delay(&market, how).await;
    let again = market.now();
    market.settle_in().await;
    market.settle_in().await;
    let progress = market.progress(&rental).await;
    assert_eq!(progress.start, StartStatus::Final);
    let started = progress.started_at.unwrap();
    assert!(started >= again && started > asked, "the time until then is free");
    let told = market.told(&rental, "started").await;
    let [EscrowEvent::Started { started_at, .. }] = told[..] else { panic!("{told:?}") };
    assert_eq!(started_at, started);
    finish(&market, &rental, 8).await;
}

async fn finish(market: &Market, rental: &Booked, seconds: u32) {
    market.run_for(rental, seconds).await;
    market.stop(rental).await;
    market.until(rental, RentalState::Settled).await;
    market.settle_in().await;
    let billed = u128::from(seconds);
    market.assert_divided(rental, rental.parts(rental.deposit, billed)).await;
}

#[tokio::test]
async fn a_start_that_waited_too_long_in_the_queue_is_measured_again() {
    late_start(Delay::Queued).await;
}

#[tokio::test]
async fn a_start_that_waited_too_long_after_it_was_signed_is_measured_again() {
    late_start(Delay::Signed).await;
}

async fn late_close(how: Delay) {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 90).await;
    market.stop(&rental).await;
    delay(&market, how).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.rental(&rental).await.billed, Some(Seconds(90)), "as measured, not as sent");
    market.assert_divided(&rental, rental.parts(rental.deposit, 90)).await;
}

#[tokio::test]
async fn a_close_that_waited_too_long_in_the_queue_bills_the_same_seconds() {
    late_close(Delay::Queued).await;
}

#[tokio::test]
async fn a_close_that_waited_too_long_after_it_was_signed_bills_the_same_seconds() {
    late_close(Delay::Signed).await;
}

#[tokio::test]
async fn a_lock_in_time_counts_though_we_read_it_late() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.pass(590).await;
    market.lock(&rental, rental.deposit).await;
    // we are away past the deadline, and look at the timers first when we are back
    market.pass(300).await;
    for _ in 0..3 {
        market.engine.conductor.tick().await.unwrap();
        assert_eq!(market.state(&rental).await, RentalState::AwaitingFunds);
        market.mine().await;
    }
    market.until(&rental, RentalState::Funded).await;
    finish_from_funded(&market, &rental).await;
}

async fn finish_from_funded(market: &Market, rental: &Booked) {
    market.make_active(rental).await;
    finish(market, rental, 8).await;
    assert_eq!(market.progress(rental).await.end, Some(EndReason::RenterStop));
}

#[tokio::test]
async fn an_engine_that_was_away_for_many_blocks_catches_up() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.chain.anvil().call("anvil_mine", json!(["0xd2"])).await.unwrap();
    market.sync().await;
    // 210 blocks are more than one tick reads
    let watched = market.engine.watcher.tick().await.unwrap();
    assert_eq!((watched.blocks, watched.reorged), (200, false));
    market.until(&rental, RentalState::Funded).await;
    finish_from_funded(&market, &rental).await;
}

#[tokio::test]
async fn blocks_without_events_are_forgotten_and_nothing_else() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.until(&rental, RentalState::Funded).await;
    let kept = 1_024;
    for _ in 0..8 {
        // fewer than one tick reads; all at once would outlast the call's limit on a busy machine
        market.chain.anvil().call("anvil_mine", json!(["0x96"])).await.unwrap();
        market.sync().await;
        assert!(market.engine.watcher.tick().await.unwrap().blocks >= 150);
    }
    let blocks = market.count("SELECT count(*) FROM chain_blocks").await;
    assert!((kept..kept + 10).contains(&blocks), "{blocks}");
    assert_eq!(market.seen(&rental, "locked").await.len(), 1);
    let fresh = market.another(market.chain.url()).await;
    assert!(fresh.reconciler.tick().await.unwrap().unwrap().agrees());
    market.reorg(2, &[]).await;
    assert!(fresh.watcher.tick().await.unwrap().reorged, "a fork is found all the same");
}
