//! The program as its users meet it: real processes, a real chain and a real database.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects
)] // a test stops at the first surprise

mod disputes;
mod market;
mod ops;
mod readme;
mod scenario_chaos;
mod scenario_cut;
mod scenario_fuzz;
mod transactions;
mod typescript;
mod up;
mod vanish;
mod x402;
