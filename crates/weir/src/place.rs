//! Where the parts of a running market are.

use std::path::PathBuf;

use alloy::primitives::Address;

/// Where everything is.
pub(crate) struct Place {
    pub(crate) api: String,
    pub(crate) rpc: String,
    pub(crate) database: String,
    pub(crate) folder: PathBuf,
    /// Where the worker tells its metrics.
    pub(crate) worker_metrics: String,
    pub(crate) escrow: Address,
}
