//! What can be wrong with a local chain.

use std::io;
use std::path::PathBuf;

use alloy::transports::{RpcError, TransportErrorKind};

use crate::tools::ToolMissing;

/// Why there is no anvil, in one line that also says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AnvilError {
    /// No binary.
    #[error(transparent)]
    Missing(#[from] ToolMissing),
    /// Something else listens there.
    #[error(
        "port {port} is taken: stop the program that listens on it, or choose another port for the chain"
    )]
    PortTaken {
        /// The port that was asked for.
        port: u16,
    },
    /// The state file is cut off or not anvil's.
    #[error("the chain's state {} cannot be read ({why}): run `make clean-data` to start anew (chain and database go together)", path.display())]
    BrokenState {
        /// The file.
        path: PathBuf,
        /// anvil's own words.
        why: String,
    },
    /// It ended instead of serving.
    #[error("anvil ended at its start: {why}")]
    Ended {
        /// Its last telling line.
        why: String,
    },
    /// It lives and does not serve.
    #[error("anvil did not answer within {seconds} s; its log is {}", log.display())]
    Silent {
        /// The limit.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// Another chain answers.
    #[error("the chain has id {found}, {expected} was asked for")]
    WrongChain {
        /// Asked for.
        expected: u64,
        /// Answered.
        found: String,
    },
    /// A call was refused or lost.
    #[error("anvil refused {method}: {source}")]
    Call {
        /// JSON-RPC method.
        method: &'static str,
        /// The refusal.
        source: RpcError<TransportErrorKind>,
    },
    /// The operating system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        source: io::Error,
    },
}

pub(super) fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> AnvilError {
    let doing = doing.into();
    move |source| AnvilError::Io { doing, source }
}
