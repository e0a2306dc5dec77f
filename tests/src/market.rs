//! A market on a chain and a database of its own, whose engine moves when it is told to.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, Bytes, U256, keccak256},
    sol_types::{SolCall, SolConstructor},
};
use chain::ReadClient;
use domain::{
    rental::RentalState,
    time::{Clock as _, UnixSeconds},
};
use escrow::bindings::{Escrow, TestUSDC};
use serde_json::json;
use store::{
    Policy, Store, StoreError, TxError,
    deployment::{self, Deployment},
};
use testkit::{AnvilOptions, DEV_KEYS, ManualClock, TestChain, TestDb};

pub use crate::booking::{self, Booked, POL, policy};

mod engine;
mod look;
mod parties;
mod wallets;

pub use engine::{Engine, cut};
pub use wallets::people;

/// More rounds than anything here needs.
const ROUNDS: usize = 60;
/// Rounds to wait for what may never be final.
const LONG: u64 = 20;
/// What the renter has of the token.
const TOKENS: u64 = 1_000_000_000_000;

pub struct Market {
    pub chain: TestChain,
    pub client: ReadClient,
    pub store: Store,
    pub site: engine::Site,
    pub usdc: Address,
    pub engine: Engine,
    /// Whether the provider signs every end, as its machine does, so that nothing is held.
    pub agreeable: AtomicBool,
    clock: Arc<ManualClock>,
    drift: AtomicI64,
    db_url: String,
    /// Blocks until a block is final.
    finality: u64,
    /// What each account paid for gas so far, in wei.
    gas: Mutex<BTreeMap<Address, u128>>,
}

impl Market {
    /// A block is final when two lie on it.
    pub async fn new() -> Self {
        Self::with_epoch(1).await
    }

    /// A block is final when twice so many lie on it.
    pub async fn with_epoch(slots_in_an_epoch: u32) -> Self {
        let options = AnvilOptions { slots_in_an_epoch, ..AnvilOptions::default() };
        let chain = TestChain::start_with(options).await.unwrap();
        // a second per block, whatever the clock on the wall says
        chain.anvil().call("anvil_setBlockTimestampInterval", json!([1])).await.unwrap();
        let client = ReadClient::connect(chain.url()).unwrap();
        let head = client.head().await.unwrap();
        let clock = Arc::new(ManualClock::new(head.timestamp.millis()));
        let db_url = TestDb::new(Some(&store::MIGRATOR)).await.unwrap().url;
        let store = Store::connect(&db_url, 10, clock.clone(), policy()).await.unwrap();
        let (deployment, usdc) = deploy(&chain, &client).await;
        let site = engine::Site::check(&client, &deployment).await.unwrap();
        record(&store, deployment).await;
        booking::list_tokens(&store, Some(usdc), clock.now().seconds()).await;
        let engine =
            Engine::start(&db_url, chain.url(), clock.clone(), &site, (DEV_KEYS[1], policy()))
                .await;
        engine.lane.take_over().await.unwrap();
        let market = Self {
            chain,
            client,
            store,
            site,
            usdc,
            engine,
            agreeable: AtomicBool::new(true),
            clock,
            drift: AtomicI64::new(0),
            db_url,
            finality: u64::from(slots_in_an_epoch) * 2,
            gas: Mutex::default(),
        };
        let mint = TestUSDC::mintCall { to: people::renter(), amount: U256::from(TOKENS) };
        market.send(people::owner(), usdc, mint.abi_encode()).await;
        market.settle_in().await;
        market
    }

    /// The database's URL.
    pub fn db_url(&self) -> &str {
        &self.db_url
    }

    pub fn now(&self) -> UnixSeconds {
        self.clock.now().seconds()
    }

    /// Our clock follows the chain's, or goes before or after it by what [`Market::drift`] said.
    pub async fn sync(&self) {
        let head = self.client.head().await.unwrap().timestamp.get();
        let now = head.saturating_add_signed(self.drift.load(Ordering::SeqCst));
        self.clock.set(UnixSeconds(now).millis());
    }

    /// From now on our clock is ahead of the chain's by so many seconds, or behind.
    pub async fn drift(&self, seconds: i64) {
        self.drift.store(seconds, Ordering::SeqCst);
        self.sync().await;
    }

    pub async fn mine(&self) {
        self.chain.anvil().call("anvil_mine", json!(["0x1"])).await.unwrap();
        self.sync().await;
    }

    /// Time passes on the chain and for us.
    pub async fn pass(&self, seconds: u64) {
        let head = self.client.head().await.unwrap();
        self.travel(head.timestamp.get() + seconds).await;
    }

    /// The next block is made at that time.
    pub async fn travel(&self, to: u64) {
        self.at(to).await;
        self.mine().await;
    }

    /// The block that comes next will be made at that time.
    pub async fn at(&self, time: u64) {
        self.chain.anvil().call("evm_setNextBlockTimestamp", json!([time])).await.unwrap();
    }

    /// The newest blocks are replaced; of their transactions only those given come back.
    pub async fn reorg(&self, depth: u64, kept: &[Bytes]) {
        // another producer, lest the new blocks come out as the very old ones
        let producer = Address::from_word(keccak256(self.now().get().to_be_bytes()));
        self.chain.anvil().call("anvil_setCoinbase", json!([producer])).await.unwrap();
        let kept: Vec<_> = kept.iter().map(|raw| json!([raw, 0])).collect();
        self.chain.anvil().call("anvil_reorg", json!([depth, kept])).await.unwrap();
        self.sync().await;
    }

    /// Another process of the engine on the same database, as it is at its start.
    pub async fn another(&self, rpc: &str) -> Engine {
        self.another_with(rpc, DEV_KEYS[1], policy()).await
    }

    /// The same with another key to send with.
    pub async fn with_key(&self, rpc: &str, key: &str) -> Engine {
        self.another_with(rpc, key, policy()).await
    }

    /// The same with other timeouts.
    pub async fn another_under(&self, policy: Policy, rpc: &str) -> Engine {
        self.another_with(rpc, DEV_KEYS[1], policy).await
    }

    async fn another_with(&self, rpc: &str, key: &str, policy: Policy) -> Engine {
        Engine::start(&self.db_url, rpc, self.clock.clone(), &self.site, (key, policy)).await
    }

    /// The engine as the worker runs it, to be given to [`::engine::run`].
    pub async fn worker(&self) -> ::engine::Engine {
        Engine::everything(&self.db_url, self.chain.url(), self.clock.clone(), &self.site).await
    }

    /// The engine's process ends and is started again.
    pub async fn restart(&mut self) {
        self.engine = self.another(self.chain.url()).await;
        self.engine.lane.take_over().await.unwrap();
    }

    /// One round of every loop.
    pub async fn tick(&self) {
        self.sync().await;
        self.agree().await;
        self.engine.tick().await.unwrap();
    }

    /// The owner's change, two days after it was announced.
    pub async fn change(&self, change: u8, subject: Address) {
        self.announce(change, subject).await;
        self.pass(48 * 3_600).await;
        let execute = Escrow::executeChangeCall { change, subject };
        self.call(people::owner(), execute.abi_encode()).await;
    }

    pub async fn announce(&self, change: u8, subject: Address) {
        let schedule = Escrow::scheduleChangeCall { change, subject };
        self.call(people::owner(), schedule.abi_encode()).await;
    }

    /// The seconds that are held go where they go by default: nobody disputes for a day.
    pub async fn wait_out(&self, rental: &Booked) {
        self.until(rental, RentalState::Contested).await;
        self.settle_in().await;
        self.pass(24 * 3_600).await;
        self.until(rental, RentalState::Settled).await;
        self.settle_in().await;
    }

    /// Long enough for what happened to be final, and for what that asks for to be final too.
    pub async fn settle_in(&self) {
        for _ in 0..(2 * self.finality + 4).min(LONG) {
            self.tick().await;
            self.mine().await;
        }
        self.tick().await;
    }

    pub async fn until(&self, rental: &Booked, state: RentalState) {
        for _ in 0..ROUNDS {
            if self.state(rental).await == state {
                return;
            }
            self.tick().await;
            self.mine().await;
        }
        panic!("it is {:?}, not {state}", self.rental(rental).await.progress);
    }
}

/// The contract's `Change`s.
pub mod change {
    pub const ADD_OPERATOR: u8 = 1;
    pub const SET_TREASURY: u8 = 2;
}

impl Market {
    /// Another escrow on the same chain, all of whose roles are one account's but for the operator.
    pub async fn another_escrow(&self, owner: Address) -> Address {
        let config = Escrow::Config {
            owner,
            guardian: people::guardian(),
            treasury: owner,
            arbiter: people::arbiter(),
            operators: vec![people::operator()],
            tokens: vec![POL, self.usdc],
        };
        wallets::create(&self.chain, code(config)).await
    }

    /// The engine's process starts anew, with the contract that the database names by now.
    pub async fn move_to_recorded_site(&mut self) {
        let recorded = {
            let mut connection = self.store.read().await.unwrap();
            deployment::get(&mut connection).await.unwrap().unwrap()
        };
        self.site = engine::Site::check(&self.client, &recorded).await.unwrap();
        self.restart().await;
    }
}

fn code(config: Escrow::Config) -> Vec<u8> {
    let mut code = Escrow::BYTECODE.to_vec();
    code.extend(Escrow::constructorCall { config }.abi_encode());
    code
}

/// The escrow and a token that stands for dollars.
async fn deploy(chain: &TestChain, client: &ReadClient) -> (Deployment, Address) {
    let usdc = wallets::create(chain, TestUSDC::BYTECODE.to_vec()).await;
    let config = Escrow::Config {
        owner: people::owner(),
        guardian: people::guardian(),
        treasury: people::treasury(),
        arbiter: people::arbiter(),
        operators: vec![people::operator()],
        tokens: vec![POL, usdc],
    };
    let escrow = wallets::create(chain, code(config)).await;
    let genesis = client.header(BlockNumberOrTag::Earliest).await.unwrap().unwrap();
    let deployment = Deployment {
        chain_id: chain.chain_id(),
        genesis_hash: genesis.hash,
        escrow,
        code_hash: client.code_hash(escrow).await.unwrap().unwrap(),
        deployed_block: 1,
    };
    (deployment, usdc)
}

async fn record(store: &Store, deployment: Deployment) {
    store
        .write("record", move |tx| {
            let deployment = deployment.clone();
            Box::pin(async move {
                deployment::record(tx, &deployment).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
}
