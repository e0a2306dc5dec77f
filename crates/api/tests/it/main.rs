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

mod access;
mod account_events;
mod agent;
mod agent_keys;
mod api_keys;
mod auth;
mod booking;
mod bounds;
mod cases;
mod catalog;
mod chunks;
mod connections;
mod course;
mod crowd;
mod disputes;
mod docs;
mod edge;
mod ends;
mod escrows;
mod estimates;
mod events;
mod evictions;
mod figures;
mod fixture;
mod forgeries;
mod funding;
mod groups;
mod habits;
mod hardening;
mod held;
mod http;
mod income;
mod labels;
mod ledger;
mod limits;
mod machines;
mod market;
mod money;
mod offers;
mod orders;
mod payers;
mod payments;
mod provider;
mod quotes;
mod reach;
mod readings;
mod remembered;
mod rpc;
mod running;
mod sealed;
mod seals;
mod search;
mod security;
mod sessions;
mod shown;
mod shows;
mod ssh_keys;
mod stutter;
mod together;
mod tools;
mod wallets;
mod webhooks;
