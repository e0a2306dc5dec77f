//! The service as the signed-in agent sees it: authenticated calls, its clock, its contract.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use alloy::{
    primitives::hex,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::Eip712Domain,
};
use domain::{
    id::MachineId,
    time::{Clock, UnixMillis, UnixSeconds},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use crate::{
    http::{CallError, Http},
    wire::{Challenge, Deployment, Empty, Session, SignIn},
};

/// An enrolled machine's access to the service. Signs in by itself when it must.
pub(crate) struct Server {
    http: Http,
    key: PrivateKeySigner,
    machine: MachineId,
    deployment: Deployment,
    domain: Eip712Domain,
    clock: Arc<dyn Clock>,
    /// The service's time less ours, in milliseconds.
    offset: AtomicI64,
    token: Mutex<Option<String>>,
}

impl Server {
    pub(crate) fn new(
        http: Http,
        key: PrivateKeySigner,
        machine: MachineId,
        deployment: Deployment,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            http,
            key,
            machine,
            deployment,
            domain: escrow::domain(deployment.chain_id, deployment.escrow),
            clock,
            offset: AtomicI64::new(0),
            token: Mutex::new(None),
        }
    }

    /// The key that signs readings.
    pub(crate) const fn key(&self) -> &PrivateKeySigner {
        &self.key
    }

    /// The contract's EIP-712 domain, which readings are signed for.
    pub(crate) const fn domain(&self) -> &Eip712Domain {
        &self.domain
    }

    /// Posts as the signed-in machine. A session that has ended is renewed once.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let token = self.token(None).await?;
        let answer = self.http.post(path, Some(&token), body).await;
        match answer {
            Err(CallError::Refused(problem)) if problem.status == 401 => {
                let token = self.token(Some(&token)).await?;
                self.http.post(path, Some(&token), body).await
            }
            answer => answer,
        }
    }

    /// Asks as the signed-in machine, and lets the service wait for something to tell for so long. A session that has ended
    /// is renewed once.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn wait<T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<T, CallError> {
        let token = self.token(None).await?;
        match self.http.wait(path, &token, wait).await {
            Err(CallError::Refused(problem)) if problem.status == 401 => {
                let token = self.token(Some(&token)).await?;
                self.http.wait(path, &token, wait).await
            }
            answer => answer,
        }
    }

    /// The session's token; a new one if there is none, or only the `stale` one. Others who need it
    /// meanwhile wait for this one.
    async fn token(&self, stale: Option<&str>) -> Result<String, CallError> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_deref().filter(|token| stale != Some(*token)) {
            return Ok(token.to_owned());
        }
        let token = self.sign_in().await?;
        *held = Some(token.clone());
        Ok(token)
    }

    async fn sign_in(&self) -> Result<String, CallError> {
        let challenge: Challenge = self.http.post("v1/agent/challenge", None, &Empty {}).await?;
        let nonce = challenge.nonce.as_str();
        let text = format!("weir-agent:{}:{}:{nonce}", self.deployment.chain_id, self.machine);
        let body = SignIn { machine_id: self.machine, nonce, signature: sign(&self.key, &text)? };
        let session: Session = self.http.post("v1/agent/session", None, &body).await?;
        tracing::info!(machine.id = %self.machine, "signed in");
        Ok(session.token)
    }

    /// Learns the service's time, in whole seconds, from an answer that has just come. It was true when the
    /// answer was made, so that we are a little behind, never ahead: a reading must not reach into the
    /// future.
    pub(crate) fn learn_time(&self, theirs: UnixSeconds) {
        let ours = i64::try_from(self.clock.now().get());
        if let (Ok(theirs), Ok(ours)) = (i64::try_from(theirs.millis().get()), ours) {
            self.offset.store(theirs.saturating_sub(ours), Ordering::Relaxed);
        }
    }

    /// How far our clock is off, in whole seconds; a second less may be the answer's way.
    pub(crate) fn skew_s(&self) -> u64 {
        self.offset.load(Ordering::Relaxed).unsigned_abs() / 1_000
    }

    /// What a text that the machine signs begins with.
    pub(crate) fn names(&self, what: &str) -> String {
        format!("{what}:{}:{}", self.deployment.chain_id, self.machine)
    }

    /// The service's time now, in which readings are made.
    pub(crate) fn now(&self) -> UnixSeconds {
        let offset = self.offset.load(Ordering::Relaxed);
        let now = self.clock.now().get().saturating_add_signed(offset);
        UnixMillis(now).seconds()
    }
}

/// An EIP-191 signature of a text, in hex.
pub(crate) fn sign(key: &PrivateKeySigner, text: &str) -> Result<String, CallError> {
    let signature = key
        .sign_message_sync(text.as_bytes())
        .map_err(|error| CallError::Malformed(error.to_string()))?;
    Ok(hex::encode_prefixed(signature.as_bytes()))
}
