//! A generated market of some hundred offers in the database, random searches, and what plain SQL answers to them.

use std::sync::Arc;

use domain::time::Clock as _;
use market::{GpuModel, Listing, generate::Generator};
use sqlx::{AssertSqlSafe, Row as _};
use store::{Store, listings};
use testkit::{ManualClock, TestDb};

use crate::{
    fixture::{NOW, World, fill, policy},
    rpc,
};

const OFFERS: u32 = 400;
const SEARCHES: usize = 250;

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }
}

/// A filter as the API takes it and as SQL says it, of the offer `l` and a number of GPUs `c`. `{}` is the value.
struct Filter {
    name: &'static str,
    sql: &'static str,
    values: &'static [&'static str],
}

const fn filter(name: &'static str, sql: &'static str, values: &'static [&'static str]) -> Filter {
    Filter { name, sql, values }
}

const FILTERS: &[Filter] = &[
    filter("gpu_model", "l.model = '{}'", &["rtx-4090", "rtx-3090", "h100-sxm", "t4"]),
    filter("gpu_count", "c = {}", &["1", "2", "3", "4", "8"]),
    filter("min_vram_gb", "l.vram_gb >= {}", &["24", "32", "80", "200"]),
    filter("min_total_vram_gb", "l.vram_gb * c >= {}", &["48", "96", "300"]),
    filter("form", "l.form = '{}'", &["sxm", "pcie"]),
    filter(
        "compute_capability_gte",
        "l.vendor = 'nvidia' AND CASE WHEN l.compute_capability ~ '^[0-9]+[.][0-9]$' THEN l.compute_capability::numeric >= {} ELSE false END",
        &["7.0", "8.9", "9.0", "9.4"],
    ),
    filter("cuda_gte", "l.cuda_version >= {} * 10", &["12.1", "12.4", "12.8"]),
    filter("cpu_cores_gte", "l.cpu_cores >= {}", &["8", "16", "33", "100"]),
    filter("ram_gb_gte", "l.ram_gb >= {}", &["32", "64", "100", "512"]),
    filter("disk_gb_gte", "l.disk_gb >= {}", &["64", "500", "5000"]),
    filter("disk_bw_gte", "l.disk_mb_s >= {}", &["500", "2000", "6000"]),
    filter("pcie_bw_gte", "l.pcie_mb_s >= {}", &["8000", "16000", "25000"]),
    filter("inet_up_gte", "l.inet_up_mbps >= {}", &["100", "777", "5000"]),
    filter("inet_down_gte", "l.inet_down_mbps >= {}", &["100", "1000", "9000"]),
    filter("ports_gte", "l.ports >= {}", &["1", "50", "400"]),
    filter("region", "(l.region = '{}' OR l.region LIKE '{}-%')", &["de", "de-fra", "us", "us-c"]),
    filter("country", "split_part(l.region, '-', 1) = '{}'", &["us", "se", "zz"]),
    filter("not_country", "split_part(l.region, '-', 1) <> '{}'", &["us", "de"]),
    filter("tier", "l.tier = '{}'", &["unverified", "verified", "datacenter"]),
    filter("verification", "l.verification = '{}'", &["unverified", "verified", "deverified"]),
    filter("reliability_gte", "l.score_bps >= {} * 10000", &["0.9", "0.97", "0.98765", "1"]),
    filter("ready_p95_lte", "l.ready_p95_ms <= {} * 1000", &["5", "30", "90.5"]),
    filter("isolation", "l.isolation = '{}'", &["machine", "gpu", "mig"]),
    filter("static_ip", "l.static_ip = {}", &["true", "false"]),
    filter("runs_templates", "l.templates = {}", &["true", "false"]),
    filter("notice_s_gte", "l.notice_s >= {}", &["0", "120", "600"]),
    filter("price_lte", "l.price <= {} * 1000000", &["0.35", "0.5", "1.2", "3"]),
    filter("min_duration_lte", "l.min_duration_s <= {}", &["60", "300"]),
    filter(
        "duration_s",
        "{} BETWEEN l.min_duration_s AND l.max_duration_s",
        &["60", "86400", "2000000"],
    ),
    filter(
        "available_for_s",
        "(l.available_until IS NULL OR l.available_until >= l.begins + interval '{} s')",
        &["300", "3600", "3000000"],
    ),
    filter(
        "updated_since",
        "l.updated_at >= '{}'",
        &["2027-01-01T00:00:00Z", "2026-06-01T00:00:00Z"],
    ),
    filter(
        "q",
        "l.price * c < 1200000 AND l.price < 600000 AND l.model <> 't4' AND l.cpu_cores IN (8, 16, 24, 32) AND split_part(l.region, '-', 1) <> 'us'",
        &[
            "dph%3C1.2+price%3C0.6+gpu_name!=T4+cpu_cores+in+[8,16,24,32]+geolocation+not+in+[%27US%27]",
        ],
    ),
];

/// Every offer with its facts, at `$1`. What is quoted now may begin when the quote, its payment and the machine have each
/// taken the longest that they may: 120 + 120 + 300 seconds, and 60 to spare. It runs for its whole time from then on.
const LISTINGS: &str = "
    SELECT o.id, o.account_id, v.model, v.gpu_count, v.chunks, v.usd_micros_per_hour AS price, v.reserved,
           v.disk_micros_per_gb_month, v.disk_gb, v.up_micros_per_gb, v.down_micros_per_gb, v.min_duration_s,
           v.max_duration_s, v.notice_s, v.isolation, v.available_until, o.updated_at, m.region, m.cpu_cores, m.ram_gb,
           m.cuda_version, m.disk_mb_s, m.pcie_mb_s, m.inet_up_mbps, m.inet_down_mbps, m.ports, m.static_ip, m.templates,
           m.verification, m.service = 'open' AS open, m.last_heartbeat_at, r.score_bps, r.ready_p95_ms,
           g.vram_gb, g.form, g.compute_capability, g.vendor, g.fp32_gflops AS gflops, $1::timestamptz AS now,
           $1::timestamptz + interval '600 s' AS begins,
           CASE WHEN m.verification <> 'verified' THEN 'unverified' WHEN m.datacenter THEN 'datacenter' ELSE 'verified' END
               AS tier,
           (SELECT count(*) FROM gpus u WHERE u.machine_id = m.id AND u.model = v.model AND NOT EXISTS (
                SELECT FROM rental_gpus h WHERE h.gpu_id = u.id AND h.during @> $1::timestamptz)) AS free,
           (SELECT count(*) FROM gpus u WHERE u.machine_id = m.id AND u.model = v.model) AS gpus
    FROM offers o JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
    JOIN machines m ON m.id = o.machine_id JOIN gpu_models g ON g.slug = v.model
    LEFT JOIN machine_reliability r ON r.machine_id = m.id AND r.window_days = 30
    WHERE o.state = 'listed' AND m.service <> 'retired'";

/// What a job comes to, by the quote's rule, for `c` GPUs: hourly parts rounded one by one, the sum rounded up.
fn total(duration: u64, disk: u64, up: u64, down: u64) -> String {
    let discount = format!(
        "(SELECT COALESCE(max((s->>'discount_bps')::numeric), 0) FROM jsonb_array_elements(l.reserved) s
          WHERE (s->>'min_duration_s')::numeric <= {duration})"
    );
    format!(
        "ceil((l.price * c - floor(l.price * c * {discount} / 10000)
               + ceil(l.disk_micros_per_gb_month::numeric * {disk} / 720)
               + ceil((l.up_micros_per_gb * {up} + l.down_micros_per_gb * {down}) * 3600::numeric / {duration}))
              * {duration}::numeric / 3600)"
    )
}

struct Search {
    query: String,
    sql: String,
}

fn search(rng: &mut Rng) -> Search {
    let mut query: Vec<String> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let mut sized = false;
    for filter in FILTERS {
        if rng.below(9) == 0 {
            let value = rng.pick(filter.values);
            query.push(format!("{}={value}", filter.name));
            conditions.push(filter.sql.replace("{}", value));
            sized |= matches!(filter.name, "gpu_count" | "min_total_vram_gb");
        }
    }
    let available = rng.below(3) > 0;
    if available {
        conditions.push(
            "l.open AND l.last_heartbeat_at >= l.now - interval '30 s' AND c <= l.free".to_owned(),
        );
    } else {
        query.push("available=false".to_owned());
    }
    let tokens = "CASE l.model WHEN 'rtx-4090' THEN l.price / 1550.0 WHEN 'h100-sxm' THEN l.price / 3000.0 END";
    let mut sorts = vec![
        ("price", "l.price".to_owned()),
        ("perf_per_usd", "l.price::numeric / l.gflops NULLS LAST, l.price".to_owned()),
        (
            "per_million_tokens&tokens_per_s=h100-sxm:3000,RTX_4090:1550",
            format!("{tokens} NULLS LAST, CASE WHEN {tokens} IS NULL THEN l.price END"),
        ),
        ("reliability", "l.score_bps DESC NULLS LAST".to_owned()),
        ("ready", "l.ready_p95_ms NULLS LAST".to_owned()),
    ];
    if rng.below(2) == 0 {
        let (hours, duration) = [("0.5", 1_800), ("2", 7_200), ("200", 720_000)][rng.below(3)];
        let (disk, up, down) = ([0, 50, 700][rng.below(3)], rng.below(2) * 30, rng.below(2) * 7);
        let total = total(duration, disk, up as u64, down as u64);
        query.push(format!("hours={hours}&disk_gb={disk}&egress_gb={up}&ingress_gb={down}"));
        conditions.push(format!(
            "{duration} BETWEEN l.min_duration_s AND l.max_duration_s
             AND (l.available_until IS NULL OR l.available_until >= l.begins + interval '{duration} s')
             AND floor(l.disk_gb::numeric * c / greatest(l.gpus, l.gpu_count)) >= {disk}"
        ));
        if rng.below(3) == 0 {
            query.push("total_lte=2.5".to_owned());
            conditions.push(format!("{total} <= 2500000"));
        }
        if rng.below(4) == 0 {
            query.push("kind=reserved".to_owned());
            conditions.push(format!(
                "EXISTS (SELECT FROM jsonb_array_elements(l.reserved) s
                         WHERE (s->>'min_duration_s')::numeric <= {duration})"
            ));
        }
        sorts.push(("total", total));
    } else if available {
        let lasts = "l.available_until >= l.begins + l.min_duration_s * interval '1 s'";
        conditions.push(format!("(l.available_until IS NULL OR {lasts})"));
    }
    let (sort, order) = sorts.swap_remove(rng.below(sorts.len()));
    query.push(format!("sort={sort}"));
    let which = if sized { "ASC" } else { "DESC" };
    let conditions =
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    let sql = format!(
        "WITH l AS ({LISTINGS}) SELECT l.id, c AS gpus FROM l CROSS JOIN LATERAL (
             SELECT c FROM unnest(l.chunks) AS c WHERE {conditions} ORDER BY c {which} LIMIT 1) s
         ORDER BY {order}, l.id"
    );
    Search { query: query.join("&"), sql }
}

async fn generated() -> World {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW.millis()));
    let store = Store::from_pool(db.pool, clock.clone(), policy());
    let mut connection = store.read().await.unwrap();
    sqlx::query("UPDATE gpu_models SET fp32_gflops = NULL WHERE slug = 't4'")
        .execute(&mut *connection)
        .await
        .unwrap();
    let models: Vec<GpuModel> = listings::models(&mut connection).await.unwrap();
    let now = u32::try_from(clock.now().seconds().get()).unwrap();
    let mut made: Vec<_> = Generator::new(&models, 11, OFFERS, now).collect();
    // some end so soon that it matters when a rental may begin
    for (number, listing) in made.iter_mut().enumerate().filter(|(number, _)| number % 3 == 0) {
        let left = [100, 659, 660, 900, 1_900, 2_400, 4_300, 7_300, 7_800][number / 3 % 9];
        listing.available_until = Some(now + left);
    }
    drop(connection);
    fill(&store, made, NOW).await;
    World::over(store, clock, &rpc::start().await, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_search_finds_what_sql_finds() {
    let world = generated().await;
    let mut rng = Rng(5);
    let (mut some, mut none) = (0, 0);
    for _ in 0..SEARCHES {
        let Search { query, sql } = search(&mut rng);
        let mut connection = world.store.read().await.unwrap();
        let rows = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(time::OffsetDateTime::from_unix_timestamp(NOW.get() as i64).unwrap())
            .fetch_all(&mut *connection)
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        let wanted: Vec<(String, i64)> = rows
            .iter()
            .map(|row| {
                let id = domain::id::OfferId::from_uuid(row.get("id"));
                (id.to_string(), row.get::<i16, _>("gpus").into())
            })
            .collect();
        let mut found: Vec<(String, i64)> = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/offers?{query}&limit=150{cursor}");
            let reply = world.get(&path).send().await;
            if reply.status == 422 {
                // conditions that exclude each other, or are beyond the market's bounds, which SQL does not mind
                assert!(wanted.is_empty(), "{query}");
                break;
            }
            let page = reply.ok(200);
            let offers = page["data"].as_array().unwrap().iter();
            found.extend(offers.map(|offer| {
                (offer["id"].as_str().unwrap().to_owned(), offer["gpus"].as_i64().unwrap())
            }));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, wanted, "{query}\n{sql}");
        if found.is_empty() { none += 1 } else { some += 1 }
    }
    assert!(some > SEARCHES / 5 && none > SEARCHES / 20, "{some} found something, {none} nothing");
}

/// Offers of which a search may look at a few on the thread that answers others.
const MANY: u32 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_looks_at_many_offers_finds_what_sql_finds() {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW.millis()));
    let store = Store::from_pool(db.pool, clock.clone(), policy());
    let mut connection = store.read().await.unwrap();
    let models: Vec<GpuModel> = listings::models(&mut connection).await.unwrap();
    let now = u32::try_from(clock.now().seconds().get()).unwrap();
    // no column of masks has what disk costs
    let made = Generator::new(&models, 5, MANY, now)
        .zip(0_u32..)
        .map(|(listing, number)| Listing { disk_price_micros: number, ..listing });
    fill(&store, made.collect(), NOW).await;
    let world =
        World::over(store.clone(), clock, &rpc::start().await, |config| config.looks = 100).await;
    for (sort, order) in [("price", "v.usd_micros_per_hour, o.id"), ("-created", "o.id DESC")] {
        let sql = format!(
            "SELECT o.id FROM offers o JOIN offer_versions v ON v.offer_id = o.id
             WHERE v.disk_micros_per_gb_month IN (8, 400, 1999) ORDER BY {order}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.unwrap();
        let expected: Vec<String> = rows
            .iter()
            .map(|row| format!("ofr_{}", row.get::<uuid::Uuid, _>("id").simple()))
            .collect();
        let q = "storage_cost in [0.000008, 0.0004, 0.001999]";
        let q: String = q.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let page = world
            .get(&format!("/v1/offers?available=false&sort={sort}&q={q}"))
            .send()
            .await
            .ok(200);
        let found: Vec<&str> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap())
            .collect();
        assert!(found == expected && found.len() == 3, "{sort}: {found:?} {expected:?}");
        assert_eq!(page["next_cursor"], serde_json::Value::Null);
    }
}
