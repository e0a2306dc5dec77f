//! Where and when the figures were taken: without that they mean nothing.

use std::{fs, path::Path, process::Command};

use serde::Serialize;

use crate::Server;

/// The machine, the server and the code of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// The server's clock at its start, in milliseconds since 1970.
    pub measured_at_ms: u64,
    /// The commit, with `+changes` if the tree differs from it; `None` without git.
    pub commit: Option<String>,
    /// PostgreSQL's version.
    pub postgresql: String,
    /// What commits rest on: `false` if the folder lies in memory.
    pub durable: bool,
    /// The processor, as Linux names it.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
}

impl Setting {
    pub(crate) fn of(server: &Server) -> Self {
        Self {
            measured_at_ms: server.began_at(),
            commit: commit(),
            postgresql: server.version().to_owned(),
            durable: !server.is_in_memory(),
            cpu: cpu(),
            cores: cores(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processes that ran or waited for a disk on average: 1, 5 and 15 minutes. Zeros where unknown.
pub(crate) fn load_average() -> [f64; 3] {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or_default());
    [(); 3].map(|()| numbers.next().unwrap_or_default())
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, value)| value.trim().to_owned())
}

fn commit() -> Option<String> {
    let root = testkit::tools::workspace_root()?;
    let head = git(&root, &["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&root, &["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changes.is_some_and(|text| text.is_empty()) { "" } else { "+changes" };
    Some(format!("{head}{mark}"))
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").arg("--no-optional-locks").arg("-C").arg(root).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
