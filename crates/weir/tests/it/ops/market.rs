//! A database, a chain with the contract, and renters with a quote each, ready to be booked.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use alloy::primitives::{Address, B256};
use domain::{
    id::{AccountId, GpuId, MachineId, OfferId, QuoteId, SessionId},
    money::{Amount, FeeBps, UsdMicros},
    offer::OfferTerms,
    rate::{TokenRate, UsdPerHour},
    time::{Clock, Seconds, UnixMillis, UnixSeconds},
};
use escrow::{Terms, terms_hash};
use reqwest::{RequestBuilder, Response};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::{
    Connection, Policy, Store, StoreError, TxError,
    accounts::{self, Account, NewOwner, NewSession},
    deployment::{self, Deployment},
    machines::{self, EnrollToken, Gpu, MachineSpec, NewMachine},
    offers::{self, NewOffer},
    quotes::{self, Quote},
    tokens,
};
use testkit::{AnvilOptions, DEV_KEYS, TestChain, TestDb};
use uuid::Uuid;

use super::process::{LIMIT, Running, weir};

const MODEL: &str = "h100-sxm";
const PRICE: u64 = 2_500_000;
const GOOD_FOR: Seconds = Seconds(24 * 3_600);
/// The part that `weir up` gives to one of anvil's well-known test accounts.
pub const OPERATOR: &str = DEV_KEYS[1];

struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the processes under test go by the same one
    fn now(&self) -> UnixMillis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        UnixMillis(u64::try_from(since.as_millis()).unwrap())
    }
}

/// What processes need to find database and chain.
pub struct Market {
    pub db: TestDb,
    pub chain: TestChain,
}

/// A renter with a quote.
#[derive(Clone)]
pub struct Renter {
    session: String,
    quote: QuoteId,
    key: String,
}

impl Renter {
    pub fn asks(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.session)
    }

    /// Books; the same key each time.
    pub async fn book(&self, http: &reqwest::Client, api: &str) -> reqwest::Result<Response> {
        self.asks(http.post(format!("{api}/v1/rentals")))
            .header("Idempotency-Key", &self.key)
            .json(&json!({ "quote_id": self.quote }))
            .send()
            .await
    }
}

impl Market {
    /// Both servers, migrated, with the contract deployed as `weir up` does it.
    pub async fn open() -> Self {
        let options =
            AnvilOptions { block_time: Some(Duration::from_secs(1)), ..AnvilOptions::default() };
        let market = Self {
            db: TestDb::new(Some(&store::MIGRATOR)).await.unwrap(),
            chain: TestChain::start_with(options).await.unwrap(),
        };
        let folder = tempfile::tempdir().unwrap();
        let listen = format!("127.0.0.1:{}", testkit::free_port().unwrap());
        let mut command = weir(&["up", "--no-demo", "--data"], &market.environment());
        command.arg(folder.path()).env("WEIR_LISTEN", listen).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let up = Running::from(child);
        let (tell, serves) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let serves = lines.any(|line| line.contains("serving at"));
            // it goes on talking
            if tell.send(serves).is_ok() {
                lines.for_each(drop);
            }
        });
        let serves = tokio::time::timeout(LIMIT, serves).await.expect("it comes up").unwrap();
        assert!(serves, "it did not come up");
        up.signal("TERM");
        assert!(up.end().await.success());
        market
    }

    /// `DATABASE_URL` and `RPC_URL`.
    pub fn environment(&self) -> [(&str, &str); 2] {
        [("DATABASE_URL", &self.db.url), ("RPC_URL", self.chain.url())]
    }

    /// The same, with further variables.
    pub fn with<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        self.environment().into_iter().chain(more.iter().copied()).collect()
    }

    /// Runs a statement; how many rows it touched.
    pub async fn sql(&self, statement: &'static str) -> u64 {
        sqlx::raw_sql(statement).execute(&self.db.pool).await.unwrap().rows_affected()
    }

    /// The one number that a query gives.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.db.pool).await.unwrap()
    }

    /// So many renters, each with a session and a quote for a machine of its own.
    pub async fn renters(&self, count: usize) -> Vec<Renter> {
        let store = Store::from_pool(self.db.pool.clone(), Arc::new(SystemClock), policy());
        let now = store.now().seconds();
        store
            .write("seed", move |tx| {
                Box::pin(async move {
                    let site = deployment::get(tx).await?.unwrap();
                    let mut renters = Vec::new();
                    for _ in 0..count {
                        renters.push(renter(tx, &site, now).await?);
                    }
                    Ok::<_, TxError<StoreError>>(renters)
                })
            })
            .await
            .unwrap()
    }
}

fn policy() -> Policy {
    Policy {
        fee: FeeBps::quotable(1_200).unwrap(),
        quote_ttl: Seconds(300),
        funding_ttl: Seconds(120),
        ready_ttl: Seconds(120),
        evidence_timeout: Seconds(10),
        max_outage: Seconds(900),
        expiring_lead: Seconds(300),
        stop_grace: Seconds(10),
        holdback: Seconds(3_600),
        release_every: Seconds::ZERO,
        start_slack: Seconds(600),
    }
}

async fn account(tx: &mut Connection, now: UnixSeconds) -> Result<Account, StoreError> {
    let id = Uuid::now_v7();
    let wallet = Address::from_word(B256::from(<[u8; 32]>::from(Sha256::digest(id))));
    accounts::find_or_create(tx, AccountId::from_uuid(id), wallet, now).await
}

async fn renter(
    tx: &mut Connection,
    site: &Deployment,
    now: UnixSeconds,
) -> Result<Renter, StoreError> {
    let (provider, renter) = (account(tx, now).await?, account(tx, now).await?);
    // as long as a secret is, and as random as the test needs
    let mut session = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    session.truncate(42);
    session.push('A');
    let open = NewSession {
        id: SessionId::from_uuid(Uuid::now_v7()),
        token_hash: Sha256::digest(session.as_bytes()).into(),
        owner: NewOwner::Account(renter.id),
        user_agent: None,
        now,
        expires_at: now.saturating_plus(GOOD_FOR),
    };
    accounts::open_session(tx, &open).await?;
    let offer = list_machine(tx, &provider, now).await?;
    let quote = quote(tx, site, &offer, [&renter, &provider], now).await?;
    quotes::insert(tx, &quote).await?;
    Ok(Renter { session, quote: quote.id, key: Uuid::now_v7().to_string() })
}

async fn list_machine(
    tx: &mut Connection,
    provider: &Account,
    now: UnixSeconds,
) -> Result<NewOffer, StoreError> {
    let id = Uuid::now_v7();
    let gpu = Gpu {
        id: GpuId::from_uuid(Uuid::now_v7()),
        vendor_uuid: format!("GPU-{id}"),
        model: MODEL.to_owned(),
    };
    let machine = NewMachine {
        id: MachineId::from_uuid(id),
        account: provider.id,
        spec: MachineSpec {
            name: "rack".to_owned(),
            region: "de-fra".to_owned(),
            cpu_cores: 128,
            ram_gb: 1_024,
            disk_gb: 8_192,
        },
        gpus: vec![gpu],
        enroll: EnrollToken {
            hash: Sha256::digest(id).into(),
            expires_at: now.saturating_plus(GOOD_FOR),
        },
        now,
    };
    machines::create(tx, &machine).await?;
    let offer = NewOffer {
        id: OfferId::from_uuid(Uuid::now_v7()),
        machine: machine.id,
        account: provider.id,
        model: MODEL.to_owned(),
        terms: OfferTerms::plain(
            UsdPerHour(UsdMicros::new(PRICE)),
            1,
            Seconds(60),
            Seconds(7 * 24 * 3_600),
        ),
        now,
    };
    offers::create(tx, &offer).await?;
    Ok(offer)
}

async fn quote(
    tx: &mut Connection,
    site: &Deployment,
    offer: &NewOffer,
    [renter, provider]: [&Account; 2],
    now: UnixSeconds,
) -> Result<Quote, StoreError> {
    let id = QuoteId::from_uuid(Uuid::now_v7());
    let price = Amount::new(u128::from(PRICE)).unwrap();
    let expires_at = now.saturating_plus(GOOD_FOR);
    let mut quote = Quote {
        id,
        account: renter.id,
        offer: offer.id,
        offer_version: 1,
        machine: offer.machine,
        model: MODEL.to_owned(),
        gpu_count: 1,
        extras: quotes::Extras::default(),
        duration: Seconds(3_600),
        usd_per_hour: offer.terms.price,
        lines: json!([{"kind": "gpu", "model": MODEL, "count": 1}]),
        renter: renter.address,
        provider: provider.address,
        token: tokens::find(tx, "USDC").await?.unwrap().address,
        rate: TokenRate::new(price).unwrap(),
        fee: FeeBps::quotable(1_200).unwrap(),
        start_by: expires_at.saturating_plus(Seconds(3_600)),
        holdback: Seconds(3_600),
        order_hash: B256::from(<[u8; 32]>::from(Sha256::digest(id.uuid()))),
        escrow_id: B256::ZERO,
        deposit: price,
        created_at: now,
        expires_at,
        fx: None,
        sla: None,
        seal: None,
    };
    let domain = escrow::domain(site.chain_id, site.escrow);
    quote.escrow_id = terms_hash(&Terms::from(&quote.terms()), &domain);
    Ok(quote)
}
