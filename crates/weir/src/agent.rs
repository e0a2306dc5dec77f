//! `weir agent`: the program on a provider's machine.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ::agent::{AgentConfig, Url, WorkloadCommand};
use clap::Args as ClapArgs;

use crate::{clock::SystemClock, failure::Failure, shutdown, telemetry};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The marketplace's base address
    #[arg(long, value_name = "URL")]
    server: String,
    /// Where the agent keeps its key, identity and rentals
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
    /// The one-time token shown when the machine was registered
    #[arg(long, value_name = "TOKEN", env = "WEIR_ENROLL_TOKEN", hide_env_values = true)]
    enroll_token: Option<String>,
    /// Milliseconds between two readings of a rental
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    reading_interval_ms: u64,
    /// Stop rented workloads when the agent stops, rather than leave them running
    #[arg(long)]
    stop_workloads_on_exit: bool,
    /// The program to start for a rental, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    workload: Vec<String>,
}

/// Runs until told to stop.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    telemetry::start_logs()?;
    let server: Url = args.server.parse().map_err(Failure::during("--server"))?;
    let mut config = AgentConfig::new(server, args.state, Arc::new(SystemClock));
    config.enroll_token = args.enroll_token;
    config.reading_interval = Duration::from_millis(args.reading_interval_ms.max(100));
    config.stop_workloads_on_exit = args.stop_workloads_on_exit;
    if let Some((program, arguments)) = args.workload.split_first() {
        config.workload = WorkloadCommand { program: program.clone(), args: arguments.to_vec() };
    }
    ::agent::run(config, shutdown::token()?).await.map_err(Failure::during("the agent"))
}
