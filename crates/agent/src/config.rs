//! What an operator sets.

use std::{ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use domain::{reach::Host, time::Clock};
use reqwest::Url;

/// How often each rental sends a reading, unless told otherwise.
const READING_INTERVAL: Duration = Duration::from_secs(2);

/// A stand-in for a renter's container: a process that says every second that it lives.
const HEARTBEAT_LOOP: &str = "while :; do date +%s > heartbeat; sleep 1; done";

/// The program that is started for a rental.
///
/// It gets a folder of its own as working directory and this environment: `WEIR_RENTAL_ID`,
/// `WEIR_AUTHORIZED_KEYS` (a file in that folder with the renter's SSH public keys, replaced when they change),
/// `CUDA_VISIBLE_DEVICES` and `NVIDIA_VISIBLE_DEVICES` with the rented GPUs, `WEIR_PORT_RANGE` with
/// [`AgentConfig::ports`], and of the agent's own variables only `PATH`, `HOME`, `LANG`, `TZ` and `LD_LIBRARY_PATH`.
///
/// What was ordered beside the GPUs is in the JSON file `WEIR_ORDER_FILE`, and in
/// - `WEIR_DISK_GB`; `WEIR_UP_GB` and `WEIR_DOWN_GB` in `WEIR_OVER_S` seconds;
/// - with a template: `WEIR_TEMPLATE` (slug@version), `WEIR_TEMPLATE_HASH`, `WEIR_IMAGE`, `WEIR_PORTS` (such as
///   `ssh=22/tcp http=8000/tcp`), `WEIR_ENVIRONMENT` (such as `MODE LEVEL`) with the values in `WEIR_ENV_MODE` and
///   `WEIR_ENV_LEVEL`. Anybody may have written the template.
///
/// It may write to `WEIR_ACCESS_FILE` at which ports of the host the renter comes in, as `{"ports":{"ssh":41022}}`, for the
/// renter to be told with [`AgentConfig::public_host`]; best before it is ready, under another name first, and renamed.
///
/// With [`AgentConfig::templates`] it makes the file `WEIR_READY_FILE` once the renter can come in. `WEIR_ENDED_FILE` exists
/// when it is ended because the rental is over; without it, it will be started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadCommand {
    /// A path, or a name that is looked up in `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Default for WorkloadCommand {
    /// A shell loop that writes the time to a file `heartbeat` each second.
    fn default() -> Self {
        Self { program: "/bin/sh".into(), args: vec!["-c".into(), HEARTBEAT_LOOP.into()] }
    }
}

/// Everything that [`run`](crate::run) needs.
#[derive(Clone)]
pub struct AgentConfig {
    /// The service's base address, to which `/v1/...` is appended.
    pub server: Url,
    /// Where key, identity, rentals and logs are kept; made if missing. One agent per folder.
    pub state_dir: PathBuf,
    /// The one-time token shown when the machine was registered; needed until the agent has enrolled.
    pub enroll_token: Option<String>,
    /// What is started for a rental.
    pub workload: WorkloadCommand,
    /// Whether that program runs what templates name, and says when it is ready.
    pub templates: bool,
    /// How renters reach this machine; without it they are told neither address nor ports.
    pub public_host: Option<Host>,
    /// How often each rental sends a reading.
    pub reading_interval: Duration,
    /// Stop the workloads when the agent stops, rather than leave them to be adopted by the next start.
    pub stop_workloads_on_exit: bool,
    /// The program that the GPUs are listed by: a path, or a name that is looked up in `PATH`.
    pub nvidia_smi: String,
    /// Ports of this machine that renters can be given; at most 1,024 are tried.
    pub ports: Option<RangeInclusive<u16>>,
    /// What self-tests try the network with: 16 MiB are fetched by GET and sent by POST. None are without it.
    pub network_target: Option<Url>,
    /// Where the time comes from. It needs not be right: the service's own time is followed.
    pub clock: Arc<dyn Clock>,
}

impl AgentConfig {
    /// The defaults: the workload of [`WorkloadCommand::default`], a reading every two seconds, workloads
    /// that outlive the agent, no enrolment token.
    #[must_use]
    pub fn new(server: Url, state_dir: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self {
            server,
            state_dir,
            enroll_token: None,
            workload: WorkloadCommand::default(),
            templates: false,
            public_host: None,
            reading_interval: READING_INTERVAL,
            stop_workloads_on_exit: false,
            nvidia_smi: "nvidia-smi".into(),
            ports: None,
            network_target: None,
            clock,
        }
    }
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentConfig")
            .field("server", &self.server.as_str())
            .field("state_dir", &self.state_dir)
            .field("enroll_token", &self.enroll_token.as_ref().map(|_| "***"))
            .field("workload", &self.workload)
            .field("templates", &self.templates)
            .field("public_host", &self.public_host)
            .field("reading_interval", &self.reading_interval)
            .field("stop_workloads_on_exit", &self.stop_workloads_on_exit)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}
