//! The chain takes back what was not final: nothing is lost, nothing happens twice.

use alloy::primitives::{B256, Bytes};
use domain::{
    money::Amount,
    rental::{FailReason, LockStatus, RentalEvent, RentalState, StartStatus},
    time::Seconds,
};
use engine::EngineError;
use tests::market::{Booked, Market, POL};

/// What becomes of the transactions in the blocks that are replaced.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// The chain forgets them.
    Dropped,
    /// They are in one of the new blocks.
    Kept,
}

/// Puts blocks on top until `depth` of them reach down to the newest event's block, and replaces them.
async fn replace(market: &Market, depth: u64, raw: &Bytes, fate: Fate) {
    for _ in 1..depth {
        market.mine().await;
    }
    market.tick().await;
    let kept = if fate == Fate::Kept { std::slice::from_ref(raw) } else { &[] };
    market.reorg(depth, kept).await;
}

/// Where the engine saw the one event of this name: its transaction and its block.
async fn place(market: &Market, rental: &Booked, name: &str) -> (B256, B256) {
    let seen = market.seen(rental, name).await;
    assert_eq!(seen.len(), 1, "{name}: {seen:?}");
    (seen[0].tx_hash, seen[0].block_hash)
}

/// One life, in which the lock, the start and the close are each taken back once.
async fn life(market: &Market, depth: u64, fate: Fate) {
    let rental = market.book().await;
    let raw = market.lock(&rental, rental.deposit).await;
    replace_lock(market, &rental, depth, &raw, fate).await;
    assert_eq!(market.state(&rental).await, RentalState::Funded);
    assert_eq!(market.rental(&rental).await.locked, rental.deposit);

    market.ready(&rental).await;
    replace_ours(market, &rental, "started", depth, fate).await;
    assert_eq!(market.progress(&rental).await.start, StartStatus::Final);

    market.run_for(&rental, 9).await;
    market.stop(&rental).await;
    replace_ours(market, &rental, "closed", depth, fate).await;
    assert_eq!(market.state(&rental).await, RentalState::Settled);
    assert_eq!(market.rental(&rental).await.billed, Some(Seconds(9)));
    market.assert_divided(&rental, rental.parts(rental.deposit, 9)).await;
}

async fn replace_lock(market: &Market, rental: &Booked, depth: u64, raw: &Bytes, fate: Fate) {
    market.tick().await;
    assert!(market.provisioned(rental).await, "an unfinal lock orders the machine");
    let before = place(market, rental, "locked").await;
    replace(market, depth, raw, fate).await;
    market.tick().await;
    if fate == Fate::Dropped {
        assert!(market.seen(rental, "locked").await.is_empty());
        assert!(!market.provisioned(rental).await, "the order is taken back");
        assert_eq!(market.progress(rental).await.lock, LockStatus::None);
        market.send_raw(raw).await;
    }
    market.settle_in().await;
    let after = place(market, rental, "locked").await;
    assert_eq!(after.0, before.0);
    assert_ne!(after.1, before.1, "in another block");
}

/// The start or the close is mined, taken back, and found again with the same bytes.
async fn replace_ours(market: &Market, rental: &Booked, name: &str, depth: u64, fate: Fate) {
    for _ in 0..10 {
        if !market.seen(rental, name).await.is_empty() {
            break;
        }
        market.tick().await;
    }
    let before = place(market, rental, name).await;
    let raw = market.stored(before.0).await;
    replace(market, depth, &raw, fate).await;
    if fate == Fate::Dropped {
        market.engine.watcher.tick().await.unwrap();
        assert!(market.seen(rental, name).await.is_empty());
    }
    market.settle_in().await;
    let after = place(market, rental, name).await;
    assert_eq!(after.0, before.0, "the same bytes");
    assert_ne!(after.1, before.1, "in another block");
    let attempts = market.count("SELECT count(*) - count(DISTINCT tx_id) FROM chain_tx_attempts");
    assert_eq!(attempts.await, 0, "no second attempt was made");
}

#[tokio::test]
async fn what_the_chain_drops_is_sent_again_and_settles_once() {
    let market = Market::with_epoch(3).await;
    for depth in 1..=4 {
        life(&market, depth, Fate::Dropped).await;
    }
}

#[tokio::test]
async fn what_the_chain_moves_to_another_block_is_found_there_and_settles_once() {
    let market = Market::with_epoch(3).await;
    for depth in 1..=4 {
        life(&market, depth, Fate::Kept).await;
    }
}

#[tokio::test]
async fn a_lock_that_never_returns_ends_with_the_deadline() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.tick().await;
    market.reorg(1, &[]).await;
    market.tick().await;
    market.pass(601).await;
    market.until(&rental, RentalState::Expired).await;
    market.settle_in().await;
    assert_eq!(market.rental(&rental).await.locked, Amount::ZERO);
    assert!(market.told(&rental, "locked").await.is_empty());
    market.assert_at_rest().await;
}

#[tokio::test]
async fn a_final_block_that_leaves_the_chain_stops_the_engine_before_any_money() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    let locked = market.rental(&rental).await;
    let postings = "SELECT count(*) FROM ledger_postings";
    let posted = market.count(postings).await;
    market.mine().await;
    market.reorg(6, &[]).await;
    for _ in 0..3 {
        let refused = market.engine.watcher.tick().await.unwrap_err();
        assert!(matches!(refused, EngineError::Store(_)), "{refused}");
        assert!(refused.to_string().contains("was final and has left the chain"), "{refused}");
    }
    assert_eq!(market.count(postings).await, posted);
    assert_eq!(market.rental(&rental).await.version, locked.version);
}

#[tokio::test]
async fn a_machine_made_ready_for_a_lock_that_left_is_made_ready_again() {
    let market = Market::new().await;
    let rental = market.book().await;
    let raw = market.lock(&rental, rental.deposit).await;
    market.tick().await;
    let ready = RentalEvent::AgentReady { at: market.now() };
    market.apply(&rental, RentalEvent::AgentAcked).await;
    market.apply(&rental, ready).await;
    market.reorg(1, &[raw]).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Funded, "ready no more");
    assert!(market.provisioned(&rental).await);
    market.make_active(&rental).await;
}

#[tokio::test]
async fn a_lock_that_returns_after_the_machine_failed_goes_back_whole() {
    let market = Market::new().await;
    let rental = market.book().await;
    let raw = market.lock(&rental, rental.deposit).await;
    market.tick().await;
    market.apply(&rental, RentalEvent::AgentFailed { reason: FailReason::Image }).await;
    market.reorg(1, &[]).await;
    market.tick().await;
    assert_eq!(market.state(&rental).await, RentalState::Expired);
    market.send_raw(&raw).await;
    market.until(&rental, RentalState::Refunded).await;
    market.settle_in().await;
    market.assert_divided(&rental, [0, 0, rental.deposit.get()]).await;
}
