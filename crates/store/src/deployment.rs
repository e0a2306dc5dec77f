//! The one chain and contract that this database belongs to.

use alloy_primitives::{Address, B256};

use crate::{
    Connection, StoreError,
    convert::{address, hash},
};

/// Where the money is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of block 0: tells two local chains with one id apart.
    pub genesis_hash: B256,
    /// The escrow contract.
    pub escrow: Address,
    /// keccak256 of its code.
    pub code_hash: B256,
    /// The block it was deployed in: where the watcher begins.
    pub deployed_block: u64,
}

/// The deployment, if one was recorded.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(connection: &mut Connection) -> Result<Option<Deployment>, StoreError> {
    let row = sqlx::query!(
        "SELECT chain_id, genesis_hash, escrow, code_hash, deployed_block FROM deployment"
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Deployment {
            chain_id: u64::try_from(row.chain_id).map_err(StoreError::corrupt)?,
            genesis_hash: hash(&row.genesis_hash)?,
            escrow: address(&row.escrow)?,
            code_hash: hash(&row.code_hash)?,
            deployed_block: u64::try_from(row.deployed_block).map_err(StoreError::corrupt)?,
        })
    })
    .transpose()
}

/// Records the deployment; a second, different one is a conflict.
///
/// # Errors
/// [`StoreError::Conflict`] if another deployment is recorded.
pub async fn record(tx: &mut Connection, deployment: &Deployment) -> Result<(), StoreError> {
    if let Some(known) = get(tx).await? {
        return if known == *deployment {
            Ok(())
        } else {
            Err(StoreError::Conflict { constraint: "deployment_pkey".to_owned() })
        };
    }
    sqlx::query!(
        "INSERT INTO deployment (chain_id, genesis_hash, escrow, code_hash, deployed_block)
         VALUES ($1, $2, $3, $4, $5)",
        i64::try_from(deployment.chain_id).map_err(StoreError::corrupt)?,
        deployment.genesis_hash.as_slice(),
        deployment.escrow.as_slice(),
        deployment.code_hash.as_slice(),
        i64::try_from(deployment.deployed_block).map_err(StoreError::corrupt)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}
