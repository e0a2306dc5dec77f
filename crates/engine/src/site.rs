//! Where the money is: the chain, the contract and its signing domain.

use alloy::{primitives::Address, sol_types::Eip712Domain};
use chain::ReadClient;
use store::deployment::Deployment;

use crate::EngineError;

/// The contract on its chain.
#[derive(Clone, Debug)]
pub struct Site {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The escrow contract.
    pub escrow: Address,
    /// Its EIP-712 domain.
    pub domain: Eip712Domain,
    /// The block it was deployed in.
    pub deployed_block: u64,
}

impl Site {
    /// The site of a recorded deployment.
    #[must_use]
    pub fn new(deployment: &Deployment) -> Self {
        Self {
            chain_id: deployment.chain_id,
            escrow: deployment.escrow,
            domain: escrow::domain(deployment.chain_id, deployment.escrow),
            deployed_block: deployment.deployed_block,
        }
    }

    /// Checks that the chain is the recorded one: id, genesis and the contract's code.
    ///
    /// # Errors
    /// [`EngineError::WrongChain`] with what differs.
    pub async fn check(client: &ReadClient, deployment: &Deployment) -> Result<Self, EngineError> {
        let chain_id = client.chain_id().await?;
        if chain_id != deployment.chain_id {
            return Err(EngineError::WrongChain(format!(
                "the RPC serves chain {chain_id}, this database belongs to chain {}; point RPC_URL at \
                 the right chain or use another database",
                deployment.chain_id
            )));
        }
        let genesis = client.header(alloy::eips::BlockNumberOrTag::Earliest).await?;
        if genesis.map(|block| block.hash) != Some(deployment.genesis_hash) {
            return Err(EngineError::WrongChain(
                "the RPC serves another chain with the same id (its first block differs); this \
                 database's chain is gone or RPC_URL is wrong"
                    .to_owned(),
            ));
        }
        if client.code_hash(deployment.escrow).await? != Some(deployment.code_hash) {
            return Err(EngineError::WrongChain(format!(
                "the code at {} is not the escrow that this database belongs to",
                deployment.escrow
            )));
        }
        Ok(Self::new(deployment))
    }
}
