//! A node that fails, hangs or is late now and then costs milliseconds; what it says of a question is an answer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use alloy::primitives::Address;
use chain::{ChainError, FeePolicy, ReadClient, Refused, SendOutcome, Signer, TxFields, Wire};
use serde_json::json;
use testkit::{DEV_KEYS, Faults, RpcProxy, TestChain};
use tokio::time::{Instant, sleep};

async fn before(chain: &TestChain, seed: u64) -> RpcProxy {
    RpcProxy::before(chain.url(), seed).await.unwrap()
}

/// A client that knows how long answers take.
async fn warm(urls: &str) -> ReadClient {
    let client = ReadClient::connect(urls).unwrap();
    for _ in 0..10 {
        client.head().await.unwrap();
    }
    client
}

fn hang() -> Faults {
    Faults { hang: 1_000, hang_for: Duration::from_secs(20), ..Faults::default() }
}

#[tokio::test]
async fn in_a_storm_questions_are_answered_within_milliseconds() {
    let chain = TestChain::start().await.unwrap();
    let proxy = before(&chain, 11).await;
    let client = warm(proxy.url()).await;
    proxy.set(Faults::storm());
    let mut times = Vec::new();
    let mut unanswered = 0;
    for _ in 0..120 {
        let begun = Instant::now();
        unanswered += u32::from(client.chain_id().await.is_err());
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    // one in 160 is due
    assert!(unanswered <= 4, "{unanswered} of {} have no answer", times.len());
    assert!(times[60] < Duration::from_secs(1), "median {:?}", times[60]);
    // it has eight seconds, and six tries one after the other could hang for thirty
    assert!(*times.last().unwrap() <= Duration::from_secs(16), "{:?}", times.last());
    assert!(proxy.requests() > 180, "{} requests", proxy.requests());
}

#[tokio::test]
async fn a_second_try_goes_beside_one_that_hangs() {
    let chain = TestChain::start().await.unwrap();
    let proxy = before(&chain, 1).await;
    let client = warm(proxy.url()).await;
    let requests = proxy.requests();
    proxy.set(hang());
    let asked = tokio::spawn(async move { (client.head().await, Instant::now()) });
    let begun = Instant::now();
    while proxy.requests() == requests {
        sleep(Duration::from_millis(5)).await;
    }
    proxy.behave();
    let (answer, at) = asked.await.unwrap();
    answer.unwrap();
    assert!(at - begun < Duration::from_secs(5), "{:?}, where five seconds hang", at - begun);
    assert_eq!(proxy.requests() - requests, 2);
}

#[tokio::test]
async fn work_that_hangs_has_one_other_beside_it_and_no_more() {
    let chain = TestChain::start().await.unwrap();
    let proxy = before(&chain, 1).await;
    let client = warm(proxy.url()).await;
    let range =
        |client: ReadClient| async move { client.logs_between((0, 0), Address::ZERO).await };
    proxy.set(hang());
    let asked = tokio::spawn(range(client.clone()));
    while proxy.calls("eth_getLogs") < 2 {
        assert!(!asked.is_finished(), "one hangs, and there is no other beside it");
        sleep(Duration::from_millis(5)).await;
    }
    // until these two are given up, there is no third
    assert!(asked.await.unwrap().is_err());
    assert!(proxy.calls("eth_getLogs") <= 4, "{}", proxy.calls("eth_getLogs"));
    proxy.behave();
    range(client).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_soon_left_alone() {
    let chain = TestChain::start().await.unwrap();
    let (one, two) = (before(&chain, 1).await, before(&chain, 2).await);
    let client = warm(&format!("{},{}", one.url(), two.url())).await;
    // the other, too, on a machine that was busy with something else for a moment
    assert!(two.requests() < one.requests());
    one.set(hang());
    let begun = Instant::now();
    client.head().await.unwrap();
    // a try that hangs is given up after five seconds
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let asked = one.requests();
    for _ in 0..20 {
        client.head().await.unwrap();
    }
    assert!(one.requests() <= asked + 8, "it rests, and the other is asked first");
}

#[tokio::test]
async fn a_question_that_nobody_answers_ends_in_its_time_and_with_few_requests() {
    let chain = TestChain::start().await.unwrap();
    let proxy = before(&chain, 1).await;
    let client = warm(proxy.url()).await;
    for faults in [hang(), Faults { http: 1_000, ..Faults::default() }] {
        let requests = proxy.requests();
        proxy.set(faults);
        let begun = Instant::now();
        let answer = client.head().await;
        assert!(matches!(answer, Err(ChainError::Unavailable(_))), "{answer:?}");
        // it has eight seconds, and what hangs does so for twenty
        assert!(begun.elapsed() < Duration::from_secs(16), "{:?}", begun.elapsed());
        let asked = proxy.requests() - requests;
        assert!((2..=6).contains(&asked), "{asked} requests");
    }
    proxy.behave();
    client.head().await.unwrap();
}

#[tokio::test]
async fn what_a_node_says_of_a_question_is_asked_for_once() {
    let chain = TestChain::start().await.unwrap();
    let proxy = before(&chain, 1).await;
    let client = warm(proxy.url()).await;
    let errors = [
        json!({ "code": -32_000, "message": "header not found" }),
        json!({ "code": -32_602, "message": "invalid argument" }),
        json!({ "code": 3, "message": "execution reverted", "data": "0x01020304" }),
    ];
    for error in errors {
        let requests = proxy.requests();
        let told = error.clone();
        proxy.refuse(move |_, _| Some(told.clone()));
        let answer = client.call(Address::ZERO, vec![1]).await;
        let is_answer =
            matches!(answer, Err(ChainError::Refused { .. } | ChainError::Reverts { .. }));
        assert!(is_answer, "{error}: {answer:?}");
        assert_eq!(proxy.requests() - requests, 1, "{error}");
    }
}

#[tokio::test]
async fn bytes_are_sent_again_at_once_where_nobody_knows_and_only_there() {
    let chain = TestChain::start().await.unwrap();
    let proxy = before(&chain, 1).await;
    let client = warm(proxy.url()).await;
    let wire = Wire::new(client.clone());
    let signer: Signer = DEV_KEYS[8].parse().unwrap();
    let policy = FeePolicy { tip_floor: 1_000_000_000, max_fee_ceiling: 500_000_000_000 };
    let head = client.head().await.unwrap();
    let raw = |nonce| {
        let fields = TxFields {
            chain_id: chain.chain_id(),
            nonce,
            to: Address::ZERO,
            calldata: Vec::new().into(),
            gas_limit: 30_000,
            access_list: Default::default(),
            fees: policy.fees(head.base_fee, 0),
        };
        signer.sign(&fields).unwrap().raw.to_vec()
    };

    // taken, but the answer is lost: the second time the node knows it already
    proxy.set(Faults { cut_after: 1_000, ..Faults::default() });
    let sending = tokio::spawn({
        let (wire, raw) = (wire.clone(), raw(0));
        async move { wire.send(&raw).await }
    });
    while proxy.calls("eth_sendRawTransaction") == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    proxy.behave();
    let outcome = sending.await.unwrap();
    // mined meanwhile is as good
    let known = [SendOutcome::Accepted, SendOutcome::Refused(Refused::NonceTooLow)];
    assert!(known.contains(&outcome), "{outcome:?}");

    let (sent, seen) = (proxy.calls("eth_sendRawTransaction"), AtomicU64::new(0));
    proxy.refuse(move |method, _| {
        let first = method == "eth_sendRawTransaction" && seen.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| json!({ "code": -32_603, "message": "internal error" }))
    });
    assert_eq!(wire.send(&raw(1)).await, SendOutcome::Accepted);
    assert_eq!(proxy.calls("eth_sendRawTransaction") - sent, 2);

    let sent = proxy.calls("eth_sendRawTransaction");
    proxy.refuse(|_, _| Some(json!({ "code": -32_000, "message": "insufficient funds" })));
    assert_eq!(wire.send(&raw(2)).await, SendOutcome::Refused(Refused::PoorSigner));
    assert_eq!(proxy.calls("eth_sendRawTransaction") - sent, 1);

    // a node that never knows is not sent to for ever
    let sent = proxy.calls("eth_sendRawTransaction");
    proxy.refuse(|_, _| Some(json!({ "code": -32_603, "message": "internal error" })));
    assert!(matches!(wire.send(&raw(2)).await, SendOutcome::Unknown(_)));
    assert_eq!(proxy.calls("eth_sendRawTransaction") - sent, 3);
}

#[tokio::test]
async fn a_refusal_beside_a_try_that_is_only_late_is_not_the_answer() {
    let chain = TestChain::start().await.unwrap();
    let (one, two) = (before(&chain, 1).await, before(&chain, 2).await);
    let client = warm(&format!("{},{}", one.url(), two.url())).await;
    let delay_up_to = Duration::from_millis(300);
    one.set(Faults { delay: 1_000, delay_up_to, ..Faults::default() });
    two.refuse(|method, _| {
        let asked = method == "eth_getBlockByNumber";
        asked.then(|| json!({ "code": -32_000, "message": "header not found" }))
    });
    for _ in 0..12 {
        client.head().await.unwrap();
    }
    assert!(two.calls("eth_getBlockByNumber") > 0, "it was asked, and refused");
    // where nobody else answers, it is the answer, and soon
    one.set(hang());
    let begun = Instant::now();
    assert!(matches!(client.head().await, Err(ChainError::Refused { .. })));
    // before the eight seconds of a question are over
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_witness_that_hangs_soon_rests() {
    let chain = TestChain::start().await.unwrap();
    let (one, two) = (before(&chain, 1).await, before(&chain, 2).await);
    let client = warm(&format!("{},{}", one.url(), two.url())).await;
    two.set(hang());
    for _ in 0..3 {
        assert_eq!(client.each_hash_at(0).await.len(), 2);
    }
    let asked = two.requests();
    assert_eq!(client.each_hash_at(0).await.len(), 1, "it rests");
    assert_eq!(two.requests(), asked);
}
