//! Operations, as whoever runs the service meets them: real processes, a real database and a real chain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)] // a test stops at the first surprise

mod doctor;
mod market;
mod metrics;
mod process;
mod rolling;
mod shutdown;
