//! Reliability, reviews, prices and supply, as anybody may look them up and compute them anew.
#![allow(
    clippy::float_arithmetic,
    reason = "a computation that shares nothing with the one under test"
)]

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    id::{MachineId, RentalId},
    money::Amount,
    reliability::compute,
    rental::{CloseOutcome, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use serde_json::{Value, json};
use store::{
    TxError, prices,
    reliability::{self, Shown, WINDOWS},
    rentals::MoneyDelta,
};
use testkit::Statements;

use crate::{
    fixture::{Rig, World},
    running::{Running, START},
};

/// What the assessor does at its turn.
pub async fn assess(world: &World, machine: &str) {
    let machine: MachineId = machine.parse().unwrap();
    let now = world.now();
    let as_of = reliability::settled_until(world.store.policy(), now);
    world
        .store
        .write::<(), (), _>("test.assess", move |tx| {
            Box::pin(async move {
                let whole = reliability::window(90, as_of);
                reliability::draw_together(tx, machine, whole.from).await?;
                let history = reliability::history(tx, machine, whole).await?.unwrap();
                for days in WINDOWS {
                    let figures = compute(&history, reliability::window(days, as_of));
                    let shown = Shown { days, as_of, figures, computed_at: now };
                    reliability::store(tx, machine, &shown).await?;
                }
                Ok::<_, TxError<()>>(())
            })
        })
        .await
        .unwrap();
}

fn unix(time: &Value) -> i64 {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(time.as_str().unwrap(), format).unwrap().unix_timestamp()
}

/// The seconds of a list of spans.
fn seconds(spans: &Value) -> BTreeSet<i64> {
    let spans = spans.as_array().unwrap().iter();
    spans.flat_map(|span| unix(&span["from"])..unix(&span["to"])).collect()
}

/// Computes a machine's score from public answers alone, second by second, in floats.
async fn recomputed(world: &World, machine: &str, days: i64) -> (Value, f64, i64, i64) {
    let said = world.get(&format!("/v1/machines/{machine}/reliability")).send().await.ok(200);
    let windows = said["windows"].as_array().unwrap();
    let window = windows.iter().find(|window| window["days"] == days).unwrap().clone();
    let rows = world.get(said["inputs"].as_str().unwrap()).send().await.ok(200);
    assert_eq!(rows["to"], window["to"], "seven days that end where the window ends");
    let gpus = rows["gpus"].as_u64().unwrap() as usize;
    let maintenance = seconds(&rows["maintenance"]);
    // seconds of single GPUs: those of each second that nobody rents, and those of rentals
    let mut free: BTreeMap<i64, usize> =
        seconds(&rows["listed"]).difference(&maintenance).map(|at| (*at, gpus)).collect();
    let (mut rented, mut uncovered) = (0, 0);
    for rental in rows["rentals"].as_array().unwrap() {
        let (time, covered) = (seconds(&rental["promised"]), seconds(&rental["covered"]));
        let share = rental["gpus"].as_u64().unwrap() as usize;
        rented += share * time.len();
        uncovered += share * time.difference(&covered).count();
        for at in &time {
            if let Some(free) = free.get_mut(at) {
                *free -= share;
            }
        }
    }
    let contact = seconds(&rows["contact"]);
    let idle: usize = free.values().sum();
    let silent: usize =
        free.iter().filter(|(at, _)| !contact.contains(*at)).map(|(_, free)| free).sum();
    let promised = (idle + rented).div_ceil(gpus) + rented.div_ceil(gpus);
    let good = promised - silent.div_ceil(gpus) - 2 * uncovered.div_ceil(gpus);
    let (n, p, z) = (promised as f64 / 3_600.0, good as f64 / promised as f64, 1.959_964_f64);
    let root = (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let score = (p + z * z / (2.0 * n) - z * root) / (1.0 + z * z / n);
    (window, score * 10_000.0, promised as i64, good as i64)
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_computes_the_same_reliability_from_public_rows() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let machine = running.rig.machine.clone();
    let page = world.get(&format!("/v1/machines/{machine}/reliability")).send().await.ok(200);
    assert_eq!(page["windows"], json!([]), "nothing is computed yet");
    // ten minutes of readings with half a minute missing, then the renter stops, then an hour of idling with a silence
    for from in (0..600).step_by(20) {
        running.pass(&world, 20).await;
        if from != 300 {
            running.append(&world, from, from + 20).await;
        }
    }
    let stop = format!("/v1/rentals/{}/stop", running.id);
    world.post(&stop).auth(&running.renter.token).key("stop").send().await;
    for _ in 0..300 {
        world.pass(12);
        world.heartbeat(&running.rig.agent, &[]).await;
    }
    world.pass(900);
    for _ in 0..100 {
        world.pass(12);
        world.heartbeat(&running.rig.agent, &[]).await;
    }
    // as long as no fee is paid, only what is missing counts
    assess(&world, &machine).await;
    let (window, _, promised, good) = recomputed(&world, &machine, 7).await;
    assert_eq!((&window["promised_s"], &window["good_s"]), (&json!(promised), &json!(good)));
    let (rented, starts) = (&window["rented_s"], &window["starts"]);
    assert_eq!((rented, starts), (&json!(20), &json!(0)), "{window}");
    fee(&world, &running.id).await;
    assess(&world, &machine).await;
    let (window, score, promised, good) = recomputed(&world, &machine, 7).await;
    assert_eq!(window["promised_s"], promised, "{window}");
    assert_eq!(window["good_s"], good, "{window}");
    assert_eq!(
        (window["rented_s"].as_i64(), window["rented_good_s"].as_i64()),
        (Some(600), Some(580))
    );
    let silent = window["idle_s"].as_i64().unwrap() - window["idle_good_s"].as_i64().unwrap();
    assert_eq!(silent, 912, "{window}");
    let shown = window["score_bps"].as_f64().unwrap();
    assert!(shown <= score && score - shown < 1.01, "{shown} of {score}");
    assert!(0.0 < shown && shown < 9_000.0, "an hour and a half is not 90 days: {shown}");
    assert_eq!(
        (&window["starts"], &window["starts_ok"], &window["enough"]),
        (&json!(1), &json!(1), &json!(false))
    );

    // the past does not change: the same rows, hours later
    world.pass(70_000);
    world.heartbeat(&running.rig.agent, &[]).await;
    let to = window["to"].as_str().unwrap();
    let path = format!("/v1/machines/{machine}/history?to={to}");
    let rows = world.get(&path).send().await;
    let tag = rows.header("etag").to_owned();
    let rows = rows.ok(200);
    assert_eq!(world.get(&path).header("if-none-match", tag).send().await.status, 304);
    assert_eq!(seconds(&rows["contact"]).len() as i64, seconds(&rows["listed"]).len() as i64 - 912);
    // done again, nothing changes, and later windows do not lose what was
    assess(&world, &machine).await;
    let later = world.get(&format!("/v1/machines/{machine}/reliability")).send().await;
    let tag = later.header("etag").to_owned();
    let later = later.ok(200);
    assert_eq!(later["windows"][2]["rented_good_s"], 580);
    let path = format!("/v1/machines/{machine}/reliability");
    assert_eq!(world.get(&path).header("if-none-match", tag).send().await.status, 304);
    for bad in [
        "from=yesterday",
        "to=0",
        "from=2027-01-01T00:00:00Z&to=2027-01-15T00:00:00Z",
        "from=2027-01-15T09:00:00Z&to=2027-01-15T08:00:00Z",
        "x=1",
    ] {
        let path = format!("/v1/machines/{machine}/history?{bad}");
        world.get(&path).send().await.problem(400, "invalid-request");
    }
    let none = "/v1/machines/mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f/history";
    world.get(none).send().await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_end_where_the_machine_was_looked_at_and_stay_as_they_were() {
    async fn runs(world: &World, running: &mut Running, seconds: std::ops::Range<u64>) {
        for from in seconds.step_by(20) {
            running.pass(world, 20).await;
            running.append(world, from, from + 20).await;
        }
    }
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let machine = running.rig.machine.clone();
    let path = format!("/v1/machines/{machine}/history");
    fee(&world, &running.id).await;
    runs(&world, &mut running, 0..600).await;
    // nobody looked at it yet: no second of a rental without a fault is told as one that failed
    let rows = world.get(&path).send().await.ok(200);
    assert_eq!(unix(&rows["to"]), START as i64, "where it was registered");
    for name in ["listed", "contact", "rentals", "starts"] {
        assert_eq!(rows[name], json!([]), "{name}");
    }
    let asked = format!("{path}?from={}", world.rfc3339());
    let rows = world.get(&asked).send().await.ok(200);
    assert_eq!((&rows["to"], &rows["rentals"]), (&rows["from"], &json!([])));

    let perfect = |rows: &Value| {
        let rented = &rows["rentals"][0];
        assert_eq!(rented["promised"], rented["covered"], "{rows}");
        seconds(&rented["promised"]).len()
    };
    assess(&world, &machine).await;
    let first = world.get(&path).send().await.ok(200);
    assert_eq!((perfect(&first), unix(&first["to"])), (480, START as i64 + 480));
    // nine minutes later nobody has looked again, and that is where it ends, whatever is asked for
    runs(&world, &mut running, 600..1_140).await;
    assert_eq!(world.get(&path).send().await.ok(200), first);
    let from = first["from"].as_str().unwrap();
    let asked = format!("{path}?from={from}&to={}", world.rfc3339());
    assert_eq!(world.get(&asked).send().await.ok(200), first);
    assess(&world, &machine).await;
    let to = first["to"].as_str().unwrap();
    let asked = format!("{path}?from={from}&to={to}");
    assert_eq!(world.get(&asked).send().await.ok(200), first, "and it stays");
    let rows = world.get(&path).send().await.ok(200);
    assert_eq!((perfect(&rows), unix(&rows["to"])), (1_020, START as i64 + 1_020));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_promised_time_and_an_interruption() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let last_good = world.now();
    world.pass(60);
    world.advance(&running.id, RentalEvent::EvidenceLost { last_good }).await;
    world.pass(1_000);
    assess(&world, &running.rig.machine).await;
    let path = format!("/v1/machines/{}/reliability", running.rig.machine);
    let said = world.get(&path).send().await.ok(200);
    assert_eq!(said["windows"][0]["interruptions"], 1);
    assert_eq!(said["windows"][0]["rented_good_s"], 0);
    assert!(said["windows"][0]["rented_s"].as_i64().unwrap() > 800, "an outage is promised time");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_renter_who_paid_reviews_and_only_once() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}/review", running.id);
    let review = |token: &str, body: Value| world.post(&path).auth(token).json(&body).send();
    let good = json!({"stars": 4, "body": "steady"});
    review(&running.renter.token, good.clone()).await.problem(409, "state-conflict");
    for (bad, pointer) in [
        (json!({"stars": 0}), "/stars"),
        (json!({"stars": 6}), "/stars"),
        (json!({"stars": 3, "body": "x".repeat(2_001)}), "/body"),
        (json!({"stars": 3, "body": "\u{7}"}), "/body"),
    ] {
        let refused = review(&running.renter.token, bad).await.problem(422, "validation-failed");
        assert_eq!(refused["errors"][0]["pointer"], pointer);
    }
    settle(&world, &running).await;
    review(&running.renter.token, good.clone()).await.problem(409, "state-conflict");
    fee(&world, &running.id).await;
    review(&running.rig.provider.token, good.clone()).await.problem(404, "not-found");
    let said = review(&running.renter.token, good.clone()).await.ok(201);
    assert_eq!((&said["stars"], &said["billed_s"]), (&json!(4), &json!(60)));
    review(&running.renter.token, good).await.problem(409, "already-exists");
    let machine = &running.rig.machine;
    let list = world.get(&format!("/v1/machines/{machine}/reviews")).send().await.ok(200);
    assert_eq!(list["data"][0]["body"], "steady");
    assert_eq!(list["data"][0]["billed_s"], 60);
    assert!(!list.to_string().contains("rnt_"), "who wrote it is not told");
    let page = world.get(&format!("/v1/machines/{machine}/public")).send().await.ok(200);
    assert_eq!(page["reviews"], json!({"n": 1, "stars": 4}));

    // who pays again and says something else is still one voice
    let rig = world.rig(3, 1, "0.65").await;
    let quote = world.quote(&running.renter, &rig).await;
    let again = world.book(&running.renter, &quote, "again").await.ok(201);
    let id: RentalId = again["rental"]["id"].as_str().unwrap().parse().unwrap();
    sqlx::query(
        "INSERT INTO reviews (rental_id, machine_id, renter_id, stars, body, created_at)
         SELECT $1, machine_id, renter_id, 2, 'worse', created_at + interval '1 second' FROM reviews",
    )
    .bind(id.uuid())
    .execute(world.store.pool())
    .await
    .unwrap();
    let page = world.get(&format!("/v1/machines/{machine}/public")).send().await.ok(200);
    assert_eq!(page["reviews"], json!({"n": 1, "stars": 2}));
}

/// Pays a fee out of what is locked.
pub async fn fee(world: &World, rental: &str) {
    let id: RentalId = rental.parse().unwrap();
    sqlx::query(
        "UPDATE rentals SET paid_fee = 1, paid_refund = greatest(paid_refund - 1, 0) WHERE id = $1",
    )
    .bind(id.uuid())
    .execute(world.store.pool())
    .await
    .unwrap();
}

/// Ends a rental after a minute that was paid for.
async fn settle(world: &World, running: &Running) {
    world.pass(60);
    let stop = format!("/v1/rentals/{}/stop", running.id);
    world.post(&stop).auth(&running.renter.token).key("stop").send().await;
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    let locked = Amount::new(650_000).unwrap();
    let delta = MoneyDelta { refund: locked, billed: Some(Seconds(60)), ..MoneyDelta::default() };
    world.pay(&running.id, delta).await;
    let outcome = CloseOutcome::ClosedByOperator;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supply_and_prices_are_those_of_the_offers_and_deals() {
    let world = World::new().await;
    let rigs: Vec<Rig> = {
        let mut rigs = Vec::new();
        for (n, price) in ["0.50", "0.60", "0.70", "0.90"].iter().enumerate() {
            rigs.push(world.rig(1 + 2 * u8::try_from(n).unwrap(), 2, price).await);
        }
        rigs
    };
    let renter = world.sign_in(99).await;
    world.start(&renter, &rigs[1]).await;
    world.state.catch_up_with_market().await.unwrap();
    let supply = world.get("/v1/market/supply").send().await;
    assert_eq!(supply.header("cache-control"), "public, max-age=10");
    let row = supply.ok(200)["data"][0].clone();
    assert_eq!(
        row,
        json!({"model": "rtx-4090", "tier": "unverified", "country": "de",
        "listed": 8, "online": 8, "rented": 2})
    );

    let prices = world.get("/v1/market/prices").send().await;
    let tag = prices.header("etag").to_owned();
    let prices = prices.ok(200);
    let band = |kind: &str, tier: &str, region: &str| {
        let all = prices["data"].as_array().unwrap();
        let same = |band: &&Value| {
            band["kind"] == kind && band["tier"] == tier && band["region"] == region
        };
        all.iter().find(same).unwrap().clone()
    };
    for (tier, region) in [("", ""), ("unverified", ""), ("", "de"), ("unverified", "de")] {
        let asks = band("ask", tier, region);
        let usd = |field: &str| asks[field]["amount"].as_str().unwrap().to_owned();
        assert_eq!(
            (&asks["n"], &asks["gpus"], &asks["gpus_rented"]),
            (&json!(4), &json!(8), &json!(2))
        );
        // the nearest ranks of 0.50 0.60 0.70 0.90: 1st, 1st, 2nd, 4th, 4th
        let shown: Vec<String> = ["min", "p10", "median", "p90", "max"].map(usd).to_vec();
        assert_eq!(shown, ["0.500000", "0.500000", "0.600000", "0.900000", "0.900000"]);
    }
    let deals = band("deal", "", "de");
    assert_eq!((&deals["n"], &deals["median"]["amount"]), (&json!(1), &json!("0.600000")));
    let again = world.get("/v1/market/prices").header("if-none-match", &tag).send().await;
    assert_eq!(again.status, 304);
    some_prices(&world, &prices, &tag).await;

    // offline machines ask for nothing; the answer is new after ten seconds
    // what a deal costs with disk in it is no price of a GPU
    let disk = "ALTER TABLE quotes DISABLE TRIGGER USER; UPDATE quotes SET disk_gb = 1";
    sqlx::raw_sql(disk).execute(world.store.pool()).await.unwrap();
    world.pass(31);
    world.heartbeat(&rigs[0].agent, &[]).await;
    let later = world.get("/v1/market/prices").send().await.ok(200);
    let asks = later["data"].as_array().unwrap().iter().find(|band| band["kind"] == "ask").unwrap();
    assert_eq!((&asks["n"], &asks["max"]["amount"]), (&json!(1), &json!("0.500000")));
    assert!(later["data"].as_array().unwrap().iter().all(|band| band["kind"] == "ask"));
    world.state.catch_up_with_market().await.unwrap();
    let row = world.get("/v1/market/supply").send().await.ok(200)["data"][0].clone();
    assert_eq!((&row["listed"], &row["online"]), (&json!(8), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deal_stays_in_the_tier_and_the_country_that_it_was_booked_in() {
    let world = World::new().await;
    let mut rigs = Vec::new();
    for (n, price) in [(1, "0.50"), (3, "0.60"), (5, "0.70")] {
        rigs.push(world.rig(n, 1, price).await);
    }
    let renter = world.sign_in(99).await;
    world.start(&renter, &rigs[0]).await;
    let mut quotes = Vec::new();
    for rig in &rigs[1..] {
        quotes.push(world.quote(&renter, rig).await["id"].clone());
    }
    let group = world.post("/v1/rentals/group").auth(&renter.token).key("group");
    group.json(&json!({"quote_ids": quotes})).send().await.ok(201);
    let kept = "SELECT count(*) FROM rentals WHERE (tier, region) = ('unverified', 'de-fra')";
    let kept = sqlx::query_scalar::<_, i64>(kept).fetch_one(world.store.pool());
    assert_eq!(kept.await.unwrap(), 3, "however it was booked");
    let changed = "UPDATE machines SET verification = 'verified', region = 'us-nyc'";
    sqlx::raw_sql(changed).execute(world.store.pool()).await.unwrap();
    let deals = async |tier: &str| {
        let path = format!("/v1/market/prices?kind=deal{tier}");
        let said = world.get(&path).send().await.ok(200);
        let bands = said["data"].as_array().unwrap().iter();
        bands.map(|band| json!([band["tier"], band["region"], band["n"]])).collect::<Vec<_>>()
    };
    let booked = [("", ""), ("", "de"), ("unverified", ""), ("unverified", "de")];
    assert_eq!(deals("").await, booked.map(|(tier, region)| json!([tier, region, 1])));
    assert!(deals("&tier=verified").await.is_empty());
}

/// What filters leave of all prices.
async fn some_prices(world: &World, all: &Value, tag: &str) {
    for (query, field, value) in [
        ("gpu_model=NVIDIA%20GeForce%20RTX%204090", "model", "rtx-4090"),
        ("gpu_model=t4,rtx-4090", "model", "rtx-4090"),
        ("gpu_model=t4", "model", "t4"),
        ("kind=deal", "kind", "deal"),
        ("tier=unverified", "tier", "unverified"),
        ("tier=", "tier", ""),
        ("region=DE", "region", "de"),
        ("region=us", "region", "us"),
    ] {
        let reply = world.get(&format!("/v1/market/prices?{query}")).send().await;
        assert_eq!(reply.header("cache-control"), "public, max-age=10");
        let own = reply.header("etag").to_owned();
        let said = reply.ok(200);
        let rows = all["data"].as_array().unwrap().iter();
        let wanted: Vec<&Value> = rows.filter(|band| band[field] == value).collect();
        assert_eq!((&said["data"], &said["as_of"]), (&json!(wanted), &all["as_of"]), "{query}");
        assert_eq!(own == tag, said == *all, "{query}");
    }
    let both = world.get("/v1/market/prices?kind=ask&tier=&region=de").send().await.ok(200);
    assert_eq!(both["data"].as_array().unwrap().len(), 1);
    for bad in ["kind=bid", "kind=", "tier=gold", "region=Germany", "region=de-fra", "model=t4"] {
        let path = format!("/v1/market/prices?{bad}");
        world.get(&path).send().await.problem(400, "invalid-request");
    }
    let unknown = world.get("/v1/market/prices?gpu_model=rtx-4091").send().await;
    assert_eq!(unknown.problem(422, "validation-failed")["nearest"], "rtx-4090");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_nobody_knows_is_refused_with_the_nearest() {
    let world = World::new().await;
    world.rig(1, 1, "0.50").await;
    world.state.catch_up_with_market().await.unwrap();
    let paths =
        ["/v1/market/prices", "/v1/market/prices/rtx-4090/history", "/v1/market/book/rtx-4090"];
    for path in paths {
        for (region, nearest) in [("uk", "gb"), ("ZZ", "cz")] {
            let refused = world.get(&format!("{path}?region={region}")).send().await;
            let refused = refused.problem(422, "validation-failed");
            assert_eq!(refused["errors"][0]["pointer"], "?region", "{refused}");
            assert_eq!(refused["nearest"], nearest, "{refused}");
        }
        // with something there, without, and where nothing may stand
        for region in ["de", "ZA", "gr"] {
            world.get(&format!("{path}?region={region}")).send().await.ok(200);
        }
    }
    let [.., book] = paths;
    let refused = world.get(&format!("{book}?region=de-fr")).send().await;
    assert_eq!(refused.problem(422, "validation-failed")["nearest"], "de-fra");
    let refused = world.get(&format!("{book}?region=zz-foo")).send().await;
    refused.problem(422, "validation-failed");
    // where a machine stands since before
    let moved = sqlx::query("UPDATE machines SET region = 'zz-old'");
    moved.execute(world.store.pool()).await.unwrap();
    world.state.catch_up_with_market().await.unwrap();
    for path in paths {
        world.get(&format!("{path}?region=zz")).send().await.ok(200);
    }
    world.get(&format!("{book}?region=zz-old")).send().await.ok(200);
}

// one thread, so that all statements are sent from it, and those of other tests are not
#[tokio::test]
async fn the_prices_of_ten_seconds_are_one_look_and_supply_is_none() {
    let statements = Statements::default();
    let _counting = tracing::subscriber::set_default(statements.clone());
    let world = World::new().await;
    world.rig(1, 1, "0.50").await;
    world.state.catch_up_with_market().await.unwrap();
    let looks =
        || Statements::mentioning(&statements.take(), &["percentile_disc", "sum(v.gpu_count)"]);
    let ask = async |path: &str| world.get(path).send().await.ok(200);
    looks();
    for wait in [0, 9] {
        world.pass(wait);
        let [prices, supply] = ["/v1/market/prices", "/v1/market/supply"];
        futures_util::future::join_all([ask(prices), ask(prices), ask(supply)]).await;
    }
    assert_eq!(looks(), 2, "asks and deals, once");
    world.pass(1);
    ask("/v1/market/prices").await;
    assert_eq!(looks(), 2, "they are made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_course_is_the_same_for_as_long_as_its_step_lasts() {
    let world = World::new().await;
    world.rig(1, 1, "0.50").await;
    let now = world.now();
    let sampled = world.store.write::<(), (), _>("test.sample", move |tx| {
        Box::pin(async move {
            let asks = prices::asks(tx, now, Seconds(30)).await?;
            prices::note_asks(tx, now, &asks).await?;
            Ok::<_, TxError<()>>(())
        })
    });
    sampled.await.unwrap();
    let path = "/v1/market/prices/rtx-4090/history";
    let steps = format!("{path}?step=300");
    let first = world.get(&steps).send().await;
    let tag = first.header("etag").to_owned();
    let first = first.ok(200);
    let span = |said: &Value| json!([said["from"], said["to"]]);
    assert_eq!(span(&first), json!(["2027-01-08T08:05:00Z", "2027-01-15T08:05:00Z"]));
    assert_eq!(first["points"].as_array().unwrap().len(), 1, "the step that is under way is there");
    for _ in 0..2 {
        world.pass(1);
        let again = world.get(&steps).send().await;
        assert_eq!(again.header("etag"), tag);
        again.ok(200);
        world.get(&steps).header("if-none-match", &tag).send().await.ok(304);
    }
    world.pass(298);
    let next = world.get(&steps).header("if-none-match", &tag).send().await.ok(200);
    assert_eq!(span(&next), json!(["2027-01-08T08:10:00Z", "2027-01-15T08:10:00Z"]));
    // as far back as an answer tells: up to now, if not up to the end of the step
    let begun = world.get(&format!("{steps}&from=2027-01-08T08:05:01Z")).send().await.ok(200);
    assert_eq!(begun["to"], "2027-01-15T08:05:01Z");
    let sooner = world.get(&format!("{steps}&from=2027-01-08T08:05:00Z")).send().await;
    sooner.problem(400, "invalid-request");

    let country = world.get(&format!("{steps}&region=DE")).send().await.ok(200);
    assert_eq!(
        (&country["region"], country["points"].as_array().unwrap().len()),
        (&json!("de"), 1)
    );
    let place = world.get(&format!("{path}?region=de-fra")).send().await;
    let place = place.problem(400, "invalid-request");
    assert!(place["detail"].as_str().unwrap().ends_with("by country: ask for de"), "{place}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_of_a_path_is_named_in_any_spelling() {
    let world = World::new().await;
    world.rig(1, 1, "0.50").await;
    world.state.catch_up_with_market().await.unwrap();
    let book: fn(&str) -> String = |name| format!("/v1/market/book/{name}");
    let course: fn(&str) -> String = |name| format!("/v1/market/prices/{name}/history");
    for path in [book, course] {
        for name in ["rtx-4090", "RTX%204090", "rtx_4090", "NVIDIA%20GeForce%20RTX%204090"] {
            assert_eq!(world.get(&path(name)).send().await.ok(200)["model"], "rtx-4090", "{name}");
        }
        let unknown = world.get(&path("RTX%204091")).send().await.problem(404, "not-found");
        assert_eq!(unknown["nearest"], "rtx-4090", "{unknown}");
        let several = world.get(&path("A100")).send().await.problem(422, "validation-failed");
        assert_eq!(several["candidates"].as_array().unwrap().len(), 4, "{several}");
        assert_eq!(several["errors"][0]["pointer"], "/model");
        let none = world.get(&path("abacus")).send().await.problem(404, "not-found");
        assert_eq!(none.get("nearest"), None, "{none}");
    }
    // what only the database knows
    let newer =
        "INSERT INTO gpu_models (slug, name, vendor, vram_gb, form, compute_capability, aliases)
                 VALUES ('z999', 'Vendor Z 999', 'nvidia', 24, 'pcie', '9.9', '{Zed 999}')";
    sqlx::raw_sql(newer).execute(world.store.pool()).await.unwrap();
    assert_eq!(world.get(&course("z999")).send().await.ok(200)["model"], "z999");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_course_of_prices_is_kept_by_step() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.50").await;
    let sample = async |bucket: u64| {
        let (now, online) = (world.now(), Seconds(30));
        world
            .store
            .write::<(), (), _>("test.survey", move |tx| {
                Box::pin(async move {
                    let asks = prices::asks(tx, now, online).await?;
                    // twice: as two workers do
                    prices::note_asks(tx, domain::time::UnixSeconds(bucket), &asks).await?;
                    prices::note_asks(tx, domain::time::UnixSeconds(bucket), &asks).await?;
                    let day = domain::time::UnixSeconds(bucket / 86_400 * 86_400);
                    prices::roll_up(tx, 3_600, day, day.saturating_plus(Seconds(86_400))).await?;
                    Ok::<_, TxError<()>>(())
                })
            })
            .await
            .unwrap();
    };
    let start = world.now().get() / 300 * 300;
    sample(start).await;
    world.pass(300);
    world.heartbeat(&rig.agent, &[]).await;
    sample(start + 300).await;
    // what a very large market is told in place of a look at every offer
    let mut connection = world.store.read().await.unwrap();
    assert!(!prices::is_large(&mut connection).await.unwrap());
    let (now, since) = (world.now(), world.now().saturating_minus(Seconds(600)));
    let sampled = prices::sampled(&mut connection, since).await.unwrap().unwrap();
    let asks = prices::asks(&mut connection, now, Seconds(30)).await.unwrap();
    assert_eq!((sampled.0.get(), sampled.1), (start + 300, asks));
    let later = now.saturating_plus(Seconds(1));
    assert_eq!(prices::sampled(&mut connection, later).await.unwrap(), None);
    drop(connection);
    let path = "/v1/market/prices/rtx-4090/history";
    let said =
        world.get(&format!("{path}?step=300&region=de&tier=unverified")).send().await.ok(200);
    let points = said["points"].as_array().unwrap();
    assert_eq!(points.len(), 2, "{said}");
    assert_eq!((&points[0]["n"], &points[0]["median"]["amount"]), (&json!(1), &json!("0.500000")));
    assert_eq!(
        (&points[0]["available"], &points[0]["t"]),
        (&json!(1), &json!("2027-01-15T08:00:00Z"))
    );
    let hours = world.get(path).send().await.ok(200);
    assert_eq!((&hours["step"], hours["points"].as_array().unwrap().len()), (&json!(3_600), 1));
    let deals = world.get(&format!("{path}?kind=deal")).send().await.ok(200);
    assert_eq!(deals["points"], json!([]));
    // what the surveyor has made of days and deals is told as it is
    let band = |n: u64, kind: u64| prices::Band {
        model: "rtx-4090".to_owned(),
        tier: String::new(),
        region: String::new(),
        n,
        minimum: kind + 100_000,
        p10: kind + 200_000,
        median: kind + 300_000,
        p90: kind + 400_000,
        maximum: kind + 500_000,
        gpus: 8,
        gpus_rented: 5,
    };
    let (hour, deal) = (band(7, 0), band(9, 1_000_000));
    let day = UnixSeconds(start / 86_400 * 86_400);
    let made = world.store.write::<_, (), _>("test.days", move |tx| {
        let (hour, deal) = (hour.clone(), deal.clone());
        Box::pin(async move {
            // in an hour that nobody sampled
            let night = day.saturating_plus(Seconds(3_600));
            prices::note_asks(tx, night, &[hour]).await?;
            let noon = day.saturating_plus(Seconds(43_200));
            prices::roll_up(tx, 3_600, day, noon).await?;
            prices::note_deals(tx, 86_400, day, &[deal]).await?;
            let next = day.saturating_plus(Seconds(86_400));
            Ok::<_, TxError<()>>(prices::roll_up(tx, 86_400, day, next).await?)
        })
    });
    made.await.unwrap();
    let told = async |query: &str| {
        let said = world.get(&format!("{path}?{query}")).send().await;
        assert_eq!(said.header("cache-control"), "public, max-age=60");
        let tag = said.header("etag").to_owned();
        let said = said.ok(200);
        let again = world.get(&format!("{path}?{query}")).header("if-none-match", &tag);
        again.send().await.ok(304);
        assert_eq!(said["step"], 86_400);
        said["points"].clone()
    };
    let usd = |amount: &str| json!({"amount": amount, "currency": "USD"});
    // of two hours (n = 7 and 1, from 0.10 to 0.50 and 0.50): the lower of the medians, the extremes of the extremes
    assert_eq!(
        told("step=86400").await,
        json!([{"t": "2027-01-15T00:00:00Z", "n": 1, "min": usd("0.100000"), "p10": usd("0.200000"),
                "median": usd("0.300000"), "p90": usd("0.400000"), "max": usd("0.500000"),
                "gpus": 1, "rented": 0, "available": 1}])
    );
    assert_eq!(
        told("step=86400&kind=deal").await,
        json!([{"t": "2027-01-15T00:00:00Z", "n": 9, "min": usd("1.100000"), "p10": usd("1.200000"),
                "median": usd("1.300000"), "p90": usd("1.400000"), "max": usd("1.500000"),
                "gpus": 8, "rented": 5, "available": 3}])
    );
    world.get("/v1/market/prices/rtx-9999/history").send().await.problem(404, "not-found");
    for bad in [
        "step=60",
        "kind=bid",
        "tier=best",
        "region=Germany",
        "region='",
        "from=now",
        "to=1",
        "from=2027-01-15T08:00:00Z&to=2027-01-15T08:00:00Z",
        "to=9999-12-31T23:59:59-12:00",
        "step=300&from=2026-01-15T08:00:00Z",
    ] {
        let reply = world.get(&format!("{path}?{bad}")).send().await;
        let refused = reply.problem(400, "invalid-request");
        assert!(refused["errors"][0]["pointer"].as_str().unwrap().starts_with('?'), "{bad}");
    }

    // kept for seven days
    world.pass(8 * 86_400);
    let now = world.now();
    let dropped = world.store.write::<_, (), _>("test.drop", move |tx| {
        Box::pin(async move { Ok::<_, TxError<()>>(prices::drop_old(tx, now).await?) })
    });
    assert_eq!(dropped.await.unwrap(), 9, "two buckets of four bands, and one of one");
    let said =
        world.get(&format!("{path}?step=300&from=2027-01-15T00:00:00Z&to=2027-01-16T00:00:00Z"));
    assert_eq!(said.send().await.ok(200)["points"], json!([]));
}
