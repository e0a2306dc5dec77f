//! Two versions at once: what a program does on a newer or older schema, and that nobody's booking fails
//! while a newer one is rolled out. The newer version is a further migration beside the real ones.

use std::{
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Response, StatusCode};
use sqlx::migrate::Migrator;
use tokio::sync::Mutex;

use super::{
    market::{Market, OPERATOR, Renter},
    process::{LIMIT, Running, Server, eventually, http, status, weir},
};

/// How long an instance serves that is not ready any more.
const UNREADY: Duration = Duration::from_secs(2);
/// What a successor may do while we run.
const ADDITIVE: &str = "
    ALTER TABLE rentals ADD COLUMN successor_note text;
    ALTER TABLE quotes ADD COLUMN successor_rank integer NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN successor_kind text DEFAULT 'none';
    CREATE TABLE successor_things (id bigint PRIMARY KEY, rental_id uuid REFERENCES rentals);
    CREATE INDEX successor_index ON rentals (successor_note);";

async fn successor(folder: &Path) -> Migrator {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    for entry in std::fs::read_dir(own).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    std::fs::write(folder.join("9000_successor.sql"), ADDITIVE).unwrap();
    Migrator::new(folder).await.unwrap()
}

fn run(market: &Market, command: &str) -> Output {
    weir(&[command], &market.with(&[("WEIR_OPERATOR_KEY", OPERATOR)])).output().unwrap()
}

fn refuses(market: &Market, command: &str, because: &str) {
    let output = run(market, command);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{command}: {said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("weir: ") && last.contains(because), "{command}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_starts_only_on_a_schema_that_it_can_work_with() {
    let market = Market::open().await;
    // a newer one that breaks nothing: it works, and has nothing to migrate
    market
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9001, 'add something', true, '\\x01', 1)",
        )
        .await;
    assert!(run(&market, "migrate").status.success());
    drop(Server::start(&market.environment()).await);

    market.sql("UPDATE _sqlx_migrations SET description = 'breaking drop something' WHERE version = 9001").await;
    for command in ["serve", "work", "migrate"] {
        refuses(&market, command, "9001 (breaking drop something)");
    }

    market.sql("DELETE FROM _sqlx_migrations WHERE version IN (9001, 6)").await;
    for command in ["serve", "work"] {
        refuses(&market, command, "lacks migration 6; run `weir migrate` first");
    }
}

/// A balancer in front of the instances: it asks each whether it is ready, as often as balancers do.
struct Balancer {
    instances: Mutex<Vec<String>>,
    http: reqwest::Client,
}

impl Balancer {
    /// An instance that said that it is ready, and when it was asked.
    async fn pick(&self) -> (String, Instant) {
        let since = Instant::now();
        while since.elapsed() < LIMIT {
            let instances = self.instances.lock().await.clone();
            for url in instances {
                let asked = Instant::now();
                if status(&self.http, &format!("{url}/readyz")).await == Some(StatusCode::OK) {
                    return (url, asked);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no instance is ready");
    }

    /// The answer of an instance that was ready less than two seconds ago.
    async fn book(&self, renter: &Renter) -> Response {
        loop {
            let (url, asked) = self.pick().await;
            match renter.book(&self.http, &url).await {
                Ok(answer) => return answer,
                // for so long it serves after it was ready; what took longer was our own fault
                Err(error) => assert!(asked.elapsed() >= UNREADY, "{error}"),
            }
        }
    }
}

/// Books one after the other until told to stop; each must be answered 201, at the first try.
async fn load(
    balancer: Arc<Balancer>,
    market: Arc<Market>,
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) {
    loop {
        for renter in market.renters(100).await {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let answer = balancer.book(&renter).await;
            let status = answer.status();
            assert_eq!(status, StatusCode::CREATED, "{}", answer.text().await.unwrap());
            done.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_booking_fails_while_a_newer_version_is_rolled_out_and_back() {
    let market = Arc::new(Market::open().await);
    let unready = UNREADY.as_secs().to_string();
    let environment = market.with(&[
        ("WEIR_UNREADY_S", unready.as_str()),
        ("WEIR_FUNDING_TTL_S", "5"),
        // each booking is another renter's, and all come from one address
        ("WEIR_LIMIT_ADDRESS", "off"),
        ("WEIR_LIMIT_WRITES", "off"),
    ]);
    let metrics = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let more = [
        ("WEIR_OPERATOR_KEY", OPERATOR),
        ("WEIR_METRICS_LISTEN", metrics.as_str()),
        ("WEIR_FUNDING_TTL_S", "5"),
    ];
    let worker = Running::start(&mut weir(&["work"], &market.with(&more)));
    let old = Server::start(&environment).await;
    let balancer =
        Arc::new(Balancer { instances: Mutex::new(vec![old.url.clone()]), http: http() });
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let load = load(balancer.clone(), market.clone(), done.clone(), stop.clone());
        clients.push(tokio::spawn(load));
    }
    let twenty_more = async || {
        let from = done.load(Ordering::SeqCst);
        eventually("twenty more bookings", async || {
            assert!(clients.iter().all(|client| !client.is_finished()), "a booking failed");
            (done.load(Ordering::SeqCst) >= from + 20).then_some(())
        })
        .await;
    };
    twenty_more().await;

    let folder = tempfile::tempdir().unwrap();
    successor(folder.path()).await.run(&market.db.pool).await.unwrap();
    twenty_more().await;

    // a new instance beside the old, then without it; and, to go back, once more
    let mut before = old;
    for _ in 0..2 {
        let next = Server::start(&environment).await;
        balancer.instances.lock().await.push(next.url.clone());
        before.running.signal("TERM");
        assert_eq!(before.running.end().await.code(), Some(0));
        balancer.instances.lock().await.retain(|url| *url == next.url);
        before = next;
        twenty_more().await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let booked = i64::try_from(done.load(Ordering::SeqCst)).unwrap();
    assert_eq!(market.count("SELECT count(*) FROM rentals").await, booked);

    // the old worker went on: it expired what was not paid, and none of its rounds failed
    eventually("what nobody funded has expired", async || {
        let open = market.count("SELECT count(*) FROM rentals WHERE state <> 'expired'").await;
        (open == 0).then_some(())
    })
    .await;
    let told = http().get(format!("http://{metrics}/metrics")).send().await.unwrap();
    let told = told.text().await.unwrap();
    for name in ["weir_tick_failures_total", "weir_timer_failures_total"] {
        let failures = told.lines().filter(|line| line.starts_with(name));
        assert!(
            failures.clone().all(|line| line.ends_with(" 0")),
            "{:?}",
            failures.collect::<Vec<_>>()
        );
    }
    worker.signal("TERM");
    assert_eq!(worker.end().await.code(), Some(0));
}
