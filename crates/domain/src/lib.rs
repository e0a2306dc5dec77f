//! The rules of the market as pure functions: ids, money, rates, billing, quotes, metering, the state machines of
//! a rental and of a chain transaction, and the ledger.
//!
//! Nothing here waits, reads a clock, speaks to anything or uses floating point. Time comes in as an argument
//! (see [`time::Clock`]), money is checked integers whose rounding direction is in the function's name, and a state
//! changes only by [`rental::step`] and [`tx::step`], whose matches are total.

mod csv;
mod names;

pub mod billing;
pub mod catalog;
pub mod deposit;
pub mod dispute;
pub mod estimate;
pub mod id;
pub mod ledger;
pub mod machine;
pub mod metering;
pub mod money;
pub mod offer;
pub mod oracle;
pub mod quote;
pub mod rank;
pub mod rate;
pub mod reach;
pub mod reference;
pub mod reliability;
pub mod rental;
pub mod scope;
pub mod table;
pub mod template;
pub mod terms;
pub mod time;
pub mod tx;
pub mod webhook;

pub use id::{
    AccountId, ApiKeyId, CommandId, GpuId, JobId, MachineId, OfferId, PostingId, QuoteId, RentalId,
    SessionId, SshKeyId, TestId, TxId, WindowId,
};
pub use money::{Amount, Bps, Decimals, FeeBps, MoneyError, UsdMicros};
pub use names::UnknownName;
pub use rate::{TokenRate, UsdPerHour};
pub use time::{Clock, Seconds, UnixMillis, UnixSeconds};
