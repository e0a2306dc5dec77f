//! Several RPC endpoints: one that fails costs nothing, one that refuses is no failure, and two must agree.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256},
};
use chain::{
    ChainError, FeePolicy, Identity, ReadClient, Refused, SendOutcome, Signer, TxFields, Wire,
};
use domain::rental::{LockStatus, RentalState};
use engine::{EngineError, Site};
use serde_json::{Value, json};
use store::deployment;
use testkit::{DEV_KEYS, RpcProxy, TestChain, free_port};
use tests::market::{Market, POL, people};

/// A market whose engine asks two nodes, and the two.
async fn with_two() -> (Market, RpcProxy, RpcProxy) {
    let mut market = Market::new().await;
    let (one, two) = two(&market.chain).await;
    market.engine = market.another(&format!("{}, {}", one.url(), two.url())).await;
    (market, one, two)
}

async fn two(chain: &TestChain) -> (RpcProxy, RpcProxy) {
    (
        RpcProxy::before(chain.url(), 1).await.unwrap(),
        RpcProxy::before(chain.url(), 1).await.unwrap(),
    )
}

fn client(one: &RpcProxy, two: &RpcProxy) -> ReadClient {
    ReadClient::connect(&format!("{},{}", one.url(), two.url())).unwrap()
}

fn refused(code: i64, message: &str) -> Option<Value> {
    Some(json!({ "code": code, "message": message }))
}

#[tokio::test]
async fn a_dead_endpoint_is_left_alone_and_the_other_answers() {
    let chain = TestChain::start().await.unwrap();
    let (one, two) = two(&chain).await;
    let client = client(&one, &two);
    client.head().await.unwrap();
    assert_eq!((one.requests(), two.requests()), (1, 0));
    one.die();
    for _ in 0..30 {
        client.head().await.unwrap();
    }
    assert!(one.requests() <= 3, "the one that answered last stays preferred");
    assert_eq!(two.requests(), 30);
    two.die();
    assert!(matches!(client.head().await, Err(ChainError::Unavailable(_))));
    for _ in 0..10 {
        assert!(client.head().await.is_err());
    }
    // both rest now: nobody else is there, so they are asked all the same
    two.behave();
    client.head().await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_costs_no_endpoint_its_place() {
    let chain = TestChain::start().await.unwrap();
    let (one, two) = two(&chain).await;
    let client = client(&one, &two);
    one.refuse(|method, _| {
        if method == "eth_getTransactionCount" {
            refused(-32_000, "header not found")
        } else {
            None
        }
    });
    for _ in 0..10 {
        let answer = client.nonce(people::stranger()).await;
        assert!(matches!(answer, Err(ChainError::Refused { code: -32_000, .. })), "{answer:?}");
    }
    assert_eq!(two.requests(), 0, "nobody else is asked");
    // OpenZeppelin relayer #681: one bad request, tried everywhere, paused every provider
    for proxy in [&one, &two] {
        proxy.refuse(
            |method, _| {
                if method == "eth_call" { refused(-32_603, "internal error") } else { None }
            },
        );
    }
    for _ in 0..10 {
        let answer = client.call(Address::ZERO, vec![1]).await;
        assert!(matches!(answer, Err(ChainError::Refused { code: -32_603, .. })), "{answer:?}");
    }
    let before = (one.requests(), two.requests());
    for _ in 0..5 {
        client.head().await.unwrap();
    }
    let asked = (one.requests() - before.0, two.requests() - before.1);
    assert_eq!(asked.0 + asked.1, 5, "no endpoint is passed over as ill");
}

/// A chain with another first block: anvils that start in the same second have the same.
async fn other_than(genesis: B256) -> TestChain {
    for _ in 0..100 {
        let chain = TestChain::start().await.unwrap();
        let client = ReadClient::connect(chain.url()).unwrap();
        let first = client.header(BlockNumberOrTag::Earliest).await.unwrap().unwrap();
        if first.hash != genesis {
            return chain;
        }
    }
    panic!("a hundred chains with one first block");
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_refused_whenever_it_shows_itself() {
    let market = Market::new().await;
    let recorded = {
        let mut connection = market.store.read().await.unwrap();
        deployment::get(&mut connection).await.unwrap().unwrap()
    };
    // the same chain id, another first block
    let other = other_than(recorded.genesis_hash).await;
    let client = ReadClient::connect(&format!("{},{}", market.chain.url(), other.url())).unwrap();
    let error = Site::check(&client, &recorded).await.unwrap_err();
    assert!(matches!(error, EngineError::WrongChain(_)), "{error}");
    assert!(error.to_string().contains("another chain with the same id"), "{error}");

    // one that does not answer at the start is looked at when it does
    let silent = RpcProxy::before(other.url(), 1).await.unwrap();
    silent.die();
    let honest = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    let client = self::client(&honest, &silent);
    Site::check(&client, &recorded).await.unwrap();
    honest.die();
    silent.behave();
    let answer = client.head().await;
    assert!(
        matches!(answer, Err(ChainError::Nonsense(_) | ChainError::Unavailable(_))),
        "{answer:?}"
    );
    assert_eq!(silent.calls("eth_sendRawTransaction"), 0);
    honest.behave();
    client.head().await.unwrap();

    let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
    let client = ReadClient::connect(&nobody).unwrap();
    client.expect(Identity { chain_id: 1, genesis: B256::ZERO });
    assert!(matches!(Site::check(&client, &recorded).await, Err(EngineError::Chain(_))));
}

#[test]
fn a_list_of_endpoints_is_one_of_different_ones() {
    for (urls, says) in [
        ("", "0 RPC URLs"),
        (" , ", "0 RPC URLs"),
        ("http://a/k,http://a/k", "twice"),
        ("no url", "an RPC URL"),
        (
            "http://1,http://2,http://3,http://4,http://5,http://6,http://7,http://8,http://9",
            "9 RPC",
        ),
    ] {
        let error = ReadClient::connect(urls).unwrap_err().to_string();
        assert!(error.contains(says), "{urls}: {error}");
    }
    assert_eq!(ReadClient::connect("http://a/k, http://a/l,").unwrap().endpoints(), 2);
}

/// A transfer of nothing, signed with a nonce.
async fn raw(client: &ReadClient, nonce: u64) -> Vec<u8> {
    let signer: Signer = DEV_KEYS[9].parse().unwrap();
    let policy = FeePolicy { tip_floor: 1_000_000_000, max_fee_ceiling: 500_000_000_000 };
    let head = client.head().await.unwrap();
    let fields = TxFields {
        chain_id: client.chain_id().await.unwrap(),
        nonce,
        to: people::owner(),
        calldata: Vec::new().into(),
        gas_limit: 30_000,
        access_list: Default::default(),
        fees: policy.fees(head.base_fee, 0),
    };
    signer.sign(&fields).unwrap().raw.to_vec()
}

#[tokio::test]
async fn bytes_go_to_every_endpoint_and_one_that_takes_them_is_enough() {
    let chain = TestChain::start().await.unwrap();
    let (one, two) = two(&chain).await;
    let client = client(&one, &two);
    let wire = Wire::new(client.clone());
    let first = raw(&client, 0).await;
    one.die();
    assert_eq!(wire.send(&first).await, SendOutcome::Accepted, "the other has taken them");
    one.behave();
    let mined = async || client.nonce(people::stranger()).await.unwrap() == 1;
    for _ in 0..3_000 {
        if mined().await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(mined().await);
    assert_eq!(wire.send(&first).await, SendOutcome::Refused(Refused::NonceTooLow), "all say so");
    two.refuse(|method, _| {
        let send = method == "eth_sendRawTransaction";
        if send { refused(-32_603, "nonce too low") } else { None }
    });
    let unsure = wire.send(&first).await;
    assert!(matches!(unsure, SendOutcome::Unknown(_)), "one does not know: {unsure:?}");
    two.refuse(|method, _| {
        let send = method == "eth_sendRawTransaction";
        if send { refused(-32_000, "insufficient funds") } else { None }
    });
    let unsure = wire.send(&first).await;
    assert!(matches!(unsure, SendOutcome::Unknown(_)), "they differ: {unsure:?}");
    one.die();
    two.die();
    assert!(matches!(wire.send(&first).await, SendOutcome::Unknown(_)));
}

#[tokio::test]
async fn one_node_of_two_may_fail_at_any_time_and_a_rental_settles_all_the_same() {
    let (market, one, two) = with_two().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    // the second node is needed for finality, the first for nothing
    one.refuse(
        |method, _| {
            if method == "eth_estimateGas" { refused(-32_603, "internal error") } else { None }
        },
    );
    market.make_active(&rental).await;
    one.behave();
    market.run_for(&rental, 5).await;
    market.stop(&rental).await;
    one.die();
    for _ in 0..6 {
        market.tick().await;
        market.mine().await;
    }
    assert_eq!(market.state(&rental).await, RentalState::Settling, "one word is not enough");
    assert_eq!(market.told(&rental, "closed").await.len(), 1, "but it was sent");
    one.behave();
    // the endpoint rests for a moment after its failures
    for _ in 0..300 {
        if market.state(&rental).await == RentalState::Settled {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        market.tick().await;
        market.mine().await;
    }
    assert_eq!(market.state(&rental).await, RentalState::Settled);
    market.settle_in().await;
    market.assert_divided(&rental, rental.parts(rental.deposit, 5)).await;
    assert!(two.requests() > 0);
}

#[tokio::test]
async fn nothing_is_final_while_two_providers_have_different_blocks() {
    let (market, one, two) = with_two().await;
    let rental = market.book().await;
    market.settle_in().await;
    // the one that is not asked first tells something else
    let before = (one.requests(), two.requests());
    market.tick().await;
    let asked = (one.requests() - before.0, two.requests() - before.1);
    let two = if asked.0 < asked.1 { one } else { two };
    for other_hash in [true, false] {
        two.meddle(move |method, params, result| {
            let numbered = params[0].as_str().is_some_and(|at| at.starts_with("0x"));
            if method == "eth_getBlockByNumber" && numbered {
                if other_hash {
                    result["hash"] = json!(B256::repeat_byte(0xbb));
                } else {
                    *result = Value::Null;
                }
            }
        });
        if other_hash {
            market.lock(&rental, rental.deposit).await;
        }
        for _ in 0..8 {
            // where the honest one is late, the other may be asked, and its answer leads nowhere
            market.engine.tick().await.ok();
            market.mine().await;
        }
        assert_eq!(market.progress(&rental).await.lock, LockStatus::Included);
        assert_eq!(market.count("SELECT count(*) FROM ledger_postings").await, 0);
    }
    two.behave();
    market.settle_in().await;
    assert_eq!(market.progress(&rental).await.lock, LockStatus::Final);
    assert_eq!(market.rental(&rental).await.locked, rental.deposit);
    let held = market.client.token_balance(POL, market.site.escrow, BlockId::latest()).await;
    assert_eq!(held.unwrap().to::<u128>(), rental.deposit.get());
    market.assert_reconciled().await;
}
