//! How a local chain is started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How to start anvil. `Default`: a free port, chain 31337, a block per transaction, no state
/// file, ten accounts, `finalized` two blocks behind the head.
#[derive(Debug, Clone)]
pub struct AnvilOptions {
    /// Port on 127.0.0.1; `None` lets the system choose.
    pub port: Option<u16>,
    /// Chain id.
    pub chain_id: u64,
    /// Time between blocks, to the millisecond; `None` mines one for each transaction.
    pub block_time: Option<Duration>,
    /// Where the chain is kept over restarts; `None` forgets it.
    pub state_file: Option<PathBuf>,
    /// How often the state is written meanwhile, whole seconds, at least 1. The file grows by
    /// about 1.7 kB per block, and each writing writes it whole.
    pub state_interval: Duration,
    /// `safe` lies this many blocks behind the head, `finalized` twice as many.
    pub slots_in_an_epoch: u32,
    /// Unix seconds of the first block, from which the chain's clock goes on; `None`: now.
    pub genesis_time: Option<u64>,
    /// How many of the development accounts have money.
    pub accounts: u8,
    /// The program; `None`: `ANVIL`, else the pinned npm package.
    pub bin: Option<PathBuf>,
    /// Where its output goes; `None`: nowhere that stays.
    pub log_file: Option<PathBuf>,
}

impl Default for AnvilOptions {
    fn default() -> Self {
        Self {
            port: None,
            chain_id: crate::chain::TEST_CHAIN_ID,
            block_time: None,
            state_file: None,
            state_interval: Duration::from_secs(1),
            slots_in_an_epoch: 1,
            genesis_time: None,
            accounts: 10,
            bin: None,
            log_file: None,
        }
    }
}

impl AnvilOptions {
    /// The command line.
    pub(super) fn command(&self, bin: &Path) -> Command {
        let mut command = Command::new(bin);
        let mut set = |name: &str, value: String| {
            command.arg(name).arg(value);
        };
        set("--host", "127.0.0.1".into());
        set("--port", self.port.unwrap_or_default().to_string());
        set("--chain-id", self.chain_id.to_string());
        set("--slots-in-an-epoch", self.slots_in_an_epoch.to_string());
        set("--accounts", self.accounts.to_string());
        // It would write the states of old blocks below the home folder, and leave them there when it is killed.
        set("--max-persisted-states", "0".into());
        // The default follows the newest fork; a newer anvil must not change the rules under us.
        set("--hardfork", "prague".into());
        if let Some(time) = self.genesis_time {
            set("--timestamp", time.to_string());
        }
        if let Some(span) = self.block_time {
            set("--block-time", format!("{}.{:03}", span.as_secs(), span.subsec_millis()));
        }
        if let Some(state) = &self.state_file {
            set("--state", state.display().to_string());
            set("--state-interval", self.state_interval.as_secs().max(1).to_string());
        }
        if self.port.is_some() {
            // It logs each call otherwise. Without a port asked for, its one useful line tells which.
            command.arg("--silent");
        }
        command
    }
}
