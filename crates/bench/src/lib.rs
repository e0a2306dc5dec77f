//! The measuring harness. A figure here is never a number by itself: the subject and PostgreSQL's own
//! TPC-B load take turns on one server in one run, and what is reported is the ratio of the two.
//!
//! [`run`] starts a durable PostgreSQL of its own, drives every [`Scenario`] against [`Tpcb`] and
//! checks after each slice that what was counted is what is stored; a slice that fails is void.
//!
//! Rates, ratios and percentiles are floating point by nature, and no money is computed here: hence
//! the two lints that this crate alone lifts.
#![allow(clippy::float_arithmetic, clippy::as_conversions)]

mod booking;
mod closed_loop;
mod error;
mod goals;
mod half_load;
mod histogram;
mod ledger;
mod machine;
mod open_loop;
mod options;
mod pairs;
mod queue;
mod quotes;
mod report;
mod rng;
mod run;
mod scenario;
mod search;
mod server;
mod settle;
mod start;
mod statistics;
mod streams;
mod tpcb;

pub use booking::Booking;
pub use error::BenchError;
pub use goals::{Bound, Figure, GOALS, Goal, Judged, Outcome, judge};
pub use histogram::Histogram;
pub use ledger::Ledger;
pub use options::{Options, Plan};
pub use pairs::{Measured, Pair, Side, measure};
pub use queue::Queue;
pub use report::{Fact, Report, Row};
pub use run::run;
pub use scenario::{Scenario, Slice, Verdict};
pub use search::{Cost, InMemory, Plain};
pub use server::Server;
pub use settle::{OneByOne, Raw, Settlements};
pub use statistics::{Interval, bootstrap, median};
pub use tpcb::{Peer, Tpcb};
