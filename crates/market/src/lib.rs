//! The market in memory: what can be rented, ordered by price, with 64 offers to a machine word for each filter.
//!
//! Pure: no IO, no clock, no async. Whoever owns an [`Index`] feeds it [`Listing`]s as they are stored and asks it
//! [`Query`]s; the database stays the truth. Facts that nobody knows match no filter that needs them. Money is
//! integer micro-dollars.

mod block;
mod book;
mod catalog;
mod code;
mod compiled;
mod index;
mod listing;
mod query;
mod row;
mod search;
mod segment;
mod slab;
mod supply;
mod table;
mod total;
mod view;

pub mod generate;
pub mod image;
pub mod language;
pub mod plan;

pub use book::{Book, Depth, Level};
pub use catalog::{GpuModel, normal};
pub use index::{Builder, Change, Index, Memory};
pub use listing::{Form, Isolation, Listing, Step, Tier, Unlistable, Vendor, Verification};
pub use query::{Field, Job, MAX_VALUES, Names, Position, Query, Set, Sort, Speeds, Test};
pub use search::{Concern, Found, Page, Searching};
pub use supply::{Count, Counting, Supply};
pub use total::total;
pub use view::{Brief, Offer};
