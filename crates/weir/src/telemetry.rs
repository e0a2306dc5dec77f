//! Logs and metrics of a process.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tracing_subscriber::EnvFilter;

use crate::{
    config,
    failure::Failure,
    metrics::{self, Process},
};

/// Observations of histograms are kept one by one until then, scraped or not.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// Starts logging to standard error and recording metrics.
///
/// # Errors
/// If the log filter makes no sense.
pub(crate) fn start(process: Process) -> Result<PrometheusHandle, Failure> {
    start_logs()?;
    let handle = metrics::record(process).map_err(Failure::during("metrics could not start"))?;
    let folded = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FOLD_EVERY).await;
            folded.run_upkeep();
        }
    });
    Ok(handle)
}

/// Starts logging to standard error.
///
/// # Errors
/// If the log filter makes no sense.
pub(crate) fn start_logs() -> Result<(), Failure> {
    let filter = config::text("WEIR_LOG");
    let filter = EnvFilter::try_new(&filter).map_err(Failure::during("WEIR_LOG"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if config::text("WEIR_LOG_FORMAT") == "json" {
        logs.json().try_init()
    } else {
        logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    started.map_err(Failure::during("logging could not start"))
}
