//! The program on a provider's machine.
//!
//! It enrols once, signs in with its own key, asks the service with every heartbeat what to do, runs the
//! rented workloads as real processes, and signs the readings that rentals are billed by. A reading claims
//! only time in which the agent itself saw the workload run: time in which either of them was away is an
//! outage, and nobody pays for it.
//!
//! # What survives
//! Everything that matters is in the state folder, written before it is acted on: the key, the machine's
//! id, and one file per rental. Workloads run in process groups of their own, so that they outlive the
//! agent: when [`run`] is told to stop it sends a last reading and leaves them alone, and the next start
//! adopts them (recognised by boot, pid and start time, so that a reused pid is not taken for one). With
//! [`AgentConfig::stop_workloads_on_exit`] it stops them instead, and the next start begins them anew.
//!
//! # Signing ends
//! Where a rental was credited time, the service asks the machine's key to sign the end, so that it is final at once
//! and nothing is held. The agent signs no end that bills less than its own readings covered. For that the provider's
//! wallet names the machine's key on the chain once (the contract's `setAgent`); the key can never take money.
//!
//! # Hearing of orders
//! Orders come with heartbeats. Beside them the agent waits for orders at the service, which tells it at once that there
//! is one: then it sends its heartbeat at once. A service that cannot be waited at, or is not reached, costs nothing but
//! the time until the next heartbeat.
//!
//! # Self-tests
//! What it finds of its machine (GPUs by `nvidia-smi`, cores, memory, disk, ports) goes to the service with the first
//! heartbeat and every ten minutes. Asked to, it measures more (it writes 64 MiB to its disk, and uses the network if a
//! target is set) and answers every requirement with what it found, signed.
//!
//! # Letting the renter in
//! The renter's SSH public keys are in a file `authorized_keys` of the workload's folder, which `WEIR_AUTHORIZED_KEYS`
//! names, before the workload starts; while it runs the file is replaced whenever the renter changes them. The program
//! that is started has to use it.
//!
//! # Where the renter comes in
//! With [`AgentConfig::public_host`] the service is told, before it hears that the machine is ready and whenever it changes,
//! at which address and ports a rental is reached. The ports are what the program wrote to `WEIR_ACCESS_FILE`. Only the
//! rental's renter reads it there. A service that does not know of it yet is asked again now and then.
//!
//! # What was ordered
//! Template, disk and traffic are in a file `order.json` of that folder, which `WEIR_ORDER_FILE` names, and in variables
//! ([`WorkloadCommand`]). Whether the program runs the template is its provider's to say ([`AgentConfig::templates`]): of
//! a machine that does not the service sells none, and an order for one fails with the reason `image` instead of
//! starting something else. A program that runs templates says when the renter can come in; billing begins no earlier.
//!
//! # What it does not do
//! It holds no workload to the disk and the traffic that were ordered: the program does, as its order says.
//!
//! It does not shut a workload in: that is the business of the program it is told to start, for example a
//! container runtime. A workload that runs as the agent's own user without one could read the agent's key.
//!
//! Linux only: processes are recognised through `/proc`.

mod access;
mod backoff;
mod bell;
mod command;
mod condition;
mod config;
mod context;
mod disk;
mod error;
mod evidence;
mod heartbeat;
mod http;
mod join;
mod key;
mod measure;
mod order;
mod process;
mod reach;
mod record;
mod rental;
mod self_test;
mod server;
mod state;
mod tally;
mod wire;
mod workload;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use config::{AgentConfig, WorkloadCommand};
pub use error::AgentError;
pub use reqwest::Url;

use crate::{command::CommandBook, context::Context, http::Http, measure::Bench, state::StateDir};

/// Runs the agent until `shutdown` is cancelled. Faults of the network and of the service are waited out,
/// for ever; what comes back is a fault that waiting does not mend.
///
/// After the cancellation it returns within about fifteen seconds.
///
/// # Errors
/// [`AgentError`], all at the start: a state folder that cannot be used, or a refused enrolment.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    process::require_proc()?;
    let state = StateDir::open(&config.state_dir)?;
    let key = key::load_or_make(&state)?;
    let http = Http::new(&config.server)?;
    let server = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        server = join::join(&config, &state, key, http) => server?,
    };
    let records = record::load_all(&state)?;
    tally::prune(&state)?;
    let bench = Bench {
        folder: state.rentals(),
        nvidia_smi: config.nvidia_smi,
        ports: config.ports,
        network_target: config.network_target,
    };
    let context = Context {
        bench,
        server,
        state,
        workload: config.workload,
        templates: config.templates,
        public_host: config.public_host,
        reading_interval: config.reading_interval,
        stop_workloads_on_exit: config.stop_workloads_on_exit,
        book: CommandBook::default(),
        hurry: tokio::sync::Notify::new(),
        beats: tokio::sync::watch::Sender::new(0),
        shutdown,
    };
    heartbeat::run(Arc::new(context), records).await;
    Ok(())
}
