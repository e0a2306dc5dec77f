//! What there is to rent and to run, for anyone to read and to keep: GPU models, regions, templates, what others
//! ask, and the market in the files of others' tools.

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::AppState;

mod export;
mod models;
mod reference;
mod regions;
mod templates;

pub(crate) use export::Export;
pub(crate) use models::{model_at, model_called, models_called, no_model};
pub(crate) use reference::{NOTICE, PriceSpanView, ReferencePriceView};
pub(crate) use regions::{nearest_regions, no_place};

/// How long what is built into the program may be kept: it changes with the program.
const KEEP_S: u32 = 3_600;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(models::list))
        .routes(routes!(models::read))
        .routes(routes!(regions::list))
        .routes(routes!(templates::list, templates::create))
        .routes(routes!(templates::read))
        .routes(routes!(reference::list))
        .routes(routes!(export::csv))
}
