//! The node is late, incomplete, or speaks of things that Ethereum does not know; the key is used elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy::primitives::{Address, B256};
use chain::ChainError;
use domain::{
    id::TxId,
    rental::RentalState,
    time::{Clock, Seconds, UnixMillis},
};
use engine::{EngineError, Watcher};
use serde_json::{Value, json};
use store::{
    Store, StoreError, TxError,
    intents::{self, Call},
    txs,
};
use testkit::RpcProxy;
use tests::market::{Market, POL, people};

/// A market whose engine asks a node that can be told to misbehave.
async fn behind_a_proxy() -> (Market, RpcProxy) {
    let mut market = Market::new().await;
    let proxy = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    market.engine = market.another(proxy.url()).await;
    (market, proxy)
}

/// A clock on which every look takes half a second.
struct Slow(AtomicU64);

impl Clock for Slow {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.fetch_add(500, Ordering::SeqCst))
    }
}

#[tokio::test]
async fn what_is_final_is_seen_while_blocks_come_as_fast_as_they_are_read() {
    let market = Market::new().await;
    market.engine.watcher.tick().await.unwrap();
    market.chain.anvil().call("anvil_mine", json!(["0x64"])).await.unwrap();
    let clock = std::sync::Arc::new(Slow(AtomicU64::new(market.store.now().get())));
    let policy = market.store.policy().clone();
    let store = Store::connect(market.db_url(), 2, clock, policy).await.unwrap();
    let watcher = Watcher::new(store, market.client.clone(), market.site.clone());
    let watched = watcher.tick().await.unwrap();
    assert!(watched.more && (1..50).contains(&watched.blocks), "{watched:?}");
    assert!(watched.finalised, "{watched:?}");
    let mut ticks = 1;
    while watcher.tick().await.unwrap().more {
        ticks += 1;
        assert!(ticks < 101, "each tick gets on");
    }
    let tip = market.count("SELECT max(number) FROM chain_blocks").await;
    assert_eq!(u64::try_from(tip).unwrap(), market.client.head().await.unwrap().number);
}

#[tokio::test]
async fn transactions_of_unknown_types_in_a_block_are_passed_over() {
    let (market, proxy) = behind_a_proxy().await;
    proxy.meddle(|method, _, result| {
        if let ("eth_getBlockReceipts", Some(receipts)) = (method, result.as_array_mut()) {
            receipts.push(json!({
                "type": "0x7f", "transactionHash": B256::repeat_byte(0x7f), "status": "0x1",
                "gasUsed": "0x0", "cumulativeGasUsed": "0x0", "logs": [], "from": Address::ZERO,
            }));
        }
    });
    let rental = market.running(POL).await;
    market.run_for(&rental, 4).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    market.assert_divided(&rental, rental.parts(rental.deposit, 4)).await;
}

#[tokio::test]
async fn a_node_without_a_blocks_logs_or_receipts_is_asked_again() {
    for lacking in ["eth_getLogs", "eth_getBlockReceipts"] {
        let (market, proxy) = behind_a_proxy().await;
        let rental = market.book().await;
        if lacking == "eth_getBlockReceipts" {
            market.lock(&rental, rental.deposit).await;
            market.settle_in().await;
            market.ready(&rental).await;
            market.engine.lane.sign_queued().await.unwrap();
            market.engine.lane.send_due().await.unwrap();
        } else {
            market.lock(&rental, rental.deposit).await;
        }
        proxy.meddle(move |method, _, result| {
            if method == lacking {
                *result = json!([]);
            }
        });
        for _ in 0..3 {
            let error = market.engine.watcher.tick().await.unwrap_err();
            let late = matches!(error, EngineError::Chain(ChainError::Unavailable(_)));
            assert!(late, "{lacking}: {error}");
        }
        proxy.behave();
        market.settle_in().await;
        if lacking == "eth_getLogs" {
            assert_eq!(market.state(&rental).await, RentalState::Funded);
        } else {
            assert_eq!(market.told(&rental, "started").await.len(), 1);
        }
        market.assert_at_rest().await;
    }
}

#[tokio::test]
async fn a_node_that_is_late_is_no_reorganisation() {
    let (market, proxy) = behind_a_proxy().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.tick().await;
    assert!(market.provisioned(&rental).await);
    let head = market.client.head().await.unwrap().number;
    proxy.meddle(move |method, params, result| {
        let number = params[0].as_str().and_then(|text| text.strip_prefix("0x"));
        let number = number.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        if method == "eth_getBlockByNumber" && number.is_some_and(|number| number + 2 > head) {
            *result = Value::Null;
        }
    });
    for _ in 0..3 {
        let watched = market.engine.watcher.tick().await.unwrap();
        assert!(!watched.reorged && watched.blocks == 0, "{watched:?}");
    }
    proxy.behave();
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Funded);
    let orders = "SELECT count(*) FROM agent_commands";
    assert_eq!(market.count(orders).await, 1, "the machine is told once");
}

#[tokio::test]
async fn a_number_that_the_key_spent_elsewhere_is_given_up_and_the_call_made_anew() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 4).await;
    market.stop(&rental).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    // somebody uses the operator's key by hand
    market.send(people::operator(), people::stranger(), Vec::new()).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Settling, "not given up in haste");
    market.pass(61).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    let closes: Vec<_> = market.steps(&rental).await.into_iter().skip(1).collect();
    let states: Vec<&str> = closes.iter().map(|step| step.state.as_str()).collect();
    assert_eq!(states, ["refused", "done"], "{closes:?}");
    assert_eq!(market.count("SELECT count(*) FROM chain_txs WHERE state = 'voided'").await, 1);
    market.assert_divided(&rental, rental.parts(rental.deposit, 4)).await;
}

/// A rental whose close is signed and leaves no earlier than somebody lets it.
async fn with_a_close_on_paper(market: &Market) -> tests::market::Booked {
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 4).await;
    market.stop(&rental).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    market.pass(61).await;
    rental
}

/// Says that accounts have spent three numbers more in the blocks that are asked about by their hash.
fn three_more(method: &str, params: &Value, result: &mut Value) {
    if method == "eth_getTransactionCount" && params[1].get("blockHash").is_some() {
        let nonce = u64::from_str_radix(&result.as_str().unwrap()[2..], 16).unwrap();
        *result = json!(format!("{:#x}", nonce + 3));
    }
}

const VOIDED: &str = "SELECT count(*) FROM chain_txs WHERE state = 'voided'";

#[tokio::test]
async fn a_nonce_that_is_told_now_and_then_or_by_one_of_two_gives_up_no_number() {
    let mut market = Market::new().await;
    let one = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    let two = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    let both = format!("{},{}", one.url(), two.url());
    for urls in [one.url(), both.as_str()] {
        market.engine = market.another(urls).await;
        let rental = with_a_close_on_paper(&market).await;
        let asked = AtomicU64::new(0);
        let alone = urls == one.url();
        one.meddle(move |method, params, result| {
            // alone, it tells the truth every third time
            if !alone || asked.fetch_add(1, Ordering::SeqCst) % 3 != 2 {
                three_more(method, params, result);
            }
        });
        let told = one.calls("eth_getTransactionCount");
        for _ in 0..6 {
            market.engine.watcher.tick().await.unwrap();
            market.mine().await;
        }
        assert!(one.calls("eth_getTransactionCount") > told, "it was asked");
        assert_eq!(market.count(VOIDED).await, 0, "{urls}");
        one.behave();
        market.until(&rental, RentalState::Settled).await;
        market.settle_in().await;
        market.assert_divided(&rental, rental.parts(rental.deposit, 4)).await;
    }
}

#[tokio::test]
async fn a_transaction_that_a_node_hid_is_found_before_its_number_is_given_up() {
    let (market, proxy) = behind_a_proxy().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    market.engine.lane.sign_queued().await.unwrap();
    market.engine.lane.send_due().await.unwrap();
    // the block with our start looks empty
    proxy.meddle(|method, _, result| match method {
        "eth_getBlockByNumber"
            if result["transactions"].as_array().is_some_and(|t| !t.is_empty()) =>
        {
            result["transactions"] = json!([]);
            result["gasUsed"] = json!("0x0");
            result["logsBloom"] = json!(format!("0x{}", "00".repeat(256)));
        }
        "eth_getLogs" | "eth_getBlockReceipts" => *result = json!([]),
        _ => {}
    });
    market.mine().await;
    market.engine.watcher.tick().await.unwrap();
    proxy.behave();
    market.pass(61).await;
    market.settle_in().await;
    assert_eq!(market.count(VOIDED).await, 0);
    let done = "SELECT count(*) FROM chain_txs WHERE state = 'final_ok'";
    assert_eq!(market.count(done).await, 1, "it is where the chain has it");
}

#[tokio::test]
async fn a_close_that_follows_others_is_not_hastened_past_its_wait() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 4).await;
    let (id, now) = (rental.id, market.now());
    // as many before it as wait and then come to nothing, and how long it then waits at least
    for (before, wait) in [(0, 0), (1, 1), (5, 16)] {
        let waits = market
            .store
            .write("hasten", move |tx| {
                Box::pin(async move {
                    let call = Call::Close { stopped_at: now, credit: Seconds::ZERO };
                    sqlx::query("DELETE FROM chain_intents WHERE purpose = 'close'")
                        .execute(&mut *tx)
                        .await
                        .map_err(StoreError::from)?;
                    for _ in 0..before {
                        intents::queue(tx, id, &call, now, now).await?;
                        sqlx::query(
                            "UPDATE chain_intents SET state = 'refused' WHERE purpose = 'close'",
                        )
                        .execute(&mut *tx)
                        .await
                        .map_err(StoreError::from)?;
                    }
                    let later = now.saturating_plus(Seconds(300));
                    intents::queue(tx, id, &call, now, later).await?;
                    intents::hasten_close(tx, id, now).await?;
                    let waits = "SELECT extract(epoch FROM not_before - created_at)::bigint
                                 FROM chain_intents WHERE purpose = 'close' AND state = 'queued'";
                    let waits: i64 = sqlx::query_scalar(waits)
                        .fetch_one(&mut *tx)
                        .await
                        .map_err(StoreError::from)?;
                    Ok::<_, TxError<StoreError>>(waits)
                })
            })
            .await
            .unwrap();
        assert_eq!(waits, wait, "after {before}");
    }
}

#[tokio::test]
async fn a_key_that_was_used_while_we_were_down_goes_on_after_it() {
    let mut market = Market::new().await;
    for _ in 0..3 {
        market.send(people::operator(), people::stranger(), Vec::new()).await;
    }
    market.restart().await;
    let rental = market.running(POL).await;
    assert_eq!(market.count("SELECT nonce FROM chain_txs").await, 3);
    assert_eq!(market.told(&rental, "started").await.len(), 1);
}

#[tokio::test]
async fn a_late_word_about_a_final_transaction_changes_nothing() {
    let market = Market::new().await;
    market.running(POL).await;
    let final_tx = "SELECT id FROM chain_txs WHERE state = 'final_ok'";
    let id: uuid::Uuid = sqlx::query_scalar(final_tx).fetch_one(market.store.pool()).await.unwrap();
    let now = market.now().millis();
    market
        .store
        .write("late", move |tx| {
            Box::pin(async move {
                let again = std::time::Duration::from_secs(1);
                txs::broadcast(
                    tx,
                    TxId::from_uuid(id),
                    alloy::primitives::B256::ZERO,
                    now,
                    again,
                    None,
                )
                .await?;
                Ok::<_, TxError<()>>(())
            })
        })
        .await
        .unwrap();
    let still = "SELECT count(*) FROM chain_txs WHERE state = 'final_ok'";
    assert_eq!(market.count(still).await, 1);
}

#[tokio::test]
async fn what_one_nodes_pool_keeps_of_a_dead_transaction_does_not_keep_its_call() {
    let mut market = Market::new().await;
    let one = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    let two = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    market.engine = market.another(&format!("{},{}", one.url(), two.url())).await;
    one.meddle(|method, params, result| {
        if method == "eth_getTransactionByHash" && result.is_null() {
            *result = json!({ "hash": params[0] });
        }
    });
    let rental = with_a_close_on_paper(&market).await;
    market.send(people::operator(), people::stranger(), Vec::new()).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert!(one.calls("eth_getTransactionByHash") > 0, "it was asked");
    assert_eq!(market.count(VOIDED).await, 1);
    market.assert_divided(&rental, rental.parts(rental.deposit, 4)).await;
}

#[tokio::test]
async fn two_watchers_in_step_fail_no_tick() {
    let market = Market::new().await;
    let other = market.another(market.chain.url()).await;
    for _ in 0..3 {
        for _ in 0..8 {
            market.mine().await;
        }
        let (one, two) = tokio::join!(market.engine.watcher.tick(), other.watcher.tick());
        one.unwrap();
        two.unwrap();
    }
}

#[tokio::test]
async fn the_receipt_of_another_transaction_is_no_answer() {
    let (market, proxy) = behind_a_proxy().await;
    let rental = market.running(POL).await;
    let hash = market.steps(&rental).await[0].tx_hash.unwrap();
    let client = chain::ReadClient::connect(proxy.url()).unwrap();
    assert_eq!(client.receipt_of(hash).await.unwrap().unwrap().0.hash, hash);
    proxy.meddle(|method, _, result| {
        if method == "eth_getTransactionReceipt" {
            result["transactionHash"] = json!(B256::repeat_byte(1));
        }
    });
    assert!(matches!(client.receipt_of(hash).await, Err(ChainError::Nonsense(_))));
}
