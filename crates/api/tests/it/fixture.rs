//! A market with a database of its own, a clock that stands still, and people in it.

use std::sync::Arc;

use alloy::{
    primitives::{Address, B256, hex},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use api::{ApiConfig, AppState};
use axum::Router;
use chain::ReadClient;
use domain::{
    id::RentalId,
    money::{Amount, Decimals, FeeBps, UsdMicros},
    rental::RentalEvent,
    time::{Clock as _, Seconds, UnixSeconds},
};
use market::Listing;
use serde_json::{Value, json};
use store::{
    Policy, Store, StoreError, TxError, advance,
    deployment::{self, Deployment},
    listings,
    rentals::{self, MoneyDelta},
    tokens::{self, Token},
};
use testkit::{ManualClock, TestDb};

pub use crate::http::{Call, Reply};
use crate::rpc;

pub const CHAIN_ID: u64 = 31_337;
pub const NOW: UnixSeconds = UnixSeconds(1_800_000_000); // 2027-01-15T08:00:00Z
pub const ESCROW: Address = Address::repeat_byte(0xe5);
pub const USDC: Address = Address::repeat_byte(0xc0);

pub fn policy() -> Policy {
    Policy {
        fee: FeeBps::quotable(1_200).unwrap(),
        quote_ttl: Seconds(120),
        funding_ttl: Seconds(120),
        ready_ttl: Seconds(300),
        evidence_timeout: Seconds(30),
        max_outage: Seconds(600),
        expiring_lead: Seconds(300),
        stop_grace: Seconds(30),
        holdback: Seconds(0),
        release_every: Seconds::ZERO,
        start_slack: Seconds(60),
    }
}

/// Stores a generated market whole, as whoever reads it meanwhile has to find it.
pub async fn fill(store: &Store, made: Vec<Listing>, heard_until: UnixSeconds) {
    let made = Arc::new(made);
    let stored = store.write::<(), StoreError, _>("test.fill", move |tx| {
        let made = made.clone();
        Box::pin(async move { Ok(listings::fill(tx, &made, heard_until).await?) })
    });
    stored.await.unwrap();
}

/// The market.
pub struct World {
    pub store: Store,
    pub clock: Arc<ManualClock>,
    pub state: AppState,
    pub router: Router,
}

/// A wallet that has signed in.
#[derive(Clone)]
pub struct Person {
    pub key: PrivateKeySigner,
    pub token: String,
}

/// A provider's machine that is online, with its agent signed in and its GPUs listed.
pub struct Rig {
    pub provider: Person,
    pub agent: Person,
    pub machine: String,
    pub offer: String,
}

pub fn key(seed: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(seed)).unwrap()
}

pub fn sign(key: &PrivateKeySigner, text: &str) -> String {
    hex::encode_prefixed(key.sign_message_sync(text.as_bytes()).unwrap().as_bytes())
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(edit: impl FnOnce(&mut ApiConfig)) -> Self {
        let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
        let clock = Arc::new(ManualClock::new(NOW.millis()));
        let store = Store::from_pool(db.pool, clock.clone(), policy());
        Self::over(store, clock, &rpc::start().await, edit).await
    }

    pub async fn over(
        store: Store,
        clock: Arc<ManualClock>,
        rpc: &str,
        edit: impl FnOnce(&mut ApiConfig),
    ) -> Self {
        seed(&store).await;
        Self::beside(store, clock, rpc, edit).await
    }

    /// Another process over the same database.
    pub async fn beside(
        store: Store,
        clock: Arc<ManualClock>,
        rpc: &str,
        edit: impl FnOnce(&mut ApiConfig),
    ) -> Self {
        let mut config = ApiConfig::new("http://localhost:8080", CHAIN_ID);
        // everybody comes from one address, and some tests are crowds
        config.limits.sign_in = api::Setting(None);
        edit(&mut config);
        let chain = ReadClient::connect(rpc).unwrap();
        let state = AppState::new(store.clone(), chain, config, None);
        let router = api::router(state.clone());
        state.catch_up_with_market().await.unwrap();
        Self { store, clock, state, router }
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(&self.router, method, path)
    }

    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.call("POST", path)
    }

    pub fn now(&self) -> UnixSeconds {
        self.clock.now().seconds()
    }

    pub fn pass(&self, seconds: u32) {
        self.clock.advance(Seconds(seconds));
    }

    /// The sign-in message for a wallet, from a fresh nonce.
    pub async fn message(&self, wallet: Address) -> String {
        let said = self.post("/v1/auth/siwe/nonce").send().await.ok(201);
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        format!(
            "{} wants you to sign in with your Ethereum account:\n{}\n\n{}\n\nURI: {}\nVersion: 1\n\
             Chain ID: {}\nNonce: {}\nIssued At: {}",
            text("domain"),
            wallet.to_checksum(None),
            text("statement"),
            text("uri"),
            said["chain_id"],
            text("nonce"),
            self.rfc3339(),
        )
    }

    pub fn rfc3339(&self) -> String {
        let at = time::OffsetDateTime::from_unix_timestamp(self.now().get() as i64).unwrap();
        at.format(&time::format_description::well_known::Rfc3339).unwrap()
    }

    pub async fn verify(&self, message: &str, signature: &str) -> Reply {
        let body = json!({"message": message, "signature": signature});
        self.post("/v1/auth/siwe/verify").json(&body).send().await
    }

    pub async fn sign_in(&self, seed: u8) -> Person {
        let key = key(seed);
        let message = self.message(key.address()).await;
        let said = self.verify(&message, &sign(&key, &message)).await.ok(201);
        Person { key, token: said["token"].as_str().unwrap().to_owned() }
    }

    pub async fn machine(&self, provider: &Person, gpus: usize) -> Value {
        let seed = provider.key.address();
        let gpus: Vec<Value> = (0..gpus)
            .map(|n| json!({"uuid": format!("GPU-{seed:x}-{n}"), "model": "rtx-4090"}))
            .collect();
        let body = json!({"name": "rack", "region": "de-fra", "cpu_cores": 16, "ram_gb": 64,
                          "disk_gb": 500, "gpus": gpus});
        self.post("/v1/machines").auth(&provider.token).json(&body).send().await.ok(201)
    }

    pub async fn enroll(&self, agent: &PrivateKeySigner, token: &str) -> Reply {
        let signature = sign(agent, &format!("weir-enroll:{CHAIN_ID}:{token}"));
        let body = json!({"enroll_token": token, "agent_address": agent.address(),
                          "signature": signature});
        self.post("/v1/agent/enroll").json(&body).send().await
    }

    pub async fn agent_session(&self, agent: &PrivateKeySigner, machine: &str) -> Reply {
        let said = self.post("/v1/agent/challenge").send().await.ok(201);
        let nonce = said["nonce"].as_str().unwrap();
        let signature = sign(agent, &format!("weir-agent:{CHAIN_ID}:{machine}:{nonce}"));
        let body = json!({"machine_id": machine, "nonce": nonce, "signature": signature});
        self.post("/v1/agent/session").json(&body).send().await
    }

    pub async fn heartbeat(&self, agent: &Person, running: &[&str]) -> Value {
        self.post("/v1/agent/heartbeats")
            .auth(&agent.token)
            .json(&json!({"running": running}))
            .send()
            .await
            .ok(200)
    }

    /// Has an agent say whether its machine runs templates.
    pub async fn runs_templates(&self, agent: &Person, templates: bool) {
        let body = json!({"running": [], "templates": templates});
        let call = self.post("/v1/agent/heartbeats").auth(&agent.token).json(&body);
        assert_eq!(call.send().await.ok(200)["templates"], templates);
    }

    /// Lists all of a machine's GPUs.
    pub async fn list(&self, provider: &Person, machine: &str, gpus: usize, price: &str) -> Reply {
        let body = json!({"machine_id": machine, "price": {"amount": price, "currency": "USD"},
                          "gpu_count": gpus, "min_duration_s": 60, "max_duration_s": 86_400});
        self.post("/v1/offers").auth(&provider.token).json(&body).send().await
    }

    /// A provider with a machine that is online and listed. Seeds `n` and `n + 1` are used.
    pub async fn rig(&self, n: u8, gpus: usize, price: &str) -> Rig {
        let provider = self.sign_in(n).await;
        let said = self.machine(&provider, gpus).await;
        let machine = said["machine"]["id"].as_str().unwrap().to_owned();
        let agent = key(n + 1);
        self.enroll(&agent, said["enroll_token"].as_str().unwrap()).await.ok(201);
        let token = self.agent_session(&agent, &machine).await.ok(201)["token"].clone();
        let agent = Person { key: agent, token: token.as_str().unwrap().to_owned() };
        self.heartbeat(&agent, &[]).await;
        let offer = self.list(&provider, &machine, gpus, price).await.ok(201)["id"].clone();
        Rig { provider, agent, machine, offer: offer.as_str().unwrap().to_owned() }
    }

    pub async fn quote(&self, renter: &Person, rig: &Rig) -> Value {
        let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC"});
        self.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201)
    }

    pub async fn book(&self, renter: &Person, quote: &Value, key: &str) -> Reply {
        self.post("/v1/rentals")
            .auth(&renter.token)
            .key(key)
            .json(&json!({"quote_id": quote["id"]}))
            .send()
            .await
    }

    /// Lets an event happen to a rental, as the engine would.
    pub async fn advance(&self, id: &str, event: RentalEvent) {
        let (id, now, policy): (RentalId, _, _) = (id.parse().unwrap(), self.now(), policy());
        self.store
            .write("test.advance", move |tx| {
                let policy = policy.clone();
                Box::pin(async move {
                    let applied = advance::apply(tx, &policy, id, &event, now).await;
                    applied.map_err(|error| TxError::Refused(error.to_string()))?;
                    Ok(())
                })
            })
            .await
            .unwrap();
    }

    /// Adds a final event's money to a rental, as the engine would.
    pub async fn pay(&self, id: &str, delta: MoneyDelta) {
        let id: RentalId = id.parse().unwrap();
        self.store
            .write::<(), (), _>("test.pay", move |tx| {
                Box::pin(async move { Ok(rentals::add_money(tx, id, &delta).await?) })
            })
            .await
            .unwrap();
    }

    /// Books, locks and starts a rental; returns its booking.
    pub async fn start(&self, renter: &Person, rig: &Rig) -> Value {
        let quote = self.quote(renter, rig).await;
        let booking = self.book(renter, &quote, "start").await.ok(201);
        let id = booking["rental"]["id"].as_str().unwrap();
        self.advance(id, RentalEvent::LockIncluded).await;
        let deposit: Amount = quote["deposit"]["base_units"].as_str().unwrap().parse().unwrap();
        self.pay(id, MoneyDelta { locked: deposit, ..MoneyDelta::default() }).await;
        self.advance(id, RentalEvent::LockFinal { now: self.now() }).await;
        self.advance(id, RentalEvent::AgentAcked).await;
        let path = format!("/v1/agent/rentals/{id}/ready");
        let said = self.post(&path).auth(&rig.agent.token).send().await.ok(200);
        assert_eq!(said["state"], "active");
        booking
    }
}

async fn seed(store: &Store) {
    store.fill_catalog().await.unwrap();
    let contract = Deployment {
        chain_id: CHAIN_ID,
        genesis_hash: B256::repeat_byte(1),
        escrow: ESCROW,
        code_hash: B256::repeat_byte(2),
        deployed_block: 1,
    };
    let token = |address, symbol: &str, decimals, usd, permit| Token {
        address,
        symbol: symbol.to_owned(),
        decimals: Decimals::new(decimals).unwrap(),
        usd: UsdMicros::new(usd),
        price_source: "fixed".to_owned(),
        priced_at: NOW,
        fixed: true,
        permit,
    };
    let permit = Some(("USD Coin".to_owned(), "2".to_owned()));
    let usdc = token(USDC, "USDC", 6, 1_000_000, permit);
    let pol = token(Address::ZERO, "POL", 18, 500_000, None);
    store
        .write::<(), (), _>("test.seed", move |tx| {
            let (contract, usdc, pol) = (contract.clone(), usdc.clone(), pol.clone());
            Box::pin(async move {
                deployment::record(tx, &contract).await?;
                tokens::upsert(tx, &usdc).await?;
                tokens::upsert(tx, &pol).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
}
