//! What anyone may look up without signing in: machines and what they have shown, prices, supply.

mod figures;
mod history;
mod machines;
mod reviews;

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa_axum::router::OpenApiRouter;

use crate::{AppState, Problem, problem::internal};

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
    let text = serde_json::to_vec(body).map_err(internal)?;
    let digest = Sha256::digest(&text);
    let short: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = HeaderValue::from_str(&format!("\"{short}\"")).map_err(internal)?;
    let keep = HeaderValue::from_str(&format!("public, max-age={max_age}")).map_err(internal)?;
    let mut response = if known.get(header::IF_NONE_MATCH) == Some(&tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], text).into_response()
    };
    response.headers_mut().insert(header::ETAG, tag);
    response.headers_mut().insert(header::CACHE_CONTROL, keep);
    Ok(response)
}

/// For answers that are not kept.
fn fresh(body: &impl Serialize) -> Result<Response, Problem> {
    Ok(Json(serde_json::to_value(body).map_err(internal)?).into_response())
}
