//! A rental's workload: a real process, in a process group of its own, with its own folder and log.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use domain::{id::RentalId, rental::FailReason};
use thiserror::Error;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{
    AgentError, WorkloadCommand, access,
    order::Ordered,
    process::{self, Process, RENTAL_VARIABLE},
    reach,
};

/// How long a workload must live to count as started.
const PROVING_TIME: Duration = Duration::from_millis(300);
/// How long it may take to end by itself before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the system may take to end what was killed.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// Between two looks at a process that is to end.
const POLL: Duration = Duration::from_millis(50);
/// A log that grows past this is emptied.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// The log's name in the workload's folder.
const LOG: &str = "workload.log";
/// By which a program is told of the file that says that the renter can come in.
const READY_VARIABLE: &str = "WEIR_READY_FILE";
/// That file's name in the workload's folder.
const READY: &str = "ready";
/// By which a program is told of the file that says that the rental is over: what ends without it is begun again.
const ENDED_VARIABLE: &str = "WEIR_ENDED_FILE";
/// That file's name in the workload's folder.
const ENDED: &str = "ended";
/// Ports that renters can be given.
const PORTS_VARIABLE: &str = "WEIR_PORT_RANGE";
/// What of the agent's own environment a workload sees: nothing that could be a secret.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH"];

/// Why a workload did not start.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// Its folder or log cannot be made.
    #[error("the workload's folder cannot be made: {0}")]
    Folder(std::io::Error),
    /// The program cannot be run.
    #[error("{program} cannot be run: {source}")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ran and ended at once.
    #[error("the workload ended at once ({0})")]
    Ended(String),
    /// A template is ordered that is not run here, or cannot be read.
    #[error("the template is not run: {0}")]
    Template(String),
    /// The rental's file cannot be written, and nothing runs that is not recorded.
    #[error(transparent)]
    Record(#[from] AgentError),
}

impl StartError {
    /// How the service's protocol names it.
    pub(crate) const fn reason(&self) -> FailReason {
        match self {
            Self::Folder(_) | Self::Record(_) => FailReason::Resources,
            Self::Spawn { .. } | Self::Ended(_) | Self::Template(_) => FailReason::Image,
        }
    }
}

/// What is started, for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    pub(crate) command: &'a WorkloadCommand,
    pub(crate) folder: &'a Path,
    pub(crate) rental: RentalId,
    /// The vendor's ids of the rented GPUs.
    pub(crate) gpus: &'a [String],
    /// And what goes with them.
    pub(crate) ordered: &'a Ordered,
    /// Ports that renters can be given, as `FROM-TO`.
    pub(crate) ports: Option<&'a str>,
    /// Whether the program is to say when the renter can come in.
    pub(crate) says_ready: bool,
}

/// A running workload.
#[derive(Debug)]
pub(crate) struct Workload {
    process: Process,
    /// Kept so that the system's record of its end is collected; an adopted one is not our child.
    child: Option<Child>,
    /// Whether it was told to say when the renter can come in.
    says_ready: bool,
}

impl Workload {
    /// Starts the process and sees it live for a moment.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub(crate) async fn start(order: &Order<'_>) -> Result<Self, StartError> {
        let mut child = spawn(order)?;
        let group = child.id();
        let process = group.and_then(Process::of);
        sleep(PROVING_TIME).await;
        let ended = child.try_wait().ok().flatten();
        if let (Some(process), None) = (process, ended) {
            return Ok(Self { process, child: Some(child), says_ready: order.says_ready });
        }
        if let Some(group) = group {
            end_group(group, None, order.rental).await;
        }
        Err(StartError::Ended(ended.map_or("unknown".into(), |status| status.to_string())))
    }

    /// Takes over a process that an earlier run of the agent started. Where it is `awaited` that programs say when the renter
    /// can come in, this one says so only if it was told to: one of an older agent was not.
    pub(crate) fn adopt(process: Process, awaited: bool) -> Option<Self> {
        let says_ready = awaited && process::has_variable(process.pid, READY_VARIABLE);
        process.is_alive().then_some(Self { process, child: None, says_ready })
    }

    /// Which process it is.
    pub(crate) const fn process(&self) -> &Process {
        &self.process
    }

    /// Whether it was told to make the [`ready_file`].
    pub(crate) const fn says_ready(&self) -> bool {
        self.says_ready
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        let ended = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        !ended && self.process.is_alive()
    }
}

fn spawn(order: &Order<'_>) -> Result<Child, StartError> {
    let log = open_log(order.folder).map_err(StartError::Folder)?;
    let errors = log.try_clone().map_err(StartError::Folder)?;
    let gpus = order.gpus.join(",");
    let mut command = Command::new(&order.command.program);
    command
        .args(&order.command.args)
        .current_dir(order.folder)
        .env_clear()
        .envs(inherited())
        .env(RENTAL_VARIABLE, order.rental.to_string())
        .env(access::VARIABLE, access::file(order.folder))
        .env(reach::VARIABLE, reach::file(order.folder))
        .env(ENDED_VARIABLE, ended_file(order.folder))
        .envs(order.ordered.variables(order.folder))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .kill_on_drop(false);
    if order.says_ready {
        command.env(READY_VARIABLE, ready_file(order.folder));
    }
    if let Some(ports) = order.ports {
        command.env(PORTS_VARIABLE, ports);
    }
    if !gpus.is_empty() {
        command.env("CUDA_VISIBLE_DEVICES", &gpus).env("NVIDIA_VISIBLE_DEVICES", &gpus);
    }
    command.spawn().map_err(|source| {
        let program = order.command.program.clone();
        StartError::Spawn { program, source }
    })
}

fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.into_iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value)))
}

fn open_log(folder: &Path) -> std::io::Result<fs::File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // appending, so that the log can be emptied under the workload
    OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join(LOG))
}

/// Where a program says that the renter can come in.
pub(crate) fn ready_file(folder: &Path) -> PathBuf {
    folder.join(READY)
}

/// Where a program is told that the rental is over.
pub(crate) fn ended_file(folder: &Path) -> PathBuf {
    folder.join(ENDED)
}

/// Empties a log that has grown too large.
pub(crate) fn bound_log(folder: &Path) {
    let path = folder.join(LOG);
    if fs::metadata(&path).is_ok_and(|log| log.len() > MAX_LOG_BYTES) {
        let emptied = OpenOptions::new().write(true).truncate(true).open(&path);
        tracing::warn!(path = %path.display(), emptied = emptied.is_ok(), "the workload's log is full");
    }
}

/// Ends the process and its whole group: asked to, and after three seconds made to. A group that is not
/// the rental's is left alone. Returns whether nothing of it is left.
pub(crate) async fn stop_group(process: &Process, rental: RentalId) -> bool {
    end_group(process.pid, Some(process), rental).await
}

async fn end_group(group: u32, leader: Option<&Process>, rental: RentalId) -> bool {
    for (signal, grace) in [("TERM", STOP_GRACE), ("KILL", KILL_GRACE)] {
        if !leader.is_some_and(Process::is_alive) && !process::group_belongs_to(group, rental) {
            return true;
        }
        send(signal, group).await;
        if ended_within(group, grace).await {
            return true;
        }
    }
    tracing::error!(rental.id = %rental, process.group = group, "the workload cannot be killed");
    false
}

async fn ended_within(group: u32, grace: Duration) -> bool {
    let began = Instant::now();
    while process::group_lives(group) {
        if began.elapsed() >= grace {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// Signals a process group through the shell's own `kill`, which every system has.
async fn send(signal: &str, group: u32) {
    let sent = Command::new("/bin/sh")
        .args(["-c", "kill -s \"$0\" -- \"-$1\"", signal, &group.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    // a group that has just ended is no fault; whether it has is looked at afterwards
    tracing::debug!(process.group = group, signal, ok = ?sent.is_ok_and(|s| s.success()), "signalled");
}

#[cfg(test)]
mod tests;
