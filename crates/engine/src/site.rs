//! Where the money is: the chain, the contract and its signing domain.

use alloy::{primitives::Address, sol_types::Eip712Domain};
use chain::{Identified, Identity, ReadClient};
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

    /// Checks that the chain is the recorded one at every endpoint that answers: id, genesis and the contract's code.
    /// An endpoint that does not answer now is looked at when it does.
    ///
    /// # Errors
    /// [`EngineError::WrongChain`] with what differs.
    pub async fn check(client: &ReadClient, deployment: &Deployment) -> Result<Self, EngineError> {
        let ours = Identity { chain_id: deployment.chain_id, genesis: deployment.genesis_hash };
        let mut answered = false;
        let mut trouble = None;
        for Identified { endpoint, identity } in client.identify().await {
            match identity {
                Ok(found) if found == ours => answered = true,
                Ok(found) => return Err(wrong_chain(&endpoint, found, ours)),
                // looked at before its first answer counts
                Err(error) => {
                    tracing::warn!(rpc.endpoint = endpoint, %error, "an RPC endpoint does not say which chain it serves");
                    trouble = Some(error);
                }
            }
        }
        if let Some(error) = trouble.filter(|_| !answered) {
            return Err(error.into());
        }
        client.expect(ours);
        if client.code_hash(deployment.escrow).await? != Some(deployment.code_hash) {
            return Err(EngineError::WrongChain(format!(
                "the code at {} is not the escrow that this database belongs to",
                deployment.escrow
            )));
        }
        Ok(Self::new(deployment))
    }
}

fn wrong_chain(endpoint: &str, found: Identity, ours: Identity) -> EngineError {
    EngineError::WrongChain(if found.chain_id == ours.chain_id {
        format!(
            "{endpoint} of RPC_URL serves another chain with the same id (its first block differs); this \
             database's chain is gone or RPC_URL is wrong"
        )
    } else {
        format!(
            "{endpoint} of RPC_URL serves chain {}, this database belongs to chain {}; point RPC_URL at the \
             right chain or use another database",
            found.chain_id, ours.chain_id
        )
    })
}
