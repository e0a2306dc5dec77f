//! What every handler has at hand.

use std::{
    collections::BTreeMap,
    ops::Deref,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use axum::http::HeaderValue;
use chain::ReadClient;
use domain::{
    time::{Seconds, UnixSeconds},
    webhook::Rules,
};
use metrics_exporter_prometheus::PrometheusHandle;
use store::{Store, StoreError, deployment::Deployment, tokens::Token};
use tokio_util::sync::CancellationToken;

use crate::{
    Code, ConnectionConfig, Problem,
    catalog::Export,
    feed::Feed,
    gasless::Gasless,
    limits::{LimitConfig, Limits},
    public::{Figures, Turns},
    renter::{Booker, Quoting, Scout, Seals, unit_of},
    revoked::Revoked,
    search::{Market, MarketSeats, Needs, market_seats, needs},
    status::Watched,
    streams::Streams,
    system::Readiness,
    views::Unit,
    wallets::Desk,
};

/// Settings of the HTTP side.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where people and wallets reach the service, such as `http://localhost:8080`; the `uri` of sign-in
    /// messages. No slash at the end.
    pub public_url: String,
    /// The authority that sign-in messages name, such as `localhost:8080`.
    pub siwe_domain: String,
    /// EIP-155 chain id that everything is bound to.
    pub chain_id: u64,
    /// The escrow contract, if the database is not to be believed about it: with another one in its row, nothing is
    /// quoted, booked or signed.
    pub escrow: Option<Address>,
    /// How long a wallet's session lasts.
    pub session_ttl: Seconds,
    /// A wallet's session that is not used for so long has ended, at the latest an hour later; zero means never.
    pub session_idle: Seconds,
    /// How long an agent's session lasts.
    pub agent_session_ttl: Seconds,
    /// How long a sign-in nonce can be used.
    pub nonce_ttl: Seconds,
    /// How long an enrolment token can be used.
    pub enroll_ttl: Seconds,
    /// How often an agent should send a heartbeat.
    pub heartbeat_interval: Seconds,
    /// A machine that was not heard of for longer counts as offline.
    pub offline_after: Seconds,
    /// The largest body that is read, in bytes.
    pub body_limit: usize,
    /// How long a request may take before it is answered with an error.
    pub request_timeout: Duration,
    /// How long the service goes on serving once it is told to stop, while `/readyz` says no.
    pub unready_for: Duration,
    /// How long open requests may then go on.
    pub drain_timeout: Duration,
    /// How many connections there may be, and how slow.
    pub connections: ConnectionConfig,
    /// How many event streams may be open at once; never more than five eighths of the connections.
    pub stream_limit: usize,
    /// How many of them one account may have.
    pub streams_per_account: usize,
    /// How many bookings of one account may hold GPUs while nothing is locked for them.
    pub unfunded_limit: i64,
    /// How long a paid request waits for its deposit to be in a block before it is answered with 202.
    pub payment_patience: Duration,
    /// The key that quotes are signed with, if they are: it moves no money. Its `Debug` form shows its address only.
    pub quoter: Option<PrivateKeySigner>,
    /// How many requests somebody may make.
    pub limits: LimitConfig,
    /// Which webhooks may be registered.
    pub webhooks: Rules,
    /// The file that the market is kept in, so that the next start need not read all of it.
    pub market_image: Option<PathBuf>,
    /// Offers that a search may look at one by one on the thread that answers others; for more it waits for a turn.
    pub looks: usize,
    /// Other web origins that browsers may call from; empty turns CORS off.
    pub cors_origins: Vec<HeaderValue>,
}

impl ApiConfig {
    /// Defaults for a service at `public_url` on the chain with this id.
    #[must_use]
    pub fn new(public_url: &str, chain_id: u64) -> Self {
        let public_url = public_url.trim_end_matches('/').to_owned();
        let authority = public_url.split_once("://").map_or(public_url.as_str(), |(_, rest)| rest);
        let siwe_domain = authority.split('/').next().unwrap_or_default().to_owned();
        Self {
            siwe_domain,
            public_url,
            chain_id,
            escrow: None,
            session_ttl: Seconds(24 * 3_600),
            session_idle: Seconds::ZERO,
            agent_session_ttl: Seconds(24 * 3_600),
            nonce_ttl: Seconds(600),
            enroll_ttl: Seconds(24 * 3_600),
            heartbeat_interval: Seconds(5),
            offline_after: Seconds(30),
            body_limit: 64 * 1_024,
            request_timeout: Duration::from_secs(10),
            unready_for: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            connections: ConnectionConfig::default(),
            stream_limit: 12_288,
            streams_per_account: 32,
            unfunded_limit: 3,
            payment_patience: Duration::from_secs(8),
            quoter: None,
            limits: LimitConfig::default(),
            webhooks: Rules::default(),
            market_image: None,
            looks: 65_536,
            cors_origins: Vec::new(),
        }
    }
}

/// What every handler has at hand. Cheap to clone: each request has a dozen clones of it.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What an [`AppState`] holds.
pub struct Parts {
    /// The database, the clock and the policy.
    pub store: Store,
    /// Asks the chain; cannot send.
    pub chain: ReadClient,
    /// Settings.
    pub config: ApiConfig,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) limits: Limits,
    pub(crate) feed: Feed,
    pub(crate) market: Market,
    pub(crate) market_seats: MarketSeats,
    pub(crate) needs: Needs,
    pub(crate) gasless: Gasless,
    pub(crate) streams: Streams,
    pub(crate) figures: Figures,
    pub(crate) export: Export,
    pub(crate) status: Watched,
    pub(crate) readiness: Readiness,
    pub(crate) histories: Turns,
    pub(crate) seals: Seals,
    pub(crate) revoked: Revoked,
    pub(crate) desk: Desk,
    pub(crate) scout: Scout,
    pub(crate) quoting: Quoting,
    pub(crate) booker: Booker,
    /// The service was told to stop: it serves, but wants nobody new.
    pub(crate) leaving: CancellationToken,
    /// It accepts nobody any more.
    pub(crate) closing: CancellationToken,
    deployment: OnceLock<Deployment>,
    tokens: Mutex<BTreeMap<Address, Token>>,
}

impl AppState {
    /// Puts the state together and begins to listen for news of rentals and to read the market, until the last clone is gone.
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(
        store: Store,
        chain: ReadClient,
        config: ApiConfig,
        metrics: Option<PrometheusHandle>,
    ) -> Self {
        let feed = Feed::start(store.clone(), config.chain_id, config.connections.waiting());
        let streams = config.stream_limit.min(config.connections.streams());
        let streams = Streams::new(streams, config.streams_per_account);
        let (leaving, closing) = (CancellationToken::new(), CancellationToken::new());
        let (gasless, figures) = (Gasless::default(), Figures::default());
        let market =
            Market::start(store.clone(), config.offline_after, config.market_image.clone());
        let limits = Limits::new(&config.limits);
        let scout = Scout::start(store.clone(), config.session_idle);
        let quoting = Quoting::start(store.clone(), &config);
        Self(Arc::new(Parts {
            store,
            chain,
            config,
            metrics,
            limits,
            feed,
            market,
            market_seats: market_seats(),
            needs: needs(),
            gasless,
            streams,
            figures,
            export: Export::default(),
            status: Watched::default(),
            readiness: Readiness::default(),
            histories: Turns::default(),
            seals: Seals::default(),
            revoked: Revoked::default(),
            desk: Desk::default(),
            scout,
            quoting,
            booker: Booker::start(),
            leaving,
            closing,
            deployment: OnceLock::new(),
            tokens: Mutex::default(),
        }))
    }

    /// The deployment: once it is recorded it is the database's only one, and is asked for no more.
    ///
    /// # Errors
    /// The store's, or that there is none yet.
    pub(crate) async fn deployment(
        &self,
        connection: &mut store::Connection,
    ) -> Result<Deployment, Problem> {
        if let Some(known) = self.deployment.get() {
            return Ok(known.clone());
        }
        let found = self.known(store::deployment::get(connection).await?)?;
        Ok(self.deployment.get_or_init(|| found).clone())
    }

    /// The deployment as it was read, if it is the one that this process was told to serve. The row lies where whoever
    /// holds the database can write: it is judged each time that it is read.
    ///
    /// # Errors
    /// [`Code::NotReady`] if there is none, or another one.
    pub(crate) fn known(&self, recorded: Option<Deployment>) -> Result<Deployment, Problem> {
        let found = recorded
            .ok_or_else(|| Problem::new(Code::NotReady, "no escrow contract is recorded yet"))?;
        if found.chain_id != self.config.chain_id {
            tracing::error!(
                chain_id = self.config.chain_id,
                recorded = found.chain_id,
                "the database names another chain than when this service started: nothing is quoted or booked"
            );
            let detail = "the database names another chain than when this service started; whoever runs it has to look";
            return Err(Problem::new(Code::NotReady, detail));
        }
        match self.config.escrow {
            Some(ours) if ours != found.escrow => {
                tracing::error!(
                    escrow = %ours, recorded = %found.escrow,
                    "the database names another escrow contract than WEIR_ESCROW: nothing is quoted or booked"
                );
                let detail = "the database names another escrow contract than this service was told to serve; \
                              whoever runs it has to look";
                Err(Problem::new(Code::NotReady, detail))
            }
            Some(_) | None => Ok(found),
        }
    }

    /// What a quote in this token is told with: the deployment, and how the token's amounts are written. A token's price may be
    /// an old one; all else about a token never changes, and is asked for once.
    ///
    /// # Errors
    /// The store's, or that there is no deployment yet.
    pub(crate) async fn ground(&self, token: Address) -> Result<(Deployment, Unit), Problem> {
        let known = self.tokens().get(&token).cloned();
        if let (Some(contract), Some(token)) = (self.deployment.get(), known) {
            return Ok((contract.clone(), Unit::new(token, contract.chain_id)));
        }
        let mut connection = self.store.read().await?;
        let contract = self.deployment(&mut connection).await?;
        let unit = unit_of(&mut connection, token, contract.chain_id).await?;
        self.tokens().insert(token, unit.token().clone());
        Ok((contract, unit))
    }

    /// Those that quotes were made in: they are few.
    fn tokens(&self) -> MutexGuard<'_, BTreeMap<Address, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every listed token whether deposits can be locked by a signature (EIP-3009), so that the first booking need
    /// not. A token whose signing domain is not the one that it is listed with is not used so.
    ///
    /// # Errors
    /// The database's; a token that does not answer is asked again when it is needed.
    pub async fn probe_tokens(&self) -> Result<(), StoreError> {
        let mut connection = self.store.read().await?;
        let tokens = store::tokens::list(&mut connection).await?;
        drop(connection);
        for token in tokens {
            let domain = self.gasless.domain(&self.chain, &token, self.config.chain_id).await;
            let gasless = domain.is_some();
            tracing::info!(token.symbol = token.symbol, gasless, "token looked at");
        }
        Ok(())
    }

    /// Reads what has been committed about offers until now, instead of within the next 50 ms.
    ///
    /// # Errors
    /// The database's.
    pub async fn catch_up_with_market(&self) -> Result<(), StoreError> {
        self.market.catch_up().await
    }

    /// Writes what is known of the market to its file, if there is one: what [`crate::serve`] does at its end.
    pub async fn keep_market(&self) {
        self.market.keep().await;
    }

    /// The time, in whole seconds.
    #[must_use]
    pub fn now(&self) -> UnixSeconds {
        self.store.now().seconds()
    }
}
