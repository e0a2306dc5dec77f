//! A dashboard for Grafana, made from this list of panels, so that none can ask for a metric that is gone.

use serde_json::{Value, json};

/// A graph.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// As Grafana names units.
    pub(crate) unit: &'static str,
    /// Expressions with their legends.
    pub(crate) lines: &'static [(&'static str, &'static str)],
}

/// Every panel; money first, two in a row.
#[rustfmt::skip] // a table: one line each
pub(crate) const PANELS: &[Panel] = &[
    Panel { title: "Contract = events = ledger", unit: "short", lines: &[("min(weir_reconciled)", "agrees"), ("max(weir_reconciliation_failures_total)", "differences"), ("max(weir_freezes_open)", "freezes"), ("sum by (reason) (increase(weir_freezes_total[5m]))", "frozen: {{reason}}"), ("sum(increase(weir_finality_disagreements_total[5m]))", "endpoints disagree"), ("max(weir_final_events_failed)", "events not applied")] },
    Panel { title: "Last comparison", unit: "s", lines: &[("max(weir_reconciled_age_seconds)", "age")] },
    Panel { title: "Gifts to the contract", unit: "short", lines: &[("max by (token) (weir_surplus_base_units)", "{{token}}")] },
    Panel { title: "Signer: closes it can pay for", unit: "short", lines: &[("min by (signer) (weir_signer_closes_left)", "{{signer}}")] },
    Panel { title: "Signer: balance", unit: "short", lines: &[("min by (signer) (weir_signer_balance_wei) / 1e18", "{{signer}}, coins")] },
    Panel { title: "Base fee", unit: "short", lines: &[("max(weir_base_fee_wei) / 1e9", "gwei")] },
    Panel { title: "Calls to the contract", unit: "short", lines: &[("max by (state) (weir_intents)", "{{state}}"), ("max(weir_transactions_open)", "transactions")] },
    Panel { title: "Oldest call and transaction", unit: "s", lines: &[("max by (state) (weir_intent_oldest_seconds)", "{{state}}"), ("max(weir_transaction_oldest_seconds)", "transaction")] },
    Panel { title: "From wanted to final", unit: "s", lines: &[("histogram_quantile(0.5, sum by (le, purpose) (rate(weir_intent_final_seconds_bucket[15m])))", "{{purpose}} p50"), ("histogram_quantile(0.99, sum by (le, purpose) (rate(weir_intent_final_seconds_bucket[15m])))", "{{purpose}} p99")] },
    Panel { title: "Refusals and lost numbers", unit: "short", lines: &[("sum(increase(weir_lane_refusals_total[5m]))", "refusals"), ("sum(increase(weir_lost_nonces_total[5m]))", "lost numbers"), ("sum(increase(weir_lane_replacements_total[5m]))", "signed again"), ("sum(increase(weir_lane_ceiling_total[5m]))", "at the ceiling"), ("sum(increase(weir_final_events_refused_total[5m]))", "events refused")] },
    Panel { title: "Blocks", unit: "short", lines: &[("max(weir_chain_head_block)", "chain"), ("max(weir_watcher_block)", "read"), ("max(weir_reconciled_block)", "compared")] },
    Panel { title: "Block lag", unit: "short", lines: &[("min(weir_blocks_behind)", "not read"), ("min(weir_blocks_unfinal)", "not final"), ("sum(increase(weir_watcher_reorgs_total[5m]))", "reorganisations")] },
    Panel { title: "Age of the final block", unit: "s", lines: &[("max(weir_final_block_age_seconds)", "age")] },
    Panel { title: "Timers", unit: "short", lines: &[("max(weir_jobs_due)", "due"), ("max(weir_job_oldest_due_seconds)", "latest, s"), ("sum(increase(weir_timer_failures_total[5m]))", "failed")] },
    Panel { title: "Failed rounds and tries", unit: "short", lines: &[("sum by (loop) (increase(weir_tick_failures_total[5m]))", "{{loop}}"), ("sum(increase(weir_final_events_failed_total[5m]))", "events")] },
    Panel { title: "Age of tokens' prices", unit: "s", lines: &[("max by (token) (weir_oracle_age_seconds)", "{{token}}"), ("max by (token) (weir_oracle_max_age_seconds)", "{{token}}: the most")] },
    Panel { title: "Oracles' answers not believed", unit: "short", lines: &[("sum by (token, reason) (increase(weir_oracle_refused_total[5m]))", "{{token}}: {{reason}}")] },
    Panel { title: "Requests", unit: "reqps", lines: &[("sum by (status) (rate(weir_http_requests_total[1m]))", "{{status}}"), ("sum by (policy) (rate(weir_http_limited_total[1m]))", "over the limit {{policy}}")] },
    Panel { title: "Requests refused for who asked", unit: "reqps", lines: &[("sum by (reason) (rate(weir_access_refusals_total[1m]))", "{{reason}}")] },
    Panel { title: "Connections", unit: "short", lines: &[("sum(weir_http_connections)", "open"), ("sum by (reason) (increase(weir_http_connections_refused_total[5m]))", "refused: {{reason}}"), ("sum by (reason) (increase(weir_http_connections_cut_total[5m]))", "cut: {{reason}}")] },
    Panel { title: "Latency by route, p99", unit: "s", lines: &[("histogram_quantile(0.99, sum by (le, route) (rate(weir_http_request_seconds_bucket[5m])))", "{{route}}")] },
    Panel { title: "Offers in the index", unit: "short", lines: &[("weir_market_offers", "{{instance}}"), ("sum(increase(weir_market_changes_total[5m]))", "changes"), ("sum(increase(weir_market_rebuilds_total[5m]))", "read anew")] },
    Panel { title: "Database connections", unit: "short", lines: &[("weir_db_connections", "{{instance}} {{state}}")] },
    Panel { title: "Database transactions tried again", unit: "short", lines: &[("sum by (unit) (increase(weir_store_retries_total[5m]))", "{{unit}}")] },
    Panel { title: "Market figures", unit: "short", lines: &[("sum(increase(weir_price_surveys_total[15m]))", "price surveys"), ("sum(increase(weir_assessments_total[15m]))", "machines assessed"), ("sum(increase(weir_assessments_failed_total[15m]))", "machines not assessed"), ("max(weir_assessments_oldest_seconds)", "oldest assessment, s"), ("max(weir_assessment_round_seconds)", "last round of them, s")] },
    Panel { title: "Webhooks", unit: "short", lines: &[("sum by (outcome) (increase(weir_webhook_tries_total[5m]))", "{{outcome}}"), ("max(weir_webhook_due)", "due"), ("max(weir_webhook_oldest_due_seconds)", "oldest, s"), ("histogram_quantile(0.99, sum by (le) (rate(weir_webhook_seconds_bucket[15m])))", "call p99, s")] },
    Panel { title: "Versions and who serves", unit: "short", lines: &[("count by (version) (weir_build_info)", "{{version}}"), ("sum(weir_serving)", "serving")] },
];

/// Grafana's grid is 24 wide.
const WIDTH: usize = 12;
const HEIGHT: usize = 8;

fn panel(number: usize, panel: &Panel) -> Value {
    let source = json!({ "type": "prometheus", "uid": "${source}" });
    let targets: Vec<Value> = panel
        .lines
        .iter()
        .zip('A'..='Z')
        .map(|((expr, legend), name)| {
            json!({ "datasource": source, "refId": name.to_string(), "expr": expr, "legendFormat": legend })
        })
        .collect();
    let (row, column) = (number / 2, number % 2);
    json!({
        "id": number.saturating_add(1),
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "fieldConfig": { "defaults": { "unit": panel.unit }, "overrides": [] },
        "gridPos": {
            "h": HEIGHT, "w": WIDTH,
            "x": column.saturating_mul(WIDTH), "y": row.saturating_mul(HEIGHT),
        },
        "targets": targets,
    })
}

/// The dashboard, as deploy/observability/dashboard.json has it.
pub(crate) fn as_json() -> String {
    let panels: Vec<Value> =
        PANELS.iter().enumerate().map(|(number, one)| panel(number, one)).collect();
    let source = json!({ "name": "source", "type": "datasource", "query": "prometheus" });
    let dashboard = json!({
        "uid": "weir",
        "title": "Weir",
        "tags": ["weir"],
        "schemaVersion": 39,
        "time": { "from": "now-3h", "to": "now" },
        "refresh": "30s",
        "templating": { "list": [source] },
        "panels": panels,
    });
    format!("{dashboard:#}\n")
}
