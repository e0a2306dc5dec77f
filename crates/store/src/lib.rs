//! The only SQL in the house. One file per aggregate; functions take `&mut PgConnection`, so that the
//! caller decides what belongs to one transaction, and only [`Store::write`] may begin one.

pub mod account_events;
pub mod accounts;
pub mod advance;
pub mod api_keys;
pub mod blocks;
pub mod catalog;
pub mod commands;
pub mod convert;
pub mod deployment;
pub mod deposit_notices;
pub mod disputes;
pub mod ends;
pub mod evictions;
pub mod feeds;
pub mod freezes;
pub mod gpu_models;
pub mod health;
pub mod idempotency;
pub mod intents;
pub mod jobs;
pub mod ledger;
pub mod listings;
pub mod machines;
pub mod offers;
pub mod payments;
pub mod prices;
pub mod quotes;
pub mod reach;
pub mod readings;
pub mod reliability;
pub mod rentals;
pub mod reviews;
pub mod revocations;
pub mod schema;
pub mod seam;
pub mod sessions;
mod shelf;
pub mod ssh_keys;
pub mod templates;
pub mod timeline;
pub mod tokens;
pub mod txs;
pub mod webhooks;

mod error;
mod policy;
mod pool;

pub use error::{StoreError, TxError};
pub use policy::Policy;
pub use pool::{Connection, MIGRATOR, Store, Unit, check_server};
