//! Errors by what the caller can do.

use alloy::{
    primitives::Bytes,
    transports::{RpcError, TransportErrorKind},
};
use thiserror::Error;

/// Why the chain did not answer as asked.
#[derive(Debug, Error)]
pub enum ChainError {
    /// No answer, a broken one, or the node's own trouble: ask again later.
    #[error("the chain's RPC did not answer: {0}")]
    Unavailable(String),
    /// The call reverts; `data` holds the contract's reason.
    #[error("the call reverts")]
    Reverts {
        /// Raw revert data.
        data: Bytes,
    },
    /// The node refuses the request as such.
    #[error("the node refused: {message} ({code})")]
    Refused {
        /// JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// The answer is not what the protocol allows.
    #[error("the node's answer makes no sense: {0}")]
    Nonsense(String),
}

impl From<RpcError<TransportErrorKind>> for ChainError {
    fn from(error: RpcError<TransportErrorKind>) -> Self {
        let Some(response) = error.as_error_resp() else {
            return Self::Unavailable(error.to_string());
        };
        if let Some(data) = response.as_revert_data() {
            return Self::Reverts { data };
        }
        Self::Refused { code: response.code, message: response.message.to_string() }
    }
}
