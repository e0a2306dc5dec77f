//! Every metric that the program exports: the one place from which docs/METRICS.md, the help texts on
//! /metrics and the histograms' buckets are made, and against which alerts and dashboard are checked.

/// What kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, from zero at the start of the process.
    Counter,
    /// Has a value at each moment.
    Gauge,
    /// Counts observations up to each of a row of bounds.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Which process exports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// `weir serve`.
    Serve,
    /// `weir work`.
    Work,
    /// Both.
    Both,
}

impl Process {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Work => "work",
            Self::Both => "both",
        }
    }

    /// True if what `self` exports is exported by `other` too.
    pub(crate) fn is_part_of(self, other: Self) -> bool {
        self == other || self == Self::Both
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) process: Process,
    pub(crate) labels: &'static [&'static str],
    pub(crate) unit: &'static str,
    pub(crate) meaning: &'static str,
    /// Upper bounds of a histogram.
    pub(crate) buckets: &'static [f64],
}

const fn metric(
    name: &'static str,
    kind: Kind,
    process: Process,
    labels: &'static [&'static str],
    unit: &'static str,
    meaning: &'static str,
) -> Metric {
    Metric { name, kind, process, labels, unit, meaning, buckets: &[] }
}

/// Milliseconds to the time limit of a request.
const REQUEST: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// A hundredth of a second to the patience that an endpoint has.
const CALL: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
/// A block or two to a day, for what waits for a time on purpose.
const FINAL: &[f64] =
    &[2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 40.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 86_400.0];

use Kind::{Counter, Gauge, Histogram};
use Process::{Both, Serve, Work};

/// All of them, by name.
#[rustfmt::skip] // a table: one line each
pub(crate) const METRICS: &[Metric] = &[
    metric("weir_access_refusals_total", Counter, Serve, &["reason"], "requests", "requests refused for who asked: `unauthenticated`, `agent`, `wallet-only`, `scope-missing`, `limited`, `rental-token` or `spend-cap`"),
    metric("weir_assessment_round_seconds", Gauge, Work, &[], "seconds", "that the last round through all machines took, from the first assessment to the last"),
    metric("weir_assessments_failed_total", Counter, Work, &[], "machines", "machines whose reliability could not be computed when it was their turn"),
    metric("weir_assessments_oldest_seconds", Gauge, Work, &[], "seconds", "since the last round that is over was begun: the oldest assessment is no older, but where it failed; after a start, since then"),
    metric("weir_assessments_total", Counter, Work, &[], "machines", "machines whose reliability was computed"),
    metric("weir_base_fee_wei", Gauge, Work, &[], "wei per gas", "base fee of the newest block"),
    metric("weir_blocks_behind", Gauge, Work, &[], "blocks", "from the newest block that the watcher has read to the chain's newest"),
    metric("weir_blocks_unfinal", Gauge, Work, &[], "blocks", "from the newest final block to the chain's newest"),
    metric("weir_build_info", Gauge, Both, &["version"], "1", "always 1; the label says which version runs"),
    metric("weir_chain_head_block", Gauge, Work, &[], "block number", "the chain's newest block"),
    metric("weir_db_connections", Gauge, Both, &["state"], "connections", "of this process: `used`, `idle`, and `limit`, the most it may open"),
    metric("weir_final_block_age_seconds", Gauge, Work, &[], "seconds", "since the newest final block was made"),
    metric("weir_final_events_failed", Gauge, Work, &[], "events", "final events that cannot be applied now"),
    metric("weir_final_events_failed_total", Counter, Work, &[], "tries", "tries to apply a final event that failed"),
    metric("weir_final_events_refused_total", Counter, Work, &[], "events", "final events that did not fit their rental's state; their money is posted"),
    metric("weir_finality_disagreements_total", Counter, Work, &[], "looks", "looks at which RPC endpoints had different blocks at the height that should be final"),
    metric("weir_freezes_open", Gauge, Work, &[], "freezes", "freezes of money that wait for a person"),
    metric("weir_freezes_total", Counter, Work, &["reason"], "freezes", "freezes of money so far"),
    metric("weir_http_connections", Gauge, Serve, &[], "connections", "open connections of clients; WEIR_CONNECTIONS is the most"),
    metric("weir_http_connections_cut_total", Counter, Serve, &["reason"], "connections", "connections that were closed for being slow: `head` of a request, `idle` between two, `reader` that takes nothing of its answer"),
    metric("weir_http_connections_refused_total", Counter, Serve, &["reason"], "connections", "connections that were closed at once: `share`, the network has as many as it may, or `all`, there are as many as there may be"),
    metric("weir_http_limited_total", Counter, Serve, &["policy"], "requests", "requests that were refused because of a limit, by the limit's name"),
    Metric { buckets: REQUEST, ..metric("weir_http_request_seconds", Histogram, Serve, &["route"], "seconds", "from a request's head to its answer's head, by route pattern") },
    metric("weir_http_requests_total", Counter, Serve, &["method", "route", "status"], "requests", "answered requests"),
    Metric { buckets: FINAL, ..metric("weir_intent_final_seconds", Histogram, Work, &["purpose"], "seconds", "from the moment a call to the contract was wanted to the final block with its transaction") },
    metric("weir_intent_oldest_seconds", Gauge, Work, &["state"], "seconds", "age of the oldest call to the contract in this state; of `due` ones since they may be made"),
    metric("weir_intents", Gauge, Work, &["state"], "calls", "open calls to the contract: `waiting` for their time, `due`, `sent` in a transaction that is not final"),
    metric("weir_job_oldest_due_seconds", Gauge, Work, &[], "seconds", "how late the latest timer is"),
    metric("weir_jobs_due", Gauge, Work, &[], "timers", "timers that should have fired"),
    metric("weir_lane_ceiling_total", Counter, Work, &[], "tries", "times that a stuck transaction could not be raised because of WEIR_MAX_FEE_GWEI"),
    metric("weir_lane_refusals_total", Counter, Work, &[], "refusals", "calls or transactions that the node or the contract refused"),
    metric("weir_lane_replacements_total", Counter, Work, &[], "transactions", "stuck transactions that were signed again at higher fees"),
    metric("weir_lost_nonces_total", Counter, Work, &[], "nonces", "numbers of our key that a transaction of somebody else has spent"),
    metric("weir_market_changes_total", Counter, Serve, &[], "changes", "changes of listed offers that searches and streams were told of"),
    metric("weir_market_offers", Gauge, Serve, &[], "offers", "offers in the search index of this process"),
    metric("weir_market_rebuilds_total", Counter, Serve, &[], "rebuilds", "times that the search index was read anew: at the start, after the database was away, after very many changes"),
    metric("weir_oracle_age_seconds", Gauge, Work, &["token"], "seconds", "since the oracle gave the price that quotes in this token convert at"),
    metric("weir_oracle_max_age_seconds", Gauge, Work, &["token"], "seconds", "the age from which on that price is none"),
    metric("weir_oracle_refused_total", Counter, Work, &["token", "reason"], "answers", "oracles' answers that were not believed, or did not come"),
    metric("weir_price_surveys_total", Counter, Work, &[], "surveys", "samples of what is asked for GPUs; one in five minutes"),
    metric("weir_reconciled", Gauge, Work, &[], "0 or 1", "1 if contract, events and ledger agreed to the base unit when last compared"),
    metric("weir_reconciled_age_seconds", Gauge, Work, &[], "seconds", "since they were last compared"),
    metric("weir_reconciled_block", Gauge, Work, &[], "block number", "the final block for which they were last compared"),
    metric("weir_reconciliation_failures_total", Counter, Work, &[], "comparisons", "comparisons that found a difference"),
    metric("weir_serving", Gauge, Serve, &[], "0 or 1", "0 once the process was told to stop and says so on /readyz"),
    metric("weir_signer_balance_wei", Gauge, Work, &["signer"], "wei", "the chain's coin on the signer's account"),
    metric("weir_signer_closes_left", Gauge, Work, &["signer"], "transactions", "closes that the signer can pay for at the present fee"),
    metric("weir_store_retries_total", Counter, Both, &["unit"], "transactions", "database transactions tried again after a conflict"),
    metric("weir_surplus_base_units", Gauge, Work, &["token"], "base units", "what the contract holds above what its events add up to: gifts"),
    metric("weir_tick_failures_total", Counter, Work, &["loop"], "ticks", "rounds of a loop that failed and were tried again"),
    metric("weir_timer_failures_total", Counter, Work, &[], "timers", "timers whose work failed and was put off"),
    metric("weir_transaction_oldest_seconds", Gauge, Work, &[], "seconds", "age of the oldest transaction that is not final"),
    metric("weir_transactions_open", Gauge, Work, &[], "transactions", "transactions that are not final"),
    metric("weir_watcher_block", Gauge, Work, &[], "block number", "the newest block that the watcher has read"),
    metric("weir_watcher_reorgs_total", Counter, Work, &[], "reorganisations", "times that blocks we had read left the chain"),
    metric("weir_webhook_due", Gauge, Work, &[], "deliveries", "webhooks' deliveries that are due or being tried"),
    metric("weir_webhook_oldest_due_seconds", Gauge, Work, &[], "seconds", "since the oldest delivery was due whose endpoint has not failed lately, or an event was made that is no delivery yet"),
    Metric { buckets: CALL, ..metric("weir_webhook_seconds", Histogram, Work, &[], "seconds", "a call of a webhook, from its name to its answer") },
    metric("weir_webhook_tries_total", Counter, Work, &["outcome"], "calls", "calls of webhooks: `delivered`, `put_off` to be tried again, `given_up`, `disabled` with everything else for that endpoint, `lost` to another worker, `unrecorded`"),
];

/// The table, as docs/METRICS.md shows it.
pub(crate) fn as_markdown() -> String {
    let mut out = String::from(
        "# Metrics\n\nWhat `/metrics` tells: `weir serve` at WEIR_LISTEN, `weir work` at WEIR_METRICS_LISTEN, in Prometheus' text \
         format. This page is what `weir metrics` prints; tests keep it so, and keep the program from exporting what is \
         not here. Gauges of the database and the chain are everybody's: with several workers, take the `max`. Alerts and \
         a dashboard: [deploy/observability](../deploy/observability).\n\n\
         | metric | kind | labels | unit | process | meaning |\n|---|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        out.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            metric.name,
            metric.kind.as_str(),
            labels.join(", "),
            metric.unit,
            metric.process.as_str(),
            metric.meaning,
        ));
    }
    out
}
