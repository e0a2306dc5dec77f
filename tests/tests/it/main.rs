//! The parts together, on a real chain and a real database: the engine's loops, the books, the simulation and the
//! attacker. One program for all of them: thirty would each carry the whole stack again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects
)] // a test stops at the first surprise

mod constraints;
mod engine_bounds;
mod engine_catch_up;
mod engine_clocks;
mod engine_crash;
mod engine_deposits;
mod engine_evictions;
mod engine_faults;
mod engine_fleet;
mod engine_freeze;
mod engine_funding;
mod engine_held;
mod engine_lane;
mod engine_life;
mod engine_node;
mod engine_oracle;
mod engine_release;
mod engine_reorg;
mod engine_rest;
mod engine_ways_back;
mod figures;
mod fleet_patience;
mod forgotten;
mod health;
mod https;
mod parity;
mod price_history;
mod quote_key;
mod races;
mod receipts;
mod red_team;
mod sim;
mod sim_bugs;
mod sim_parity;
mod statements;
mod terms;
mod webhooks;
