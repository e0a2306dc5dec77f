//! Configuration: environment variables, each with its default and meaning in one table, from which
//! `weir config` and docs/CONFIG.md are made.

mod edge;

use std::{collections::BTreeSet, path::PathBuf, str::FromStr, time::Duration};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use api::{ConnectionConfig, LimitConfig};
use axum::http::HeaderValue;
use chain::{FeePolicy, Signer};
use domain::{money::FeeBps, time::Seconds, webhook::Rules};
use engine::{EngineSettings, LaneSettings};
use store::{Policy, deployment::Deployment};

use crate::failure::Failure;

/// One variable.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) meaning: &'static str,
}

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, default, meaning }
}

/// Every variable that the program reads.
pub(crate) const KEYS: &[Key] = &[
    key(
        "DATABASE_URL",
        "",
        "PostgreSQL (15 to 18) to use; with `weir up`, empty means an embedded one",
    ),
    key(
        "RPC_URL",
        "",
        "the chain's HTTP RPC, or several of different providers, separated by commas: then two must agree on a \
         block before money in it is final; with `weir up`, empty means an embedded anvil. An `https://` RPC needs a \
         certificate that this machine trusts: SSL_CERT_FILE or SSL_CERT_DIR name others than the system's",
    ),
    key(
        "WEIR_ESCROW",
        "",
        "address of the escrow contract: `weir serve` and `weir work` refuse a database that names another one. Set it in \
         production, where whoever can write to the database could otherwise have deposits locked in a contract of its \
         own; empty means that the database is believed; `weir up` sets it for its processes",
    ),
    key("WEIR_LISTEN", "127.0.0.1:8080", "address and port of the HTTP API"),
    key(
        "WEIR_CORS_ORIGINS",
        "",
        "origins of other web pages that may call the API from a browser, with commas between them, such as \
         `https://console.example`; http:// for this machine itself only; `*` is not taken; empty means none",
    ),
    key("WEIR_PUBLIC_URL", "", "where people reach the API; empty means http:// and WEIR_LISTEN"),
    key(
        "WEIR_OPERATOR_KEY",
        "",
        "private key that starts and closes rentals, or several with commas between them, which send side by side; only `weir work` reads it",
    ),
    key(
        "WEIR_QUOTE_KEY",
        "",
        "private key that quotes are signed with, which must have no role in the escrow and no funds; only `weir serve` \
         reads it; empty means that quotes are not signed",
    ),
    key(
        "WEIR_PRICE_FEEDS",
        "",
        "feeds with Chainlink's AggregatorV3Interface, which `weir work` asks for tokens' prices: \
         `SYMBOL=0xFEED/SECONDS` with commas between them, SECONDS being the age from which on a price is none; \
         deploy/networks/polygon.json has Polygon's, and `weir adopt` records them: empty means those that are \
         recorded",
    ),
    key("WEIR_ORACLE_S", "15", "seconds between two looks at the price feeds"),
    key("WEIR_LOG", "info", "log filter, as tracing's EnvFilter takes it"),
    key("WEIR_LOG_FORMAT", "text", "`text` or `json`"),
    key(
        "WEIR_DB_CONNECTIONS",
        "16",
        "most database connections of one process; `weir work` has 4 more, for webhooks",
    ),
    key("WEIR_METRICS_LISTEN", "", "where `weir work` serves /metrics; empty means nowhere"),
    key(
        "WEIR_FEE_BPS",
        "1200",
        "the platform's share of the provider's gross, 1000 to 1500 basis points",
    ),
    key("WEIR_QUOTE_TTL_S", "300", "seconds a quote can be booked"),
    key("WEIR_FUNDING_TTL_S", "120", "seconds a booking waits for its lock"),
    key("WEIR_READY_TTL_S", "120", "seconds a machine may take to be ready once the lock was seen"),
    key("WEIR_EVIDENCE_TIMEOUT_S", "10", "evidence older than this means an outage"),
    key(
        "WEIR_MAX_OUTAGE_S",
        "900",
        "an outage longer than this ends the rental at its last good second",
    ),
    key(
        "WEIR_EXPIRING_S",
        "300",
        "seconds before a deposit is used up at which its parties are told, `rental.expiring`; of a deposit that does not \
         last longer it is not told",
    ),
    key("WEIR_STOP_GRACE_S", "10", "seconds a stopped machine may take for its last reading"),
    key(
        "WEIR_HOLDBACK_S",
        "3600",
        "last seconds that `release` on the chain leaves alone and the renter may dispute at the end; above WEIR_MAX_OUTAGE_S",
    ),
    key(
        "WEIR_RELEASE_S",
        "86400",
        "seconds from its start after which a running rental is paid for up to the holdback, and again after as many; \
         above WEIR_HOLDBACK_S, or 0 for never",
    ),
    key(
        "WEIR_START_SLACK_S",
        "600",
        "seconds between the latest expected start and the contract's startBy",
    ),
    key(
        "WEIR_SESSION_IDLE_S",
        "28800",
        "seconds after which a wallet's session that is not used has ended, at the latest an hour later; it ends after a \
         day in any case; 0 for never",
    ),
    key("WEIR_HEARTBEAT_S", "5", "seconds between two heartbeats of an agent"),
    key(
        "WEIR_UNREADY_S",
        "5",
        "seconds that `weir serve` goes on serving once told to stop, while /readyz says no, so that a balancer sends \
         nobody any more",
    ),
    key(
        "WEIR_MARKET_IMAGE",
        "",
        "a file in which `weir serve` keeps the market every five minutes and when it stops, so that a start within ten \
         minutes reads what changed and not every offer; empty means none; `weir up` has one",
    ),
    key(
        "WEIR_DRAIN_S",
        "10",
        "seconds that requests, or the rounds of `weir work`, may then take to finish",
    ),
    key(
        "WEIR_CONNECTIONS",
        "16384",
        "connections that `weir serve` has open at once; one more is closed. Five eighths of them may be event streams, \
         a quarter agents that wait for orders. The process needs as many file handles, and some for the database",
    ),
    key(
        "WEIR_CONNECTIONS_NETWORK",
        "4096",
        "how many of them come from one IPv4 address or IPv6 network of 48 bits, but from those of WEIR_TRUSTED_PROXIES; an \
         agent has two",
    ),
    key(
        "WEIR_HEAD_S",
        "15",
        "seconds for a request's head, from its first byte, or from the connection on; then the connection is closed",
    ),
    key(
        "WEIR_IDLE_S",
        "75",
        "seconds that a connection may wait for its next request; longer than a balancer in front keeps it",
    ),
    key(
        "WEIR_LIMIT_ADDRESS",
        "1200/60",
        "requests that an address without a session may make at once, and again in so many seconds, or `off`; an IPv6 \
         network of 64 bits counts as one address. All that comes from an IPv4 address or an IPv6 network of 48 bits, \
         with whatever sessions, may be 16 times as much, but for machines",
    ),
    key("WEIR_LIMIT_SIGN_IN", "120/60", "the same for signing in, by address"),
    key(
        "WEIR_LIMIT_IDENTITY",
        "3000/60",
        "requests that an account with all of its sessions and keys, or a machine, may make, or `off`",
    ),
    key(
        "WEIR_LIMIT_WRITES",
        "600/60",
        "the same for everything but reading, of an account, a machine or an address without a session",
    ),
    key(
        "WEIR_TRUSTED_PROXIES",
        "",
        "addresses or networks, with commas between them, whose X-Forwarded-For is believed; empty means nobody's",
    ),
    key(
        "WEIR_WEBHOOK_LOOPBACK",
        "false",
        "`true` or `false`: whether webhooks may call this machine itself, without encryption too; for development",
    ),
    key("WEIR_POLL_MS", "500", "milliseconds between two looks at chain and timers"),
    key("WEIR_LANE_POLL_MS", "100", "milliseconds between two looks at what is to be sent"),
    key("WEIR_RECONCILE_S", "5", "seconds between two reconciliations"),
    key("WEIR_RESEND_S", "6", "seconds after which unmined bytes are sent again"),
    key(
        "WEIR_REPLACE_S",
        "30",
        "seconds after which an unmined transaction is signed again, at fees an eighth higher",
    ),
    key(
        "WEIR_WINDOW",
        "16",
        "most transactions of a key that are in no block yet; nodes promise room for 16",
    ),
    key("WEIR_BATCH", "100", "most rentals that one transaction starts or closes, 1 to 150"),
    key("WEIR_BATCH_WAIT_MS", "0", "milliseconds that a batch which is not full waits for more"),
    key(
        "WEIR_ACCESS_LISTS",
        "true",
        "`true` or `false`: whether batches name the slots that they touch where that is cheaper",
    ),
    key(
        "WEIR_LEASE_S",
        "10",
        "seconds after which another worker may send for the key of one that hangs; one that died is replaced at once",
    ),
    key("WEIR_TIP_FLOOR_GWEI", "25", "never tip less per gas"),
    key("WEIR_MAX_FEE_GWEI", "2000", "never pay more per gas"),
];

/// The configuration of one process.
pub(crate) struct Config {
    pub(crate) database_url: Option<String>,
    pub(crate) rpc_url: Option<String>,
    /// The only contract that is served, if one is named.
    pub(crate) escrow: Option<Address>,
    pub(crate) listen: String,
    pub(crate) public_url: String,
    pub(crate) cors_origins: Vec<HeaderValue>,
    pub(crate) clients: ConnectionConfig,
    pub(crate) operator_key: Option<String>,
    pub(crate) quote_key: Option<String>,
    pub(crate) feeds: Vec<FeedSetting>,
    pub(crate) metrics_listen: Option<String>,
    pub(crate) connections: u32,
    pub(crate) heartbeat: Seconds,
    pub(crate) market_image: Option<PathBuf>,
    pub(crate) session_idle: Seconds,
    pub(crate) unready: Duration,
    pub(crate) drain: Duration,
    pub(crate) limits: LimitConfig,
    pub(crate) webhooks: Rules,
    pub(crate) policy: Policy,
    pub(crate) engine: EngineSettings,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Names the first variable that makes no sense, and what would.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let listen = text("WEIR_LISTEN");
        let public_url = optional("WEIR_PUBLIC_URL").unwrap_or_else(|| format!("http://{listen}"));
        let fee: u16 = number("WEIR_FEE_BPS")?;
        let policy = Policy {
            fee: FeeBps::quotable(fee).map_err(Failure::during("WEIR_FEE_BPS"))?,
            quote_ttl: seconds("WEIR_QUOTE_TTL_S")?,
            funding_ttl: seconds("WEIR_FUNDING_TTL_S")?,
            ready_ttl: seconds("WEIR_READY_TTL_S")?,
            evidence_timeout: seconds("WEIR_EVIDENCE_TIMEOUT_S")?,
            max_outage: seconds("WEIR_MAX_OUTAGE_S")?,
            expiring_lead: seconds("WEIR_EXPIRING_S")?,
            stop_grace: seconds("WEIR_STOP_GRACE_S")?,
            holdback: seconds("WEIR_HOLDBACK_S")?,
            release_every: Seconds(number("WEIR_RELEASE_S")?),
            start_slack: seconds("WEIR_START_SLACK_S")?,
        };
        if policy.holdback <= policy.max_outage {
            return Err(Failure::new(
                "WEIR_HOLDBACK_S must be above WEIR_MAX_OUTAGE_S: what is released cannot be credited back",
            ));
        }
        if policy.release_every > Seconds::ZERO && policy.release_every <= policy.holdback {
            return Err(Failure::new(
                "WEIR_RELEASE_S must be above WEIR_HOLDBACK_S, or 0: what is younger than the holdback is not released",
            ));
        }
        let heartbeat = seconds("WEIR_HEARTBEAT_S")?;
        if policy.evidence_timeout <= heartbeat.saturating_add(Seconds::ONE) {
            return Err(Failure::new(
                "WEIR_EVIDENCE_TIMEOUT_S must be more than a second above WEIR_HEARTBEAT_S: a machine that \
                 sends its heartbeats on time would count as out of contact",
            ));
        }
        if policy.start_window() > Seconds(24 * 3_600) {
            return Err(Failure::new(
                "quote, funding, ready and slack together must stay below 24 hours, the contract's limit",
            ));
        }
        Ok(Self {
            database_url: optional("DATABASE_URL"),
            rpc_url: optional("RPC_URL"),
            escrow: escrow()?,
            public_url,
            cors_origins: edge::origins(&text("WEIR_CORS_ORIGINS"))?,
            clients: edge::connections()?,
            listen,
            operator_key: optional("WEIR_OPERATOR_KEY"),
            quote_key: optional("WEIR_QUOTE_KEY"),
            feeds: feeds("WEIR_PRICE_FEEDS", &text("WEIR_PRICE_FEEDS"))?,
            metrics_listen: optional("WEIR_METRICS_LISTEN"),
            connections: number("WEIR_DB_CONNECTIONS")?,
            heartbeat,
            market_image: optional("WEIR_MARKET_IMAGE").map(PathBuf::from),
            session_idle: Seconds(number("WEIR_SESSION_IDLE_S")?),
            unready: Duration::from_secs(number::<u32>("WEIR_UNREADY_S")?.into()),
            drain: Duration::from_secs(number::<u32>("WEIR_DRAIN_S")?.into()),
            limits: limits()?,
            webhooks: Rules { loopback: flag("WEIR_WEBHOOK_LOOPBACK")? },
            policy,
            engine: engine_settings()?,
        })
    }

    /// The deployment that the database names, if it is ours.
    ///
    /// # Errors
    /// If it is another one than `WEIR_ESCROW`.
    pub(crate) fn ours(&self, recorded: Deployment) -> Result<Deployment, Failure> {
        match self.escrow {
            Some(ours) if ours != recorded.escrow => Err(Failure::new(format!(
                "the database names the escrow contract {}, but WEIR_ESCROW is {ours}: if WEIR_ESCROW is what you \
                 deployed, somebody has changed the database (runbook: the database names another escrow contract); if \
                 not, correct it",
                recorded.escrow
            ))),
            Some(_) | None => Ok(recorded),
        }
    }

    /// The database's URL.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn database(&self) -> Result<&str, Failure> {
        self.database_url
            .as_deref()
            .ok_or_else(|| Failure::new("DATABASE_URL is not set; it names the PostgreSQL to use"))
    }

    /// The operator's keys: one, or several with commas between them.
    ///
    /// # Errors
    /// If there is none, one is no key, or one is named twice. No key is repeated.
    pub(crate) fn signers(&self) -> Result<Vec<Signer>, Failure> {
        let keys = self.operator_key.as_deref().ok_or_else(|| {
            Failure::new(
                "WEIR_OPERATOR_KEY is not set; it is the key that starts and closes rentals",
            )
        })?;
        let signers = keys
            .split(',')
            .map(|key| key.trim().parse().map_err(Failure::during("WEIR_OPERATOR_KEY")))
            .collect::<Result<Vec<Signer>, _>>()?;
        let addresses: BTreeSet<_> = signers.iter().map(Signer::address).collect();
        if addresses.len() < signers.len() {
            return Err(Failure::new("WEIR_OPERATOR_KEY names a key twice"));
        }
        Ok(signers)
    }

    /// The key that quotes are signed with, if they are.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn quoter(&self) -> Result<Option<PrivateKeySigner>, Failure> {
        let Some(key) = self.quote_key.as_deref() else {
            return Ok(None);
        };
        let key: PrivateKeySigner =
            key.parse().map_err(|_| Failure::new("WEIR_QUOTE_KEY is not a private key"))?;
        Ok(Some(key))
    }

    /// The chain's URL.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn rpc(&self) -> Result<&str, Failure> {
        self.rpc_url
            .as_deref()
            .ok_or_else(|| Failure::new("RPC_URL is not set; it names the chain's HTTP RPC"))
    }
}

fn escrow() -> Result<Option<Address>, Failure> {
    optional("WEIR_ESCROW")
        .map(|text| {
            text.parse().map_err(|_| Failure::new(format!("WEIR_ESCROW: {text:?} is no address")))
        })
        .transpose()
}

/// The oracle of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeedSetting {
    pub(crate) symbol: String,
    pub(crate) feed: Address,
    pub(crate) max_age: Seconds,
}

/// The longest age of a price: a week.
const MAX_FEED_AGE: u32 = 604_800;

/// A list of oracles; `what` is where it stands.
///
/// # Errors
/// If an entry has another form, or a token is named twice.
pub(crate) fn feeds(what: &str, list: &str) -> Result<Vec<FeedSetting>, Failure> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    let settings = parts.map(|part| {
        feed(part).ok_or_else(|| {
            let form = format!("SYMBOL=0xFEED/SECONDS with 1 to {MAX_FEED_AGE} seconds");
            Failure::new(format!("{what}: {part:?} is not of the form {form}"))
        })
    });
    let settings = settings.collect::<Result<Vec<_>, _>>()?;
    let symbols: BTreeSet<_> = settings.iter().map(|setting| &setting.symbol).collect();
    if symbols.len() < settings.len() {
        return Err(Failure::new(format!("{what} names a token twice")));
    }
    Ok(settings)
}

fn feed(part: &str) -> Option<FeedSetting> {
    let (symbol, rest) = part.split_once('=')?;
    let (feed, seconds) = rest.split_once('/')?;
    let max_age = seconds.trim().parse().ok().filter(|age| (1..=MAX_FEED_AGE).contains(age))?;
    let symbol = symbol.trim().to_owned();
    let feed: Address = feed.trim().parse().ok()?;
    (!symbol.is_empty() && !feed.is_zero()).then_some(FeedSetting {
        symbol,
        feed,
        max_age: Seconds(max_age),
    })
}

fn limits() -> Result<LimitConfig, Failure> {
    let limit = |name| text(name).parse().map_err(Failure::during(name));
    let proxies = text("WEIR_TRUSTED_PROXIES");
    let named = proxies.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(LimitConfig {
        address: limit("WEIR_LIMIT_ADDRESS")?,
        sign_in: limit("WEIR_LIMIT_SIGN_IN")?,
        identity: limit("WEIR_LIMIT_IDENTITY")?,
        writes: limit("WEIR_LIMIT_WRITES")?,
        proxies: named
            .map(|name| name.parse().map_err(Failure::during("WEIR_TRUSTED_PROXIES")))
            .collect::<Result<_, _>>()?,
    })
}

fn engine_settings() -> Result<EngineSettings, Failure> {
    const GWEI: u128 = 1_000_000_000;
    let gwei = |name| number::<u32>(name).map(|value| u128::from(value).saturating_mul(GWEI));
    Ok(EngineSettings {
        poll: Duration::from_millis(number::<u64>("WEIR_POLL_MS")?.max(10)),
        reconcile: Duration::from_secs(number::<u64>("WEIR_RECONCILE_S")?.max(1)),
        lane_poll: Duration::from_millis(number::<u64>("WEIR_LANE_POLL_MS")?.max(10)),
        oracle: Duration::from_secs(number::<u64>("WEIR_ORACLE_S")?.max(1)),
        lane: LaneSettings {
            resend_after: Duration::from_secs(number::<u64>("WEIR_RESEND_S")?.max(1)),
            replace_after: Duration::from_secs(number::<u64>("WEIR_REPLACE_S")?.max(1)),
            window: number::<u64>("WEIR_WINDOW")?.max(1),
            batch: number::<usize>("WEIR_BATCH")?.clamp(1, 150),
            gather: Duration::from_millis(number("WEIR_BATCH_WAIT_MS")?),
            access_lists: flag("WEIR_ACCESS_LISTS")?,
            lease: Duration::from_secs(number::<u64>("WEIR_LEASE_S")?.max(2)),
            ..LaneSettings::with_fees(FeePolicy {
                tip_floor: gwei("WEIR_TIP_FLOOR_GWEI")?,
                max_fee_ceiling: gwei("WEIR_MAX_FEE_GWEI")?,
            })
        },
    })
}

fn flag(name: &str) -> Result<bool, Failure> {
    let value = text(name);
    value.parse().map_err(|_| Failure::new(format!("{name}={value:?} is neither true nor false")))
}

/// A variable, or its default from the table.
pub(crate) fn text(name: &str) -> String {
    let default = KEYS.iter().find(|key| key.name == name).map_or("", |key| key.default);
    std::env::var(name)
        .ok()
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| default.to_owned())
}

fn optional(name: &str) -> Option<String> {
    Some(text(name)).filter(|value| !value.is_empty())
}

fn number<N: FromStr>(name: &str) -> Result<N, Failure> {
    let value = text(name);
    value
        .parse()
        .map_err(|_| Failure::new(format!("{name}={value:?} is not a whole number in range")))
}

fn seconds(name: &str) -> Result<Seconds, Failure> {
    let value: u32 = number(name)?;
    if value == 0 {
        return Err(Failure::new(format!("{name} must be at least 1 second")));
    }
    Ok(Seconds(value))
}

/// The table, as docs/CONFIG.md shows it.
pub(crate) fn as_markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\nEnvironment variables. This page is what `weir config` prints; a test keeps it so.\n\n\
         | variable | default | meaning |\n|---|---|---|\n",
    );
    for key in KEYS {
        let default = if key.default.is_empty() { "(none)" } else { key.default };
        out.push_str(&format!("| `{}` | {default} | {} |\n", key.name, key.meaning));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_keys_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIG.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, as_markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, as_markdown(), "run UPDATE_DOCS=1 cargo test -p weir");
    }

    #[test]
    fn feeds_have_one_form() {
        let polygon = "POL=0xAB594600376Ec9fD91F8e885dADF0CE036862dE0/120, WETH=0xF9680D99D6C9589e2a93a78A04A279e509205945/3600,";
        let read = feeds("feeds", polygon).unwrap();
        let said: Vec<_> =
            read.iter().map(|one| (one.symbol.as_str(), one.max_age.get())).collect();
        assert_eq!(said, [("POL", 120), ("WETH", 3_600)]);
        assert_eq!(feeds("feeds", "").unwrap(), []);
        let file = include_str!("../../../deploy/networks/polygon.json");
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        let listed = feeds("feeds", file["priceFeeds"].as_str().unwrap()).unwrap();
        let symbols: Vec<_> = listed.iter().map(|one| one.symbol.as_str()).collect();
        assert_eq!(symbols, ["POL", "WETH", "SOL", "USDC"]);
        let zero = "0x0000000000000000000000000000000000000000";
        for bad in [
            "POL",
            "POL=0xAB59/120",
            "POL=0xAB594600376Ec9fD91F8e885dADF0CE036862dE0",
            "POL=0xAB594600376Ec9fD91F8e885dADF0CE036862dE0/0",
            "POL=0xAB594600376Ec9fD91F8e885dADF0CE036862dE0/604801",
            "=0xAB594600376Ec9fD91F8e885dADF0CE036862dE0/60",
            &format!("POL={zero}/60"),
            "A=0xAB594600376Ec9fD91F8e885dADF0CE036862dE0/60,A=0xAB594600376Ec9fD91F8e885dADF0CE036862dE0/60",
        ] {
            assert!(feeds("feeds", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_defaults_make_a_configuration() {
        let config = Config::from_env().unwrap();
        assert_eq!(config.policy.fee.get(), 1_200);
        assert!(config.policy.holdback > config.policy.max_outage);
    }
}
