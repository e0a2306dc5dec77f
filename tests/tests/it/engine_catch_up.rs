//! Days without us: what lies far below the final block is read in ranges, and nothing in it is missed.

use chain::ChainError;
use domain::rental::{LockStatus, RentalState};
use engine::EngineError;
use serde_json::{Value, json};
use testkit::RpcProxy;
use tests::market::{Booked, Engine, Market, POL, cut, people};

/// Blocks between two events while a rental can still be funded, and when nothing happens.
const SHORT: u64 = 300;
const QUIET: u64 = 1_300;
/// All of them, less what is read one by one near the end.
const FAR: u64 = 2 * (SHORT + QUIET) - 200;

async fn mine(market: &Market, blocks: u64) {
    for at in (0..blocks).step_by(100) {
        let some = json!([format!("{:#x}", 100.min(blocks - at))]);
        market.chain.anvil().call("anvil_mine", some).await.unwrap();
    }
}

/// Rentals of which one is locked, one topped up, and one closed by bytes of ours, while nobody watched for
/// thousands of blocks.
struct Missed {
    market: Market,
    locked: Booked,
    topped: Booked,
    closed: Booked,
}

async fn missed() -> Missed {
    let market = Market::new().await;
    let closed = market.running(market.usdc).await;
    market.run_for(&closed, 5).await;
    market.stop(&closed).await;
    market.sync().await;
    market.engine.lane.tick().await.unwrap();
    mine(&market, SHORT).await;
    let topped = market.book().await;
    market.lock(&topped, topped.deposit).await;
    mine(&market, SHORT).await;
    market.top_up(people::stranger(), &topped, topped.deposit).await;
    mine(&market, QUIET).await;
    let locked = market.book().await;
    market.lock(&locked, locked.deposit).await;
    mine(&market, QUIET).await;
    market.sync().await;
    Missed { market, locked, topped, closed }
}

impl Missed {
    /// Everything that happened is known, once.
    async fn assert_caught_up(&self, engine: &Engine) {
        let Self { market, locked, topped, closed } = self;
        assert_eq!(market.progress(locked).await.lock, LockStatus::Final);
        assert_eq!(market.rental(topped).await.locked.get(), 2 * topped.deposit.get());
        assert_eq!(market.state(closed).await, RentalState::Settled);
        for (rental, name) in [(locked, "locked"), (topped, "topped_up"), (closed, "closed")] {
            assert_eq!(market.seen(rental, name).await.len(), 1, "{name}");
        }
        let ours = "SELECT count(*) FROM chain_txs WHERE state = 'final_ok'";
        assert_eq!(market.count(ours).await, 2, "the start and the close");
        let report = engine.reconciler.tick().await.unwrap().unwrap();
        assert!(report.agrees(), "{report:?}");
        let head = market.client.head().await.unwrap();
        let tip: i64 = market.count("SELECT max(number) FROM chain_blocks").await;
        assert_eq!(u64::try_from(tip).unwrap(), head.number);
        // the parent-hash rule holds again from before the part that is not final
        let broken =
            "SELECT count(*) FROM chain_blocks b JOIN chain_blocks p ON p.number = b.number - 1
                      WHERE p.hash <> b.parent_hash";
        assert_eq!(market.count(broken).await, 0);
        let linked =
            "SELECT count(*) FROM chain_blocks b JOIN chain_blocks p ON p.number = b.number - 1";
        assert!(market.count(linked).await >= 16);
    }
}

#[tokio::test]
async fn two_endpoints_are_asked_a_few_dozen_times_for_thousands_of_blocks() {
    let missed = missed().await;
    let one = RpcProxy::before(missed.market.chain.url(), 1).await.unwrap();
    let two = RpcProxy::before(missed.market.chain.url(), 1).await.unwrap();
    let engine = missed.market.another(&format!("{},{}", one.url(), two.url())).await;
    let watched = engine.watcher.tick().await.unwrap();
    assert!(watched.ranged > FAR, "{watched:?}");
    missed.assert_caught_up(&engine).await;
    let calls = one.requests() + two.requests();
    assert!(calls < 250, "{calls} requests for {} blocks", watched.ranged);
}

#[tokio::test]
async fn one_endpoint_is_asked_for_all_headers_in_batches() {
    let missed = missed().await;
    let proxy = RpcProxy::before(missed.market.chain.url(), 1).await.unwrap();
    let engine = missed.market.another(proxy.url()).await;
    let watched = engine.watcher.tick().await.unwrap();
    assert!(watched.ranged > FAR, "{watched:?}");
    missed.assert_caught_up(&engine).await;
    let requests = proxy.requests();
    assert!(requests < 300, "{requests} requests for {} blocks", watched.ranged);
}

/// A range of logs loses its newest log.
fn truncate(method: &str, params: &Value, result: &mut Value) {
    let is_range = method == "eth_getLogs" && params[0].get("fromBlock").is_some();
    if let (true, Some(logs)) = (is_range, result.as_array_mut()) {
        logs.pop();
    }
}

#[tokio::test]
async fn logs_that_a_node_leaves_out_of_a_range_are_noticed() {
    let missed = missed().await;
    let one = RpcProxy::before(missed.market.chain.url(), 1).await.unwrap();
    let two = RpcProxy::before(missed.market.chain.url(), 1).await.unwrap();
    one.meddle(truncate);
    for (urls, says) in [
        (one.url().to_owned(), "it left out logs of block"),
        (format!("{},{}", one.url(), two.url()), "two endpoints tell different logs"),
    ] {
        let engine = missed.market.another(&urls).await;
        for _ in 0..2 {
            let error = engine.watcher.tick().await.unwrap_err();
            assert!(matches!(error, EngineError::Chain(ChainError::Unavailable(_))), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
    one.behave();
    let engine = missed.market.another(one.url()).await;
    engine.watcher.tick().await.unwrap();
    missed.assert_caught_up(&engine).await;
}

#[tokio::test]
async fn a_range_shrinks_to_what_a_provider_allows() {
    let missed = missed().await;
    let proxy = RpcProxy::before(missed.market.chain.url(), 1).await.unwrap();
    proxy.refuse(|method, params| {
        let number = |name: &str| {
            let text = params[0].get(name)?.as_str()?.strip_prefix("0x")?;
            u64::from_str_radix(text, 16).ok()
        };
        let (from, to) = (number("fromBlock")?, number("toBlock")?);
        let refused = method == "eth_getLogs" && to - from >= 500;
        refused.then(
            || json!({ "code": -32_005, "message": "query returned more than 10000 results" }),
        )
    });
    let engine = missed.market.another(proxy.url()).await;
    for _ in 0..10 {
        if engine.watcher.tick().await.unwrap().ranged == 0 {
            break;
        }
    }
    missed.assert_caught_up(&engine).await;
    let ranges = proxy.calls("eth_getLogs");
    assert!(ranges < 150, "{ranges} ranges");
}

#[tokio::test]
async fn whoever_is_killed_while_catching_up_goes_on_from_there() {
    let missed = missed().await;
    let market = &missed.market;
    let proxy = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    // small ranges, so that there is much to be killed in
    proxy.refuse(|method, params| {
        let number = |name: &str| {
            let text = params[0].get(name)?.as_str()?.strip_prefix("0x")?;
            u64::from_str_radix(text, 16).ok()
        };
        let (from, to) = (number("fromBlock")?, number("toBlock")?);
        let refused = method == "eth_getLogs" && to - from >= 400;
        refused.then(|| json!({ "code": -32_602, "message": "block range is too wide" }))
    });
    let mut polls = 40;
    let mut tips = Vec::new();
    for _ in 0..200 {
        let engine = market.another(proxy.url()).await;
        let done = cut(engine.watcher.tick(), polls).await;
        tips.push(market.count("SELECT max(number) FROM chain_blocks").await);
        polls += 17;
        if let Some(Ok(watched)) = done
            && watched.ranged == 0
        {
            break;
        }
    }
    assert!(tips.is_sorted(), "{tips:?}");
    assert!(
        tips.iter().filter(|tip| **tip > tips[0]).count() > 1,
        "killed in the middle: {tips:?}"
    );
    let engine = market.another(proxy.url()).await;
    engine.watcher.tick().await.unwrap();
    missed.assert_caught_up(&engine).await;
}

#[tokio::test]
async fn a_new_database_reads_a_long_history_from_the_first_block() {
    let market = Market::new().await;
    let rental = market.book_in(POL).await;
    market.lock(&rental, rental.deposit).await;
    mine(&market, 2 * QUIET).await;
    market.sync().await;
    market.tamper("DELETE FROM chain_blocks").await;
    let proxy = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    let engine = market.another(proxy.url()).await;
    let watched = engine.watcher.tick().await.unwrap();
    assert!(watched.ranged > 2 * QUIET - 200, "{watched:?}");
    assert_eq!(market.progress(&rental).await.lock, LockStatus::Final);
    let events = "SELECT count(*) FROM chain_events WHERE name IN ('treasury_set', 'locked')";
    assert_eq!(market.count(events).await, 2);
    assert!(engine.reconciler.tick().await.unwrap().unwrap().agrees());
}
