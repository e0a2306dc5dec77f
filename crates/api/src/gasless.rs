//! Which tokens take a renter's signature instead of a transaction (EIP-3009), asked of the tokens themselves.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256},
    sol_types::{Eip712Domain, SolCall as _},
};
use chain::{ChainError, ReadClient};
use escrow::{bindings::TestUSDC, signed};
use store::tokens::Token;

/// How long the chain may take to tell; without an answer the renter sends a transaction of his own.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known so far. A token is asked once; one that did not answer is asked again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gasless {
    known: Arc<Mutex<BTreeMap<Address, Option<Eip712Domain>>>>,
}

impl Gasless {
    /// The EIP-712 domain to authorize in, or `None` where the token has no authorizations, or its domain is not what
    /// it is said to be: then a signature would be worth nothing.
    pub(crate) async fn domain(
        &self,
        chain: &ReadClient,
        token: &Token,
        chain_id: u64,
    ) -> Option<Eip712Domain> {
        let (name, version) = token.permit.as_ref()?;
        if let Some(known) = self.known().get(&token.address) {
            return known.clone();
        }
        let domain = signed::token_domain(name, version, chain_id, token.address);
        let asked = tokio::time::timeout(PATIENCE, probe(chain, token.address, &domain)).await;
        let found = match asked {
            Ok(Ok(true)) => Some(domain),
            Ok(Ok(false)) => None,
            Ok(Err(error)) => {
                tracing::warn!(token.symbol = token.symbol, %error, "the token was not asked about authorizations");
                return None;
            }
            Err(_) => return None,
        };
        self.known().insert(token.address, found.clone());
        found
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Address, Option<Eip712Domain>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn probe(
    chain: &ReadClient,
    token: Address,
    domain: &Eip712Domain,
) -> Result<bool, ChainError> {
    let separator = ask(chain, token, TestUSDC::DOMAIN_SEPARATORCall {}.abi_encode()).await?;
    if separator != Some(domain.separator()) {
        tracing::warn!(%token, "the token's signing domain is not the one that it is listed with; no authorizations");
        return Ok(false);
    }
    let state = TestUSDC::authorizationStateCall { authorizer: token, nonce: B256::ZERO };
    Ok(ask(chain, token, state.abi_encode()).await?.is_some())
}

/// One word of an answer; `None` if the token does not know the question.
async fn ask(
    chain: &ReadClient,
    token: Address,
    call: Vec<u8>,
) -> Result<Option<B256>, ChainError> {
    match chain.call(token, call).await {
        Ok(answer) => Ok(B256::try_from(answer.as_ref()).ok()),
        Err(ChainError::Unavailable(reason)) => Err(ChainError::Unavailable(reason)),
        Err(ChainError::Reverts { .. } | ChainError::Refused { .. } | ChainError::Nonsense(_)) => {
            Ok(None)
        }
    }
}
