//! What the tests across crates share. The tests are in `tests/tests`.

// only tests use this, and a test stops at the first surprise
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

pub mod booking;
pub mod chaos;
pub mod cut;
pub mod fuzz;
pub mod house;
pub mod market;
pub mod random;
pub mod references;
// it steps in at places that a release build does not have
#[cfg(debug_assertions)]
pub mod sim;
