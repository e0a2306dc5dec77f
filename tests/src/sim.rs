//! The seeded simulation: the engine's real loops and the real PostgreSQL over a simulated chain, with faults,
//! crashes and interleavings that a seed decides. A seed is played the same twice; what must always hold is
//! checked after every step, and at the end everything must come to rest with every deposit divided.

pub mod chain;
pub mod contract;
pub mod ends;
pub mod faults;
pub mod invariants;
pub mod machine;
pub mod money;
pub mod node;
pub mod parties;
pub mod play;
pub mod report;
pub mod state;
pub mod stepper;
pub mod trace;
pub mod transport;
pub mod world;
