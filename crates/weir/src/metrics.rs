//! What the program tells about itself: the table of metrics, alerts and a dashboard made for it, and
//! /metrics of the worker, which has no other HTTP.

mod alerts;
mod dashboard;
mod table;

use axum::{Router, routing::get};
use clap::{Args as ClapArgs, ValueEnum};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

pub(crate) use table::Process;
use table::{Kind, METRICS};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// What to print
    #[arg(value_enum, default_value_t = Page::Table)]
    page: Page,
}

/// What is made from the table.
#[derive(Clone, Copy, ValueEnum)]
enum Page {
    /// Every metric with its meaning, in Markdown
    Table,
    /// Rules for Prometheus, in YAML
    Alerts,
    /// A dashboard for Grafana, in JSON
    Dashboard,
}

/// Prints a page.
pub(crate) fn print(args: &Args) {
    match args.page {
        Page::Table => print!("{}", table::as_markdown()),
        Page::Alerts => print!("{}", alerts::as_yaml()),
        Page::Dashboard => print!("{}", dashboard::as_json()),
    }
}

/// Starts recording for this process, as the table says.
///
/// # Errors
/// If a recorder is installed already.
pub(crate) fn record(process: Process) -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
        let matcher = Matcher::Full(metric.name.to_owned());
        builder = builder.set_buckets_for_metric(matcher, metric.buckets)?;
    }
    let handle = builder.install_recorder()?;
    for metric in METRICS.iter().filter(|metric| metric.process.is_part_of(process)) {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.meaning),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.meaning),
        }
        // one that appears with its first event has no increase that an alert could see
        if metric.kind == Kind::Counter && metric.labels.is_empty() {
            metrics::counter!(metric.name).increment(0);
        }
    }
    metrics::gauge!("weir_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    Ok(handle)
}

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

#[cfg(test)]
mod tests;
