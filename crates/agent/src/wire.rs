//! What is said to the service and what it answers: the agent's part of the HTTP API.

use alloy::primitives::{Address, B256};
use domain::{
    id::{CommandId, MachineId, RentalId, TestId},
    machine::{Check, Measured, Requirement},
    metering::ReadingHead,
    reach::{Host, OpenPort},
    rental::FailReason,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::order::Ordered;

/// `GET /v1/deployment`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) chain_id: u64,
    pub(crate) escrow: Address,
}

/// A body without content.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Empty {}

/// `POST /v1/agent/enroll`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Enroll<'a> {
    pub(crate) enroll_token: &'a str,
    pub(crate) agent_address: Address,
    pub(crate) signature: String,
}

/// The answer to [`Enroll`].
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Enrolled {
    pub(crate) machine_id: MachineId,
}

/// The answer of `POST /v1/agent/challenge`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) nonce: String,
}

/// `POST /v1/agent/session`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SignIn<'a> {
    pub(crate) machine_id: MachineId,
    pub(crate) nonce: &'a str,
    pub(crate) signature: String,
}

/// The answer to [`SignIn`]. No `Debug`: the token is a secret.
#[derive(Deserialize)]
pub(crate) struct Session {
    pub(crate) token: String,
}

/// `POST /v1/agent/heartbeats`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Heartbeat {
    pub(crate) running: Vec<RentalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) measured: Option<Measured>,
    /// Whether the machine runs templates, where the service has it otherwise. One that does not ask is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) templates: Option<bool>,
}

/// The answer to [`Heartbeat`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Orders {
    pub(crate) commands: Vec<Command>,
    pub(crate) now_unix: UnixSeconds,
    pub(crate) next_in_s: u32,
    pub(crate) evidence: Vec<Standing>,
    /// Whether it has it that the machine runs templates; an older service does not say.
    #[serde(default)]
    pub(crate) templates: Option<bool>,
    /// A self-test that waits for its answer.
    #[serde(default)]
    pub(crate) self_test: Option<SelfTest>,
}

/// The answer of `GET /v1/agent/commands`: which orders there are. What they say comes with the heartbeat.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Waited {
    pub(crate) commands: Vec<Rung>,
}

/// An order that there is.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Rung {
    pub(crate) id: CommandId,
}

/// What the machine is to show.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SelfTest {
    pub(crate) id: TestId,
    pub(crate) requirements: Vec<Requirement>,
}

/// `POST /v1/agent/self-tests/{id}`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SelfTestAnswer {
    pub(crate) checks: Vec<Check>,
    pub(crate) measured: Measured,
    pub(crate) signature: String,
}

/// What the service has of a running rental's readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Standing {
    pub(crate) rental_id: RentalId,
    /// Readings may begin here at the earliest: where billing began.
    pub(crate) not_before: Option<UnixSeconds>,
    /// Readings may end here at the latest: where billing ended.
    pub(crate) not_after: Option<UnixSeconds>,
    /// The last one's number; 0 before the first.
    pub(crate) seq: u64,
    pub(crate) to: Option<UnixSeconds>,
    pub(crate) hash: B256,
}

impl Standing {
    /// The last reading that was accepted.
    pub(crate) fn head(&self) -> Option<ReadingHead> {
        let to = self.to.filter(|_| self.seq > 0)?;
        Some(ReadingHead { seq: self.seq, to, hash: self.hash })
    }
}

/// What the agent is to do.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Command {
    pub(crate) id: CommandId,
    pub(crate) kind: CommandKind,
    pub(crate) rental_id: RentalId,
    pub(crate) escrow_id: B256,
    #[serde(default)]
    pub(crate) payload: Value,
}

impl Command {
    /// The vendor's ids of the GPUs that the rental holds.
    pub(crate) fn gpus(&self) -> Vec<String> {
        let listed = self.payload.get("gpus").and_then(Value::as_array);
        listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// What is ordered beside the GPUs.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn ordered(&self) -> Result<Ordered, serde_json::Error> {
        Ordered::of(&self.payload)
    }

    /// The SSH public keys that are to be let in.
    pub(crate) fn ssh_keys(&self) -> Vec<String> {
        let listed = self.payload.get("ssh_keys").and_then(Value::as_array);
        listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// The kinds of commands. A newer service may know more; those are left to a newer agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommandKind {
    Provision,
    Deprovision,
    SignEnd,
    Access,
    #[serde(other)]
    Unknown,
}

/// `POST /v1/agent/commands/{id}/ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Ack {
    pub(crate) outcome: AckOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<FailReason>,
}

impl Ack {
    pub(crate) const OK: Self = Self { outcome: AckOutcome::Ok, reason: None };

    pub(crate) const fn failed(reason: FailReason) -> Self {
        Self { outcome: AckOutcome::Failed, reason: Some(reason) }
    }
}

/// The answer to `sign_end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct EndAck {
    outcome: AckOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

impl EndAck {
    pub(crate) const fn signed(signature: String) -> Self {
        Self { outcome: AckOutcome::Ok, signature: Some(signature) }
    }

    pub(crate) const fn refused() -> Self {
        Self { outcome: AckOutcome::Failed, signature: None }
    }
}

/// Whether a command was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AckOutcome {
    Ok,
    Failed,
}

/// `POST /v1/agent/rentals/{id}/access`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reach {
    pub(crate) host: Host,
    pub(crate) ports: Vec<OpenPort>,
}

/// `POST /v1/agent/readings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reading {
    pub(crate) rental_id: RentalId,
    pub(crate) seq: u64,
    pub(crate) from: UnixSeconds,
    pub(crate) to: UnixSeconds,
    pub(crate) detail: Value,
    pub(crate) prev_hash: B256,
    pub(crate) signature: String,
}

/// The answer to [`Reading`].
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) accepted_seq: u64,
    pub(crate) hash: B256,
}

/// What is read of an error (RFC 9457).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) detail: String,
    /// With `reading-too-late` and `reading-invalid`: the earliest second that a reading may begin at.
    pub(crate) not_before: Option<UnixSeconds>,
    /// With `reading-invalid`: the latest second that it may end at.
    pub(crate) not_after: Option<UnixSeconds>,
}
