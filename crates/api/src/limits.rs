//! How many requests somebody may make. Each limit is a token bucket: so many requests at once, and as many again,
//! evenly, in its window. Who is known by a session or a key is counted as the account that it is of; everybody else by
//! address, so that neither invented tokens nor a borrowed address get around it. A crate would do for the buckets, but none of them forgets:
//! what is kept here is bounded ([`bucket`]).

mod bucket;
mod caller;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
};
use domain::id::{AccountId, MachineId};
use tokio::time::Instant;

use self::bucket::{Buckets, Key, Standing, Vouched};
pub use self::caller::Net;
pub(crate) use self::caller::network_of;
use crate::{AppState, Code, Problem, identity, search::digits, security};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// So many requests in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many at once, and again in each window.
    pub requests: u32,
    /// In how many seconds as many come back.
    pub window_s: u32,
}

/// The longest window: a day.
const MAX_WINDOW_S: u32 = 86_400;

impl Quota {
    /// A quota; `None` unless both are above zero and the window is at most a day.
    #[must_use]
    pub const fn new(requests: u32, window_s: u32) -> Option<Self> {
        if requests == 0 || window_s == 0 || window_s > MAX_WINDOW_S {
            return None;
        }
        Some(Self { requests, window_s })
    }
}

/// A text that is no quota.
#[derive(Debug, thiserror::Error)]
#[error("expected REQUESTS/SECONDS, such as 600/60, both above zero and at most a day, or off")]
pub struct QuotaError;

/// A limit that can be turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting(pub Option<Quota>);

impl Setting {
    /// So many times as much in the same time.
    fn times(self, factor: u32) -> Self {
        Self(self.0.map(|quota| Quota { requests: quota.requests.saturating_mul(factor), ..quota }))
    }
}

impl FromStr for Setting {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        if text == "off" {
            return Ok(Self(None));
        }
        let (requests, window) = text.split_once('/').ok_or(QuotaError)?;
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| QuotaError);
        Quota::new(number(requests)?, number(window)?)
            .map(|quota| Self(Some(quota)))
            .ok_or(QuotaError)
    }
}

/// The limits of a service.
#[derive(Clone, Debug)]
pub struct LimitConfig {
    /// Of an address without a session: an IPv4 address, or an IPv6 network of 64 bits. All that comes from one, or
    /// from an IPv6 network of 48 bits, may be 16 times as much, whoever it is; but for agents.
    pub address: Setting,
    /// Of an address, for signing in.
    pub sign_in: Setting,
    /// Of an account, with all of its sessions and keys, or of a machine.
    pub identity: Setting,
    /// Of an account or a machine, or of an address without one, for everything but reading.
    pub writes: Setting,
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: Vec<Net>,
}

impl Default for LimitConfig {
    fn default() -> Self {
        let of = |requests| Setting(Quota::new(requests, 60));
        Self {
            address: of(1_200),
            sign_in: of(120),
            identity: of(3_000),
            writes: of(600),
            proxies: Vec::new(),
        }
    }
}

impl LimitConfig {
    /// No limits at all.
    #[must_use]
    pub const fn off() -> Self {
        let off = Setting(None);
        Self { address: off, sign_in: off, identity: off, writes: off, proxies: Vec::new() }
    }
}

/// One limit with its name.
struct Policy {
    name: &'static str,
    /// As it is told: name, requests and window.
    told: Arc<str>,
    buckets: Buckets,
}

/// What a network may do in all, in times of what an address may without a session: many people share an address.
const NETWORK: u32 = 16;
/// How often the chain is asked about contract wallets, for all who have signed in together, and for all others.
const WALLETS: Setting = Setting(Quota::new(300, 60));
/// How much of that one network has: a few cannot have all.
const WALLETS_SHARE: Setting = Setting(Quota::new(30, 60));

/// Limits on what is asked for many, each of whom has a share.
struct Shared {
    share: Policy,
    all: Policy,
}

/// Whose question it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    network: Key,
    signed_in: bool,
}

impl FromRequestParts<AppState> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Infallible> {
        Ok(app.limits.origin(&parts.extensions, &parts.headers))
    }
}

/// Counts requests.
pub(crate) struct Limits {
    address: Option<Policy>,
    network: Option<Policy>,
    /// Of who has signed in, and of everybody else.
    wallets: Option<[Shared; 2]>,
    sign_in: Option<Policy>,
    identity: Option<Policy>,
    writes: Option<Policy>,
    proxies: Vec<Net>,
    vouched: Vouched,
    since: Instant,
}

impl Limits {
    pub(crate) fn new(config: &LimitConfig) -> Self {
        let policy = |name, setting: Setting| {
            setting.0.map(|quota| {
                let told = format!("{name:?};q={};w={}", quota.requests, quota.window_s).into();
                Policy { name, told, buckets: Buckets::new(quota) }
            })
        };
        let shared = || {
            let (share, all) = (policy("wallets", WALLETS_SHARE)?, policy("wallets", WALLETS)?);
            Some(Shared { share, all })
        };
        Self {
            address: policy("address", config.address),
            network: policy("network", config.address.times(NETWORK)),
            wallets: config.sign_in.0.and_then(|_| Some([shared()?, shared()?])),
            sign_in: policy("sign-in", config.sign_in),
            identity: policy("identity", config.identity),
            writes: policy("writes", config.writes),
            proxies: config.proxies.clone(),
            vouched: Vouched::default(),
            since: Instant::now(),
        }
    }

    /// A credential with this hash is somebody's: from now on its requests are counted as theirs.
    pub(crate) fn vouch(&self, hash: &[u8; 32], whose: Whose) {
        let owner = match whose {
            Whose::Account(id) => Key::account(id.uuid()),
            Whose::Machine(id) => Key::machine(id.uuid()),
        };
        self.vouched.add(Key::secret(hash), owner);
    }

    /// Whether the chain may be asked about one more signature of a contract wallet.
    pub(crate) fn may_ask_wallet(&self, origin: Origin) -> bool {
        let Some([known, others]) = &self.wallets else { return true };
        let Shared { share, all } = if origin.signed_in { known } else { others };
        let elapsed = self.since.elapsed();
        let allowed = share.buckets.take(origin.network, elapsed).allowed
            && all.buckets.take(Key::EVERYBODY, elapsed).allowed;
        if !allowed {
            metrics::counter!("weir_http_limited_total", "policy" => all.name).increment(1);
            security::limited(all.name);
        }
        allowed
    }

    /// Who asks, by what came with a request.
    pub(crate) fn origin(&self, extensions: &Extensions, headers: &HeaderMap) -> Origin {
        let known = bearer(headers).map(|token| Key::secret(&identity::hash_of(token)));
        Origin {
            network: Key::network(self.caller(extensions, headers)),
            signed_in: known.is_some_and(|key| self.vouched.owner(key).is_some()),
        }
    }

    /// It is nobody's any more.
    pub(crate) fn disown(&self, hash: &[u8; 32]) {
        self.vouched.remove(Key::secret(hash));
    }

    /// Where a request comes from.
    fn caller(&self, extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        caller::address(peer.map(|peer| peer.0.ip()), headers, &self.proxies)
    }

    /// From which network a request comes ([`network_of`]).
    pub(crate) fn network(&self, request: &Request) -> Vec<u8> {
        network_of(self.caller(request.extensions(), request.headers()))
    }

    /// Whether this is the address of a proxy of ours.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|net| net.contains(address))
    }

    /// Counts a request of the API that came now.
    pub(crate) fn judge(&self, request: &Request, now: Instant) -> Judged {
        let (method, path) = (request.method(), request.uri().path());
        if !path.starts_with("/v1/") {
            return Judged::default();
        }
        let address = self.caller(request.extensions(), request.headers());
        security::comes_from(address);
        let known = bearer(request.headers()).map(|token| Key::secret(&identity::hash_of(token)));
        let known = known.and_then(|key| self.vouched.owner(key));
        let (who, first) = if signs_in(method, path) {
            (Key::address(address), &self.sign_in)
        } else if let Some(owner) = known {
            (owner, &self.identity)
        } else {
            (Key::address(address), &self.address)
        };
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let second = if reads || signs_in(method, path) { &None } else { &self.writes };
        let elapsed = now.saturating_duration_since(self.since);
        let mut judged = Judged::default();
        for policy in [first, second].into_iter().flatten() {
            if judged.refused.is_none() {
                judged.take(policy, who, elapsed);
            }
        }
        // a house full of machines has one address
        let network = self.network.as_ref().filter(|_| !known.is_some_and(Key::is_machine));
        if let Some(policy) = network.filter(|_| judged.refused.is_none()) {
            judged.take_silently(policy, Key::network(address), elapsed);
        }
        judged
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(IpAddr);

impl Caller {
    /// From which network ([`network_of`]).
    pub(crate) fn network(self) -> Vec<u8> {
        network_of(self.0)
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Infallible> {
        Ok(Self(app.limits.caller(&parts.extensions, &parts.headers)))
    }
}

/// Whose a credential is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// An account's.
    Account(AccountId),
    /// A machine's.
    Machine(MachineId),
}

/// Signing in is counted by address: whoever tries has no session yet, and one that they have must not help.
fn signs_in(method: &Method, path: &str) -> bool {
    let agent = ["/v1/agent/challenge", "/v1/agent/session", "/v1/agent/enroll"];
    let wallet = path.starts_with("/v1/auth/") && !path.ends_with("/logout");
    *method == Method::POST && (wallet || agent.contains(&path))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Room for what is told of two limits.
const TOLD_BYTES: usize = 64;

/// What the limits say of a request.
#[derive(Default)]
pub(crate) struct Judged {
    told: Vec<(&'static str, Arc<str>, Standing)>,
    refused: Option<Problem>,
}

impl Judged {
    fn take(&mut self, policy: &Policy, who: Key, elapsed: Duration) {
        let standing = policy.buckets.take(who, elapsed);
        self.note(policy, standing);
    }

    /// Tells of it only if it is one too many.
    fn take_silently(&mut self, policy: &Policy, who: Key, elapsed: Duration) {
        let standing = policy.buckets.take(who, elapsed);
        if !standing.allowed {
            self.note(policy, standing);
        }
    }

    fn note(&mut self, policy: &Policy, standing: Standing) {
        self.told.push((policy.name, policy.told.clone(), standing));
        if standing.allowed {
            return;
        }
        let quota = policy.buckets.quota();
        metrics::counter!("weir_http_limited_total", "policy" => policy.name).increment(1);
        security::limited(policy.name);
        let Quota { requests, window_s } = quota;
        let wait = standing.more_in_s;
        let detail = format!(
            "the limit {:?} is {requests} requests in {window_s} s; wait {wait} s for the next",
            policy.name
        );
        let problem = Problem::new(Code::RateLimited, detail);
        self.refused = Some(problem.with("violated-policies", vec![policy.name]));
    }

    /// The refusal, if it was one too many.
    pub(crate) fn refusal(&mut self) -> Option<Problem> {
        self.refused.take()
    }

    /// Tells of it in the answer's head (draft-ietf-httpapi-ratelimit-headers-10).
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        if self.told.is_empty() {
            return;
        }
        let mut policy = Vec::with_capacity(TOLD_BYTES);
        let mut limit = Vec::with_capacity(TOLD_BYTES);
        for (name, told, standing) in &self.told {
            if !policy.is_empty() {
                policy.extend_from_slice(b", ");
                limit.extend_from_slice(b", ");
            }
            policy.extend_from_slice(told.as_bytes());
            limit.push(b'"');
            limit.extend_from_slice(name.as_bytes());
            limit.extend_from_slice(b"\";r=");
            digits(&mut limit, standing.remaining, 1);
            limit.extend_from_slice(b";t=");
            digits(&mut limit, standing.more_in_s, 1);
            if !standing.allowed {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(standing.more_in_s));
            }
        }
        for (name, items) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(items) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_have_one_form() {
        let quota: Setting = "600/60".parse().unwrap();
        assert_eq!(quota.0, Quota::new(600, 60));
        assert_eq!("off".parse::<Setting>().unwrap().0, None);
        for bad in ["", "600", "0/60", "600/0", "600/86401", "-1/60", "a/b", "1/2/3", "OFF"] {
            assert!(bad.parse::<Setting>().is_err(), "{bad}");
        }
    }

    #[test]
    fn wallets_are_asked_about_so_often_and_no_network_has_all_of_it() {
        let limits = Limits::new(&LimitConfig::default());
        let from = |host: u8, signed_in| Origin {
            network: Key::network([203, 0, 113, host].into()),
            signed_in,
        };
        let asked = |host: u8, signed_in: bool| {
            (0..100).filter(|_| limits.may_ask_wallet(from(host, signed_in))).count()
        };
        assert!((30..33).contains(&asked(1, false)));
        let of_many = (2..50).map(|host| asked(host, false)).sum::<usize>();
        assert!((270..400).contains(&of_many), "{of_many}");
        assert_eq!(asked(50, false), 0);
        // whoever has signed in is not in their way, nor they in his
        assert!((30..33).contains(&asked(50, true)));
        let off = Limits::new(&LimitConfig::off());
        assert!((0..1_000).all(|_| off.may_ask_wallet(from(1, false))));
    }

    #[test]
    fn standings_are_told_by_their_names() {
        let policy = |name: &'static str, requests| {
            let config = LimitConfig {
                sign_in: Setting(Quota::new(requests, 60)),
                writes: Setting(Quota::new(requests, 60)),
                ..LimitConfig::off()
            };
            let limits = Limits::new(&config);
            if name == "writes" { limits.writes.unwrap() } else { limits.sign_in.unwrap() }
        };
        let mut judged = Judged::default();
        judged.take(&policy("sign-in", 12), Key::EVERYBODY, Duration::ZERO);
        judged.take(&policy("writes", 1), Key::EVERYBODY, Duration::ZERO);
        let mut headers = HeaderMap::new();
        judged.mark(&mut headers);
        assert_eq!(headers[POLICY], "\"sign-in\";q=12;w=60, \"writes\";q=1;w=60");
        assert_eq!(headers[LIMIT], "\"sign-in\";r=11;t=5, \"writes\";r=0;t=60");
        assert!(!headers.contains_key(header::RETRY_AFTER));
        let (writes, mut judged) = (policy("writes", 1), Judged::default());
        judged.take(&writes, Key::EVERYBODY, Duration::ZERO);
        judged.take(&writes, Key::EVERYBODY, Duration::ZERO);
        assert!(judged.refusal().is_some());
        judged.mark(&mut headers);
        assert_eq!(headers[header::RETRY_AFTER], "60");
    }

    #[test]
    fn only_asking_for_a_session_is_signing_in() {
        let post = Method::POST;
        assert!(signs_in(&post, "/v1/auth/siwe/nonce") && signs_in(&post, "/v1/agent/session"));
        assert!(!signs_in(&post, "/v1/auth/logout") && !signs_in(&post, "/v1/agent/readings"));
        assert!(!signs_in(&Method::GET, "/v1/auth/sessions"));
    }
}
