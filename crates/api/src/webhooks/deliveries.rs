//! What a webhook was told, and telling it again.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use domain::id::{DeliveryId, WebhookId};
use serde::Deserialize;
use store::webhooks::deliveries;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    owned, owned_in,
    view::{DeliveryPage, DeliveryView},
};
use crate::{
    AppState, Code, Problem, cursor,
    extract::{Id, Parameters, Params},
    identity::Wallet,
    problem::refuse,
    views::page_limit,
};

const LIST: &str = "deliveries";
const STATES: [&str; 3] = ["pending", "delivered", "failed"];

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(test)).routes(routes!(list)).routes(routes!(redeliver))
}

/// Which deliveries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryParams {
    /// `pending`, `delivered` or `failed`.
    state: Option<String>,
    /// 1 to 200; 50 if left out.
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Parameters for DeliveryParams {
    const NAMES: &'static [&'static str] = &["state", "limit", "cursor"];
}

/// Of a webhook's deliveries that wait, as many may be tests or redeliveries.
const MOST_ASKED: i64 = 32;

fn enough() -> Problem {
    let detail = format!(
        "{MOST_ASKED} deliveries that were asked for wait for this webhook; ask again when some came through"
    );
    Problem::new(Code::StateConflict, detail)
}

fn disabled() -> Problem {
    let detail = "the webhook is disabled; enable it first with PATCH {\"enabled\": true}";
    Problem::new(Code::StateConflict, detail)
}

/// Sends a webhook the event `webhook.test`, soon. At most 32 tests and redeliveries may wait for a webhook. What comes of it is in the webhook's deliveries.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, example = "whk_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 202, body = DeliveryView)))]
async fn test(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<WebhookId>,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let (wallet, now) = (Arc::new(wallet), app.now());
    let made = app
        .store
        .write("webhooks.test", move |tx| {
            let wallet = wallet.clone();
            Box::pin(async move {
                if owned_in(tx, &wallet, id).await?.disabled.is_some() {
                    return refuse(disabled());
                }
                let Some(made) = deliveries::test(tx, id, MOST_ASKED, now).await? else {
                    return refuse(enough());
                };
                deliveries::get(tx, made).await?.map_or_else(|| refuse(gone()), Ok)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::ACCEPTED, Json(made.into())))
}

fn gone() -> Problem {
    Problem::not_found("delivery")
}

/// What a webhook was told, newest first. Kept for 30 days.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, example = "whk_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"), DeliveryParams),
    responses((status = 200, body = DeliveryPage)))]
async fn list(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<WebhookId>,
    Params(params): Params<DeliveryParams>,
) -> Result<Json<DeliveryPage>, Problem> {
    let limit = page_limit(params.limit)?;
    let state = params.state.as_deref();
    if state.is_some_and(|state| !STATES.contains(&state)) {
        let message = format!("expected one of {}", STATES.join(", "));
        return Err(Problem::new(Code::InvalidRequest, message.clone()).at("?state", message));
    }
    let name = format!("{LIST}:{id}:{}", state.unwrap_or_default());
    let before = match &params.cursor {
        Some(text) => {
            let [seq] = cursor::read::<1>(&name, text)?;
            Some(seq.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    owned(&mut connection, &wallet, id).await?;
    let found = deliveries::list(&mut connection, id, state, before, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|delivery| delivery.seq.to_string());
    let next_cursor = last.map(|seq| cursor::write(&name, &[seq]));
    let data = found.into_iter().map(DeliveryView::from).collect();
    Ok(Json(DeliveryPage { data, next_cursor }))
}

/// Has a delivery sent again, with the same `webhook-id`, whether it came through or was given up. One that is being tried is
/// sent once more, at once, if that try fails.
#[utoipa::path(post, path = "/v1/deliveries/{id}/redeliver", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, example = "dlv_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 202, body = DeliveryView)))]
async fn redeliver(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<DeliveryId>,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let (wallet, now) = (Arc::new(wallet), app.now());
    let asked = app
        .store
        .write("webhooks.redeliver", move |tx| {
            let wallet = wallet.clone();
            Box::pin(async move {
                let Some(delivery) = deliveries::get(tx, id).await? else {
                    return refuse(gone());
                };
                // somebody else's delivery is no more there than one that never was
                let webhook = owned(tx, &wallet, delivery.webhook).await;
                let webhook = webhook.or_else(|problem| {
                    refuse(if problem.code() == Code::NotFound { gone() } else { problem })
                })?;
                if webhook.disabled.is_some() {
                    return refuse(disabled());
                }
                if !deliveries::again(tx, &delivery, MOST_ASKED, now).await? {
                    return refuse(enough());
                }
                deliveries::get(tx, id).await?.map_or_else(|| refuse(gone()), Ok)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::ACCEPTED, Json(asked.into())))
}
