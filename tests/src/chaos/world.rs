//! A whole market of real processes: PostgreSQL, anvil, a fault proxy before it, `weir serve`, `weir work`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::primitives;
use domain::time::UnixMillis;
use sqlx::{PgPool, postgres::PgPoolOptions};
use store::Store;
use testkit::{
    Anvil, AnvilOptions, Cluster, ClusterOptions, DEV_KEYS, ManualClock, RpcProxy, free_port,
};
use tokio::sync::{Mutex, watch};

use super::{
    disk::Disk,
    rpc::Rpc,
    service::Service,
    site,
    standby::{self, Address},
    wall_clock,
};
use crate::booking::policy;

/// How the world is made.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Machines of one GPU each.
    pub machines: usize,
    /// Renters; each rents one machine at a time.
    pub renters: usize,
    /// A block is final when twice so many lie on it.
    pub epoch: u32,
    /// The chain's clock less ours, at the start.
    pub clock: i64,
    /// Connections that PostgreSQL takes.
    pub connections: u32,
    /// Whoever asks for the database asks an address that can be led elsewhere.
    pub moves: bool,
    /// PostgreSQL has a disk of its own, of so many MiB.
    pub disk: Option<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            machines: 8,
            renters: 6,
            epoch: 1,
            clock: 0,
            connections: 100,
            moves: false,
            disk: None,
        }
    }
}

pub struct World {
    pub plan: Plan,
    pub rpc: Rpc,
    pub proxy: RpcProxy,
    pub db: PgPool,
    pub escrow: primitives::Address,
    pub usdc: primitives::Address,
    pub url: String,
    pub api: Service,
    pub worker: Service,
    pub second: Service,
    pub http: reqwest::Client,
    /// How many faults have begun.
    pub epoch: AtomicU64,
    /// A fault is there, and whoever is told to try again waits until it is over.
    lasting: watch::Sender<bool>,
    /// How often a process ended by itself and was started again.
    pub ended: AtomicU64,
    cluster: Mutex<Option<Cluster>>,
    pub disk: Option<Disk>,
    address: Option<Address>,
    /// How many primaries there were.
    primaries: AtomicU64,
    port: u16,
    folder: PathBuf,
    // dropped last: the processes above end first
    _anvil: Anvil,
    _temporary: tempfile::TempDir,
}

/// Shorter times than production's, so that a rental takes seconds.
const SETTINGS: &[(&str, &str)] = &[
    ("WEIR_EVIDENCE_TIMEOUT_S", "8"),
    ("WEIR_HEARTBEAT_S", "1"),
    ("WEIR_POLL_MS", "150"),
    ("WEIR_RECONCILE_S", "2"),
    ("WEIR_RESEND_S", "2"),
    ("WEIR_STOP_GRACE_S", "15"),
    ("WEIR_LOG", "info"),
    // all of them come from one address
    ("WEIR_LIMIT_ADDRESS", "off"),
    ("WEIR_LIMIT_SIGN_IN", "off"),
    ("WEIR_LIMIT_IDENTITY", "off"),
    ("WEIR_LIMIT_WRITES", "off"),
];

impl World {
    /// Starts everything. `weir` is the program.
    pub async fn start(weir: &Path, plan: Plan) -> Arc<Self> {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().to_owned();
        let disk = plan.disk.map(|mib| Disk::mount(folder.join("disk"), mib).unwrap());
        let cluster = Cluster::start(cluster(&folder, None, &plan)).await.unwrap();
        cluster.ensure_database("weir").await.unwrap();
        let address =
            if plan.moves { Some(Address::leading_to(cluster.port()).await) } else { None };
        let database = address.as_ref().map_or_else(
            || cluster.url("weir"),
            |address| format!("postgres://postgres@127.0.0.1:{}/weir", address.port),
        );
        let anvil = Anvil::start(AnvilOptions {
            // a port that is told keeps it from logging each call
            port: Some(free_port().unwrap()),
            block_time: Some(Duration::from_secs(1)),
            slots_in_an_epoch: plan.epoch,
            genesis_time: (plan.clock < 0).then(|| wall_clock().saturating_add_signed(plan.clock)),
            log_file: Some(folder.join("anvil.log")),
            ..AnvilOptions::default()
        })
        .await
        .unwrap();
        let rpc = Rpc::new(anvil.url(), anvil.chain_id());
        let proxy = RpcProxy::before(anvil.url(), plan.seed).await.unwrap();
        let clock = Arc::new(ManualClock::new(UnixMillis(wall_clock() * 1_000)));
        let store = Store::connect(&database, 2, clock, policy()).await.unwrap();
        store.migrate().await.unwrap();
        let (escrow, usdc) = site::deploy(&rpc, &store).await;
        let port = free_port().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let service = |argument, name: &str, key: bool| {
            let environment = environment(&database, proxy.url(), port, &plan, key);
            Service::new(weir, argument, environment, folder.join(name))
        };
        let world = Self {
            api: service("serve", "serve.log", false),
            worker: service("work", "work.log", true),
            second: service("work", "second.log", true),
            http: client(),
            db: pool(&database).await,
            port: cluster.port(),
            cluster: Mutex::new(Some(cluster)),
            disk,
            address,
            primaries: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            lasting: watch::Sender::new(false),
            ended: AtomicU64::new(0),
            rpc,
            proxy,
            escrow,
            usdc,
            url,
            folder,
            plan,
            _anvil: anvil,
            _temporary: temporary,
        };
        world.api.start();
        world.worker.start();
        world.ready().await;
        let world = Arc::new(world);
        tokio::spawn(supervise(Arc::downgrade(&world)));
        world
    }

    /// A fault begins: who is hit by it may ask once more.
    pub fn strike(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    pub fn strikes(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// A fault begins that lasts: whoever is told to try again does so when it is over.
    pub fn begin_fault(&self) {
        self.strike();
        self.lasting.send_replace(true);
    }

    /// That fault is over.
    pub fn end_fault(&self) {
        self.strike();
        self.lasting.send_replace(false);
    }

    /// Waits until no fault lasts and the API says that it can work.
    pub async fn ready(&self) {
        let mut lasting = self.lasting.subscribe();
        lasting.wait_for(|lasting| !lasting).await.unwrap();
        for _ in 0..1_200 {
            let answer = self.http.get(format!("{}/readyz", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the API is not ready:\n{}", tail(&self.api.logged()));
    }

    /// PostgreSQL is killed as a whole, at once.
    pub async fn kill_database(&self) {
        let cluster = self.cluster.lock().await.take().unwrap();
        let pid = i32::try_from(cluster.pid()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        drop(cluster);
    }

    /// PostgreSQL comes back on the same port, with what it had written.
    pub async fn start_database(&self) {
        let options = cluster(&self.folder, Some(self.port), &self.plan);
        let mut last = None;
        for _ in 0..40 {
            match Cluster::start(options.clone()).await {
                Ok(cluster) => {
                    *self.cluster.lock().await = Some(cluster);
                    return;
                }
                // the backends of the dead server are on their way out
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("PostgreSQL does not come back: {last:?}");
    }

    /// Makes a standby, waits for `load` while both work, kills the primary at once, promotes the standby, and leads
    /// everybody to it. What was acknowledged is there.
    pub async fn fail_over(&self, load: Duration) {
        let mut primary = self.cluster.lock().await;
        let number = self.primaries.fetch_add(1, Ordering::SeqCst);
        let files = |number| self.folder.join(folder_of(number));
        let mut options = cluster(&self.folder, None, &self.plan);
        options.data_dir = files(number + 1);
        let old = primary.take().unwrap();
        let standby = standby::make(&old, &files(number), &files(number + 1), options).await;
        tokio::time::sleep(load).await;
        self.strike();
        let pid = rustix::process::Pid::from_raw(i32::try_from(old.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        standby::promote(&standby).await;
        self.address.as_ref().unwrap().lead_to(standby.port());
        *primary = Some(standby);
        drop(primary);
        self.strike();
        drop(old);
        std::fs::remove_dir_all(files(number)).ok();
    }

    /// Starts PostgreSQL again if it ended by itself. True if it had.
    pub async fn revive_database(&self) -> bool {
        let ended = self.cluster.lock().await.as_mut().is_none_or(Cluster::has_ended);
        if ended {
            drop(self.cluster.lock().await.take());
            self.start_database().await;
        }
        ended
    }

    /// One number from the database, asked again while that is away.
    pub async fn number(&self, query: &'static str) -> i64 {
        for _ in 0..600 {
            if let Ok(number) = sqlx::query_scalar(query).fetch_one(&self.db).await {
                return number;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the database does not answer {query}");
    }

    /// Keeps the logs for whoever looks into a failure; says where.
    pub fn keep_logs(&self, name: &str) -> PathBuf {
        let kept = std::env::temp_dir().join(format!("weir-chaos-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&kept).unwrap();
        for log in ["serve.log", "work.log", "second.log", "postgres.log"] {
            if self.folder.join(log).exists() {
                std::fs::copy(self.folder.join(log), kept.join(log)).unwrap();
            }
        }
        kept
    }
}

/// Starts again what ended by itself, half a second later.
async fn supervise(world: Weak<World>) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Some(world) = world.upgrade() else { return };
        for service in [&world.api, &world.worker, &world.second] {
            if service.supervise() {
                world.ended.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn folder_of(primary: u64) -> String {
    if primary == 0 { "postgres".to_owned() } else { format!("postgres{primary}") }
}

fn cluster(folder: &Path, port: Option<u16>, plan: &Plan) -> ClusterOptions {
    // it must keep what it acknowledged
    let folder = if plan.disk.is_some() { folder.join("disk") } else { folder.to_owned() };
    let mut options = ClusterOptions::durable(folder.join("postgres"));
    options.port = port;
    options.settings = vec![("max_connections".into(), plan.connections.to_string())];
    if plan.disk.is_some() {
        let small = [("min_wal_size", "32MB"), ("max_wal_size", "64MB")];
        options.settings.extend(small.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    if plan.moves {
        options.settings.push(("wal_keep_size".to_owned(), "256MB".to_owned()));
    }
    options
}

fn client() -> reqwest::Client {
    tls::direct(Duration::from_secs(15)).unwrap()
}

async fn pool(url: &str) -> PgPool {
    let options = PgPoolOptions::new().max_connections(3).acquire_timeout(Duration::from_secs(5));
    options.connect(url).await.unwrap()
}

fn environment(
    database: &str,
    rpc: &str,
    port: u16,
    plan: &Plan,
    key: bool,
) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> =
        SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
    set("DATABASE_URL", database.to_owned());
    set("RPC_URL", rpc.to_owned());
    set("WEIR_LISTEN", format!("127.0.0.1:{port}"));
    set("WEIR_PUBLIC_URL", format!("http://127.0.0.1:{port}"));
    // until a lock is final and its start too, nothing may run out
    let patience = 90 + 4 * plan.epoch;
    set("WEIR_FUNDING_TTL_S", patience.to_string());
    set("WEIR_READY_TTL_S", patience.to_string());
    if key {
        set("WEIR_OPERATOR_KEY", DEV_KEYS[1].to_owned());
    } else {
        // nobody to the contract
        set("WEIR_QUOTE_KEY", format!("0x{}", "51".repeat(32)));
    }
    environment
}
