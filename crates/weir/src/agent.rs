//! `weir agent`: the program on a provider's machine.

use std::{ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use ::agent::{AgentConfig, Url, WorkloadCommand};
use clap::Args as ClapArgs;
use domain::reach::Host;

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
    /// Ports of this machine that renters can be given, such as 40000-40099
    #[arg(long, value_name = "FROM-TO")]
    ports: Option<String>,
    /// How renters reach this machine, a DNS name or an IP address. With it they read address and ports of their rental, as the
    /// program to start writes the ports to WEIR_ACCESS_FILE
    #[arg(long, value_name = "HOST", env = "WEIR_PUBLIC_HOST")]
    public_host: Option<String>,
    /// What self-tests try the network with: 16 MiB are fetched by GET and sent by POST
    #[arg(long, value_name = "URL")]
    network_target: Option<String>,
    /// The program to start runs what templates name, as deploy/provider/start-docker does, and says when it is ready. Without
    /// this no template is sold on the machine
    #[arg(long, requires = "workload")]
    templates: bool,
    /// The program that lists the GPUs
    #[arg(long, value_name = "PROGRAM", default_value = "nvidia-smi")]
    nvidia_smi: String,
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
    config.nvidia_smi = args.nvidia_smi;
    config.templates = args.templates;
    config.ports = args.ports.as_deref().map(ports).transpose()?;
    config.public_host = public_host(args.public_host.as_deref().unwrap_or_default())?;
    let target = args.network_target.as_deref().map(str::parse).transpose();
    config.network_target = target.map_err(Failure::during("--network-target"))?;
    if let Some((program, arguments)) = args.workload.split_first() {
        config.workload = WorkloadCommand { program: program.clone(), args: arguments.to_vec() };
    }
    ::agent::run(config, shutdown::token()?).await.map_err(Failure::during("the agent"))
}

/// An empty one, as a unit file may leave it, is none.
fn public_host(text: &str) -> Result<Option<Host>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(Failure::during("--public-host"))
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, Failure> {
    let range = || {
        let (from, to) = text.split_once('-')?;
        let (from, to): (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (0 < from && from <= to).then_some(from..=to)
    };
    range().ok_or_else(|| Failure::new("--ports is a range such as 40000-40099"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renters_are_told_a_name_or_an_address_or_nothing() {
        assert_eq!(public_host("").unwrap(), None);
        assert_eq!(public_host("GPU1.example.com").unwrap().unwrap().as_str(), "gpu1.example.com");
        for bad in ["gpu1:22", "http://gpu1.example.com", "-oProxyCommand=x"] {
            let said = public_host(bad).unwrap_err().to_string();
            assert!(said.contains("--public-host") && said.contains("such as"), "{said}");
        }
    }

    #[test]
    fn ports_are_a_range() {
        assert_eq!(ports("40000-40099").unwrap(), 40_000..=40_099);
        for bad in ["", "40000", "2-1", "0-5", "1-65536", "a-b"] {
            assert!(ports(bad).unwrap_err().to_string().contains("such as"), "{bad}");
        }
    }
}
