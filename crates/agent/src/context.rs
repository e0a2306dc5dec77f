//! What every part of the running agent shares.

use std::time::Duration;

use domain::{id::CommandId, reach::Host};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    WorkloadCommand, command::CommandBook, http::CallError, measure::Bench, server::Server,
    state::StateDir,
};

/// Made once, after the agent has joined the service.
pub(crate) struct Context {
    /// What the machine is measured with.
    pub(crate) bench: Bench,
    pub(crate) server: Server,
    pub(crate) state: StateDir,
    pub(crate) workload: WorkloadCommand,
    /// Whether it runs what templates name, and says when it is ready.
    pub(crate) templates: bool,
    /// The address that renters are told.
    pub(crate) public_host: Option<Host>,
    pub(crate) reading_interval: Duration,
    pub(crate) stop_workloads_on_exit: bool,
    pub(crate) book: CommandBook,
    /// Wakes the heartbeat early: for a rental that must learn where its readings stand, or for an order.
    pub(crate) hurry: Notify,
    /// How many heartbeats the service has answered.
    pub(crate) beats: watch::Sender<u64>,
    pub(crate) shutdown: CancellationToken,
}

impl Context {
    /// Posts as the signed-in machine, unless the agent stops meanwhile.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(CallError::Stopping),
            answer = self.server.post(path, body) => answer,
        }
    }

    /// Lets the service wait for something to tell for so long, unless the agent stops meanwhile.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn wait<T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<T, CallError> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(CallError::Stopping),
            answer = self.server.wait(path, wait) => answer,
        }
    }

    /// Tells the service what became of a command. True if it has heard, whatever it says to it.
    pub(crate) async fn acknowledge(&self, id: CommandId, ack: &impl Serialize) -> bool {
        match self.post::<Value>(&format!("v1/agent/commands/{id}/ack"), ack).await {
            Ok(_) => true,
            Err(CallError::Refused(problem)) => {
                let (code, detail) = (&problem.code, &problem.detail);
                tracing::warn!(command.id = %id, code, detail, "the acknowledgement was refused");
                true
            }
            Err(error) => {
                tracing::debug!(command.id = %id, %error, "not acknowledged; it will come again");
                false
            }
        }
    }
}
