//! The HTTP side: the public market, renters, providers, agents.
//!
//! It holds no key that moves money and sends no transaction. It writes what is wanted into the store,
//! in the transaction of the request, and answers with what was written. Every refusal is one of
//! [`Code`]; every body is read strictly; every write runs in `Store::write`, so that a caller who
//! hangs up leaves nothing half done.

mod access;
mod account;
mod agent;
mod api_token;
mod auth;
mod cache;
mod catalog;
mod codes;
mod connections;
mod csv;
mod cursor;
mod detached;
mod edge;
mod estimates;
mod extract;
mod feed;
mod gasless;
mod identity;
mod kept;
mod ledger;
mod limits;
mod market;
mod openapi;
mod prefer;
mod problem;
mod provider;
mod public;
mod renter;
mod revoked;
mod search;
mod security;
mod serve;
mod settlements;
mod siwe;
mod state;
mod status;
mod streams;
mod system;
mod views;
mod wallets;
mod webhooks;

pub use codes::{Code, markdown};
pub use connections::ConnectionConfig;
pub use limits::{LimitConfig, Net, Quota, QuotaError, Setting};
pub use problem::{FieldError, Problem};
pub use serve::{openapi, router, serve};
pub use state::{ApiConfig, AppState};
