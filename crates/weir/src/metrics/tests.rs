//! The table, the source, the alerts, the dashboard and the runbook agree.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{alerts::ALERTS, table::*, *};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A committed file is what the program makes.
fn is_current(path: &str, made: &str) {
    let path = root().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, made, "{}: run make docs", path.display());
}

#[test]
fn the_pages_are_current() {
    is_current("docs/METRICS.md", &as_markdown());
    is_current("deploy/observability/alerts.yml", &alerts::as_yaml());
    is_current("deploy/observability/dashboard.json", &dashboard::as_json());
}

#[test]
fn the_table_is_in_order_and_its_names_are_prometheus_s() {
    assert!(METRICS.is_sorted_by_key(|metric| metric.name), "sorted by name");
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "each once");
    for metric in METRICS {
        assert!(metric.name.starts_with("weir_"), "{}", metric.name);
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{}",
            metric.name
        );
        assert_eq!(metric.buckets.is_empty(), metric.kind != Kind::Histogram, "{}", metric.name);
        assert!(metric.buckets.is_sorted(), "{}", metric.name);
        assert!(!metric.meaning.is_empty() && !metric.unit.is_empty(), "{}", metric.name);
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What comes after each `macro(` in a text: the name, if it is a literal.
fn named<'a>(text: &'a str, call: &str) -> Vec<Option<&'a str>> {
    text.split(call)
        .skip(1)
        .map(|rest| rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()))
        .collect()
}

#[test]
fn every_metric_of_the_source_is_in_the_table_and_the_other_way_round() {
    let mut files = Vec::new();
    for crate_folder in std::fs::read_dir(root().join("crates")).unwrap() {
        rust_files(&crate_folder.unwrap().path().join("src"), &mut files);
    }
    let mut unused: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for file in files {
        if file.ends_with("metrics/tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        // registers what is in the table, by the table's own names
        let registers = file.ends_with("weir/src/metrics.rs");
        for (kind, call) in [
            (Kind::Counter, "metrics::counter!("),
            (Kind::Gauge, "metrics::gauge!("),
            (Kind::Histogram, "metrics::histogram!("),
        ] {
            for name in named(&text, call) {
                let Some(name) = name else {
                    assert!(registers, "{}: {call} without a literal name", file.display());
                    continue;
                };
                let known = METRICS.iter().find(|metric| metric.name == name);
                let known = known.unwrap_or_else(|| {
                    panic!("{}: {name} is not in crates/weir/src/metrics/table.rs", file.display())
                });
                assert_eq!(known.kind, kind, "{}: {name}", file.display());
                unused.remove(name);
            }
        }
    }
    assert!(unused.is_empty(), "nobody sets {unused:?}");
}

/// The names of metrics in an expression.
fn metrics_in(expr: &str) -> Vec<&str> {
    expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("weir_"))
        .collect()
}

/// The parts `{..}` and `by (..)` name labels that the metrics have.
fn assert_asks_for_what_there_is(what: &str, expr: &str) {
    let names = metrics_in(expr);
    assert!(!names.is_empty(), "{what}: {expr}");
    let mut labels: BTreeSet<&str> = BTreeSet::from(["instance", "job", "le"]);
    for name in names {
        let (base, is_bucket) = match name.strip_suffix("_bucket") {
            Some(base) => (base, true),
            None => (name, false),
        };
        let known = METRICS.iter().find(|metric| metric.name == base);
        let known = known.unwrap_or_else(|| panic!("{what}: there is no metric {name}"));
        assert_eq!(is_bucket, known.kind == Kind::Histogram, "{what}: {name}");
        let grown = ["increase", "rate"].iter().any(|way| expr.contains(&format!("{way}({name}")));
        let good = match known.kind {
            Kind::Counter => grown || expr == format!("max({name})"),
            Kind::Gauge => !grown,
            Kind::Histogram => grown,
        };
        assert!(good, "{what}: {name} is a {}: {expr}", known.kind.as_str());
        labels.extend(known.labels);
    }
    for part in expr.split("by (").skip(1).filter_map(|rest| rest.split(')').next()) {
        for label in part.split(',').map(str::trim) {
            assert!(labels.contains(label), "{what}: there is no label {label}");
        }
    }
    for part in expr.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        let label = part.split(['=', '!']).next().unwrap();
        assert!(labels.contains(label), "{what}: there is no label {label}");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    for alert in ALERTS {
        if alert.name != "WeirApiErrors" {
            assert_asks_for_what_there_is(alert.name, alert.expr);
        }
        for name in metrics_in(alert.expr) {
            let base = name.trim_end_matches("_bucket");
            assert!(METRICS.iter().any(|metric| metric.name == base), "{}: {name}", alert.name);
        }
    }
    // the committed file, as Grafana reads it
    let text = std::fs::read_to_string(root().join("deploy/observability/dashboard.json")).unwrap();
    let board: Value = serde_json::from_str(&text).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let mut shown = BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            assert_asks_for_what_there_is(panel["title"].as_str().unwrap(), expr);
            shown.extend(
                metrics_in(expr)
                    .into_iter()
                    .map(|name| name.trim_end_matches("_bucket"))
                    .map(str::to_owned),
            );
        }
    }
    for metric in METRICS {
        assert!(shown.contains(metric.name), "{} is on no panel", metric.name);
    }
}

/// The value of `key: value` lines of the committed rules.
fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    yaml.lines()
        .filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix(key))
        .filter_map(|rest| rest.strip_prefix(": "))
        .collect()
}

#[test]
fn every_alert_has_a_heading_in_the_runbook_and_the_other_way_round() {
    let yaml = std::fs::read_to_string(root().join("deploy/observability/alerts.yml")).unwrap();
    let runbook = std::fs::read_to_string(root().join("docs/RUNBOOK.md")).unwrap();
    let alerts: BTreeSet<&str> = values(&yaml, "alert").into_iter().collect();
    assert_eq!(alerts.len(), ALERTS.len(), "each once");
    for key in ["expr", "for", "severity", "summary", "runbook"] {
        assert_eq!(values(&yaml, key).len(), ALERTS.len(), "each alert has {key}");
    }
    for (alert, page) in values(&yaml, "alert").into_iter().zip(values(&yaml, "runbook")) {
        assert_eq!(page, format!("\"docs/RUNBOOK.md#{}\"", alert.to_lowercase()));
    }
    let headings: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|heading| heading.starts_with("Weir") && !heading.contains(' '))
        .collect();
    assert_eq!(headings, alerts);
}
