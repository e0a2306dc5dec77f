//! The engine dies and comes back, or there are two of it: every effect happens once.

use std::time::Duration;

use domain::rental::RentalState;
use sqlx::{Connection as _, PgConnection};
use tests::market::{Booked, Market, POL, cut};
use tokio_util::sync::CancellationToken;

/// Rounds in which a rental must have come to its end.
const ROUNDS: usize = 120;

async fn assert_settled_once(market: &Market, rental: &Booked, seconds: u128) {
    market.settle_in().await;
    assert_eq!(market.state(rental).await, RentalState::Settled);
    market.assert_divided(rental, rental.parts(rental.deposit, seconds)).await;
    for name in ["locked", "started"] {
        assert_eq!(market.told(rental, name).await.len(), 1, "{name}");
    }
    let purposes: Vec<String> =
        market.steps(rental).await.into_iter().map(|step| step.purpose).collect();
    assert_eq!(purposes, ["start", "close"], "asked for once");
    let attempts = market.count("SELECT count(*) FROM chain_tx_attempts").await;
    assert_eq!(attempts, 2, "the bytes that were signed first are those that were mined");
}

#[tokio::test]
async fn an_engine_that_is_new_after_every_step_finishes_the_rental() {
    let mut market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    for _ in 0..ROUNDS {
        for step in 0..4 {
            market.sync().await;
            match step {
                0 => market.engine.lane.sign_queued().await.unwrap(),
                1 => drop(market.engine.lane.send_due().await.unwrap()),
                2 => drop(market.engine.watcher.tick().await.unwrap()),
                _ => drop(market.engine.conductor.tick().await.unwrap()),
            }
            market.restart().await;
        }
        market.play(&rental, 6).await;
        market.mine().await;
        if market.state(&rental).await == RentalState::Settled {
            return assert_settled_once(&market, &rental, 6).await;
        }
    }
    panic!("it is {:?}", market.progress(&rental).await);
}

#[tokio::test]
async fn an_engine_that_is_cut_off_at_any_point_finishes_the_rental() {
    let mut market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    // each tick gets a little further than the one before: every place where it waits is cut once
    for polls in 1..ROUNDS * 4 {
        market.sync().await;
        let most = polls % 40;
        cut(market.engine.lane.tick(), most).await.transpose().unwrap();
        cut(market.engine.watcher.tick(), most).await.transpose().unwrap();
        cut(market.engine.conductor.tick(), most).await.transpose().unwrap();
        if polls % 10 == 0 {
            market.restart().await;
            market.mine().await;
            market.play(&rental, 6).await;
        }
        if market.state(&rental).await == RentalState::Settled {
            return assert_settled_once(&market, &rental, 6).await;
        }
    }
    panic!("it is {:?}", market.progress(&rental).await);
}

#[tokio::test]
async fn of_two_processes_with_one_key_one_sends_and_all_goes_in_one_batch() {
    let market = Market::new().await;
    let mut rentals = Vec::new();
    for _ in 0..8 {
        let rental = market.book().await;
        market.lock(&rental, rental.deposit).await;
        rentals.push(rental);
    }
    market.settle_in().await;
    for rental in &rentals {
        market.ready(rental).await;
    }
    let other = market.another(market.chain.url()).await;
    other.lane.take_over().await.unwrap();
    for round in 0..6 {
        market.sync().await;
        let (one, two, three) =
            tokio::join!(market.engine.lane.tick(), other.lane.tick(), other.lane.tick());
        for sent in [one, two, three] {
            sent.unwrap();
        }
        if round == 0 {
            let unsent = "SELECT count(*) FROM chain_intents WHERE state <> 'sent'";
            assert_eq!(market.count(unsent).await, 0);
            assert_eq!(market.count("SELECT count(*) FROM chain_txs").await, 1);
            assert_eq!(market.count("SELECT count(*) FROM chain_tx_attempts").await, 1);
        }
        market.engine.watcher.tick().await.unwrap();
        market.mine().await;
    }
    market.settle_in().await;
    for rental in &rentals {
        assert_eq!(market.told(rental, "started").await.len(), 1);
    }
    assert_eq!(market.count("SELECT count(*) FROM chain_txs").await, 1);
    market.assert_at_rest().await;
}

#[tokio::test]
async fn two_engines_at_once_finish_the_rental_once() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    let other = market.another(market.chain.url()).await;
    for _ in 0..ROUNDS {
        market.sync().await;
        // whoever comes second on a block or an event may say so; it must not do it again
        let (_, _) = tokio::join!(market.engine.tick(), other.tick());
        market.play(&rental, 6).await;
        market.mine().await;
        if market.state(&rental).await == RentalState::Settled {
            return assert_settled_once(&market, &rental, 6).await;
        }
    }
    panic!("it is {:?}", market.progress(&rental).await);
}

#[tokio::test]
async fn a_tick_that_is_repeated_changes_nothing() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    market.run_for(&rental, 6).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    assert_settled_once(&market, &rental, 6).await;
    let rows = "SELECT (SELECT count(*) FROM ledger_transfers) + (SELECT count(*) FROM chain_txs)
                     + (SELECT count(*) FROM rental_events) + (SELECT sum(version) FROM rentals)::bigint";
    let before = market.count(rows).await;
    market.settle_in().await;
    assert_eq!(market.count(rows).await, before);
}

#[tokio::test]
async fn a_worker_that_starts_while_a_frozen_one_holds_the_keys_row_waits_for_it() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    market.engine.lane.hand_over().await.unwrap();
    // as a process would that was stopped in the middle of numbering
    let mut frozen = PgConnection::connect(market.db_url()).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM chain_signers FOR UPDATE")
        .execute(&mut frozen)
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let worker = tokio::spawn(engine::run(market.worker().await, stop.clone()));
    // longer than a lock is waited for
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    assert!(!worker.is_finished());
    let sent = "SELECT count(*) FROM chain_tx_attempts";
    assert_eq!(market.count(sent).await, 0, "nobody numbers meanwhile");
    frozen.close().await.unwrap();
    for _ in 0..600 {
        if market.count(sent).await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(market.count(sent).await, 1);
    stop.cancel();
    worker.await.unwrap();
}
