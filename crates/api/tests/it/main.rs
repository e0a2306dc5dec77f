//! The API over real PostgreSQL, request by request.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "tests"
)]

mod agent;
mod auth;
mod booking;
mod bounds;
mod docs;
mod edge;
mod ends;
mod events;
mod fixture;
mod funding;
mod http;
mod ledger;
mod market;
mod money;
mod provider;
mod quotes;
mod readings;
mod rpc;
mod running;
mod search;
