//! Which chain an endpoint serves. Money that is final on one chain is nothing on another.

use std::sync::{Arc, PoisonError};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::B256,
    providers::{DynProvider, Provider},
};

use super::{Endpoint, Fleet, Patience};
use crate::ChainError;

/// What tells a chain from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of its first block.
    pub genesis: B256,
}

/// What an endpoint said of its chain.
#[derive(Debug)]
pub struct Identified {
    /// The endpoint's host and port.
    pub endpoint: String,
    /// Its chain, or why it does not say.
    pub identity: Result<Identity, ChainError>,
}

impl Fleet {
    /// From here on an endpoint is asked anything only once it was seen to serve this chain; one that could not be
    /// asked at the start is looked at before its first answer counts.
    pub(crate) fn expect(&self, identity: Identity) {
        // said again it is the same: one process belongs to one chain
        let _: &Identity = self.expected.get_or_init(|| identity);
    }

    /// What every endpoint says of its chain.
    pub(crate) async fn identify(&self) -> Vec<Identified> {
        let mut all = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            let identity = self.identity_of(endpoint).await;
            all.push(Identified { endpoint: endpoint.name.clone(), identity });
        }
        all
    }

    /// Two questions, each with its own tries.
    async fn identity_of(&self, endpoint: &Arc<Endpoint>) -> Result<Identity, ChainError> {
        let only = std::slice::from_ref(endpoint);
        let chain_id = self.persist(only, Patience::QUESTION, chain_id).await?.value;
        let genesis = self.persist(only, Patience::QUESTION, genesis).await?.value;
        let identity = Identity { chain_id, genesis };
        endpoint.remember(identity);
        Ok(identity)
    }

    pub(super) async fn recognise(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
        let Some(expected) = self.expected.get() else {
            return Ok(());
        };
        if endpoint.remembered() == Some(*expected) {
            return Ok(());
        }
        let chain_id = chain_id(endpoint.provider.clone()).await?;
        let found = Identity { chain_id, genesis: genesis(endpoint.provider.clone()).await? };
        endpoint.remember(found);
        if found != *expected {
            return Err(ChainError::Nonsense(format!(
                "{} serves another chain: {found:?}, not {expected:?}",
                endpoint.name
            )));
        }
        Ok(())
    }
}

impl Endpoint {
    fn remember(&self, identity: Identity) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity);
    }

    fn remembered(&self) -> Option<Identity> {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn chain_id(provider: DynProvider) -> Result<u64, ChainError> {
    Ok(provider.get_chain_id().await?)
}

async fn genesis(provider: DynProvider) -> Result<B256, ChainError> {
    let first = provider.get_block_by_number(BlockNumberOrTag::Earliest).await?;
    let first =
        first.ok_or_else(|| ChainError::Nonsense("a chain without a first block".into()))?;
    Ok(first.header.hash)
}
