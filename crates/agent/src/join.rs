//! From a key to a machine that the service knows: enrolment, once.

use std::time::Duration;

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use domain::id::MachineId;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    AgentConfig, AgentError,
    backoff::Backoff,
    condition::Condition,
    disk,
    http::{CallError, Http},
    server::{Server, sign},
    state::StateDir,
    wire::{Deployment, Enroll, Enrolled},
};

/// `agent.json`: who the service thinks we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    machine_id: MachineId,
    agent_address: Address,
}

/// Waits for the service, and enrols if this machine has not yet.
///
/// # Errors
/// [`AgentError`]; never for a service that does not answer.
pub(crate) async fn join(
    config: &AgentConfig,
    state: &StateDir,
    key: PrivateKeySigner,
    http: Http,
) -> Result<Server, AgentError> {
    let known = identity(state, key.address())?;
    if known.is_none() && config.enroll_token.is_none() {
        return Err(AgentError::NotEnrolled);
    }
    let mut tries = Tries::new();
    let deployment = loop {
        match http.get::<Deployment>("v1/deployment").await {
            Ok(deployment) => break deployment,
            Err(error) => tries.failed(&error).await,
        }
    };
    let machine = match (known, &config.enroll_token) {
        (Some(identity), _) => identity.machine_id,
        (None, Some(token)) => enroll(state, &key, &http, deployment, token, &mut tries).await?,
        (None, None) => return Err(AgentError::NotEnrolled),
    };
    tries.condition.well();
    Ok(Server::new(http, key, machine, deployment, config.clock.clone()))
}

/// The identity of an earlier enrolment, made with the same key.
fn identity(state: &StateDir, present: Address) -> Result<Option<Identity>, AgentError> {
    let identity: Option<Identity> = disk::read_json(&state.identity())?;
    match identity {
        Some(identity) if identity.agent_address != present => Err(AgentError::OtherKey {
            enrolled: identity.agent_address.to_string(),
            present: present.to_string(),
        }),
        identity => Ok(identity),
    }
}

async fn enroll(
    state: &StateDir,
    key: &PrivateKeySigner,
    http: &Http,
    deployment: Deployment,
    token: &str,
    tries: &mut Tries,
) -> Result<MachineId, AgentError> {
    let text = format!("weir-enroll:{}:{token}", deployment.chain_id);
    let refused =
        |code: &str, detail: String| AgentError::EnrollRefused { code: code.into(), detail };
    let signature = sign(key, &text).map_err(|error| refused("signature", error.to_string()))?;
    let body = Enroll { enroll_token: token, agent_address: key.address(), signature };
    loop {
        match http.post::<Enrolled>("v1/agent/enroll", None, &body).await {
            Ok(enrolled) => {
                let machine_id = enrolled.machine_id;
                let identity = Identity { machine_id, agent_address: key.address() };
                disk::write_json(&state.identity(), &identity)?;
                tracing::info!(machine.id = %machine_id, agent.address = %key.address(), "enrolled");
                return Ok(machine_id);
            }
            Err(CallError::Refused(problem)) => return Err(refused(&problem.code, problem.detail)),
            Err(error) => tries.failed(&error).await,
        }
    }
}

/// The tries to reach the service at the start.
struct Tries {
    backoff: Backoff,
    condition: Condition,
}

impl Tries {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            condition: Condition::new("joining the service"),
        }
    }

    async fn failed(&mut self, error: &CallError) {
        self.condition.ill(error.kind(), error);
        sleep(self.backoff.failed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{key, tests::folder};

    #[test]
    fn an_identity_belongs_to_its_key() {
        let folder = folder();
        let state = StateDir::open(folder.path()).unwrap();
        let address = key::load_or_make(&state).unwrap().address();
        assert_eq!(identity(&state, address).unwrap(), None);
        let machine_id = crate::tests::machine();
        disk::write_json(&state.identity(), &Identity { machine_id, agent_address: address })
            .unwrap();
        assert_eq!(identity(&state, address).unwrap().unwrap().machine_id, machine_id);
        let other = identity(&state, Address::ZERO).unwrap_err();
        assert!(matches!(other, AgentError::OtherKey { .. }), "{other}");
        std::fs::write(state.identity(), "{}").unwrap();
        let damaged = identity(&state, address).unwrap_err().to_string();
        assert!(damaged.contains("agent.json is damaged"), "{damaged}");
    }
}
