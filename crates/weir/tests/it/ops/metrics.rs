//! /metrics of both processes: nothing that the table does not explain, and what matters is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use super::{
    market::{Market, OPERATOR},
    process::{Running, Server, eventually, http, weir},
};

#[allow(dead_code)] // the table's page is made by the program, not here
#[path = "../../../src/metrics/table.rs"]
mod table;

use table::{METRICS, Metric, Process};

/// The metrics of one scrape: of each sample its name and labels.
fn samples(text: &str) -> Vec<(String, BTreeSet<String>)> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (name, rest) = line.split_once(['{', ' ']).unwrap();
            // a value may be a route such as /v1/rentals/{id}
            let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
            // no label's value has a comma in it
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            (name.to_owned(), labels.map(|(label, _)| label.trim().to_owned()).collect())
        })
        .collect()
}

/// The metric that a sample belongs to.
fn metric_of(sample: &str, types: &BTreeMap<&str, &str>) -> String {
    for suffix in ["_bucket", "_sum", "_count"] {
        if let Some(base) = sample.strip_suffix(suffix).filter(|base| types.contains_key(base)) {
            return base.to_owned();
        }
    }
    sample.to_owned()
}

/// Fails unless all that is exported is in the table, as the table says.
fn assert_explained(text: &str, process: Process) {
    let types: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .collect();
    for (sample, mut labels) in samples(text) {
        let name = metric_of(&sample, &types);
        let known: &Metric = METRICS
            .iter()
            .find(|metric| metric.name == name)
            .unwrap_or_else(|| panic!("{name} is not in crates/weir/src/metrics/table.rs"));
        assert!(known.process.is_part_of(process), "{name} is not of this process");
        assert_eq!(types[name.as_str()], known.kind.as_str(), "{name}");
        labels.remove("le");
        let said: BTreeSet<String> = known.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(labels, said, "labels of {name}");
    }
}

fn exports(text: &str, name: &str) -> bool {
    samples(text).iter().any(|(sample, _)| sample == name)
}

async fn scrape(http: &reqwest::Client, url: &str) -> Option<String> {
    http.get(url).send().await.ok()?.text().await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_processes_export_what_the_table_says_and_nothing_else() {
    let market = Market::open().await;
    let client = http();
    let server = Server::start(&market.environment()).await;
    let renters = market.renters(1).await;
    assert_eq!(renters[0].book(&client, &server.url).await.unwrap().status(), 201);
    assert_eq!(client.get(format!("{}/nowhere", server.url)).send().await.unwrap().status(), 404);
    let url = format!("{}/metrics", server.url);
    let text = scrape(&client, &url).await.unwrap();
    assert_explained(&text, Process::Serve);
    for name in [
        "weir_http_request_seconds_bucket",
        "weir_http_requests_total",
        "weir_db_connections",
        "weir_serving",
        "weir_build_info",
    ] {
        assert!(exports(&text, name), "{name}\n{text}");
    }
    assert!(text.contains("# HELP weir_serving"), "with its meaning");

    let listen = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let more = [("WEIR_OPERATOR_KEY", OPERATOR), ("WEIR_METRICS_LISTEN", listen.as_str())];
    let worker = Running::start(&mut weir(&["work"], &market.with(&more)));
    let url = format!("http://{listen}/metrics");
    let text = eventually("the worker has looked at everything", async || {
        let text = scrape(&client, &url).await?;
        let all = ["weir_signer_closes_left", "weir_blocks_behind", "weir_reconciled"];
        all.iter().all(|name| exports(&text, name)).then_some(text)
    })
    .await;
    assert_explained(&text, Process::Work);
    // what only something rare brings: a label that is not known before, or an end on the chain
    let rare = [
        "weir_freezes_total",
        "weir_oracle_refused_total",
        "weir_intent_final_seconds",
        "weir_store_retries_total",
        "weir_tick_failures_total",
        // nobody has a webhook
        "weir_webhook_seconds",
        "weir_webhook_tries_total",
    ];
    for metric in METRICS.iter().filter(|metric| metric.process.is_part_of(Process::Work)) {
        let excused = rare.contains(&metric.name)
            || ["weir_surplus_base_units", "weir_watcher_reorgs_total"].contains(&metric.name);
        assert!(excused || exports(&text, metric.name), "{} is not told\n{text}", metric.name);
    }
    // counters are there before their first event, so that an alert sees it
    assert!(text.contains("\nweir_lost_nonces_total 0\n"), "{text}");
    drop((worker, server));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_rental_is_told_by_metrics_that_the_table_explains() {
    let folder = tempfile::tempdir().unwrap();
    let api = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let arguments = ["up", "--outage", "0", "--run-for", "1", "--chain-port", "0", "--data"];
    let mut command = weir(&arguments, &[("WEIR_LISTEN", &api)]);
    let mut child = command.arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let up = Running::from(child);
    let hint = lines.find(|line| line.contains("/metrics | grep")).expect("the rental was played");
    std::thread::spawn(move || lines.for_each(drop));
    let worker = hint.split_whitespace().find(|word| word.starts_with("http://")).unwrap();

    let client = http();
    let text = scrape(&client, worker).await.unwrap();
    assert_explained(&text, Process::Work);
    for purpose in ["start", "close"] {
        let count = format!("weir_intent_final_seconds_count{{purpose=\"{purpose}\"}} 1");
        assert!(text.contains(&count), "{count}\n{text}");
    }
    assert!(text.contains("\nweir_reconciled 1\n"), "{text}");
    let told = scrape(&client, &format!("http://{api}/metrics")).await.unwrap();
    assert_explained(&told, Process::Serve);
    let booking = told.lines().find(|line| {
        line.starts_with("weir_http_request_seconds_count") && line.contains("\"/v1/rentals\"")
    });
    assert!(booking.is_some(), "{told}");
    up.signal("TERM");
    assert!(up.end().await.success());
}
