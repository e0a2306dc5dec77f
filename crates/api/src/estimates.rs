//! `POST /v1/estimates`: what something would come to, before anything is booked. Exact, and binding nobody.

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, Problem, extract::Body};

mod answer;
mod bounds;
mod compute;
mod providers;
mod request;
mod unique;

use answer::EstimateAnswer;
use request::EstimateRequest;
use unique::Unique;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(estimate))
}

/// An estimate, and what was estimated.
#[derive(Serialize, ToSchema)]
pub(crate) struct EstimateView {
    /// The request as it was understood, with what was left out filled in; the parts of a `composite` as they were sent.
    request: EstimateRequest,
    #[serde(flatten)]
    answer: EstimateAnswer,
}

/// What something would come to: rented time, replicas, tokens, interruptible work, rent or buy, one job at many
/// providers, or several of these added up.
#[utoipa::path(post, path = "/v1/estimates", tag = "market",
    request_body(content = EstimateRequest, examples(
        ("usage" = (summary = "Two hours of a GPU", value = json!({
            "kind": "usage", "price": {"amount": "0.65", "currency": "USD"}, "hours": "2", "fee_bps": 1200}))),
        ("replica" = (summary = "A service that scales", value = json!({
            "kind": "replica", "price": {"amount": "0.60", "currency": "USD"}, "hours": "730", "min_replicas": 1,
            "scale_up_hours": "182.5", "additional_replicas": 2}))),
        ("per_million_tokens" = (summary = "A million tokens", value = json!({
            "kind": "per_million_tokens", "price": {"amount": "2.10", "currency": "USD"},
            "tokens_per_second": 1550}))),
        ("spot" = (summary = "Interruptible work", value = json!({
            "kind": "spot", "price": {"amount": "2.50", "currency": "USD"}, "discount_bps": 6000, "hours": "95",
            "interruptions_per_100h": "10", "restart_s": 300, "redo_s": 1500}))),
        ("break_even" = (summary = "Rent or buy", value = json!({
            "kind": "break_even", "purchase_price": {"amount": "1600", "currency": "USD"},
            "price": {"amount": "0.60", "currency": "USD"}}))),
        ("compare" = (summary = "Two ways of doing the same", value = json!({
            "kind": "compare", "count": 100000, "ways": [
                {"label": "API", "unit_price": {"amount": "0.15", "currency": "USD"}},
                {"label": "rented GPUs", "unit_price": {"amount": "0.04", "currency": "USD"}}]}))),
        ("compare_providers" = (summary = "One job elsewhere", value = json!({
            "kind": "compare_providers", "gpu_model": "A100 80GB", "hours": "8"}))),
        ("composite" = (summary = "GPU and disk", value = json!({
            "kind": "composite", "parts": [
                {"label": "GPU", "estimate": {"kind": "usage",
                    "price": {"amount": "0.65", "currency": "USD"}, "hours": "720"}},
                {"label": "disk, 100 GB", "estimate": {"kind": "item", "quantity": "100",
                    "unit_price": {"amount": "0.10", "currency": "USD"}}}]}))))),
    responses((status = 200, body = EstimateView)))]
async fn estimate(
    State(app): State<AppState>,
    request: Request,
) -> Result<Json<EstimateView>, Problem> {
    let network = app.limits.network(&request);
    let Body(Unique(body)) = Body::<Unique>::from_request(request, &app).await?;
    let request = EstimateRequest::read(body, "")?;
    let answer = if let EstimateRequest::CompareProviders(job) = &request {
        EstimateAnswer::CompareProviders(Box::new(providers::answer(&app, network, job).await?))
    } else {
        compute::answer(&request, "")?
    };
    Ok(Json(EstimateView { request, answer }))
}
