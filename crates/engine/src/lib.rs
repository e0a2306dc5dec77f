//! The loops that move money: the lane sends, the watcher listens, the conductor keeps time, the
//! reconciler checks. Beside them the oracle asks what tokens cost, the surveyor samples prices and the assessor computes
//! what machines have shown; all three only look on. The courier tells webhooks what happened. Each is a `tick()` that can be run alone; [`run`] drives them all.

mod apply;
mod assess;
mod carried;
mod cases;
mod conductor;
mod error;
mod final_events;
mod freezing;
mod lane;
mod oracle;
mod pace;
mod pause;
mod reconciler;
mod run;
mod site;
mod survey;
mod watcher;
mod webhooks;

pub use assess::Assessor;
pub use conductor::Conductor;
pub use error::EngineError;
pub use lane::{Lane, LaneSettings};
pub use oracle::{Oracle, Priced};
pub use reconciler::{Reconciler, Report, TokenReport};
pub use run::{Engine, EngineSettings, run};
pub use site::Site;
pub use survey::Surveyor;
pub use watcher::{Watched, Watcher};
pub use webhooks::{Courier, Told, deliver};
