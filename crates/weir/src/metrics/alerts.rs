//! Alerts for Prometheus. Each has a heading of its name in docs/RUNBOOK.md; a test keeps both together, and
//! keeps the rules from asking for metrics that are not exported.

/// One rule.
pub(crate) struct Alert {
    /// Its name, and the runbook's heading.
    pub(crate) name: &'static str,
    pub(crate) expr: &'static str,
    /// How long the expression must hold.
    pub(crate) hold: &'static str,
    /// `page`: wake somebody; `ticket`: tomorrow will do.
    pub(crate) severity: &'static str,
    pub(crate) summary: &'static str,
}

const fn page(
    name: &'static str,
    hold: &'static str,
    expr: &'static str,
    summary: &'static str,
) -> Alert {
    Alert { name, expr, hold, severity: "page", summary }
}

const fn ticket(
    name: &'static str,
    hold: &'static str,
    expr: &'static str,
    summary: &'static str,
) -> Alert {
    Alert { name, expr, hold, severity: "ticket", summary }
}

/// Every alert; money first.
#[rustfmt::skip] // a table: one line each
pub(crate) const ALERTS: &[Alert] = &[
    page("WeirReconciliationFailed", "0s", "increase(weir_reconciliation_failures_total[5m]) > 0", "contract, events and ledger disagree by at least one base unit"),
    page("WeirReconcilerStale", "2m", "max(weir_reconciled_age_seconds) > 300", "nothing was compared for five minutes; what is not compared is not known to agree"),
    page("WeirFreezesOpen", "0s", "max(weir_freezes_open) > 0", "money is frozen and waits for a person"),
    page("WeirFinalEventsFailed", "1m", "max(weir_final_events_failed) > 0", "a final event cannot be applied; its rental waits"),
    ticket("WeirFinalEventsRefused", "0s", "increase(weir_final_events_refused_total[10m]) > 0", "a final event did not fit its rental's state; its money is posted"),
    page("WeirNonceLost", "0s", "increase(weir_lost_nonces_total[10m]) > 0", "somebody else spent a number of the operator's key"),
    page("WeirLaneJammed", "2m", "max(weir_transaction_oldest_seconds) > 300 or max(weir_intent_oldest_seconds{state=\"due\"}) > 300", "a transaction is not final, or a call not even sent, after five minutes"),
    ticket("WeirLaneRefused", "5m", "increase(weir_lane_refusals_total[15m]) > 5", "the node or the contract refuses calls again and again"),
    page("WeirSignerPoor", "1m", "min by (signer) (weir_signer_closes_left) < 100", "the signer's coins suffice for less than a hundred closes"),
    page("WeirFinalityStalled", "1m", "max(weir_final_block_age_seconds) > 600", "the chain has made nothing final for ten minutes; payouts wait"),
    page("WeirWatcherBehind", "2m", "min(weir_blocks_behind) > 60", "the watcher is sixty blocks behind the chain"),
    ticket("WeirTickFailures", "5m", "sum by (loop) (increase(weir_tick_failures_total[5m])) > 10", "a loop fails again and again"),
    page("WeirTimersLate", "1m", "max(weir_job_oldest_due_seconds) > 60", "a timer is a minute late; nobody works the queue"),
    ticket("WeirTimerFailures", "5m", "increase(weir_timer_failures_total[15m]) > 10", "timers fail and are put off again and again"),
    ticket("WeirPricesStale", "5m", "increase(weir_price_surveys_total[20m]) == 0", "no prices were sampled for twenty minutes; the history has a hole that stays"),
    ticket("WeirAssessmentsFail", "30m", "increase(weir_assessments_failed_total[30m]) > 0", "machines' reliability cannot be computed; what is shown of them grows old"),
    ticket("WeirAssessmentsOld", "10m", "max(weir_assessments_oldest_seconds) > 7200", "a round through all machines takes more than two hours; the reliability that is shown is as old"),
    page("WeirApiErrors", "5m", "sum(rate(weir_http_requests_total{status=~\"5..\"}[5m])) > 0.01 * sum(rate(weir_http_requests_total[5m]))", "more than one request in a hundred is answered with 5xx"),
    ticket("WeirApiSlow", "10m", "histogram_quantile(0.99, sum by (le) (rate(weir_http_request_seconds_bucket[5m]))) > 1", "one request in a hundred takes more than a second"),
    ticket("WeirWebhooksLate", "5m", "max(weir_webhook_oldest_due_seconds) > 300", "webhooks whose endpoints are well are told five minutes late"),
    page("WeirOracleStale", "1m", "max by (token) (weir_oracle_age_seconds) > on (token) max by (token) (weir_oracle_max_age_seconds)", "a token's price is too old; nothing is quoted in it"),
    ticket("WeirOracleRefused", "5m", "sum by (token, reason) (increase(weir_oracle_refused_total[15m])) > 3", "an oracle's answers are not believed again and again"),
    page("WeirDatabasePoolExhausted", "1m", "weir_db_connections{state=\"used\"} >= ignoring(state) weir_db_connections{state=\"limit\"}", "every database connection of a process is in use; requests wait for one"),
    page("WeirWorkerGone", "2m", "absent(weir_watcher_block)", "no worker tells its metrics; nothing is settled"),
];

/// A string as YAML takes it; JSON's form is YAML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The rules, as deploy/observability/alerts.yml has them.
pub(crate) fn as_yaml() -> String {
    let mut out = String::from(
        "# Made by `weir metrics alerts`; a test keeps it so.\ngroups:\n  - name: weir\n    rules:\n",
    );
    for alert in ALERTS {
        let runbook = format!("docs/RUNBOOK.md#{}", alert.name.to_lowercase());
        out.push_str(&format!(
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        \
             annotations:\n          summary: {}\n          runbook: {}\n",
            alert.name,
            quoted(alert.expr),
            alert.hold,
            alert.severity,
            quoted(alert.summary),
            quoted(&runbook),
        ));
    }
    out
}
