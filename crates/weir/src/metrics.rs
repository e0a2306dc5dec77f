//! /metrics of the worker, which has no other HTTP.

use axum::{Router, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Serves the metrics in the background until `stop`.
///
/// # Errors
/// If the address cannot be listened on.
pub(crate) async fn serve(
    listen: &str,
    handle: PrometheusHandle,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::new(format!("WEIR_METRICS_LISTEN={listen}: {error}")))?;
    let routes = Router::new().route("/metrics", get(move || async move { handle.render() }));
    tokio::spawn(async move {
        let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the metrics endpoint stopped");
        }
    });
    Ok(())
}
