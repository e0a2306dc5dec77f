//! Logs and metrics of a process.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::{config, failure::Failure};

/// Starts logging to standard error and recording metrics.
///
/// # Errors
/// If the log filter makes no sense.
pub(crate) fn start() -> Result<PrometheusHandle, Failure> {
    let filter = config::text("WEIR_LOG");
    let filter = EnvFilter::try_new(&filter).map_err(Failure::during("WEIR_LOG"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if config::text("WEIR_LOG_FORMAT") == "json" {
        logs.json().try_init()
    } else {
        logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    started.map_err(Failure::during("logging could not start"))?;
    PrometheusBuilder::new().install_recorder().map_err(Failure::during("metrics could not start"))
}
