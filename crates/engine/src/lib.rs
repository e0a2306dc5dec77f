//! The loops that move money: the lane sends, the watcher listens, the conductor keeps time, the
//! reconciler checks, the oracle asks for prices. Each is a `tick()` that can be run alone; [`run`] drives them all.

mod apply;
mod carried;
mod conductor;
mod error;
mod final_events;
mod freezing;
mod lane;
mod oracle;
mod pause;
mod reconciler;
mod run;
mod site;
mod watcher;

pub use conductor::Conductor;
pub use error::EngineError;
pub use lane::{Lane, LaneSettings};
pub use oracle::{Oracle, Priced};
pub use reconciler::{Reconciler, Report, TokenReport};
pub use run::{Engine, EngineSettings, run};
pub use site::Site;
pub use watcher::{Watched, Watcher};
