//! Following all that an account has.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use domain::rental::RentalEvent;
use serde_json::{Value, json};
use store::{TxError, account_events, webhooks::expiries};
use testkit::Statements;

use crate::{
    api_keys::make,
    events::{Seen, Stream},
    fixture::{World, key, policy},
    payments, rpc,
    running::Running,
};

const PATH: &str = "/v1/events";

/// A stream, after its first event.
async fn follow(world: &World, token: &str) -> Stream {
    let mut stream = Stream::at(world, PATH, token, None).await;
    assert_eq!(stream.next().await.unwrap().name, "begin");
    stream
}

/// So many events, each of which says what it is.
async fn hear(stream: &mut Stream, count: usize) -> Vec<Seen> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let seen = stream.next().await.unwrap();
        assert_eq!(seen.data["type"], seen.name.as_str());
        assert!(seen.data["timestamp"].as_str().unwrap().ends_with('Z'));
        heard.push(seen);
    }
    heard
}

fn names(heard: &[Seen]) -> Vec<&str> {
    heard.iter().map(|seen| seen.name.as_str()).collect()
}

/// Nothing comes for a while.
async fn is_quiet(stream: &mut Stream) {
    let next = tokio::time::timeout(Duration::from_millis(400), stream.next()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_are_told_of_all_that_is_theirs_by_every_process() {
    let world = World::new().await;
    let other =
        World::beside(world.store.clone(), world.clock.clone(), &rpc::start().await, |_| {}).await;
    let rig = world.rig(1, 1, "0.65").await;
    let (renter, stranger) = (world.sign_in(9).await, world.sign_in(8).await);
    let mut renters = follow(&other, &renter.token).await;
    let mut providers = follow(&other, &rig.provider.token).await;
    let mut strangers = follow(&world, &stranger.token).await;

    let booking = world.start(&renter, &rig).await;
    let id = booking["rental"]["id"].as_str().unwrap();
    let heard = hear(&mut renters, 3).await;
    assert_eq!(names(&heard), ["rental.booked", "rental.funded", "rental.ready"]);
    for seen in &heard {
        assert_eq!(
            (&seen.data["data"]["rental_id"], &seen.data["data"]["role"]),
            (&json!(id), &json!("renter"))
        );
    }
    let heard = hear(&mut providers, 4).await;
    let all = ["rental.booked", "rental.funded", "offer.rented", "rental.ready"];
    assert_eq!(names(&heard), all);
    assert_eq!(heard[2].data["data"]["offer_id"], rig.offer.as_str());

    // what is done to an offer, and which machine's
    let path = format!("/v1/offers/{}", rig.offer);
    let paused =
        world.call("PATCH", &path).auth(&rig.provider.token).json(&json!({"state": "paused"}));
    paused.header("if-match", "\"1-listed\"").send().await.ok(200);
    let heard = hear(&mut providers, 1).await;
    assert_eq!(names(&heard), ["offer.changed"]);
    let said = &heard[0].data["data"];
    assert_eq!((&said["state"], &said["machine_id"]), (&json!("paused"), &json!(rig.machine)));

    let stop = world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s");
    stop.send().await.ok(202);
    assert_eq!(names(&hear(&mut renters, 1).await), ["rental.ended"]);
    assert_eq!(names(&hear(&mut providers, 1).await), ["rental.ended"]);
    is_quiet(&mut strangers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_broke_off_and_says_so_where_it_cannot() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let mut stream = follow(&world, &renter.token).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    let first = hear(&mut stream, 1).await.remove(0);
    drop(stream);

    world.advance(id, RentalEvent::LockIncluded).await;
    world.advance(id, RentalEvent::LockFinal { now: world.now() }).await;
    let stop = world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s");
    stop.send().await.ok(202);
    let mut places = BTreeSet::from([first.place.clone().unwrap()]);
    let mut again = Stream::at(&world, PATH, &renter.token, first.place.as_deref()).await;
    let heard = hear(&mut again, 1).await;
    assert_eq!(names(&heard), ["rental.funded"]);
    places.extend(heard.iter().map(|seen| seen.place.clone().unwrap()));
    is_quiet(&mut again).await;
    assert_eq!(places.len(), 2, "ids are of their own");
    drop(again);

    for odd in ["7", "yesterday", "1-1-1-1"] {
        let said = world.get(PATH).auth(&renter.token).header("last-event-id", odd).send().await;
        said.problem(400, "invalid-request");
    }
    // of a database that knew more than this one
    let unknown = Stream::at(&world, PATH, &renter.token, Some("ffffffffffff-1-1800000000"));
    assert_eq!(unknown.await.next().await.unwrap().name, "again");
    let old = aged(first.place.as_deref().unwrap(), 6 * 86_400);
    let mut late = Stream::at(&world, PATH, &renter.token, Some(&old)).await;
    assert_eq!(late.next().await.unwrap().name, "again");
    is_quiet(&mut late).await;
    // nobody looked for a week, and nothing was kept
    sqlx::raw_sql("DELETE FROM account_streams").execute(world.store.pool()).await.unwrap();
    let place = first.place.as_deref();
    let mut late = Stream::at(&world, PATH, &renter.token, place).await;
    assert_eq!(late.next().await.unwrap().name, "again");
}

/// An id that is so many seconds older.
fn aged(place: &str, seconds: u64) -> String {
    let (place, at) = place.rsplit_once('-').unwrap();
    format!("{place}-{}", at.parse::<u64>().unwrap() - seconds)
}

/// What is told late is no younger for it: the next time, what came after it may be gone.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_twice_is_told_what_is_gone() {
    const LONG: u64 = 5 * 86_400 + 77_760; // 5.9 days
    let world = World::new().await;
    let renter = world.sign_in(9).await;
    let mut stream = Stream::at(&world, PATH, &renter.token, None).await;
    let begin = stream.next().await.unwrap().place.unwrap();
    drop(stream);
    for kind in ["test.one", "test.two"] {
        let told = sqlx::query("SELECT hook(id, $1, now(), '{}') FROM accounts WHERE address = $2");
        let told = told.bind(kind).bind(renter.key.address().into_array());
        told.execute(world.store.pool()).await.unwrap();
    }
    let pass = async || {
        sqlx::query("UPDATE account_events SET kept_at = kept_at - make_interval(secs => $1)")
            .bind(f64::from(u32::try_from(LONG).unwrap()))
            .execute(world.store.pool())
            .await
            .unwrap();
        let mut connection = world.store.pool().acquire().await.unwrap();
        account_events::forget(&mut connection, 100).await.unwrap()
    };
    assert_eq!(pass().await, 0);
    let mut late = Stream::at(&world, PATH, &renter.token, Some(&aged(&begin, LONG))).await;
    let one = hear(&mut late, 1).await.remove(0);
    assert_eq!(one.name, "test.one");
    drop(late);
    assert_eq!(pass().await, 2, "the other is gone, unseen");
    let place = aged(&one.place.unwrap(), LONG);
    let mut later = Stream::at(&world, PATH, &renter.token, Some(&place)).await;
    assert_eq!(later.next().await.unwrap().name, "again");
}

/// Transactions that announce something commit one after the other; a booking's is not among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_booking_is_told_and_announces_nothing() {
    let world = payments::world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let other = world.rig(3, 1, "0.65").await;
    let payer = world.sign_in(40).await;
    let mut renters = follow(&world, &payer.token).await;
    let mut providers = follow(&world, &rig.provider.token).await;
    let quote = world.quote(&payer, &rig).await;
    let order = payments::order(&other);
    let accepted = payments::required(&world, "k", &order).await;
    let sent = payments::paid_by(&accepted, &key(40));
    let mut listener = sqlx::postgres::PgListener::connect_with(world.store.pool()).await.unwrap();
    listener.listen_all(["weir_accounts", "rental_events", "weir_revoked"]).await.unwrap();
    world.book(&payer, &quote, "q").await.ok(201);
    payments::pay(&world, "k", &order, &sent).await.ok(202);
    assert_eq!(names(&hear(&mut renters, 2).await), ["rental.booked", "rental.booked"]);
    assert_eq!(names(&hear(&mut providers, 1).await), ["rental.booked"]);
    sqlx::raw_sql("NOTIFY weir_accounts, 'last'").execute(world.store.pool()).await.unwrap();
    let heard = listener.recv().await.unwrap();
    assert_eq!((heard.channel(), heard.payload()), ("weir_accounts", "last"));
}

/// A transaction that began before may commit after: what it tells comes before, or the reader would never see it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_that_commits_out_of_order() {
    let world = World::new().await;
    let renter = world.sign_in(9).await;
    let mut stream = follow(&world, &renter.token).await;
    let told = "SELECT hook(id, $1, now(), '{}') FROM accounts WHERE address = $2";
    let address = renter.key.address();
    let mut connection = world.store.pool().acquire().await.unwrap();
    let mut slow = testkit::begin(&mut connection).await.unwrap();
    sqlx::query(told).bind("test.slow").bind(address.as_slice()).execute(&mut *slow).await.unwrap();
    let quick = sqlx::query(told).bind("test.quick").bind(address.as_slice());
    quick.execute(world.store.pool()).await.unwrap();
    is_quiet(&mut stream).await;
    slow.commit().await.unwrap();
    assert_eq!(names(&hear(&mut stream, 2).await), ["test.slow", "test.quick"]);
    is_quiet(&mut stream).await;

    // whoever wrote while an account's first stream was opened left nothing for it: it begins only after them
    let other = world.sign_in(8).await;
    let address = other.key.address();
    let mut slow = testkit::begin(&mut connection).await.unwrap();
    let quick = sqlx::query(told).bind("test.unheard").bind(address.as_slice());
    quick.execute(&mut *slow).await.unwrap();
    sqlx::raw_sql("SELECT pg_current_xact_id()").execute(&mut *slow).await.unwrap();
    let mut stream = Stream::at(&world, PATH, &other.token, None).await;
    is_quiet(&mut stream).await;
    // nor does one begin before that is opened after it, though events are kept since
    drop(stream);
    let mut stream = Stream::at(&world, PATH, &other.token, None).await;
    is_quiet(&mut stream).await;
    // or after a process that had them kept and got no further
    let third = world.sign_in(7).await;
    let kept = "INSERT INTO account_streams SELECT id FROM accounts WHERE address = $1";
    let kept = sqlx::query(kept).bind(third.key.address().into_array());
    kept.execute(world.store.pool()).await.unwrap();
    let mut thirds = Stream::at(&world, PATH, &third.token, None).await;
    is_quiet(&mut thirds).await;
    slow.commit().await.unwrap();
    assert_eq!(stream.next().await.unwrap().name, "begin");
    assert_eq!(thirds.next().await.unwrap().name, "begin");
    is_quiet(&mut stream).await;

    // once they are over, nobody who writes since is waited for
    let mut slow = testkit::begin(&mut connection).await.unwrap();
    sqlx::raw_sql("SELECT pg_current_xact_id()").execute(&mut *slow).await.unwrap();
    let mut stream = follow(&world, &other.token).await;
    slow.commit().await.unwrap();
    is_quiet(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_hears_what_it_may_read() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let owner = &running.rig.provider;
    let narrow = make(&world, owner, &["rentals:read"], json!({})).await.person;
    let wide = make(&world, owner, &["rentals:read", "machines:read"], json!({})).await.person;
    let limits = json!({"machines": [running.rig.machine]});
    let limited = make(&world, owner, &["rentals:read"], limits).await.person;
    world.get(PATH).auth(&limited.token).send().await.problem(403, "forbidden");
    let mut narrow = follow(&world, &narrow.token).await;
    let mut wide = follow(&world, &wide.token).await;
    let path = format!("/v1/offers/{}", running.rig.offer);
    let paused = world.call("PATCH", &path).auth(&owner.token).json(&json!({"state": "paused"}));
    paused.header("if-match", "\"1-listed\"").send().await.ok(200);
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    assert_eq!(names(&hear(&mut wide, 2).await), ["offer.changed", "rental.ended"]);
    assert_eq!(names(&hear(&mut narrow, 1).await), ["rental.ended"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_that_nobody_booked_is_told_once() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    world.quote(&renter, &rig).await; // before anybody asked
    let mut stream = follow(&world, &renter.token).await;
    let unused = world.quote(&renter, &rig).await;
    let used = world.quote(&renter, &rig).await;
    world.book(&renter, &used, "k").await.ok(201);
    assert_eq!(names(&hear(&mut stream, 1).await), ["rental.booked"]);
    let tell = || {
        let now = world.now();
        world.store.write("test.expire", move |tx| {
            Box::pin(async move { Ok::<_, TxError<String>>(expiries::tell(tx, now, 10).await?) })
        })
    };
    world.pass(policy().quote_ttl.get() + 30);
    assert_eq!(tell().await.unwrap(), 0, "a booking may be on its way");
    world.pass(1);
    assert_eq!(tell().await.unwrap(), 1);
    assert_eq!(tell().await.unwrap(), 0);
    let heard = hear(&mut stream, 1).await.remove(0);
    assert_eq!(
        (heard.name.as_str(), &heard.data["data"]["quote_id"]),
        ("quote.expired", &unused["id"])
    );
    assert_eq!(heard.data["timestamp"], unused["expires_at"]);
}

/// Nothing comes to any for so many times 0.4 seconds.
async fn all_are_quiet(streams: &mut [Stream], times: usize) {
    for _ in 0..times {
        futures_util::future::join_all(streams.iter_mut().map(is_quiet)).await;
    }
}

// one thread, so that all statements are sent from it, and those of other tests are not
#[tokio::test]
async fn streams_of_accounts_are_idle_at_no_cost() {
    const EACH: usize = 20;
    // each looks once for news and once more, and for what is not certain yet six times, and then every other second
    let most = |begun: Instant| 20 * (8 + begun.elapsed().as_secs() / 2);
    let statements = Statements::default();
    let _counting = tracing::subscriber::set_default(statements.clone());
    let world = World::with(|config| config.limits = api::LimitConfig::off()).await;
    let rig = world.rig(1, 1, "0.65").await;
    let (renter, other) = (world.sign_in(9).await, world.sign_in(8).await);
    let mut streams = Vec::new();
    for _ in 0..EACH {
        streams.push(follow(&world, &renter.token).await);
    }
    let mut others = follow(&world, &other.token).await;
    let about = ["account_events", "account_streams", "pg_snapshot_xmax", "sessions", "tokens"];
    all_are_quiet(&mut streams, 5).await;
    let opened = Statements::mentioning(&statements.take(), &about);
    assert!(opened >= 20, "statements are counted: {opened}");
    let begun = Instant::now();
    all_are_quiet(&mut streams, 5).await;
    let mut quiet = statements.take();
    let looks = quiet.extract_if(.., |text, _| text.contains("SELECT DISTINCT account_id"));
    let looks: u64 = looks.map(|(_, count)| count).sum();
    let seconds = begun.elapsed().as_secs();
    assert!((1..=seconds + 1).contains(&looks), "one look per second for all: {looks}");
    assert_eq!(Statements::mentioning(&quiet, &about), 0, "{quiet:#?}");

    let begun = Instant::now();
    let quote = world.quote(&renter, &rig).await;
    world.book(&renter, &quote, "k").await.ok(201);
    for stream in &mut streams {
        hear(stream, 1).await;
    }
    is_quiet(&mut others).await;
    let reads = || {
        Statements::mentioning(&statements.take(), &["FROM account_events WHERE account_id = $1"])
    };
    // a stream goes on only while somebody reads it
    all_are_quiet(&mut streams, 3).await;
    let read = reads();
    assert!((20..=most(begun)).contains(&read), "each reads what is new, and once more: {read}");

    // however much happens to an account that nobody follows here
    let pool = world.store.pool();
    let kept = "INSERT INTO account_streams SELECT id FROM accounts WHERE address = $1";
    let kept = sqlx::query(kept).bind(rig.provider.key.address().into_array());
    kept.execute(pool).await.unwrap();
    let flood = "DO $$ BEGIN FOR i IN 1..1000 LOOP
                     PERFORM hook(account_id, 'test.flood', now(), '{}')
                     FROM account_streams ORDER BY opened_at DESC LIMIT 1;
                     COMMIT;
                 END LOOP; END $$";
    sqlx::raw_sql(flood).execute(pool).await.unwrap();
    all_are_quiet(&mut streams, 3).await;
    assert_eq!(reads(), 0);

    // while a transaction goes on, nothing that is newer can be told; it is asked for seldom
    let mut connection = pool.acquire().await.unwrap();
    let mut slow = testkit::begin(&mut connection).await.unwrap();
    sqlx::raw_sql("SELECT pg_current_xact_id()").execute(&mut *slow).await.unwrap();
    let told =
        sqlx::query("SELECT hook(id, 'test.held', now(), '{}') FROM accounts WHERE address = $1");
    told.bind(renter.key.address().into_array()).execute(pool).await.unwrap();
    let begun = Instant::now();
    all_are_quiet(&mut streams, 8).await;
    let read = reads();
    assert!((60..=most(begun)).contains(&read), "each seven times or so: {read}");
    slow.commit().await.unwrap();
    for stream in &mut streams {
        assert_eq!(names(&hear(stream, 1).await), ["test.held"]);
    }
}

fn of(seen: &[Seen], name: &str) -> Vec<Value> {
    let some = seen.iter().filter(|seen| seen.name == name);
    some.map(|seen| seen.data["data"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_case_are_told_what_becomes_of_it() {
    let world = crate::disputes::world().await;
    let running = Running::new(&world).await;
    let mut renters = follow(&world, &running.renter.token).await;
    let mut providers = follow(&world, &running.rig.provider.token).await;
    let piece =
        json!({"sha256": format!("0x{}", "01".repeat(32)), "uri": "https://example.com/log"});
    let body =
        json!({"rental_id": running.id, "code": "abuse", "statement": "s", "evidence": [piece]});
    let case =
        world.post("/v1/disputes").auth(&running.renter.token).json(&body).send().await.ok(201);
    let path = format!("/v1/disputes/{}/withdraw", case["id"].as_str().unwrap());
    world.post(&path).auth(&running.renter.token).send().await;
    let heard = hear(&mut providers, 3).await;
    assert_eq!(names(&heard), ["dispute.filed", "dispute.evidence", "dispute.withdrawn"]);
    for said in heard.iter().map(|seen| &seen.data["data"]) {
        assert_eq!((&said["dispute_id"], &said["rental_id"]), (&case["id"], &json!(running.id)));
        assert_eq!((&said["role"], &said["opened_by"]), (&json!("provider"), &json!("renter")));
    }
    assert_eq!(of(&heard, "dispute.evidence")[0]["sha256"], "01".repeat(32));
    assert_eq!(names(&hear(&mut renters, 3).await), names(&heard));
}
