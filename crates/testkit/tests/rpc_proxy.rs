//! The fault proxy before a real node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects
)] // a test stops at the first surprise

use std::time::Duration;

use alloy::{
    providers::{Provider as _, RootProvider},
    rpc::client::RpcClient,
    transports::http::Http,
};
use serde_json::{Value, json};
use testkit::{Faults, Finality, RpcProxy, TestChain};

async fn both() -> (TestChain, RpcProxy, RootProvider) {
    let chain = TestChain::start().await.unwrap();
    let proxy = RpcProxy::before(chain.url(), 42).await.unwrap();
    let http = tls::direct(Duration::from_secs(60)).unwrap();
    let transport = Http::with_client(http, proxy.url().parse().unwrap());
    let client = RootProvider::new(RpcClient::new(transport, true));
    (chain, proxy, client)
}

async fn ask(client: &RootProvider, method: &'static str, params: Value) -> Option<Value> {
    client.raw_request::<Value, Value>(method.into(), params).await.ok()
}

#[tokio::test]
async fn it_passes_on_single_calls_and_batches() {
    let (chain, proxy, client) = both().await;
    assert_eq!(client.get_chain_id().await.unwrap(), chain.chain_id());
    let mut batch = alloy::rpc::client::BatchRequest::new(client.client());
    let number = batch.add_call::<_, Value>("eth_blockNumber", &()).unwrap();
    let id = batch.add_call::<_, Value>("eth_chainId", &()).unwrap();
    batch.send().await.unwrap();
    assert_eq!((number.await.unwrap(), id.await.unwrap()), (json!("0x0"), json!("0x7a69")));
    assert_eq!(proxy.counts().get("requests"), Some(&2), "a batch is one request");
}

#[tokio::test]
async fn a_storm_breaks_much_and_not_everything_and_ends() {
    let (_chain, proxy, client) = both().await;
    proxy.set(Faults { hang_for: Duration::from_millis(20), ..Faults::storm() });
    let mut answered = 0_u32;
    for _ in 0..200 {
        answered += u32::from(ask(&client, "eth_chainId", json!([])).await.is_some());
    }
    // 55 % come through
    assert!((60..160).contains(&answered), "{answered} of 200: {:?}", proxy.counts());
    let counts = proxy.counts();
    for what in ["internal errors", "http errors", "hangs", "cuts before", "cuts after", "delays"] {
        assert!(counts.get(what).is_some_and(|count| *count > 0), "{what}: {counts:?}");
    }
    proxy.behave();
    for _ in 0..50 {
        assert_eq!(client.get_chain_id().await.unwrap(), 31_337);
    }
}

#[tokio::test]
async fn a_cut_after_the_node_took_it_loses_the_answer_only() {
    let (chain, proxy, client) = both().await;
    proxy.set(Faults { cut_after: 1_000, ..Faults::default() });
    assert!(ask(&client, "anvil_mine", json!(["0x1"])).await.is_none());
    assert_eq!(chain.anvil().call("eth_blockNumber", json!([])).await.unwrap(), "0x1");
    proxy.set(Faults { cut_before: 1_000, ..Faults::default() });
    assert!(ask(&client, "anvil_mine", json!(["0x1"])).await.is_none());
    assert_eq!(chain.anvil().call("eth_blockNumber", json!([])).await.unwrap(), "0x1");
}

#[tokio::test]
async fn heads_are_old_and_finality_stands_still() {
    let (chain, proxy, client) = both().await;
    chain.anvil().call("anvil_mine", json!(["0x14"])).await.unwrap();
    proxy.set(Faults { stale: 1_000, ..Faults::default() });
    for _ in 0..20 {
        let head = client.get_block_number().await.unwrap();
        assert!((17..=19).contains(&head), "{head}");
        let block = ask(&client, "eth_getBlockByNumber", json!(["0x14", false])).await.unwrap();
        assert!(block.is_null(), "the newest block is not there yet");
    }
    let about = json!(["finalized", false]);
    proxy.set(Faults { finality: Finality::Stuck(5), ..Faults::default() });
    let block = ask(&client, "eth_getBlockByNumber", about.clone()).await.unwrap();
    assert_eq!(block["number"], "0x5");
    proxy.set(Faults { finality: Finality::Null, ..Faults::default() });
    assert!(ask(&client, "eth_getBlockByNumber", about.clone()).await.unwrap().is_null());
    proxy.behave();
    let block = ask(&client, "eth_getBlockByNumber", about).await.unwrap();
    assert_eq!(block["number"], "0x12");
}
