//! Tokens' prices from feeds on a chain: what is believed, what is not, and what that leaves in the store.

use alloy::{
    primitives::{Address, I256, U256, Uint},
    sol_types::{SolCall, SolConstructor},
};
use domain::{
    money::Decimals,
    time::{Seconds, UnixSeconds},
};
use engine::{Oracle, Priced};
use escrow::bindings::LocalFeed;
use serde_json::json;
use store::{
    StoreError, TxError, feeds,
    tokens::{self, Token},
};
use testkit::RpcProxy;
use tests::market::{Market, POL, people};

const MAX_AGE: Seconds = Seconds(3_600);

/// A market whose coin is priced by a feed at 0.40 dollars.
struct Scene {
    market: Market,
    oracle: Oracle,
    feed: Address,
}

impl Scene {
    async fn new() -> Self {
        let market = Market::new().await;
        let constructor = LocalFeed::constructorCall {
            decimals_: 8,
            description_: "POL / USD".to_owned(),
            answer_: I256::try_from(40_000_000).unwrap(),
        };
        let code = [LocalFeed::BYTECODE.to_vec(), constructor.abi_encode()].concat();
        let feed = market.deploy(code).await;
        let oracle = Oracle::new(market.store.clone(), market.client.clone());
        let scene = Self { market, oracle, feed };
        scene.name(feed, 8).await;
        scene
    }

    async fn name(&self, feed: Address, decimals: u8) {
        let decimals = Decimals::new(decimals).unwrap();
        self.market
            .store
            .write("name", move |tx| {
                Box::pin(async move {
                    Ok::<_, TxError<StoreError>>(
                        feeds::name(tx, POL, feed, decimals, MAX_AGE).await?,
                    )
                })
            })
            .await
            .unwrap();
    }

    async fn tell(&self, call: impl SolCall) {
        self.market.send(people::owner(), self.feed, call.abi_encode()).await;
        self.settle().await;
    }

    /// What was sent is final.
    async fn settle(&self) {
        for _ in 0..4 {
            self.market.mine().await;
        }
    }

    async fn round(&self, id: u64, answer: i64, at: UnixSeconds, answered_in: u64) {
        self.tell(LocalFeed::setRoundCall {
            roundId_: Uint::from(id),
            answer_: I256::try_from(answer).unwrap(),
            updatedAt_: U256::from(at.get()),
            answeredInRound_: Uint::from(answered_in),
        })
        .await;
    }

    async fn tick(&self) -> Priced {
        self.oracle.tick().await.unwrap()
    }

    async fn is_doubted(&self) -> bool {
        let mut connection = self.market.store.read().await.unwrap();
        sqlx::query_scalar("SELECT doubted_at IS NOT NULL FROM price_feeds WHERE token = $1")
            .bind(POL.as_slice())
            .fetch_one(&mut *connection)
            .await
            .unwrap()
    }

    async fn token(&self) -> Token {
        let mut connection = self.market.store.read().await.unwrap();
        tokens::at(&mut connection, POL).await.unwrap().unwrap()
    }
}

const TAKEN: Priced = Priced { taken: 1, refused: 0 };
const REFUSED: Priced = Priced { taken: 0, refused: 1 };

#[tokio::test]
async fn a_final_answer_is_the_tokens_price() {
    let scene = Scene::new().await;
    let before = scene.token().await;
    assert_eq!(before.price_source, "fixed for the test");
    scene.settle().await;
    assert_eq!(scene.tick().await, TAKEN);
    let token = scene.token().await;
    assert_eq!(token.usd.to_string(), "0.400000");
    assert_eq!(token.price_source, format!("chainlink:{}", scene.feed));
    assert!(token.priced_at > UnixSeconds(0) && token.priced_at <= scene.market.now());

    // what is in a block that is not final is no price yet
    let set = LocalFeed::setCall { answer_: I256::try_from(50_000_001).unwrap() };
    scene.market.send(people::owner(), scene.feed, set.abi_encode()).await;
    assert_eq!(scene.tick().await, TAKEN);
    assert_eq!(scene.token().await.usd.to_string(), "0.400000");
    scene.settle().await;
    assert_eq!(scene.tick().await, TAKEN);
    // rounded up
    assert_eq!(scene.token().await.usd.to_string(), "0.500001");
}

#[tokio::test]
async fn what_is_not_believed_changes_nothing() {
    let scene = Scene::new().await;
    scene.settle().await;
    assert_eq!(scene.tick().await, TAKEN);
    let good = scene.token().await;
    let now = scene.market.now();
    let later = |seconds| now.saturating_plus(Seconds(seconds));
    for (id, answer, at, answered_in) in [
        (9, 0, now, 9),
        (9, -40_000_000, now, 9),
        (9, i64::MAX, now, 9),
        (9, 41_000_000, UnixSeconds(0), 9),
        (9, 41_000_000, now, 8),
        (9, 41_000_000, later(10_000), 9),
        (9, 80_000_001, now, 9),
        (9, 19_999_000, now, 9),
        (0, 41_000_000, now, 0),
        (9, 41_000_000, good.priced_at.saturating_minus(Seconds(1)), 9),
    ] {
        scene.round(id, answer, at, answered_in).await;
        assert_eq!(scene.tick().await, REFUSED, "{id} {answer} {at:?} {answered_in}");
        assert_eq!(scene.token().await, good);
    }
    assert!(scene.is_doubted().await, "another price altogether was said");
    scene.round(9, 41_000_000, scene.market.now(), 9).await;
    assert_eq!(scene.tick().await, TAKEN);
    assert!(!scene.is_doubted().await);
    let better = scene.token().await;
    assert_eq!(better.usd.to_string(), "0.410000");

    // the same number in other decimals would be another price
    scene.tell(LocalFeed::setDecimalsCall { decimals_: 6 }).await;
    assert_eq!(scene.tick().await, REFUSED);
    // naming the same feed again does not make it one with other decimals
    scene.name(scene.feed, 6).await;
    assert_eq!(scene.tick().await, REFUSED);
    scene.tell(LocalFeed::setDecimalsCall { decimals_: 8 }).await;
    assert_eq!(scene.tick().await, TAKEN);

    // where nothing answers, or no feed does, the price stays until it is too old
    scene.name(scene.market.usdc, 8).await;
    assert_eq!(scene.tick().await, REFUSED);
    scene.name(Address::repeat_byte(7), 8).await;
    assert_eq!(scene.tick().await, REFUSED);
    assert_eq!(scene.token().await, better);

    // nor is an old answer taken that nobody knew before
    scene.name(scene.feed, 8).await;
    let old = scene.market.now().saturating_minus(MAX_AGE).saturating_minus(Seconds(60));
    scene.round(20, 42_000_000, old, 20).await;
    assert_eq!(scene.tick().await, REFUSED);
    assert_eq!(scene.token().await, better);
}

#[tokio::test]
async fn a_market_without_feeds_asks_nobody() {
    let market = Market::new().await;
    let dead = chain::ReadClient::connect("http://127.0.0.1:9").unwrap();
    let oracle = Oracle::new(market.store.clone(), dead);
    assert_eq!(oracle.tick().await.unwrap(), Priced::default());
}

/// One of two providers names another price: nobody is quoted it, and nobody is while only it answers.
#[tokio::test]
async fn a_provider_that_lies_about_a_price_is_not_believed() {
    let scene = Scene::new().await;
    scene.settle().await;
    let (honest, liar) = (
        RpcProxy::before(scene.market.chain.url(), 1).await.unwrap(),
        RpcProxy::before(scene.market.chain.url(), 1).await.unwrap(),
    );
    let urls = format!("{},{}", honest.url(), liar.url());
    let client = chain::ReadClient::connect(&urls).unwrap();
    let oracle = Oracle::new(scene.market.store.clone(), client);
    liar.meddle(|method, _, result| {
        let Some(told) = result.as_str().filter(|_| method == "eth_call") else { return };
        // of a round's five words the second is the answer, 0x..2625a00
        *result = json!(told.replace("2625a00", "0000001"));
    });
    assert_eq!(oracle.tick().await.unwrap(), REFUSED);
    assert_eq!(scene.token().await.price_source, "fixed for the test");
    honest.die();
    assert_eq!(oracle.tick().await.unwrap(), REFUSED, "one provider is not two");
    assert_eq!(scene.token().await.price_source, "fixed for the test");
    honest.behave();
    liar.behave();
    for _ in 0..120 {
        if oracle.tick().await.is_ok_and(|priced| priced == TAKEN) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    assert_eq!(scene.token().await.usd.to_string(), "0.400000");
}
