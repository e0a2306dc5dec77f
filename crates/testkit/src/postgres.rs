//! A PostgreSQL cluster of our own on 127.0.0.1.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use crate::port;
use crate::server::{Server, Step};
use crate::tools::postgres_bin;

mod error;
mod folder;
mod owner;

pub use error::PostgresError;
use owner::RunAs;

/// The role that owns everything. No password: only this machine can connect.
const SUPERUSER: &str = "postgres";
/// How often a start on a port of our own choice is tried: another may take the port first.
const PORT_TRIES: u32 = 5;
/// SIGINT is the "fast" shutdown, SIGQUIT the "immediate" one (recovery at the next start).
const ORDERLY: [Step; 2] =
    [(Signal::INT, Duration::from_secs(10)), (Signal::QUIT, Duration::from_secs(5))];
const ABRUPT: [Step; 1] = [(Signal::QUIT, Duration::from_secs(5))];

/// How to start a cluster; see [`ClusterOptions::durable`] and [`ClusterOptions::throwaway`].
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The data folder; made when it is absent or empty. Its log lies beside it, `<folder>.log`.
    pub data_dir: PathBuf,
    /// Port on 127.0.0.1; `None` takes a free one.
    pub port: Option<u16>,
    /// Whether commits survive a crash of the machine. Without, they are much faster.
    pub durable: bool,
    /// Folder of `initdb` and `postgres`; `None`: `WEIR_PG_BIN`, else the pinned npm package.
    pub bin_dir: Option<PathBuf>,
    /// Further server settings, e.g. `("max_connections", "200")`.
    pub settings: Vec<(String, String)>,
    /// How long the server may take to answer; redo after a crash counts.
    pub start_limit: Duration,
}

impl ClusterOptions {
    /// A cluster that keeps what it committed, on a port of its own choice.
    #[must_use]
    pub fn durable(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            port: None,
            durable: true,
            bin_dir: None,
            settings: Vec::new(),
            start_limit: Duration::from_secs(120),
        }
    }

    /// A cluster for tests: no fsync.
    #[must_use]
    pub fn throwaway(data_dir: impl Into<PathBuf>) -> Self {
        Self { durable: false, start_limit: Duration::from_secs(30), ..Self::durable(data_dir) }
    }
}

/// A running cluster. Dropped, it is stopped as well as can be done without waiting long.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    data_dir: PathBuf,
    port: u16,
    durable: bool,
}

impl Cluster {
    /// Makes the data folder if needed, starts the server and waits until it answers.
    ///
    /// A folder or port that is still held by a server whose owner was killed is waited for
    /// (15 s and 3 s): its watchdog is stopping it.
    ///
    /// # Errors
    /// [`PostgresError`], one line each.
    pub async fn start(options: ClusterOptions) -> Result<Self, PostgresError> {
        let bin = postgres_bin(options.bin_dir.as_deref())?;
        let run_as = RunAs::detect().ok_or(PostgresError::Root)?;
        let data_dir = absolute(&options.data_dir)?;
        folder::ensure(&data_dir, &bin, run_as).await?;
        folder::release(&data_dir).await?;
        let mut tries = PORT_TRIES;
        loop {
            tries = tries.saturating_sub(1);
            let port = match options.port {
                Some(port) if port::becomes_free(port).await => port,
                Some(port) => return Err(PostgresError::PortTaken { port }),
                None => port::free_port().map_err(PostgresError::io("find a free port"))?,
            };
            let command = command(run_as, &bin, &data_dir, port, &options);
            match Self::start_on(command, data_dir.clone(), port, &options).await {
                Err(PostgresError::PortTaken { .. }) if options.port.is_none() && tries > 0 => {}
                outcome => return outcome,
            }
        }
    }

    /// The address of database `name`, for sqlx.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{name}", self.port)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.server.exited(), Ok(None))
    }

    /// Creates database `name` unless it exists. The name is quoted.
    ///
    /// # Errors
    /// [`PostgresError::Sql`].
    pub async fn ensure_database(&self, name: &str) -> Result<(), PostgresError> {
        let mut connection = PgConnection::connect(&self.url("postgres"))
            .await
            .map_err(PostgresError::sql("connect to PostgreSQL"))?;
        let exists: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await
                .map_err(PostgresError::sql("look for the database"))?;
        if !exists {
            let quoted = name.replace('"', "\"\"");
            sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE \"{quoted}\"")))
                .execute(&mut connection)
                .await
                .map_err(PostgresError::sql("create the database"))?;
        }
        connection.close().await.map_err(PostgresError::sql("disconnect"))
    }

    /// Stops the server: clients are cut off, what is committed is written. At most 15 s.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn stop(mut self) -> Result<(), PostgresError> {
        let steps: &[Step] = if self.durable { &ORDERLY } else { &ABRUPT };
        self.server.stop(steps).await.map_err(PostgresError::io("stop PostgreSQL"))
    }

    /// Leaves the server running until process `owner` has gone; `folder` then goes too.
    pub(crate) fn detach(self, owner: u32, folder: &Path) -> Result<(), PostgresError> {
        self.server.detach(owner, folder).map_err(PostgresError::io("detach PostgreSQL"))
    }

    async fn start_on(
        command: Command,
        data_dir: PathBuf,
        port: u16,
        options: &ClusterOptions,
    ) -> Result<Self, PostgresError> {
        let log = folder::sibling(&data_dir, ".log");
        let last_words = if options.durable {
            (Signal::INT, Duration::from_secs(10))
        } else {
            (Signal::QUIT, Duration::from_secs(5))
        };
        let server = Server::spawn(command, &log, last_words)
            .map_err(PostgresError::io("start PostgreSQL"))?;
        let mut cluster = Self { server, data_dir, port, durable: options.durable };
        let began = Instant::now();
        while began.elapsed() < options.start_limit {
            let ended =
                cluster.server.exited().map_err(PostgresError::io("wait for PostgreSQL"))?;
            if ended.is_some() {
                let said = cluster.server.said();
                return Err(PostgresError::from_last_words(&said, &cluster.data_dir, &log, port));
            }
            if folder::is_ready(&cluster.data_dir) && cluster.answers().await {
                return Ok(cluster);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(PostgresError::Silent { seconds: options.start_limit.as_secs(), log })
    }

    async fn answers(&self) -> bool {
        let Ok(options) = self.url("postgres").parse::<sqlx::postgres::PgConnectOptions>() else {
            return false;
        };
        let attempt = timeout(Duration::from_secs(2), options.connect()).await;
        let Ok(Ok(connection)) = attempt else {
            return false;
        };
        connection.close().await.is_ok()
    }
}

fn command(
    run_as: RunAs,
    bin: &Path,
    data_dir: &Path,
    port: u16,
    options: &ClusterOptions,
) -> Command {
    let mut command = run_as.command(&bin.join("postgres"));
    command.arg("-D").arg(data_dir);
    let mut set = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    set("port", &port.to_string());
    set("listen_addresses", "127.0.0.1");
    // Relative to the data folder, whose mode is 0700; a full path may be too long for a socket.
    set("unix_socket_directories", ".");
    set("timezone", "UTC");
    set("log_timezone", "UTC");
    set("log_checkpoints", "off");
    if options.durable {
        // Little to redo after a kill.
        set("max_wal_size", "512MB");
    } else {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            set(name, "off");
        }
    }
    for (name, value) in &options.settings {
        set(name, value);
    }
    command
}

fn absolute(path: &Path) -> Result<PathBuf, PostgresError> {
    std::path::absolute(path).map_err(PostgresError::io("find the data folder"))
}
