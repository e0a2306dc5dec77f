//! One or several RPC endpoints of one chain, asked as one. A question goes to the endpoint that answered last;
//! where that one has trouble, to the next, and round again, within the bounds of [`Patience`]. What a node says to a
//! question, a refusal or a revert, is an answer and says nothing about the node's health (OpenZeppelin relayer #681
//! paused all its providers over one bad request).

mod health;
mod identity;
mod latency;
mod patience;

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::{
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::client::RpcClient,
};
use reqwest::Url;
use tokio::time::Instant;

use crate::ChainError;
use health::Health;
pub use identity::{Identified, Identity};
pub(crate) use latency::Effort;
use latency::Latency;
pub(crate) use patience::Patience;

/// One endpoint has so long for one try.
pub(crate) const RPC_TIMEOUT: Duration = Duration::from_secs(5);
/// More endpoints than this are a mistake: each is sent every transaction.
const MOST_ENDPOINTS: usize = 8;

/// All endpoints.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// Which one answered last.
    preferred: AtomicUsize,
    /// The chain that every endpoint has to serve, once somebody said which.
    expected: OnceLock<Identity>,
    /// A question is asked once, without patience.
    once: bool,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Host and port: paths of RPC URLs hold keys, and are never logged.
    pub(crate) name: String,
    pub(crate) provider: DynProvider,
    health: Mutex<Health>,
    light: Mutex<Latency>,
    heavy: Mutex<Latency>,
    /// Which chain it said it serves.
    identity: Mutex<Option<Identity>>,
}

impl Fleet {
    /// Endpoints by their URLs, separated by commas.
    pub(crate) fn connect(urls: &str) -> Result<Self, ChainError> {
        let urls: Vec<&str> =
            urls.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
        let mut endpoints = Vec::with_capacity(urls.len());
        for (at, url) in urls.iter().enumerate() {
            if urls.iter().take(at).any(|other| other == url) {
                let reason = "the same RPC URL twice: two endpoints have to be two providers";
                return Err(ChainError::Nonsense(reason.to_owned()));
            }
            endpoints.push(Arc::new(Endpoint::connect(url)?));
        }
        if endpoints.is_empty() || endpoints.len() > MOST_ENDPOINTS {
            return Err(ChainError::Nonsense(format!(
                "{} RPC URLs; one to {MOST_ENDPOINTS} are expected, separated by commas",
                endpoints.len()
            )));
        }
        Ok(Self::of(endpoints, false))
    }

    /// One endpoint over a transport, asked once: what it says is what it will say.
    pub(crate) fn over(client: RpcClient) -> Self {
        let only = Endpoint::over("the transport".to_owned(), client);
        Self::of(vec![Arc::new(only)], true)
    }

    fn of(endpoints: Vec<Arc<Endpoint>>, once: bool) -> Self {
        Self { endpoints, preferred: AtomicUsize::new(0), expected: OnceLock::new(), once }
    }

    /// Asks until one endpoint answers, in the order of [`Fleet::order`].
    ///
    /// # Errors
    /// The first answer that is an error of the question; the last trouble if no endpoint answered.
    pub(crate) async fn ask<T, F, Fut>(&self, question: F) -> Result<T, ChainError>
    where
        F: Fn(DynProvider) -> Fut,
        Fut: Future<Output = Result<T, ChainError>>,
    {
        self.ask_within(Patience::QUESTION, question).await
    }

    /// As [`Fleet::ask`], within other bounds.
    ///
    /// # Errors
    /// As [`Fleet::ask`].
    pub(crate) async fn ask_within<T, F, Fut>(
        &self,
        patience: Patience,
        question: F,
    ) -> Result<T, ChainError>
    where
        F: Fn(DynProvider) -> Fut,
        Fut: Future<Output = Result<T, ChainError>>,
    {
        let order = self.order();
        let answer = self.persist(&order, patience, question).await?;
        if answer.at == 0 || answer.after_trouble {
            self.prefer(order.get(answer.at));
        }
        Ok(answer.value)
    }

    /// Asks two endpoints, or the only one there is. Where there are several, one answer is not enough.
    ///
    /// # Errors
    /// As [`Fleet::ask`]; the last trouble if fewer than two answered.
    pub(crate) async fn ask_two<T, F, Fut>(
        &self,
        patience: Patience,
        question: F,
    ) -> Result<(T, Option<T>), ChainError>
    where
        F: Fn(DynProvider) -> Fut,
        Fut: Future<Output = Result<T, ChainError>>,
    {
        let mut order = self.order();
        let first = self.persist(&order, patience, &question).await?;
        if order.len() == 1 {
            return Ok((first.value, None));
        }
        order.remove(first.at);
        let second = self.persist(&order, patience, &question).await?;
        Ok((first.value, Some(second.value)))
    }

    fn prefer(&self, answered: Option<&Arc<Endpoint>>) {
        let Some(answered) = answered else { return };
        let at = self.endpoints.iter().position(|endpoint| Arc::ptr_eq(endpoint, answered));
        if let Some(at) = at.filter(|at| self.preferred.swap(*at, Ordering::Relaxed) != *at) {
            tracing::info!(rpc.endpoint = answered.name, at, "asking this endpoint now");
        }
    }

    /// Asks one endpoint, within the time limit, and keeps what that says of its health.
    pub(crate) async fn ask_one<T>(
        &self,
        endpoint: &Endpoint,
        effort: Effort,
        question: impl Future<Output = Result<T, ChainError>>,
    ) -> Result<T, ChainError> {
        let asked = async {
            self.recognise(endpoint).await?;
            question.await
        };
        let begun = Instant::now();
        let answer = tokio::time::timeout(RPC_TIMEOUT, asked).await.unwrap_or_else(|_| {
            let seconds = RPC_TIMEOUT.as_secs();
            Err(ChainError::Unavailable(format!("no answer within {seconds} s")))
        });
        endpoint.note(answer.as_ref().err());
        if answer.is_ok() {
            endpoint.latency(effort).note(begun.elapsed());
        }
        answer
    }

    /// The one that answered last, the others in their order, and those that rest last of all: nobody is left
    /// unasked while there is no answer.
    fn order(&self) -> Vec<Arc<Endpoint>> {
        let (now, preferred) = (Instant::now(), self.preferred.load(Ordering::Relaxed));
        let mut order: Vec<usize> = (0..self.endpoints.len()).collect();
        order.sort_by_key(|at| {
            let rests = self.endpoints.get(*at).is_some_and(|endpoint| endpoint.rests(now));
            (rests, *at != preferred, *at)
        });
        order.into_iter().filter_map(|at| self.endpoints.get(at).cloned()).collect()
    }

    /// Those to send to: all that do not rest, or all if all rest.
    pub(crate) fn awake(&self) -> Vec<Arc<Endpoint>> {
        let now = Instant::now();
        let awake: Vec<_> =
            self.endpoints.iter().filter(|endpoint| !endpoint.rests(now)).cloned().collect();
        if awake.is_empty() { self.endpoints.clone() } else { awake }
    }
}

/// One endpoint without a fleet's care: for a person who looks on, and for tests.
///
/// # Errors
/// [`ChainError`] if the URL is none.
pub fn provider(url: &str) -> Result<DynProvider, ChainError> {
    Endpoint::connect(url).map(|endpoint| endpoint.provider)
}

impl Endpoint {
    fn connect(url: &str) -> Result<Self, ChainError> {
        let url: Url = url.parse().map_err(|error| {
            // not the URL itself: it may hold a key
            ChainError::Nonsense(format!("an RPC URL of {} characters: {error}", url.len()))
        })?;
        let name = match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or("an RPC without a host").to_owned(),
        };
        let http = tls::direct(RPC_TIMEOUT).map_err(ChainError::Unavailable)?;
        let transport = alloy::transports::http::Http::with_client(http, url);
        Ok(Self::over(name, RpcClient::new(transport, true)))
    }

    fn over(name: String, client: RpcClient) -> Self {
        let provider =
            ProviderBuilder::new().disable_recommended_fillers().connect_client(client).erased();
        let latency = |effort| Mutex::new(Latency::of(effort));
        let (light, heavy) = (latency(Effort::Light), latency(Effort::Heavy));
        let (health, identity) = (Mutex::default(), Mutex::default());
        Self { name, provider, health, light, heavy, identity }
    }

    fn latency(&self, effort: Effort) -> MutexGuard<'_, Latency> {
        let latency = match effort {
            Effort::Light => &self.light,
            Effort::Heavy => &self.heavy,
        };
        latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rests(&self, now: Instant) -> bool {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).rests(now)
    }

    fn note(&self, error: Option<&ChainError>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match error.filter(|error| error.is_trouble()) {
            None => health.answered(),
            Some(error) => {
                if let Some(rest) = health.failed(Instant::now()) {
                    self.say_rest(rest, error);
                }
            }
        }
    }

    fn note_overtaken(&self) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = health.overtaken(Instant::now()) {
            self.say_rest(rest, &ChainError::Unavailable("its answers are late".to_owned()));
        }
    }

    fn say_rest(&self, rest: Duration, error: &ChainError) {
        let (endpoint, seconds) = (&self.name, rest.as_secs());
        tracing::warn!(rpc.endpoint = endpoint, seconds, %error, "an RPC endpoint rests");
    }
}
