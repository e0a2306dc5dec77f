//! Errors of the loops. A tick that fails is logged once and tried again.

use chain::{ChainError, SignerError};
use store::{StoreError, TxError};
use thiserror::Error;

/// Why a tick did not get through.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain's RPC.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The key.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The key cannot send now: it has no coin, or the contract does not know it.
    #[error("{0}")]
    Parked(String),
    /// The chain is not the one this database belongs to.
    #[error("{0}")]
    WrongChain(String),
    /// The chain or the ledger contradicts itself: a person must look, money waits.
    #[error("money is frozen: {0}")]
    Broken(String),
}

impl From<TxError<EngineError>> for EngineError {
    fn from(error: TxError<EngineError>) -> Self {
        match error {
            TxError::Store(error) => Self::Store(error),
            TxError::Refused(error) => error,
        }
    }
}
