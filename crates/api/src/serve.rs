//! All routes together, and the server.

use std::{io, time::Duration};

use axum::{
    Router,
    http::{HeaderName, Method, header},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::{
    AppState, account, agent, auth, catalog, connections, edge, estimates, ledger, market,
    openapi as description, provider, public, renter, search, settlements, status, system,
    webhooks,
};

/// How long a browser may remember what it may send.
const PREFLIGHT_FOR: Duration = Duration::from_secs(3_600);

fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(auth::routes())
        .merge(account::routes())
        .merge(market::routes())
        .merge(catalog::routes())
        .merge(estimates::routes())
        .merge(public::routes())
        .merge(search::routes())
        .merge(renter::routes())
        .merge(provider::routes())
        .merge(agent::routes())
        .merge(ledger::routes())
        .merge(settlements::routes())
        .merge(webhooks::routes())
        .merge(system::routes())
        .merge(status::routes())
}

/// The API's description.
#[must_use]
pub fn openapi() -> OpenApi {
    description::finish(routes().into_openapi())
}

/// Every route of the service.
pub fn router(app: AppState) -> Router {
    let (router, api) = routes().split_for_parts();
    // no badge of somebody else's, who would be told where we are
    let quiet = utoipa_swagger_ui::Config::default().validator_url("none");
    let documents =
        SwaggerUi::new("/docs").config(quiet).url("/openapi.json", description::finish(api));
    let router = router
        .merge(documents)
        .fallback(edge::no_route)
        .method_not_allowed_fallback(edge::no_method)
        .layer(edge::Edge(app.clone()));
    let router = match cors(&app) {
        Some(layer) => router.layer(layer),
        None => router,
    };
    router.with_state(app)
}

/// How long the end may take for the market's file.
const KEEP_WITHIN: Duration = Duration::from_secs(3);

/// Browsers of these origins may call; nobody else's, which is the default.
fn cors(app: &AppState) -> Option<CorsLayer> {
    let origins = app.config.cors_origins.clone();
    if origins.is_empty() {
        return None;
    }
    let name = HeaderName::from_static;
    Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                name("idempotency-key"),
                name("last-event-id"),
                name("prefer"),
                name("traceparent"),
                name("payment-signature"),
                edge::REQUEST_ID,
            ])
            .expose_headers([
                header::CONTENT_DISPOSITION,
                header::ETAG,
                header::LINK,
                header::LOCATION,
                header::RETRY_AFTER,
                edge::REQUEST_ID,
                name("deprecation"),
                name("idempotent-replayed"),
                name("next-cursor"),
                name("preference-applied"),
                name("payment-required"),
                name("payment-response"),
                name("ratelimit"),
                name("ratelimit-policy"),
                name("sunset"),
                name("traceresponse"),
            ])
            .max_age(PREFLIGHT_FOR),
    )
}

/// Serves until `shutdown`, and then stops in two phases. First `/readyz` says no, and everything else is still
/// served, for the time that a balancer needs to notice. Then nobody is accepted any more, event streams end with
/// a word to come again, and open requests may finish for a while.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: AppState,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (leaving, closing) = (app.leaving.clone(), app.closing.clone());
    let (unready_for, drain) = (app.config.unready_for, app.config.drain_timeout);
    metrics::gauge!("weir_serving").set(1);
    let closed = closing.clone();
    let stopping = async move {
        shutdown.cancelled().await;
        leaving.cancel();
        metrics::gauge!("weir_serving").set(0);
        tracing::info!(serving_for = ?unready_for, "told to stop; not ready any more");
        tokio::time::sleep(unready_for).await;
        tracing::info!("nobody is accepted any more");
        closing.cancel();
    };
    let served = connections::serve(listener, router(app.clone()), &app);
    let out_of_patience = async {
        closed.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(stopping, served) } => {}
        () = out_of_patience => {
            tracing::warn!("requests were still open at the end of the drain time");
        }
    }
    if tokio::time::timeout(KEEP_WITHIN, app.keep_market()).await.is_err() {
        tracing::warn!("the market was not written to its file in time");
    }
    Ok(())
}
