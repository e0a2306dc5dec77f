//! A market of one machine on a chain and a database of its own, whose engine moves when it is told to.

use std::{sync::Arc, time::Duration};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
    sol_types::Eip712Domain,
};
use chain::{FeePolicy, ReadClient, Signer};
use domain::{
    id::{AccountId, GpuId, MachineId, OfferId, QuoteId, RentalId},
    metering::Interval,
    money::{Amount, Decimals, FeeBps, UsdMicros},
    offer::OfferTerms,
    rate::{TokenRate, UsdPerHour},
    rental::{Party, RentalEvent, RentalState},
    time::{Clock as _, Seconds, UnixSeconds},
};
use engine::{Conductor, Lane, LaneSettings, Reconciler, Report, Site, Watcher};
use escrow::{Terms, bindings::Escrow, calldata, terms_hash};
use serde_json::json;
use store::{
    Policy, Store, StoreError, TxError, accounts, advance,
    blocks::{self, SeenEvent},
    commands,
    deployment::{self, Deployment},
    intents::{self, ChainStep},
    machines::{self, EnrollToken, Gpu, MachineSpec, NewMachine},
    offers::{self, NewOffer},
    quotes::{self, Quote},
    readings::{self, Reading},
    rentals::{self, NewRental, Rental},
    tokens::{self, Token},
};
use testkit::{DEV_KEYS, ManualClock, TestChain, TestDb};
use uuid::Uuid;

/// The native coin.
pub const POL: Address = Address::ZERO;
/// Base units per hour.
pub const RATE: u128 = 2_600_000_000_000_000_003;
const HOUR: u128 = 3_600;
/// More rounds than anything here needs.
const ROUNDS: usize = 40;

pub struct Wallet {
    pub address: Address,
    provider: DynProvider,
}

/// A booked rental and what is needed to act on it.
#[derive(Clone)]
pub struct Booked {
    pub id: RentalId,
    pub terms: Terms,
    pub escrow_id: B256,
    pub deposit: Amount,
}

pub struct Market {
    pub chain: TestChain,
    pub renter: Wallet,
    pub provider: Wallet,
    treasury: Address,
    store: Store,
    clock: Arc<ManualClock>,
    client: ReadClient,
    site: Site,
    domain: Eip712Domain,
    lane: Lane,
    watcher: Watcher,
    conductor: Conductor,
    reconciler: Reconciler,
}

fn policy() -> Policy {
    Policy {
        fee: FeeBps::quotable(1_200).unwrap(),
        quote_ttl: Seconds(300),
        funding_ttl: Seconds(600),
        ready_ttl: Seconds(600),
        evidence_timeout: Seconds(3_600),
        max_outage: Seconds(3_600),
        stop_grace: Seconds(600),
        holdback: Seconds(7_200),
        start_slack: Seconds(600),
    }
}

async fn wallet(index: usize, url: &str) -> Wallet {
    let key: PrivateKeySigner = DEV_KEYS[index].parse().unwrap();
    let address = key.address();
    let provider = ProviderBuilder::new()
        .disable_recommended_fillers()
        .with_gas_estimation()
        .with_simple_nonce_management()
        .fetch_chain_id()
        .wallet(key)
        .connect_http(url.parse().unwrap())
        .erased();
    Wallet { address, provider }
}

impl Market {
    pub async fn new() -> Self {
        let chain = TestChain::start().await.unwrap();
        let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
        let client = ReadClient::connect(chain.url()).unwrap();
        let owner = wallet(0, chain.url()).await;
        let (renter, provider) = (wallet(4, chain.url()).await, wallet(5, chain.url()).await);
        let address = |index: usize| DEV_KEYS[index].parse::<PrivateKeySigner>().unwrap().address();
        let treasury = address(2);
        let contract =
            Escrow::deploy(owner.provider.clone(), owner.address, address(1), treasury, address(3))
                .await
                .unwrap();
        let listing = contract.listToken(POL, true).send().await.unwrap();
        assert!(listing.get_receipt().await.unwrap().status());
        let escrow = *contract.address();
        let genesis =
            client.header(alloy::eips::BlockNumberOrTag::Earliest).await.unwrap().unwrap();
        let deployment = Deployment {
            chain_id: chain.chain_id(),
            genesis_hash: genesis.hash,
            escrow,
            code_hash: client.code_hash(escrow).await.unwrap().unwrap(),
            deployed_block: 1,
        };
        let head = client.head().await.unwrap();
        let clock = Arc::new(ManualClock::new(head.timestamp.millis()));
        let store = Store::from_pool(db.pool, clock.clone(), policy());
        let site = Site::check(&client, &deployment).await.unwrap();
        let signer: Signer = DEV_KEYS[1].parse().unwrap();
        let settings = LaneSettings {
            fees: FeePolicy { tip_floor: 1_000_000_000, max_fee_ceiling: 500_000_000_000 },
            resend_after: Duration::from_secs(1),
            batch: 16,
        };
        let lane = Lane::new(store.clone(), client.clone(), signer, settings, site.clone());
        let market = Self {
            watcher: Watcher::new(store.clone(), client.clone(), site.clone()),
            conductor: Conductor::new(store.clone()),
            reconciler: Reconciler::new(store.clone(), client.clone(), site.clone()),
            domain: site.domain.clone(),
            chain,
            renter,
            provider,
            treasury,
            store,
            clock,
            client,
            site,
            lane,
        };
        market.record(deployment).await;
        market.lane.take_over().await.unwrap();
        market.settle_in().await;
        market
    }

    async fn record(&self, deployment: Deployment) {
        let native = Token {
            address: POL,
            symbol: "POL".to_owned(),
            decimals: Decimals::new(18).unwrap(),
            usd: UsdMicros::new(250_000),
            price_source: "fixed for the test".to_owned(),
            priced_at: self.now(),
            permit: None,
        };
        self.store
            .write("seed", move |tx| {
                let (deployment, native) = (deployment.clone(), native.clone());
                Box::pin(async move {
                    deployment::record(tx, &deployment).await?;
                    tokens::upsert(tx, &native).await?;
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
    }

    pub fn provider(&self) -> Address {
        self.provider.address
    }

    pub fn treasury(&self) -> Address {
        self.treasury
    }

    fn now(&self) -> UnixSeconds {
        self.clock.now().seconds()
    }

    /// Our clock follows the chain's.
    async fn sync(&self) {
        let head = self.client.head().await.unwrap();
        self.clock.set(head.timestamp.millis());
    }

    async fn mine(&self) {
        self.chain.anvil().call("anvil_mine", json!(["0x1"])).await.unwrap();
        self.sync().await;
    }

    pub async fn pass(&self, seconds: u64) {
        self.chain.anvil().call("evm_increaseTime", json!([seconds])).await.unwrap();
        self.mine().await;
    }

    pub async fn travel(&self, to: u64) {
        self.pass(to.saturating_sub(self.now().get())).await;
    }

    /// One round of every loop.
    pub async fn tick(&self) {
        self.sync().await;
        self.lane.tick().await.unwrap();
        self.watcher.tick().await.unwrap();
        self.conductor.tick().await.unwrap();
    }

    /// Long enough for what happened to be final, and for what that asks for to be final too.
    pub async fn settle_in(&self) {
        for _ in 0..8 {
            self.tick().await;
            self.mine().await;
        }
        self.tick().await;
    }

    pub async fn until(&self, rental: &Booked, state: RentalState) {
        for _ in 0..ROUNDS {
            if self.rental(rental).await.progress.state == state {
                return;
            }
            self.tick().await;
            self.mine().await;
        }
        panic!("it is {:?}, not {state}", self.rental(rental).await.progress);
    }

    pub async fn sign_without_sending(&self) {
        self.sync().await;
        self.lane.sign_queued().await.unwrap();
    }

    /// A machine with one GPU, offered, quoted and booked.
    pub async fn book(&self) -> Booked {
        let now = self.now();
        let (renter, provider) = (self.renter.address, self.provider.address);
        let start_by = now.saturating_plus(policy().start_window());
        let (domain, ids) = (self.domain.clone(), Ids::new());
        let quote = quote(&ids, renter, provider, now, start_by, &domain);
        let booked = Booked {
            id: ids.rental,
            terms: Terms::from(&quote.terms()),
            escrow_id: quote.escrow_id,
            deposit: quote.deposit,
        };
        self.store
            .write("book", move |tx| {
                let quote = quote.clone();
                Box::pin(async move {
                    accounts::find_or_create(tx, ids.renter, renter, now).await?;
                    accounts::find_or_create(tx, ids.provider, provider, now).await?;
                    machines::create(tx, &ids.machine_of(now)).await?;
                    offers::create(tx, &ids.offer_of(now)).await?;
                    quotes::insert(tx, &quote).await?;
                    let new = NewRental {
                        id: ids.rental,
                        quote_id: ids.quote,
                        escrow_id: quote.escrow_id,
                        renter: ids.renter,
                        provider: ids.provider,
                        machine: ids.machine,
                        gpu_count: 1,
                        now,
                    };
                    rentals::book(tx, &policy(), &new).await?;
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
        booked
    }

    /// The renter locks; returns the raw bytes of the transaction.
    pub async fn lock(&self, rental: &Booked, deposit: Amount) -> Bytes {
        let data = calldata::lock(&rental.terms, deposit);
        let hash = self.transact(&self.renter, data, U256::from(deposit.get())).await;
        let raw =
            self.chain.anvil().call("eth_getRawTransactionByHash", json!([hash])).await.unwrap();
        serde_json::from_value(raw).unwrap()
    }

    pub async fn send(&self, from: &Wallet, data: Vec<u8>) {
        self.transact(from, data, U256::ZERO).await;
    }

    pub async fn send_raw(&self, raw: &Bytes) {
        let sent = self.renter.provider.send_raw_transaction(raw).await.unwrap();
        assert!(sent.get_receipt().await.unwrap().status());
    }

    async fn transact(&self, from: &Wallet, data: Vec<u8>, value: U256) -> B256 {
        let request = TransactionRequest::default()
            .from(from.address)
            .to(self.site.escrow)
            .input(Bytes::from(data).into())
            .value(value);
        let sent = from.provider.send_transaction(request).await.unwrap();
        let receipt = sent.get_receipt().await.unwrap();
        assert!(receipt.status());
        receipt.transaction_hash
    }

    pub async fn apply(&self, rental: &Booked, event: RentalEvent) {
        let (id, now) = (rental.id, self.now());
        self.store
            .write("apply", move |tx| {
                Box::pin(async move {
                    advance::apply(tx, &policy(), id, &event, now).await.unwrap();
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
    }

    /// The agent takes the order and says that the machine is ready.
    pub async fn ready(&self, rental: &Booked) {
        self.apply(rental, RentalEvent::AgentAcked).await;
        self.apply(rental, RentalEvent::AgentReady { at: self.now() }).await;
        assert_eq!(self.rental(rental).await.progress.state, RentalState::Active);
    }

    pub async fn make_active(&self, rental: &Booked) {
        self.ready(rental).await;
        self.settle_in().await;
    }

    /// Time passes, and a reading covers it.
    pub async fn run_for(&self, rental: &Booked, seconds: u32) {
        self.sync().await;
        let from = self.now();
        self.pass(u64::from(seconds)).await;
        let to = from.saturating_plus(Seconds(seconds));
        let (id, received_at) = (rental.id, self.now());
        self.store
            .write("reading", move |tx| {
                Box::pin(async move {
                    let head = readings::head(tx, id).await?;
                    let reading = Reading {
                        rental: id,
                        seq: head.map_or(1, |head| head.seq + 1),
                        span: Interval::new(from, to),
                        detail: json!({}),
                        prev_hash: head.map_or(B256::ZERO, |head| head.hash),
                        hash: B256::from(U256::from_be_slice(Uuid::now_v7().as_bytes())),
                        signature: [0; 65],
                        received_at,
                    };
                    readings::append(tx, &reading).await?;
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
    }

    /// Time passes without evidence.
    pub async fn silence(&self, seconds: u64) {
        self.pass(seconds).await;
    }

    pub async fn stop(&self, rental: &Booked) {
        self.sync().await;
        let stop = RentalEvent::StopRequested { by: Party::Renter, now: self.now() };
        self.apply(rental, stop).await;
        self.apply(rental, RentalEvent::AgentStopped).await;
        self.tick().await;
    }

    pub async fn rental(&self, rental: &Booked) -> Rental {
        let mut connection = self.store.read().await.unwrap();
        rentals::get(&mut connection, rental.id).await.unwrap().unwrap()
    }

    pub async fn steps(&self, rental: &Booked) -> Vec<ChainStep> {
        let mut connection = self.store.read().await.unwrap();
        intents::for_rental(&mut connection, rental.id).await.unwrap()
    }

    /// True if the machine's newest order for the rental is to provision.
    pub async fn provisioned(&self, rental: &Booked) -> bool {
        let mut connection = self.store.read().await.unwrap();
        let machine = self.rental(rental).await.machine;
        let open = commands::open(&mut connection, machine, 10).await.unwrap();
        open.last().is_some_and(|order| order.kind == commands::CommandKind::Provision)
    }

    /// The events of a name that the engine follows now.
    pub async fn events(&self, name: &str) -> Vec<SeenEvent> {
        self.watcher.tick().await.unwrap();
        let mut connection = self.store.read().await.unwrap();
        let ids: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT DISTINCT escrow_id FROM chain_events WHERE name = $1")
                .bind(name)
                .fetch_all(&mut *connection)
                .await
                .unwrap();
        let mut found = Vec::new();
        for id in ids {
            let seen = blocks::events_for(&mut connection, B256::from_slice(&id)).await.unwrap();
            found.extend(seen.into_iter().filter(|event| event.name == name));
        }
        found
    }

    /// What the contract keeps for somebody.
    pub async fn kept(&self, owner: Address) -> u128 {
        let contract = Escrow::new(self.site.escrow, self.renter.provider.clone());
        contract.balanceOf(owner, POL).call().await.unwrap().to::<u128>()
    }

    pub async fn reconcile(&self) -> Report {
        self.reconciler.tick().await.unwrap().expect("nothing waits to be applied")
    }

    pub async fn assert_reconciled(&self) {
        let report = self.reconcile().await;
        assert!(report.agrees(), "{report:?}");
        assert!(!report.tokens.is_empty());
    }

    /// Somebody with a hand in the database gives the provider a base unit that does not exist.
    pub async fn plant_one_unit(&self) {
        let mut connection = self.store.read().await.unwrap();
        sqlx::raw_sql(
            "WITH p AS (INSERT INTO ledger_postings (id, kind, source, at)
                        VALUES (gen_random_uuid(), 'release', 'planted', now()) RETURNING id),
                  a AS (INSERT INTO ledger_accounts (kind, owner, token)
                        SELECT 'provider_earnings', decode(repeat('aa', 20), 'hex'), token
                        FROM ledger_accounts WHERE kind = 'outside' LIMIT 1 RETURNING id, token)
             INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, token, amount)
             SELECT p.id, 0, o.id, a.id, a.token, 1
             FROM p, a, ledger_accounts o WHERE o.kind = 'outside' AND o.token = a.token",
        )
        .execute(&mut *connection)
        .await
        .unwrap();
    }
}

/// Ids of one booking.
#[derive(Clone, Copy)]
struct Ids {
    renter: AccountId,
    provider: AccountId,
    machine: MachineId,
    offer: OfferId,
    quote: QuoteId,
    rental: RentalId,
}

impl Ids {
    fn new() -> Self {
        Self {
            renter: AccountId::from_uuid(Uuid::now_v7()),
            provider: AccountId::from_uuid(Uuid::now_v7()),
            machine: MachineId::from_uuid(Uuid::now_v7()),
            offer: OfferId::from_uuid(Uuid::now_v7()),
            quote: QuoteId::from_uuid(Uuid::now_v7()),
            rental: RentalId::from_uuid(Uuid::now_v7()),
        }
    }

    fn machine_of(self, now: UnixSeconds) -> NewMachine {
        NewMachine {
            id: self.machine,
            account: self.provider,
            spec: MachineSpec {
                name: "a machine".to_owned(),
                region: "de-fra".to_owned(),
                cpu_cores: 8,
                ram_gb: 32,
                disk_gb: 100,
            },
            gpus: vec![Gpu {
                id: GpuId::from_uuid(Uuid::now_v7()),
                vendor_uuid: format!("GPU-{}", Uuid::now_v7()),
                model: "rtx-4090".to_owned(),
            }],
            enroll: EnrollToken { hash: [7; 32], expires_at: now.saturating_plus(Seconds(60)) },
            now,
        }
    }

    fn offer_of(self, now: UnixSeconds) -> NewOffer {
        NewOffer {
            id: self.offer,
            machine: self.machine,
            account: self.provider,
            model: "rtx-4090".to_owned(),
            terms: OfferTerms {
                price: UsdPerHour(UsdMicros::new(650_000)),
                gpu_count: 1,
                min_duration: Seconds(1),
                max_duration: Seconds(86_400),
            },
            now,
        }
    }
}

fn quote(
    ids: &Ids,
    renter: Address,
    provider: Address,
    now: UnixSeconds,
    start_by: UnixSeconds,
    domain: &Eip712Domain,
) -> Quote {
    let mut quote = Quote {
        id: ids.quote,
        account: ids.renter,
        offer: ids.offer,
        offer_version: 1,
        machine: ids.machine,
        model: "rtx-4090".to_owned(),
        gpu_count: 1,
        duration: Seconds(3_600),
        usd_per_hour: UsdPerHour(UsdMicros::new(650_000)),
        lines: json!([]),
        renter,
        provider,
        token: POL,
        rate: TokenRate::new(Amount::new(RATE).unwrap()).unwrap(),
        fee: policy().fee,
        start_by,
        holdback: policy().holdback,
        order_hash: B256::repeat_byte(1),
        escrow_id: B256::ZERO,
        deposit: Amount::new(RATE.div_ceil(HOUR) * HOUR).unwrap(),
        created_at: now,
        expires_at: now.saturating_plus(policy().quote_ttl),
    };
    quote.escrow_id = terms_hash(&Terms::from(&quote.terms()), domain);
    quote
}
