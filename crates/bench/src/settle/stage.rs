//! A market on a chain of its own: rentals are booked, locked, started and stopped in numbers, by the store's own
//! functions and by the engine as the worker runs it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::chain::FeePolicy;
use ::engine::{Engine, EngineSettings, LaneSettings, Site};
use ::store::{
    Store, StoreError, TxError, advance,
    deployment::{self, Deployment},
    readings::{self, Reading},
};
use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, U256, keccak256},
    sol_types::{SolCall as _, SolConstructor as _},
};
use domain::{
    id::RentalId,
    metering::Interval,
    rental::{Party, RentalEvent},
    time::Seconds,
};
use escrow::{
    bindings::{Escrow, TestUSDC},
    calldata,
};
use serde_json::json;
use testkit::{AnvilOptions, DEV_KEYS, TestChain};
use tests::booking::{self, Booked, Ids, Order, USDC_RATE};
use tests::market::people;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chain::{Account, reader, send, throw};
use crate::{BenchError, Server, Verdict};

const BLOCK: Duration = Duration::from_secs(1);
/// More than a lock takes.
const LOCK_GAS: u64 = 120_000;
/// Rentals that one transaction of the database moves.
const PART: usize = 100;
/// Bookings under way at once.
const BOOKINGS: usize = 8;
const LOOK: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(180);

/// The market.
pub(super) struct Stage {
    pub(super) chain: TestChain,
    pub(super) store: Store,
    pub(super) http: reqwest::Client,
    site: Site,
    usdc: Address,
    at_work: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

/// The worker's own pauses.
const SETTINGS: EngineSettings = EngineSettings {
    poll: Duration::from_millis(500),
    lane_poll: Duration::from_millis(100),
    reconcile: Duration::from_secs(3_600),
    oracle: Duration::from_secs(3_600),
    lane: LaneSettings::with_fees(FeePolicy {
        tip_floor: 1_000_000_000,
        max_fee_ceiling: 500_000_000_000,
    }),
};

impl Stage {
    pub(super) async fn start(server: &Server) -> Result<Self, BenchError> {
        let store = server.fresh_store(8, booking::policy()).await?;
        let options = AnvilOptions { block_time: Some(BLOCK), ..AnvilOptions::default() };
        let chain =
            TestChain::start_with(options).await.map_err(BenchError::subject("start anvil"))?;
        let usdc = create(&chain, TestUSDC::BYTECODE.to_vec()).await?;
        let deployment = deploy(&chain, usdc).await?;
        let client = reader(&chain)?;
        let site = Site::check(&client, &deployment)
            .await
            .map_err(BenchError::subject("look at the contract"))?;
        write(&store, move |tx| {
            let deployment = deployment.clone();
            Box::pin(async move { Ok(deployment::record(tx, &deployment).await?) })
        })
        .await?;
        booking::list_tokens(&store, Some(usdc), store.now().seconds()).await;
        let mint = TestUSDC::mintCall { to: people::renter(), amount: U256::from(u64::MAX) };
        send(&chain, people::owner(), Some(usdc), mint.abi_encode()).await?;
        let most = domain::money::Amount::MAX;
        send(&chain, people::renter(), Some(usdc), calldata::approve(site.escrow, most)).await?;
        let at_work = Mutex::default();
        let http = tls::direct(LIMIT).map_err(BenchError::subject("make an HTTP client"))?;
        Ok(Self { chain, store, http, site, usdc, at_work })
    }

    /// The engine works, as a worker's process does.
    pub(super) fn work(&self) {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        if at_work.is_some() {
            return;
        }
        let (Ok(client), Ok(signer)) = (reader(&self.chain), DEV_KEYS[1].parse()) else { return };
        let engine = Engine {
            store: self.store.clone(),
            client,
            signers: vec![signer],
            site: self.site.clone(),
            settings: SETTINGS,
        };
        let stop = CancellationToken::new();
        *at_work = Some((stop.clone(), tokio::spawn(::engine::run(engine, stop))));
    }

    /// The engine ends in order.
    pub(super) async fn rest(&self) -> Result<(), BenchError> {
        let running = self.at_work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, task)) = running {
            stop.cancel();
            task.await.map_err(BenchError::subject("end the engine"))?;
        }
        Ok(())
    }

    /// Rentals that are started on the chain, final and all.
    pub(super) async fn run_rentals(&self, wanted: usize) -> Result<Vec<Booked>, BenchError> {
        self.work();
        let booked = self.book(wanted).await?;
        self.lock(&booked).await?;
        self.wait(&booked, "lock_status = 'final'").await?;
        self.each(&booked, |_, now| {
            vec![RentalEvent::AgentAcked, RentalEvent::AgentReady { at: now }]
        })
        .await?;
        self.wait(&booked, "start_status = 'final'").await?;
        Ok(booked)
    }

    async fn book(&self, wanted: usize) -> Result<Vec<Booked>, BenchError> {
        let order = Order {
            renter: people::renter(),
            provider: people::provider(),
            token: self.usdc,
            rate: USDC_RATE,
            holdback: Seconds::ZERO,
            now: self.store.now().seconds(),
            domain: self.site.domain.clone(),
        };
        let (mut booked, mut under_way) = (Vec::with_capacity(wanted), JoinSet::new());
        for _ in 0..wanted {
            if under_way.len() >= BOOKINGS
                && let Some(one) = under_way.join_next().await
            {
                booked.push(one.map_err(BenchError::subject("book"))?);
            }
            let (store, order) = (self.store.clone(), order.clone());
            under_way.spawn(async move {
                booking::book_as(&store, &order, Ids::from(Uuid::now_v7), booking::HOUR).await
            });
        }
        while let Some(one) = under_way.join_next().await {
            booked.push(one.map_err(BenchError::subject("book"))?);
        }
        Ok(booked)
    }

    async fn lock(&self, booked: &[Booked]) -> Result<(), BenchError> {
        let mut renter = Account::open(DEV_KEYS[4], &self.chain).await?;
        let signed = booked
            .iter()
            .map(|rental| {
                let lock = calldata::lock(&rental.terms, rental.deposit);
                renter.sign(self.site.escrow, lock, LOCK_GAS)
            })
            .collect::<Result<Vec<_>, _>>()?;
        throw(&self.http, &self.chain, &signed).await?;
        renter.settle(&self.chain).await
    }

    /// Each rental is covered by a reading since its start, its renter stops it, and its machine has cleaned up.
    pub(super) async fn stop_rentals(&self, running: &[Booked]) -> Result<(), BenchError> {
        let ids: Vec<_> = running.iter().map(|rental| rental.id).collect();
        for part in ids.chunks(PART) {
            let part = part.to_vec();
            // a second at least has passed since they were ready
            let now = self.store.now().seconds();
            let policy = booking::policy();
            write(&self.store, move |tx| {
                let (part, policy) = (part.clone(), policy.clone());
                Box::pin(async move {
                    for id in part {
                        let rental = ::store::rentals::get(tx, id).await?;
                        let started = rental.and_then(|rental| rental.progress.started_at);
                        let from = started.ok_or(StoreError::Missing("a started rental"))?;
                        let reading = Reading {
                            rental: id,
                            seq: 1,
                            span: Interval::new(from, now),
                            detail: json!({}),
                            prev_hash: B256::ZERO,
                            hash: keccak256(id.uuid()),
                            signature: [0; 65],
                            received_at: now,
                        };
                        readings::append(tx, &reading).await?;
                        let stop = RentalEvent::StopRequested { by: Party::Renter, now };
                        for event in [stop, RentalEvent::AgentStopped] {
                            advance::apply(tx, &policy, id, &event, now).await.map_err(told)?;
                        }
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(())
    }

    async fn each(
        &self,
        rentals: &[Booked],
        events: impl Fn(RentalId, domain::time::UnixSeconds) -> Vec<RentalEvent>,
    ) -> Result<(), BenchError> {
        let now = self.store.now().seconds();
        let all: Vec<_> =
            rentals.iter().map(|rental| (rental.id, events(rental.id, now))).collect();
        for part in all.chunks(PART) {
            let (part, policy) = (part.to_vec(), booking::policy());
            write(&self.store, move |tx| {
                let (part, policy) = (part.clone(), policy.clone());
                Box::pin(async move {
                    for (id, events) in part {
                        for event in events {
                            advance::apply(tx, &policy, id, &event, now).await.map_err(told)?;
                        }
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Until all of them are so.
    async fn wait(&self, rentals: &[Booked], so: &str) -> Result<(), BenchError> {
        let ids: Vec<_> = rentals.iter().map(|rental| rental.id.uuid()).collect();
        let question = format!("SELECT count(*) FROM rentals WHERE id = ANY($1) AND {so}");
        let began = Instant::now();
        loop {
            let there: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(question.as_str()))
                .bind(&ids)
                .fetch_one(self.store.pool())
                .await
                .map_err(BenchError::sql("look at the rentals"))?;
            if there as usize == rentals.len() {
                return Ok(());
            }
            if began.elapsed() > LIMIT {
                let why = format!("{there} of {} rentals have {so}", rentals.len());
                return Err(BenchError::subject("run rentals")(why));
            }
            sleep(LOOK).await;
        }
    }

    /// Every rental was closed once, by a call that the contract took, and the ledger has what the chain said.
    pub(super) async fn judge(
        &self,
        rentals: &[RentalId],
        counted: u64,
    ) -> Result<Verdict, BenchError> {
        let ids: Vec<_> = rentals.iter().map(|id| id.uuid()).collect();
        self.work();
        let began = Instant::now();
        loop {
            let (settled, whole, twice): (i64, i64, i64) = sqlx::query_as(
                "SELECT count(*) FILTER (WHERE r.state = 'settled'),
                        count(*) FILTER (WHERE r.paid_provider + r.paid_fee + r.paid_refund = r.locked),
                        count(*) FILTER (WHERE (SELECT count(*) FROM chain_events e
                                                WHERE e.escrow_id = r.escrow_id AND e.name = 'Closed') > 1)
                 FROM rentals r WHERE r.id = ANY($1)",
            )
            .bind(&ids)
            .fetch_one(self.store.pool())
            .await
            .map_err(BenchError::sql("judge the settlements"))?;
            let all = rentals.len() as i64;
            if settled == all || began.elapsed() > LIMIT {
                return Ok(Verdict::of([
                    (settled == all, format!("{settled} of {all} rentals are settled")),
                    (whole == all, format!("the parts of {whole} of {all} rentals are the whole")),
                    (twice == 0, format!("{twice} rentals were closed twice")),
                    (counted as i64 == all, format!("{counted} of {all} were counted")),
                ]));
            }
            sleep(LOOK).await;
        }
    }
}

fn told(error: advance::AdvanceError) -> TxError<StoreError> {
    match error {
        advance::AdvanceError::Store(error) => error.into(),
        other @ (advance::AdvanceError::Missing | advance::AdvanceError::Illegal(_)) => {
            StoreError::corrupt(other.to_string()).into()
        }
    }
}

async fn write<T, F>(store: &Store, work: F) -> Result<T, BenchError>
where
    T: Send + 'static,
    F: for<'a> Fn(
            &'a mut ::store::Connection,
        ) -> std::pin::Pin<
            Box<dyn Future<Output = Result<T, TxError<StoreError>>> + Send + 'a>,
        > + Send
        + Sync
        + 'static,
{
    store.write::<T, StoreError, _>("bench.stage", work).await.map_err(|error| {
        let why = match error {
            TxError::Store(error) | TxError::Refused(error) => error.to_string(),
        };
        BenchError::subject("play a rental")(why)
    })
}

async fn create(chain: &TestChain, code: Vec<u8>) -> Result<Address, BenchError> {
    let created = send(chain, people::owner(), None, code).await?;
    created.ok_or_else(|| BenchError::subject("deploy")("no contract was made"))
}

async fn deploy(chain: &TestChain, usdc: Address) -> Result<Deployment, BenchError> {
    let config = Escrow::Config {
        owner: people::owner(),
        guardian: people::guardian(),
        treasury: people::treasury(),
        arbiter: people::arbiter(),
        operators: vec![people::operator()],
        tokens: vec![Address::ZERO, usdc],
    };
    let mut code = Escrow::BYTECODE.to_vec();
    code.extend(Escrow::constructorCall { config }.abi_encode());
    let escrow = create(chain, code).await?;
    let client = reader(chain)?;
    const ASKED: &str = "look at the chain";
    let genesis =
        client.header(BlockNumberOrTag::Earliest).await.map_err(BenchError::subject(ASKED))?;
    let genesis = genesis.ok_or_else(|| BenchError::subject(ASKED)("no first block"))?;
    let code_hash = client.code_hash(escrow).await.map_err(BenchError::subject(ASKED))?;
    Ok(Deployment {
        chain_id: chain.chain_id(),
        genesis_hash: genesis.hash,
        escrow,
        code_hash: code_hash.ok_or_else(|| BenchError::subject(ASKED)("no contract"))?,
        deployed_block: 1,
    })
}
