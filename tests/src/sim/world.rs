//! One seed's world: the chain, the clock, the database, two workers of the engine, and who rents from whom.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use alloy::{
    primitives::{Address, address, keccak256},
    signers::local::PrivateKeySigner,
    sol_types::SolEvent,
};
use domain::{
    money::FeeBps,
    time::{Seconds, UnixSeconds},
};
use engine::{Conductor, EngineError, Lane, LaneSettings, Reconciler, Site, Watcher};
use escrow::{bindings::Escrow, signed};
use store::{
    Policy, Store, StoreError, TxError,
    deployment::{self, Deployment},
};
use testkit::{DEV_ADDRESSES, DEV_KEYS, ManualClock, TestDb};

use super::{
    chain::Chain,
    contract::Deployed,
    faults::Faults,
    parties::Tenancy,
    state::{Emitted, State},
    trace::Trace,
    transport::Wire,
};
use crate::{booking, random::Random};

pub const CHAIN_ID: u64 = 31_337;
pub const ESCROW: Address = address!("00000000000000000000000000000000000e5c20");
pub const TOKEN: Address = address!("00000000000000000000000000000000000005dc");
const BEGINNING: u64 = 1_800_000_000;
const PURSE: u128 = 1_000_000_000_000_000_000_000_000;
const WORKERS: usize = 2;

const SETTINGS: LaneSettings = LaneSettings {
    batch: 16,
    ..LaneSettings::with_fees(chain::FeePolicy {
        tip_floor: 25_000_000_000,
        max_fee_ceiling: 500_000_000_000,
    })
};

/// Short waits, so that a seed sees many of their ends.
fn policy() -> Policy {
    Policy {
        fee: FeeBps::quotable(booking::FEE_BPS).unwrap(),
        quote_ttl: Seconds(120),
        funding_ttl: Seconds(180),
        ready_ttl: Seconds(240),
        evidence_timeout: Seconds(60),
        max_outage: Seconds(240),
        expiring_lead: Seconds(300),
        stop_grace: Seconds(60),
        holdback: Seconds::ZERO,
        release_every: Seconds(104),
        start_slack: Seconds(300),
    }
}

/// The engine's loops as one process holds them.
pub struct Worker {
    pub lane: Lane,
    pub watcher: Watcher,
    pub conductor: Conductor,
}

impl Worker {
    fn start(store: &Store, wire: &Wire, site: &Site) -> Self {
        let client = wire.clone().client();
        let signer = DEV_KEYS[1].parse().unwrap();
        Self {
            lane: Lane::new(store.clone(), client.clone(), signer, SETTINGS, site.clone()),
            watcher: Watcher::new(store.clone(), client, site.clone()),
            conductor: Conductor::new(store.clone()),
        }
    }
}

/// A loop of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    Lane,
    Watcher,
    Conductor,
}

impl Tick {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Watcher => "watcher",
            Self::Conductor => "conductor",
        }
    }

    /// One tick of the loop; what it did.
    pub async fn of(self, worker: Arc<Worker>) -> Result<String, EngineError> {
        match self {
            Self::Lane => worker.lane.tick().await.map(|sent| format!("sent {sent}")),
            Self::Watcher => {
                let seen = worker.watcher.tick().await?;
                let reorged = if seen.reorged { ", reorged" } else { "" };
                Ok(format!("read {}, applied {}{reorged}", seen.blocks, seen.applied))
            }
            Self::Conductor => worker.conductor.tick().await.map(|ran| format!("ran {ran}")),
        }
    }
}

/// A wallet of somebody who takes part.
#[derive(Clone)]
pub struct Party {
    pub name: String,
    pub key: PrivateKeySigner,
}

impl Party {
    fn new(name: &str) -> Self {
        let key = PrivateKeySigner::from_bytes(&keccak256(name)).unwrap();
        Self { name: name.to_owned(), key }
    }

    pub fn address(&self) -> Address {
        self.key.address()
    }
}

pub struct World {
    pub random: Random,
    pub chain: Arc<Mutex<Chain>>,
    pub clock: Arc<ManualClock>,
    /// The chain's time.
    pub time: u64,
    /// How far our clock is ahead of it.
    pub drift: i64,
    pub store: Store,
    pub site: Site,
    pub workers: Vec<Arc<Worker>>,
    /// Production's own checker, over a node that does not lie.
    pub books: Reconciler,
    pub renters: Vec<Party>,
    pub providers: Vec<Party>,
    pub rentals: Vec<Tenancy>,
    /// Rentals whose end was looked at.
    pub checked: BTreeSet<usize>,
    /// The final block and the number of applied events at the last reconciliation.
    pub reconciled_at: (Option<i64>, i64),
    pub trace: Trace,
}

impl World {
    pub async fn new(seed: u64, faults: Faults, trace: Trace) -> Self {
        let mut random = Random(seed);
        let parties = |role: &str| -> Vec<Party> {
            (0..3).map(|at| Party::new(&format!("{role}{at}"))).collect()
        };
        let (renters, providers) = (parties("renter"), parties("provider"));
        let mut chain = begin(&renters, &providers, faults);
        chain.finality = [2, 2, 5, 16, 70][usize::try_from(random.below(5)).unwrap()];
        let clock = Arc::new(ManualClock::new(UnixSeconds(BEGINNING).millis()));
        let url = TestDb::new(Some(&store::MIGRATOR)).await.unwrap().url;
        let store = Store::connect(&url, 6, clock.clone(), policy()).await.unwrap();
        let deployment = Deployment {
            chain_id: CHAIN_ID,
            genesis_hash: chain.blocks[0].hash,
            escrow: ESCROW,
            code_hash: keccak256(b"weir"),
            deployed_block: 1,
        };
        record(&store, &deployment).await;
        booking::list_tokens(&store, Some(TOKEN), UnixSeconds(BEGINNING)).await;
        let chain = Arc::new(Mutex::new(chain));
        let honest = Wire { chain: chain.clone(), honest: true };
        let site = Site::check(&honest.clone().client(), &deployment).await.unwrap();
        let wire = Wire { chain: chain.clone(), honest: false };
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(Arc::new(Worker::start(&store, &wire, &site)));
        }
        Worker::start(&store, &honest, &site).lane.take_over().await.unwrap();
        let books = Reconciler::new(store.clone(), honest.client(), site.clone());
        Self {
            random,
            chain,
            clock,
            time: BEGINNING,
            drift: 0,
            store,
            site,
            workers,
            books,
            renters,
            providers,
            rentals: Vec::new(),
            checked: BTreeSet::new(),
            reconciled_at: (None, 0),
            trace,
        }
    }

    pub fn now(&self) -> UnixSeconds {
        self.store.now().seconds()
    }

    /// Time passes for the chain and for us.
    pub fn pass(&mut self, seconds: u64) {
        self.time += seconds;
        self.clock.set(UnixSeconds(self.time.saturating_add_signed(self.drift)).millis());
    }

    pub fn mine(&mut self) {
        let time = self.time;
        let mut chain = self.chain.lock().unwrap();
        chain.mine(time);
        self.time = chain.head().timestamp;
    }

    /// The process of a worker ends and another is started.
    pub fn restart(&mut self, worker: usize) {
        let wire = Wire { chain: self.chain.clone(), honest: false };
        self.workers[worker] = Arc::new(Worker::start(&self.store, &wire, &self.site));
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.random.below(limit)
    }

    /// True so many times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    pub fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.random.below(u64::try_from(count).unwrap())).unwrap()
    }

    /// A wallet's own call of the escrow.
    pub fn submit(&self, from: Address, data: Vec<u8>, value: u128) {
        self.chain.lock().unwrap().submit(from, ESCROW, data, value);
    }
}

/// The escrow and the token as they stand at the beginning.
pub fn deployed() -> Deployed {
    Deployed {
        escrow: ESCROW,
        token: TOKEN,
        token_domain: signed::token_domain("USD Coin", "1", CHAIN_ID, TOKEN),
        domain: escrow::domain(CHAIN_ID, ESCROW),
        operators: vec![DEV_ADDRESSES[1].parse().unwrap()],
        treasury: Address::repeat_byte(0x77),
    }
}

fn begin(renters: &[Party], providers: &[Party], faults: Faults) -> Chain {
    let at = deployed();
    let mut genesis = State::default();
    for account in renters.iter().chain(providers).map(Party::address).chain(at.operators.clone()) {
        genesis.coins.insert(account, PURSE);
        genesis.tokens.insert(account, PURSE);
        genesis.allowances.insert((account, ESCROW), PURSE);
    }
    let treasury = Escrow::TreasurySet { treasury: at.treasury }.encode_log_data();
    let beginning = vec![Emitted { address: ESCROW, data: treasury }];
    Chain::new(at, CHAIN_ID, genesis, beginning, BEGINNING, faults)
}

async fn record(store: &Store, deployment: &Deployment) {
    let deployment = deployment.clone();
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
