//! The harness from end to end: a server, both kinds of figures, and checks that see through a lie.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    reason = "a test may fail by panicking"
)]

use std::{path::PathBuf, time::Duration};

use bench::{
    BenchError, Booking, Ledger, Peer, Plan, Scenario, Server, Slice, Tpcb, Verdict, measure,
};
use sqlx::{Connection as _, PgConnection};

const SPAN: Duration = Duration::from_millis(300);
const CLIENTS: u16 = 2;
const SEED: u64 = 5;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

#[tokio::test]
async fn a_short_run_reports_every_scenario() {
    let plan = Plan {
        pairs: 1,
        span: SPAN,
        clients: CLIENTS,
        scale: 1,
        seed: SEED,
        only: String::new(),
        offers: 1_000,
        // pgbench's shortest run is a second, and not every machine has it
        peer: Peer::BuiltIn,
        folder: folder(),
    };
    let report = bench::run(&plan).await.unwrap();
    let table = report.table();
    assert!(report.is_sound(), "{table}");
    let lines = report.json_lines().unwrap();
    let names = [
        "p1_ledger_single",
        "p1_ledger_batch_100",
        "p3_platform_in_every_transfer",
        "p4_jobs_claimed_and_done",
        "p2_booking_http",
        "p2_booking_http_shared",
        "p9_settlements",
        "p10_known_included",
        "p5_search_requests_per_cpu_s",
        "p6_search_unsatisfiable",
        "quote_http",
    ];
    assert_eq!(report.rows.len(), names.len());
    let count = |of: &str| lines.iter().filter(|line| line.starts_with(of)).count();
    let (facts, goals) = (count("{\"fact\":"), count("{\"goal\":"));
    assert!(facts >= 13 && facts + goals + names.len() == lines.len(), "{table}");
    // every goal is told, and but for those that need a larger market, of a figure that there is
    assert_eq!(goals, bench::GOALS.len());
    for judged in report.goals() {
        let name = judged.goal.figure.to_string();
        let optional = ["market_start_1000000", "p2_booking_p99_half_load_ratio"];
        // a slope needs two sizes
        let slope = name.starts_with("p7_");
        let measured = judged.outcome != bench::Outcome::NotMeasured;
        assert!(
            measured || slope || optional.contains(&name.as_str()),
            "{name} was not measured: {table}"
        );
        assert!(table.contains(&format!("| {name} | {}", judged.goal.bound)), "{table}");
    }
    assert_eq!(report.misses_a_goal(), table.contains("| MISSED |"));
    for (name, line) in names.into_iter().zip(&lines) {
        assert!(table.contains(&format!("| {name} |")), "{name} is not in\n{table}");
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["name"], name);
        assert!(row["ratio"].as_f64().unwrap() > 0.0);
        assert!(row["interval"]["low"].as_f64().unwrap() > 0.0);
        assert!(row["subject_latency"]["p99_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(row["pairs"].as_array().unwrap().len(), 1);
        let beside = match &name[..2] {
            "p3" => "p1_ledger_batch_100",
            "p5" => "axum_hello",
            "p6" => "postgresql",
            "qu" => "indexed_read",
            "p9" | "p1" if name.starts_with("p9") || name.starts_with("p10") => "signed before",
            _ => "built-in",
        };
        assert!(row["peer"].as_str().unwrap().starts_with(beside));
        assert!(row["postgresql"].as_str().unwrap().starts_with("1"));
    }
}

/// A slice of `scenario`, which must be sound.
async fn sound(scenario: &mut impl Scenario) -> Slice {
    scenario.prepare(SPAN).await.unwrap();
    let slice = scenario.slice(SPAN).await.unwrap();
    assert!(slice.count > 0);
    assert_eq!(scenario.verify(&slice).await.unwrap(), Verdict::Sound);
    slice
}

/// A slice of `scenario` that reports one operation more than it did, which must be seen.
async fn one_too_many(scenario: &mut impl Scenario) {
    scenario.prepare(SPAN).await.unwrap();
    let mut slice = scenario.slice(SPAN).await.unwrap();
    slice.count += 1;
    let verdict = scenario.verify(&slice).await.unwrap();
    assert!(matches!(&verdict, Verdict::Void(_)), "{}: {verdict:?}", scenario.name());
}

#[tokio::test]
async fn a_planted_fault_makes_a_slice_void() {
    let server = Server::start(&folder()).await.unwrap();
    let store = server.store(1).await.unwrap();

    let mut ledger = Ledger::single(&server, CLIENTS, SEED).await.unwrap();
    sound(&mut ledger).await;
    one_too_many(&mut ledger).await;
    // a posting that nobody counted, and then all is well again
    let stray = "INSERT INTO ledger_postings (kind, source, at) VALUES ('lock', 'stray', now())";
    let slice = ledger.slice(SPAN).await.unwrap();
    sqlx::query(stray).execute(store.pool()).await.unwrap();
    assert!(matches!(ledger.verify(&slice).await.unwrap(), Verdict::Void(_)));
    sound(&mut ledger).await;

    let mut booking = Booking::shared(&server, CLIENTS, SEED).await.unwrap();
    sound(&mut booking).await;
    one_too_many(&mut booking).await;
    // an answer that is not kept
    booking.prepare(SPAN).await.unwrap();
    let slice = booking.slice(SPAN).await.unwrap();
    let forget = "DELETE FROM idempotency_keys WHERE key = (SELECT min(key) FROM idempotency_keys)";
    sqlx::query(forget).execute(store.pool()).await.unwrap();
    assert!(matches!(booking.verify(&slice).await.unwrap(), Verdict::Void(_)));
    sound(&mut booking).await;

    let mut tpcb = Tpcb::load(&server, &Peer::BuiltIn, 1, CLIENTS, SEED).await.unwrap();
    sound(&mut tpcb).await;
    one_too_many(&mut tpcb).await;
}

/// Counts what it did not do in its second slice, and fails in its 101st.
struct Liar(u64);

impl Scenario for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    async fn prepare(&mut self, _span: Duration) -> Result<(), BenchError> {
        Ok(())
    }

    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        self.0 += 1;
        if self.0 == 100 + 1 {
            return Err(BenchError::Subject { doing: "go on", why: "tired".to_owned() });
        }
        Ok(Slice { count: 10 * self.0, elapsed: span, ..Slice::default() })
    }

    async fn verify(&mut self, _slice: &Slice) -> Result<Verdict, BenchError> {
        Ok(if self.0 == 2 { Verdict::Void("a lie".to_owned()) } else { Verdict::Sound })
    }
}

#[tokio::test]
async fn a_void_slice_gives_no_ratio_and_is_told() {
    let measured = measure(&mut Liar(0), &mut Liar(10), 3, SPAN).await;
    let orders: Vec<_> = measured.pairs.iter().map(|pair| pair.order).collect();
    assert_eq!(orders, ["AB", "BA", "AB"]);
    assert_eq!(measured.faults().collect::<Vec<_>>(), ["liar: a lie"]);
    // the first pair is the subject's second slice: 20 / 120, then 30 / 130 and 40 / 140
    let ratios = measured.ratios();
    assert_eq!(ratios.len(), 2);
    for (ratio, wanted) in ratios.iter().zip([30.0 / 130.0, 40.0 / 140.0]) {
        assert!((ratio - wanted).abs() < 1e-12, "{ratio} is not {wanted}");
    }
}

#[tokio::test]
async fn what_breaks_off_keeps_its_pairs() {
    // one slice to warm up, two pairs, and the limit's fourth slice is its 101st
    let measured = measure(&mut Liar(3), &mut Liar(97), 4, SPAN).await;
    assert_eq!(measured.pairs.len(), 2);
    assert_eq!(measured.faults().collect::<Vec<_>>(), ["broken off: cannot go on: tired"]);
}

#[tokio::test]
async fn the_servers_folder_goes_with_it() {
    let parent = folder().join("goes");
    let server = Server::start(&parent).await.unwrap();
    assert!(!server.version().is_empty());
    assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 1);
    let store = server.store(1).await.unwrap();
    let durable: String = sqlx::query_scalar("SHOW fsync").fetch_one(store.pool()).await.unwrap();
    assert_eq!(durable, "on");
    server.stop().await.unwrap();
    assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0);
    let gone = PgConnection::connect("postgres://postgres@127.0.0.1:1/weir").await;
    assert!(gone.is_err());
}
