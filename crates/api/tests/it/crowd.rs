//! Many who follow: what they cost the database, counted.

use std::{collections::BTreeMap, time::Duration};

use domain::rental::RentalEvent;
use testkit::Statements;
use tokio::time::Instant;

use crate::{events::Stream, fixture::World, running::Running};

const EACH: usize = 150;
/// Words of the tables that streams are about; the market's own follower asks for others.
const ABOUT: [&str; 6] =
    ["rental_events", "FROM rentals", "readings", "quotes", "sessions", "tokens"];

/// Words of what goes by the clock, whoever follows: a look at the evidence of all rentals that run, each second, and one at
/// all rentals that are followed, each minute.
const EVIDENCE: &str = "LATERAL (SELECT from_at FROM readings";
const ROOMS: &str = "LATERAL (SELECT id FROM rental_events";

/// What was sent about rentals since it was asked last.
fn sent(statements: &Statements) -> BTreeMap<String, u64> {
    let all = statements.take();
    all.into_iter().filter(|(text, _)| ABOUT.iter().any(|word| text.contains(word))).collect()
}

/// The same without what goes by the clock, which is not more than the time since then asks for; and the looks at evidence.
fn sent_since(begun: Instant, statements: &Statements) -> (BTreeMap<String, u64>, u64) {
    let mut sent = sent(statements);
    let seconds = begun.elapsed().as_secs();
    let mut looks = |words: &str| -> u64 {
        sent.extract_if(.., |text, _| text.contains(words)).map(|(_, count)| count).sum()
    };
    let (evidence, rooms) = (looks(EVIDENCE), looks(ROOMS));
    assert!(evidence <= seconds + 1, "{evidence} looks at evidence in {seconds} s");
    assert!(rooms <= seconds / 60 + 1, "{rooms} looks at all in {seconds} s");
    (sent, evidence)
}

/// Reads each stream up to its first event with this name.
async fn hear(streams: &mut [Stream], name: &str) {
    for stream in streams {
        stream.named(name).await;
    }
}

async fn idle(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

// one thread, so that all statements are sent from it, and those of other tests are not
#[tokio::test]
async fn streams_are_idle_at_no_cost_and_share_what_is_read() {
    let statements = Statements::default();
    let _counting = tracing::subscriber::set_default(statements.clone());
    let world = World::with(|config| {
        config.streams_per_account = 2 * EACH;
        config.limits = api::LimitConfig::off();
    })
    .await;
    // one that waits for its deposit, and one that runs
    let rig = world.rig(11, 1, "0.65").await;
    let renter = world.sign_in(19).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let waiting_id = booking["rental"]["id"].as_str().unwrap();
    let mut running = Running::new(&world).await;
    statements.take();

    let begun = Instant::now();
    let (mut waiting, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..EACH {
        waiting.push(Stream::open(&world, waiting_id, &renter.token, None).await);
        runs.push(Stream::open(&world, &running.id, &running.renter.token, None).await);
    }
    hear(&mut waiting, "state").await;
    hear(&mut runs, "cost").await;
    let opened = sent(&statements);
    let count: u64 = opened.values().sum();
    assert!(count > 0, "statements are counted");
    let most = 2 * 150 * 5 + 20 + begun.elapsed().as_secs();
    assert!(count <= most, "{count}: {opened:#?}");

    // whether their sessions are good still was asked when they were opened
    idle(1).await;
    statements.take();
    // nobody's silence costs anything; that something runs costs one statement a second, whoever follows
    let begun = Instant::now();
    idle(3).await;
    let (quiet, evidence) = sent_since(begun, &statements);
    assert!(evidence > 0);
    assert_eq!(quiet, BTreeMap::new());

    // what happens is read once for all
    world.advance(waiting_id, RentalEvent::LockIncluded).await;
    statements.take();
    let begun = Instant::now();
    hear(&mut waiting, "state").await;
    let (heard, _) = sent_since(begun, &statements);
    let count: u64 = heard.values().sum();
    assert!(count <= 8, "{count} for {EACH} readers: {heard:#?}");

    // so is evidence, which changes the cost
    world.pass(20);
    running.append(&world, 0, 20).await;
    statements.take();
    let begun = Instant::now();
    for stream in &mut runs {
        assert_eq!(stream.named("cost").await.data["seconds_billed"], 20);
    }
    let (counted, _) = sent_since(begun, &statements);
    let count: u64 = counted.values().sum();
    assert!(count <= 4, "{count} for {EACH} readers: {counted:#?}");

    // rooms are given back with their last reader
    drop(runs);
    idle(2).await;
    statements.take();
    let begun = Instant::now();
    idle(2).await;
    let none = (BTreeMap::new(), 0);
    assert_eq!(sent_since(begun, &statements), none, "nothing runs that anybody follows");
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_the_database_was_away_is_told() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let mut stream = Stream::open(&world, &running.id, &running.renter.token, None).await;
    stream.named("cost").await;
    // an entry that nobody is told of, as if its notification had been lost with the connection
    let id: domain::id::RentalId = running.id.parse().unwrap();
    sqlx::query(
        "INSERT INTO rental_events (rental_id, at, kind, detail) VALUES ($1, now(), 'state', '{\"state\": \"lost\"}')",
    )
    .bind(id.uuid())
    .execute(world.store.pool())
    .await
    .unwrap();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    )
    .execute(world.store.pool())
    .await
    .unwrap();
    while stream.named("state").await.data["state"] != "lost" {}
}
