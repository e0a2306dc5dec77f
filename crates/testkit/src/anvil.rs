//! anvil, the local development chain.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::transports::{TransportErrorKind, http::Http};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::port;
use crate::server::{Server, telling_line};
use crate::tools::anvil_bin;

mod error;
mod keys;
mod options;

pub use error::AnvilError;
use error::io_error;
pub use keys::{DEV_ADDRESSES, DEV_KEYS};
pub use options::AnvilOptions;

/// How long anvil may take to answer. Loading a state of 10,000 blocks took 0.4 s.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long anvil may take to write its state when it is stopped.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// A call that a live anvil does not answer in this time has failed.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A running anvil. Dropped, it is stopped (in order when it has a state file).
#[derive(Debug)]
pub struct Anvil {
    server: Server,
    url: String,
    port: u16,
    chain_id: u64,
    rpc: RootProvider,
    /// Names the running process, so that a successor waits until the state is written.
    pid_file: Option<PathBuf>,
}

impl Anvil {
    /// Starts anvil and waits until it answers.
    ///
    /// With a state file that exists, two epochs of empty blocks are mined at once: anvil keeps
    /// no account state of blocks before a restart, so `eth_call` at `finalized` would fail until
    /// `finalized` is the block that was the head.
    ///
    /// # Errors
    /// One line each: binary missing, port taken, state file broken, no answer in 30 s.
    pub async fn start(options: AnvilOptions) -> Result<Self, AnvilError> {
        let bin = anvil_bin(options.bin.as_deref())?;
        if let Some(port) = options.port
            && !port::becomes_free(port).await
        {
            return Err(AnvilError::PortTaken { port });
        }
        let pid_file = options.state_file.as_deref().map(|state| beside(state, "pid"));
        if let (Some(state), Some(pid_file)) = (&options.state_file, &pid_file) {
            prepare_state(state, pid_file).await?;
        }
        let resumed = options.state_file.as_ref().is_some_and(|state| state.exists());
        let log = Log::of(&options)?;
        let farewell = if options.state_file.is_some() {
            (Signal::INT, STOP_LIMIT)
        } else {
            (Signal::KILL, STOP_LIMIT)
        };
        let server = Server::spawn(options.command(&bin), &log.path, farewell)
            .map_err(io_error("start anvil"))?;
        if let Some(pid_file) = &pid_file {
            fs::write(pid_file, server.pid().to_string()).map_err(io_error("note anvil's pid"))?;
        }
        let mut anvil = Self {
            server,
            url: String::new(),
            port: options.port.unwrap_or_default(),
            chain_id: options.chain_id,
            rpc: provider("http://127.0.0.1:0")?,
            pid_file,
        };
        anvil.wait_until_ready(&options, &log.path).await?;
        if resumed {
            let depth = u64::from(options.slots_in_an_epoch).saturating_mul(2);
            anvil.call("anvil_mine", json!([format!("{depth:#x}")])).await?;
        }
        Ok(anvil)
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The chain's id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.chain_id
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

    /// One JSON-RPC call, e.g. `call("evm_setAutomine", json!([true]))`, within 10 s.
    ///
    /// # Errors
    /// The refusal, or that no answer came.
    pub async fn call(&self, method: &'static str, params: Value) -> Result<Value, AnvilError> {
        let request = self.rpc.raw_request::<Value, Value>(method.into(), params);
        match tokio::time::timeout(CALL_LIMIT, request).await {
            Ok(answer) => answer.map_err(|source| AnvilError::Call { method, source }),
            Err(_elapsed) => {
                let source = TransportErrorKind::custom_str("no answer within 10 s");
                Err(AnvilError::Call { method, source })
            }
        }
    }

    /// Stops anvil so that it writes its state first: 10 s for that, then it is killed.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn stop(mut self) -> Result<(), AnvilError> {
        self.server.stop(&[(Signal::INT, STOP_LIMIT)]).await.map_err(io_error("stop anvil"))?;
        if let Some(pid_file) = &self.pid_file {
            fs::remove_file(pid_file).map_err(io_error("remove anvil's pid file"))?;
        }
        Ok(())
    }

    async fn wait_until_ready(
        &mut self,
        options: &AnvilOptions,
        log: &Path,
    ) -> Result<(), AnvilError> {
        let began = Instant::now();
        while began.elapsed() < START_LIMIT {
            if self.server.exited().map_err(io_error("wait for anvil"))?.is_some() {
                return Err(self.epitaph(options));
            }
            if self.url.is_empty() {
                let port = options.port.or_else(|| listening_port(&self.server.said()));
                if let Some(port) = port {
                    self.port = port;
                    self.url = format!("http://127.0.0.1:{port}");
                    self.rpc = provider(&self.url)?;
                }
            }
            if !self.url.is_empty()
                && let Ok(found) = self.call("eth_chainId", json!([])).await
                // Asked once more, lest the answer came from a stranger on the port we lost.
                && matches!(self.server.exited(), Ok(None))
            {
                return self.recognise(&found);
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(AnvilError::Silent { seconds: START_LIMIT.as_secs(), log: log.to_path_buf() })
    }

    fn recognise(&self, found: &Value) -> Result<(), AnvilError> {
        if found.as_str() == Some(&format!("{:#x}", self.chain_id)) {
            return Ok(());
        }
        Err(AnvilError::WrongChain { expected: self.chain_id, found: found.to_string() })
    }

    fn epitaph(&self, options: &AnvilOptions) -> AnvilError {
        let said = self.server.said();
        let why = telling_line(&said);
        match (&options.state_file, options.port) {
            (_, Some(port)) if said.contains("Address already in use") => {
                AnvilError::PortTaken { port }
            }
            (Some(path), _) if said.contains("--state") => {
                AnvilError::BrokenState { path: path.clone(), why }
            }
            _ => AnvilError::Ended { why },
        }
    }
}

/// The log of one start; a nameless one is removed once anvil is up.
struct Log {
    path: PathBuf,
    passing: bool,
}

impl Log {
    fn of(options: &AnvilOptions) -> Result<Self, AnvilError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Some(path) = &options.log_file {
            make_parent(path)?;
            return Ok(Self { path: path.clone(), passing: false });
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-anvil-{}-{count}.log", std::process::id());
        Ok(Self { path: std::env::temp_dir().join(name), passing: true })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.passing
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "anvil's passing log not removed");
        }
    }
}

/// Makes the folder and waits until a predecessor that is being stopped has written the state.
async fn prepare_state(state: &Path, pid_file: &Path) -> Result<(), AnvilError> {
    make_parent(state)?;
    let before = fs::read_to_string(pid_file).unwrap_or_default();
    let began = Instant::now();
    while !before.is_empty() && began.elapsed() < STOP_LIMIT {
        // Only Linux tells the name; elsewhere there is nothing to wait for.
        let name = fs::read_to_string(format!("/proc/{}/comm", before.trim()));
        if !name.is_ok_and(|name| name.trim() == "anvil") {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn listening_port(said: &str) -> Option<u16> {
    let (_, after) = said.split_once("Listening on 127.0.0.1:")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    // Not yet a whole line: the number may be cut off.
    after.contains('\n').then_some(digits)?.parse().ok()
}

/// For one call; mining many blocks takes a while.
const CALL_WITHIN: Duration = Duration::from_secs(120);

fn provider(url: &str) -> Result<RootProvider, AnvilError> {
    let url =
        url.parse().map_err(|_bad| AnvilError::Ended { why: format!("{url} is no address") })?;
    let http = tls::direct(CALL_WITHIN).map_err(|why| AnvilError::Ended { why })?;
    Ok(RootProvider::new(RpcClient::new(Http::with_client(http, url), true)))
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

fn make_parent(path: &Path) -> Result<(), AnvilError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(io_error(format!("create {}", parent.display())))
}
