//! What anyone may look up without signing in: machines and what they have shown, prices, supply.

mod book;
mod figures;
mod history;
mod machines;
mod reviews;

use axum::{http::HeaderMap, response::Response};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

use crate::{AppState, Problem, cache};

pub(crate) use figures::Figures;
pub(crate) use history::{Turns, WindowView, shown_view};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(machines::routes())
        .merge(history::routes())
        .merge(reviews::routes())
        .merge(figures::routes())
        .merge(book::routes())
}

/// An answer that caches may keep for `max_age` seconds, with a tag of its content; nothing if the reader has it.
fn cacheable(body: &impl Serialize, max_age: u32, known: &HeaderMap) -> Result<Response, Problem> {
    cache::json(known, max_age, body)
}
