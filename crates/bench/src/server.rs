//! The durable PostgreSQL that both sides of every pair share.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use alloy_primitives::{Address, B256};
use api::{LimitConfig, Quota, Setting};
use domain::{
    money::FeeBps,
    time::{Clock, Seconds, UnixMillis},
};
use sqlx::{Connection as _, PgConnection};
use store::{
    Policy, Store, StoreError, TxError,
    deployment::{self, Deployment},
};
use testkit::{Cluster, ClusterOptions};
use tokio::time::Instant;

use crate::BenchError;

/// Weir's own tables.
pub(crate) const WEIR: &str = "weir";
/// pgbench's tables.
pub(crate) const TPCB: &str = "tpcb";
/// A file system in memory makes nothing durable (`TMPFS_MAGIC` in Linux's `magic.h`).
const TMPFS: i64 = 0x0102_1994;

/// A running server with both databases. Dropped, it is stopped and its folder removed.
#[derive(Debug)]
pub struct Server {
    // before the folder, so that it is dropped first
    cluster: Cluster,
    version: String,
    clock: Arc<RunClock>,
    in_memory: bool,
    folder: Folder,
}

impl Server {
    /// Makes a folder inside `parent` and starts a durable server in it, with Weir's schema and an
    /// empty database for pgbench.
    ///
    /// # Errors
    /// [`BenchError`], if there is no PostgreSQL or it does not start.
    pub async fn start(parent: &Path) -> Result<Self, BenchError> {
        let folder = Folder::inside(parent)?;
        let mut options = ClusterOptions::durable(folder.path.join("data"));
        for (name, value) in [("shared_buffers", "512MB"), ("max_connections", "200")] {
            options.settings.push((name.to_owned(), value.to_owned()));
        }
        let cluster = Cluster::start(options).await?;
        cluster.ensure_database(WEIR).await?;
        cluster.ensure_database(TPCB).await?;
        let (version, millis) = facts(&cluster).await?;
        let clock = RunClock { began_at: UnixMillis(millis), began: Instant::now() };
        let in_memory = is_in_memory(&folder.path)?;
        let clock = Arc::new(clock);
        let server = Self { cluster, version, clock, in_memory, folder };
        server.store(1).await?.migrate().await.map_err(BenchError::subject("migrate"))?;
        Ok(server)
    }

    /// A store with at most `connections` connections to Weir's database.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn store(&self, connections: u32) -> Result<Store, BenchError> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        Store::connect(&self.cluster.url(WEIR), connections, clock, policy()?)
            .await
            .map_err(BenchError::subject("connect to the database"))
    }

    /// A store with a database of its own, empty but for the schema.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) async fn fresh_store(
        &self,
        connections: u32,
        policy: Policy,
    ) -> Result<Store, BenchError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fresh_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.cluster.ensure_database(&name).await?;
        let clock: Arc<dyn Clock> = self.clock.clone();
        let store = Store::connect(&self.cluster.url(&name), connections, clock, policy)
            .await
            .map_err(BenchError::subject("connect to the database"))?;
        store.migrate().await.map_err(BenchError::subject("migrate"))?;
        Ok(store)
    }

    /// The URL of a database of its own with the schema, and with a deployment, so that a service starts on it.
    pub(crate) async fn with_deployment(&self, name: &str) -> Result<String, BenchError> {
        self.cluster.ensure_database(name).await?;
        let url = self.cluster.url(name);
        let clock: Arc<dyn Clock> = self.clock.clone();
        let store = Store::connect(&url, 1, clock, policy()?)
            .await
            .map_err(BenchError::subject("connect to the database"))?;
        store.migrate().await.map_err(BenchError::subject("migrate"))?;
        let recorded = store.write("record", |tx| {
            Box::pin(async move {
                let word = |byte| B256::repeat_byte(byte);
                let deployment = Deployment {
                    chain_id: 31_337,
                    genesis_hash: word(1),
                    escrow: Address::repeat_byte(2),
                    code_hash: word(3),
                    deployed_block: 1,
                };
                deployment::record(tx, &deployment).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        });
        recorded.await.map_err(BenchError::subject("record a deployment"))?;
        Ok(url)
    }

    /// A connection of its own to database `name`.
    pub(crate) async fn connect(&self, name: &str) -> Result<PgConnection, BenchError> {
        PgConnection::connect(&self.cluster.url(name))
            .await
            .map_err(BenchError::sql("connect to PostgreSQL"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.cluster.port()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// PostgreSQL's version, as it says itself.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Milliseconds since 1970, when the server had started.
    #[must_use]
    pub fn began_at(&self) -> u64 {
        self.clock.began_at.get()
    }

    /// The folder lies in memory: what is committed is not durable, and the figures are not either.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// Stops the server and removes its folder.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn stop(self) -> Result<(), BenchError> {
        Ok(self.cluster.stop().await?)
    }
}

/// The server's version and its time in milliseconds since 1970.
async fn facts(cluster: &Cluster) -> Result<(String, u64), BenchError> {
    let doing = "ask PostgreSQL for its version";
    let mut connection =
        PgConnection::connect(&cluster.url(WEIR)).await.map_err(BenchError::sql(doing))?;
    let (version, millis): (String, i64) = sqlx::query_as(
        "SELECT current_setting('server_version'), (extract(epoch FROM now()) * 1000)::bigint",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(BenchError::sql(doing))?;
    connection.close().await.map_err(BenchError::sql(doing))?;
    Ok((version, u64::try_from(millis).unwrap_or_default()))
}

/// Tells the planner how full the tables are. Autovacuum does it within a minute, which is longer than
/// tables of a run stay of one size.
pub(crate) async fn analyze(connection: &mut PgConnection) -> Result<(), BenchError> {
    sqlx::query("ANALYZE").execute(connection).await.map_err(BenchError::sql("analyze"))?;
    Ok(())
}

/// Limits that are counted as everywhere, and that nobody reaches.
pub(crate) fn generous() -> LimitConfig {
    let most = Setting(Quota::new(u32::MAX, 1));
    LimitConfig { address: most, sign_in: most, identity: most, writes: most, proxies: Vec::new() }
}

/// The service's defaults.
fn policy() -> Result<Policy, BenchError> {
    Ok(Policy {
        fee: FeeBps::quotable(1_200).map_err(BenchError::subject("set the fee"))?,
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
    })
}

fn is_in_memory(folder: &Path) -> Result<bool, BenchError> {
    let found = rustix::fs::statfs(folder)
        .map_err(|error| BenchError::io("look at the file system")(error.into()))?;
    Ok(found.f_type as i64 == TMPFS)
}

/// The server's time at the start and what has passed since: no wall clock is asked.
#[derive(Debug)]
struct RunClock {
    began_at: UnixMillis,
    began: Instant,
}

impl Clock for RunClock {
    fn now(&self) -> UnixMillis {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began_at.saturating_plus_millis(passed)
    }
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn inside(parent: &Path) -> Result<Self, BenchError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("weir-bench-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).map_err(BenchError::io("make a folder for the server"))?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("bench: {} is left behind: {error}", self.path.display());
        }
    }
}
