//! The state machines as Markdown tables, made by asking the machines themselves. `docs/FLOW.md` holds them, and a
//! test compares.

mod rental;
mod tx;

pub use rental::{rental_events, rental_situations, rental_tables};
pub use tx::{tx_events, tx_states, tx_table};
