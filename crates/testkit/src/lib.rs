//! Foreign servers that Weir needs on a developer's machine, and seams for tests.
//!
//! [`postgres::Cluster`] and [`anvil::Anvil`] start, watch and stop the real programs; `weir up`
//! and the tests use the same code. [`TestDb`] and [`TestChain`] are the throwaway forms: a
//! database per test in one cluster per test run, and a chain per test. [`ManualClock`] is a
//! [`domain::time::Clock`] that moves when told to.
//!
//! Every server runs in its own process group, so that Ctrl-C on the terminal reaches its owner
//! first, and beside a watchdog that stops it in order when the owner dies without doing so
//! (`kill -9` included). Every wait here has a limit.

pub mod anvil;
pub mod chain;
pub mod clock;
pub mod cut_proxy;
pub mod db;
pub mod port;
pub mod postgres;
pub mod rpc_proxy;
mod server;
pub mod statements;
pub mod tools;

pub use anvil::{Anvil, AnvilError, AnvilOptions, DEV_ADDRESSES, DEV_KEYS};
pub use chain::TestChain;
pub use clock::ManualClock;
pub use cut_proxy::CutProxy;
pub use db::{TestDb, TestDbError, begin};
pub use port::free_port;
pub use postgres::{Cluster, ClusterOptions, PostgresError};
pub use rpc_proxy::{Faults, Finality, RpcProxy};
pub use statements::Statements;
