//! Campaigns against the real thing: processes of the `weir` program, a real PostgreSQL, a real chain, HTTP. Parties
//! rent while faults happen; afterwards every unit is counted on the chain.

pub mod campaign;
pub mod client;
pub mod disk;
pub mod load;
pub mod machine;
pub mod record;
pub mod renter;
pub mod report;
pub mod rpc;
pub mod service;
pub mod site;
pub mod standby;
pub mod verdict;
pub mod world;

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds, as the parties' own clocks show them.
#[allow(clippy::disallowed_methods)] // the processes under test have the machine's clock, and so have the parties
#[must_use]
pub fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
