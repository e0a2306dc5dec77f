//! What is not a ratio of two rates: growth with the market's size, weight, time to build, time until a commit is found.

use std::time::Instant;

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use market::{Field, GpuModel, Index, Names, Query, Set, Test, generate::Generator};
use serde_json::Value;
use store::listings;
use tower::ServiceExt as _;

use super::market_data::Filled;
use crate::{BenchError, Server, report::Fact, server::WEIR};

/// Of markets, smallest first.
pub(crate) const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
const NOW: u32 = 1_800_000_000;
/// Commits that are waited for.
const COMMITS: usize = 40;

/// Searches in indexes of four sizes, and what the largest weighs and takes to build.
pub(crate) async fn growth(
    server: &Server,
    largest: u32,
    seed: u64,
) -> Result<Vec<Fact>, BenchError> {
    let mut connection = server.connect(WEIR).await?;
    let models =
        listings::models(&mut connection).await.map_err(BenchError::subject("read models"))?;
    let measured = tokio::task::spawn_blocking(move || measure(&models, largest, seed));
    measured.await.map_err(BenchError::subject("measure growth"))
}

fn measure(models: &[GpuModel], largest: u32, seed: u64) -> Vec<Fact> {
    let mut facts = Vec::new();
    let (mut typical, mut worst) = (Vec::new(), Vec::new());
    for size in SIZES.into_iter().filter(|size| *size <= largest) {
        let listings: Vec<_> = Generator::new(models, seed, size, NOW).collect();
        let began = Instant::now();
        let (index, _) = Index::build(models.to_vec(), 30, listings, NOW);
        let built = began.elapsed();
        let points = f64::from(size);
        typical.push((points, median_micros(&index, &typical_query())));
        worst.push((points, median_micros(&index, &worst_query())));
        if size == largest || size == 1_000_000 {
            let bytes = index.memory().total() as f64 / points;
            facts.push(Fact::new("index_bytes_per_offer", bytes, "bytes"));
            facts.push(Fact::new("index_build", built.as_secs_f64() * 1e3, "ms"));
        }
    }
    for (name, points) in [("p7_search_slope_typical", &typical), ("p7_search_slope_worst", &worst)]
    {
        facts.push(Fact::new(name, slope(points), "log-log"));
        if let Some((_, micros)) = points.last() {
            facts.push(Fact::new(&format!("{name}_at_largest"), *micros, "us"));
        }
    }
    facts
}

fn median_micros(index: &Index, query: &Query) -> f64 {
    let mut taken: Vec<f64> = (0..301)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(index.search(query));
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    taken.sort_unstable_by(f64::total_cmp);
    taken.get(taken.len() / 2).copied().unwrap_or_default()
}

/// The slope of the line through the logarithms, by least squares.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = logs.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    both / logs.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

fn query(tests: &[(Field, Set)], models: &[&str], places: &[&str]) -> Query {
    let names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        if names.is_empty() { Vec::new() } else { vec![Names { names, not: false }] }
    };
    let test = |(field, set): &(Field, Set)| Test { field: *field, set: set.clone() };
    Query {
        tests: tests.iter().map(test).collect(),
        models: names(models),
        places: names(places),
        available: true,
        limit: 50,
        now: NOW,
        ..Query::default()
    }
}

/// As [`super::TYPICAL`].
fn typical_query() -> Query {
    let tests = [
        (Field::GpuCount, Set::OneOf(vec![2])),
        (Field::Ram, Set::at_least(64)),
        (Field::CpuCores, Set::at_least(16)),
        (Field::Up, Set::at_least(100)),
        (Field::Reliability, Set::at_least(9_500)),
        (Field::Tier, Set::OneOf(vec![1, 2])),
    ];
    query(&tests, &["rtx-4090", "rtx-5090", "rtx-a6000"], &["de", "se", "nl", "fr"])
}

/// As [`super::WORST`].
fn worst_query() -> Query {
    let tests = [
        (Field::GpuCount, Set::OneOf(vec![8])),
        (Field::Ram, Set::at_least(1_900)),
        (Field::CpuCores, Set::at_least(180)),
        (Field::Up, Set::at_least(9_500)),
        (Field::Reliability, Set::at_least(9_990)),
        (Field::Pcie, Set::at_least(26_000)),
        (Field::Ready, Set::at_most(4_200)),
    ];
    query(&tests, &[], &["is", "za"])
}

/// Changes prices one after the other, and waits until a search shows each.
pub(crate) async fn visible(server: &Server, filled: &Filled) -> Result<Vec<Fact>, BenchError> {
    let doing = "wait for a commit";
    let mut connection = server.connect(WEIR).await?;
    let offer: uuid::Uuid = sqlx::query_scalar(
        "SELECT o.id FROM offers o JOIN machines m ON m.id = o.machine_id
         WHERE m.service = 'open' AND m.last_heartbeat_at > now() LIMIT 1",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(BenchError::sql(doing))?;
    let id = domain::id::OfferId::from_uuid(offer).to_string();
    let router = api::router(filled.app.clone());
    let mut taken = Vec::new();
    for _ in 0..COMMITS {
        let version: i32 = sqlx::query_scalar(
            "WITH next AS (UPDATE offers SET version = version + 1 WHERE id = $1 RETURNING id, version)
             INSERT INTO offer_versions (offer_id, version, model, gpu_count, chunks, usd_micros_per_hour, min_duration_s,
                                         max_duration_s, created_at)
             SELECT v.offer_id, next.version, model, gpu_count, chunks, usd_micros_per_hour + 1, min_duration_s,
                    max_duration_s, now()
             FROM offer_versions v JOIN next ON next.id = v.offer_id AND v.version = next.version - 1
             RETURNING version",
        )
        .bind(offer)
        .fetch_one(&mut connection)
        .await
        .map_err(BenchError::sql(doing))?;
        let committed = Instant::now();
        loop {
            let request = Request::get(format!("/v1/offers?available=false&q=id%3D{id}"));
            let request = request.body(Body::empty()).map_err(BenchError::subject(doing))?;
            let answer =
                router.clone().oneshot(request).await.map_err(BenchError::subject(doing))?;
            let body =
                to_bytes(answer.into_body(), 1 << 20).await.map_err(BenchError::subject(doing))?;
            let page: Value = serde_json::from_slice(&body).map_err(BenchError::subject(doing))?;
            if page.pointer("/data/0/version").and_then(Value::as_i64) == Some(i64::from(version)) {
                break;
            }
            if committed.elapsed().as_secs() > 10 {
                return Err(BenchError::subject(doing)("it was not found in 10 s"));
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        taken.push(committed.elapsed().as_secs_f64() * 1e3);
    }
    taken.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (taken.len().saturating_sub(1) as f64 * share).round() as usize;
        taken.get(place).copied().unwrap_or_default()
    };
    let offers = filled.offers;
    Ok(vec![
        Fact::new("p6_commit_to_visible_p50", at(0.5), "ms"),
        Fact::new("p6_commit_to_visible_p99", at(0.99), "ms"),
        Fact::new(&format!("market_read_{offers}"), filled.read_in.as_secs_f64() * 1e3, "ms"),
        Fact::new(&format!("market_start_{offers}"), filled.restored_in.as_secs_f64() * 1e3, "ms"),
        Fact::new("market_image_per_offer", filled.image_bytes as f64 / f64::from(offers), "bytes"),
    ])
}
