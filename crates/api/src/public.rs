//! What anyone may look up without signing in: machines and what they have shown, prices, supply.

mod figures;
mod history;
mod machines;
mod reviews;

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

use crate::{AppState, Problem, cache, problem::internal};

pub(crate) use figures::Figures;
pub(crate) use history::Turns;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(machines::routes())
        .merge(history::routes())
        .merge(reviews::routes())
        .merge(figures::routes())
}

/// An answer that caches may keep for `max_age` seconds, with a tag of its content; nothing if the reader has it.
fn cacheable(body: &impl Serialize, max_age: u32, known: &HeaderMap) -> Result<Response, Problem> {
    cache::json(known, max_age, body)
}

/// For answers that are not kept.
fn fresh(body: &impl Serialize) -> Result<Response, Problem> {
    Ok(Json(serde_json::to_value(body).map_err(internal)?).into_response())
}
