//! The sender: batches, several keys, leases, raised fees, numbers given up and numbers that nobody spent.

use alloy::primitives::Address;
use domain::rental::{RentalState, StartStatus};
use escrow::calldata;
use serde_json::json;
use store::{TxError, txs};
use testkit::{DEV_ADDRESSES, DEV_KEYS};
use tests::market::{Booked, Market, change, people};

/// Rentals that run, all started.
async fn running(market: &Market, count: usize) -> Vec<Booked> {
    let mut rentals = Vec::new();
    for _ in 0..count {
        let rental = market.book_in(market.usdc).await;
        market.lock(&rental, rental.deposit).await;
        rentals.push(rental);
    }
    market.settle_in().await;
    for rental in &rentals {
        market.ready(rental).await;
    }
    market.settle_in().await;
    for rental in &rentals {
        assert_eq!(market.progress(rental).await.start, StartStatus::Final);
    }
    rentals
}

async fn stop_all(market: &Market, rentals: &[Booked]) {
    for rental in rentals {
        market.stop(rental).await;
    }
}

/// All are settled, each once, and nothing is left open.
async fn assert_all_settled(market: &Market, rentals: &[Booked]) {
    for rental in rentals {
        market.until(rental, RentalState::Settled).await;
        assert_eq!(market.told(rental, "closed").await.len(), 1);
        let row = market.rental(rental).await;
        let paid = row.paid_provider.get() + row.paid_fee.get() + row.paid_refund.get();
        assert_eq!(paid, row.locked.get());
    }
    market.settle_in().await;
    market.assert_at_rest().await;
}

const CLOSE_TXS: &str = "SELECT count(DISTINCT tx_id) FROM chain_intents WHERE purpose = 'close'";
const SKIPPED: &str = "SELECT count(*) FROM chain_events WHERE name = 'skipped'";

#[tokio::test]
async fn what_is_due_together_goes_in_one_transaction() {
    let market = Market::new().await;
    let rentals = running(&market, 6).await;
    let starts = "SELECT count(DISTINCT tx_id) FROM chain_intents WHERE purpose = 'start'";
    assert_eq!(market.count(starts).await, 1);
    stop_all(&market, &rentals).await;
    assert_all_settled(&market, &rentals).await;
    // signed ends and unsigned ones do not mix; here the provider signed all
    assert_eq!(market.count(CLOSE_TXS).await, 1);
    assert_eq!(market.count(SKIPPED).await, 0);
}

#[tokio::test]
async fn one_that_would_be_skipped_is_left_out_of_the_batch() {
    let market = Market::new().await;
    let rentals = running(&market, 4).await;
    stop_all(&market, &rentals).await;
    // the renter was faster, and we have not read that block yet
    market.call(people::renter(), calldata::stop(&rentals[1].terms)).await;
    market.sync().await;
    market.engine.lane.tick().await.unwrap();
    let waits = "SELECT count(*) FROM chain_intents WHERE purpose = 'close' AND state = 'queued'
                 AND last_error = 'NotActive'";
    assert_eq!(market.count(waits).await, 1);
    assert_all_settled(&market, &rentals).await;
    assert_eq!(market.count(SKIPPED).await, 0, "no gas was spent on it");
    assert_eq!(market.count(CLOSE_TXS).await, 1);
}

#[tokio::test]
async fn one_that_is_skipped_in_the_block_does_not_hold_the_others_up() {
    let market = Market::new().await;
    let rentals = running(&market, 4).await;
    stop_all(&market, &rentals).await;
    let anvil = market.chain.anvil();
    anvil.call("evm_setAutomine", json!([false])).await.unwrap();
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    assert_eq!(market.count(CLOSE_TXS).await, 1);
    // between our look and our block
    let data = calldata::stop(&rentals[2].terms);
    let stop = json!({ "from": people::renter(), "to": market.site.escrow,
                       "data": alloy::primitives::Bytes::from(data), "gas": "0x1e8480" });
    anvil.call("eth_sendTransaction", json!([stop])).await.unwrap();
    anvil.call("evm_mine", json!([])).await.unwrap();
    anvil.call("evm_setAutomine", json!([true])).await.unwrap();
    market.engine.lane.send_due().await.unwrap();
    assert_all_settled(&market, &rentals).await;
    assert_eq!(market.count(SKIPPED).await, 1);
    let refused = "SELECT count(*) FROM chain_intents WHERE purpose = 'close' AND state = 'refused'
                   AND last_error = 'NotActive'";
    assert_eq!(market.count(refused).await, 1);
}

#[tokio::test]
async fn a_batch_that_reverts_comes_back_in_halves() {
    let market = Market::new().await;
    let rentals = running(&market, 5).await;
    stop_all(&market, &rentals).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    // the operator is dropped between our look and our block, and let in again later
    let drop_operator =
        escrow::bindings::Escrow::removeOperatorCall { operator: people::operator() };
    market.call(people::guardian(), alloy::sol_types::SolCall::abi_encode(&drop_operator)).await;
    market.engine.lane.send_due().await.unwrap();
    market.settle_in().await;
    let reverted = "SELECT count(*) FROM chain_txs WHERE state = 'final_reverted'";
    assert_eq!(market.count(reverted).await, 1);
    let capped = "SELECT count(*) FROM chain_intents WHERE purpose = 'close' AND state = 'queued'
                  AND batch_cap = 3";
    assert_eq!(market.count(capped).await, 5, "half of five, rounded up");
    market.change(change::ADD_OPERATOR, people::operator()).await;
    assert_all_settled(&market, &rentals).await;
    let largest = "SELECT max(n) FROM (SELECT count(*) AS n FROM chain_intents i
                   JOIN chain_txs t ON t.id = i.tx_id WHERE i.purpose = 'close'
                   AND t.state = 'final_ok' GROUP BY t.id) AS sizes";
    assert!(market.count(largest).await <= 3);
}

#[tokio::test]
async fn several_keys_send_side_by_side_and_share_the_work() {
    let market = Market::new().await;
    let second: Address = DEV_ADDRESSES[8].parse().unwrap();
    market.change(change::ADD_OPERATOR, second).await;
    let other = market.with_key(market.chain.url(), DEV_KEYS[8]).await;
    other.lane.take_over().await.unwrap();
    let mut rentals = Vec::new();
    for _ in 0..6 {
        let rental = market.book_in(market.usdc).await;
        market.lock(&rental, rental.deposit).await;
        rentals.push(rental);
    }
    market.settle_in().await;
    for rental in &rentals[..3] {
        market.ready(rental).await;
    }
    market.engine.lane.tick().await.unwrap();
    for rental in &rentals[3..] {
        market.ready(rental).await;
    }
    let (one, two) = tokio::join!(other.lane.tick(), market.engine.lane.tick());
    one.unwrap();
    two.unwrap();
    market.settle_in().await;
    for rental in &rentals {
        assert_eq!(market.told(rental, "started").await.len(), 1);
    }
    stop_all(&market, &rentals).await;
    let (one, two) = tokio::join!(other.lane.tick(), market.engine.lane.tick());
    one.unwrap();
    two.unwrap();
    assert_all_settled(&market, &rentals).await;
    let twice = "SELECT count(*) FROM (SELECT rental_id, purpose FROM chain_intents
                 WHERE state = 'done' GROUP BY 1, 2 HAVING count(*) > 1) AS twice";
    assert_eq!(market.count(twice).await, 0);
}

#[tokio::test]
async fn who_slept_past_its_lease_numbers_nothing_any_more() {
    let market = Market::new().await;
    let rentals = running(&market, 2).await;
    let other = market.another(market.chain.url()).await;
    other.lane.take_over().await.unwrap();
    stop_all(&market, &rentals).await;
    market.sync().await;
    assert_eq!(other.lane.tick().await.unwrap(), 0, "the key is taken");
    assert_eq!(market.count(CLOSE_TXS).await, 0);
    // as if the first were frozen: nothing of it moves, its session stands
    market.pass(11).await;
    market.sync().await;
    assert_eq!(other.lane.tick().await.unwrap(), 1);
    assert_eq!(market.engine.lane.tick().await.unwrap(), 0, "it woke up, and another sends now");
    let lease = "SELECT run_lease FROM chain_signers";
    let newest = market.count(lease).await;
    // whatever it had in hand when it fell asleep
    let stale = txs::Lease { number: newest - 1, until: market.now().millis() };
    let (now, signer) = (market.now().millis(), people::operator());
    let numbered = market
        .store
        .write("stale", move |tx| {
            Box::pin(async move {
                let new = txs::NewTx {
                    id: domain::id::TxId::from_uuid(uuid::Uuid::now_v7()),
                    signer,
                    to: signer,
                    calldata: vec![],
                    gas_limit: 21_000,
                };
                Ok::<_, TxError<()>>(txs::number(tx, stale, &new, now).await?)
            })
        })
        .await
        .unwrap();
    assert_eq!(numbered, None);
    for _ in 0..6 {
        other.tick().await.unwrap();
        market.mine().await;
    }
    market.settle_in().await;
    for rental in &rentals {
        assert_eq!(market.told(rental, "closed").await.len(), 1);
    }
}

#[tokio::test]
async fn who_died_is_replaced_at_once() {
    let mut market = Market::new().await;
    let rentals = running(&market, 1).await;
    stop_all(&market, &rentals).await;
    let next = market.another(market.chain.url()).await;
    let dead = std::mem::replace(&mut market.engine, next);
    market.sync().await;
    assert_eq!(market.engine.lane.tick().await.unwrap(), 0);
    drop(dead);
    // the database notices a closed session within moments; by our clock no time passes
    let mut sent = 0;
    for _ in 0..1_200 {
        sent = market.engine.lane.tick().await.unwrap();
        if sent > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(sent, 1);
    assert_all_settled(&market, &rentals).await;
}

#[tokio::test]
async fn a_stuck_call_that_nobody_wants_any_more_gives_its_number_to_a_no_op() {
    let market = Market::new().await;
    let rentals = running(&market, 1).await;
    stop_all(&market, &rentals).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    // our close never gets to a node, and the renter stops by itself
    market.call(people::renter(), calldata::stop(&rentals[0].terms)).await;
    for _ in 0..8 {
        market.mine().await;
        market.engine.watcher.tick().await.unwrap();
    }
    assert_eq!(market.state(&rentals[0]).await, RentalState::Settled);
    market.pass(31).await;
    assert_all_settled(&market, &rentals).await;
    assert_eq!(market.count("SELECT count(*) FROM chain_txs WHERE state = 'voided'").await, 1);
    // and the number after it is good
    let more = running(&market, 1).await;
    stop_all(&market, &more).await;
    assert_all_settled(&market, &more).await;
}

#[tokio::test]
async fn a_number_that_nobody_spent_is_spent_by_a_no_op() {
    let market = Market::new().await;
    // as after a chain that lost the blocks with another program's transactions
    market.tamper("UPDATE chain_signers SET first_nonce = first_nonce + 2").await;
    let rental = market.book_in(market.usdc).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    market.settle_in().await;
    assert_eq!(market.progress(&rental).await.start, StartStatus::Requested);
    market.pass(31).await;
    market.settle_in().await;
    assert_eq!(market.progress(&rental).await.start, StartStatus::Final);
    market.stop(&rental).await;
    assert_all_settled(&market, &[rental]).await;
    assert_eq!(market.count("SELECT count(*) FROM chain_txs WHERE state = 'voided'").await, 2);
}
