//! Bookings that share a transaction: what becomes of each is what would become of it alone.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use domain::id::{OfferId, QuoteId};
use futures_util::future::{Either, join_all, select};
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::time::Instant;

use crate::{
    fixture::{Person, Rig, World},
    http::Reply,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Who waits for the others of a crowd is not sent away meanwhile.
fn patient(config: &mut api::ApiConfig) {
    config.request_timeout = 2 * PATIENCE;
}

/// A transaction that has written a key and does not end: whoever books with it waits.
struct Plug(PoolConnection<Postgres>);

impl Plug {
    async fn of(world: &World, quote: &Value, key: &str) -> Self {
        let mut connection = world.store.pool().acquire().await.unwrap();
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
        sqlx::query(
            "INSERT INTO idempotency_keys (account_id, key, request_hash, status, response, created_at)
             SELECT account_id, $2, decode(repeat('00', 32), 'hex'), 500, 'null', created_at FROM quotes WHERE id = $1",
        )
        .bind(id_of(quote).uuid())
        .bind(key)
        .execute(&mut *connection)
        .await
        .unwrap();
        Self(connection)
    }

    async fn pull(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut *self.0).await.unwrap();
    }
}

fn id_of(quote: &Value) -> QuoteId {
    quote["id"].as_str().unwrap().parse().unwrap()
}

/// Whoever writes this key goes on once it is opened. What they wait for is no lock: bookings that share a transaction have
/// a second's patience for those, and a crowd may take longer to gather.
struct Gate(PoolConnection<Postgres>);

impl Gate {
    async fn before(world: &World, key: &str) -> Self {
        let mut connection = world.store.pool().acquire().await.unwrap();
        sqlx::raw_sql(
            "CREATE OR REPLACE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 WHILE NOT pg_try_advisory_xact_lock_shared(hashtext(NEW.key)) LOOP
                     PERFORM pg_sleep(0.01);
                 END LOOP;
                 RETURN NEW;
             END $$;
             CREATE OR REPLACE TRIGGER gate BEFORE INSERT ON idempotency_keys
                 FOR EACH ROW EXECUTE FUNCTION gate()",
        )
        .execute(&mut *connection)
        .await
        .unwrap();
        sqlx::query("SELECT pg_advisory_lock(hashtext($1))")
            .bind(key)
            .execute(&mut *connection)
            .await
            .unwrap();
        Self(connection)
    }

    async fn open(mut self) {
        sqlx::raw_sql("SELECT pg_advisory_unlock_all()").execute(&mut *self.0).await.unwrap();
    }
}

/// Asks until there is an answer.
async fn until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come to pass");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until one of the bookings waits for a lock.
async fn until_stuck(pool: &PgPool) {
    let query = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until(async || {
        let stuck: i64 = sqlx::query_scalar(query).fetch_one(pool).await.unwrap();
        (stuck > 0).then_some(())
    })
    .await;
}

/// Who waits at gates, once they are so many; those first that began first.
async fn until_at_gates(pool: &PgPool, count: usize) -> Vec<i32> {
    let query = "SELECT pid FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event = 'PgSleep' ORDER BY xact_start";
    until(async || {
        let pids: Vec<i32> = sqlx::query_scalar(query).fetch_all(pool).await.unwrap();
        (pids.len() >= count).then_some(pids)
    })
    .await
}

/// Waits until there are so many rentals.
async fn until_booked(world: &World, count: i64) {
    until(async || (stored(world).await.0 >= count).then_some(())).await;
}

/// Renters with a quote each, for a machine each.
async fn pairs(world: &World, count: u8) -> Vec<(Person, Rig, Value)> {
    let mut pairs = Vec::new();
    for n in 0..count {
        let rig = world.rig(1 + 2 * n, 1, "0.65").await;
        let renter = world.sign_in(200 + n).await;
        let quote = world.quote(&renter, &rig).await;
        pairs.push((renter, rig, quote));
    }
    pairs
}

/// Each with the same key.
async fn book_all(world: &World, some: &[(Person, Rig, Value)]) -> Vec<Reply> {
    join_all(some.iter().map(|(renter, _, quote)| world.book(renter, quote, "k"))).await
}

/// A transaction is kept busy until its gate is opened, so that who comes gathers. Another one begins beside it only once
/// four wait.
async fn plugged<T>(
    world: &World,
    (renter, _, quote): &(Person, Rig, Value),
    crowd: impl AsyncFnOnce(Gate) -> T,
) -> T {
    let gate = Gate::before(world, "busy").await;
    let crowd = async {
        until_at_gates(world.store.pool(), 1).await;
        crowd(gate).await
    };
    let (held, crowd) = tokio::join!(world.book(renter, quote, "busy"), crowd);
    held.ok(201);
    crowd
}

/// Rentals, and the transactions that wrote them.
async fn stored(world: &World) -> (i64, i64) {
    let (rentals, transactions, whole): (i64, i64, bool) = sqlx::query_as(
        "SELECT count(*), count(DISTINCT xmin::text),
                count(*) = (SELECT count(*) FROM idempotency_keys) AND count(*) = (SELECT count(*) FROM jobs)
                AND count(*) = (SELECT count(*) FROM rental_events)
                AND (SELECT count(*) = count(DISTINCT gpu_id) FROM rental_gpus)
                AND NOT EXISTS (SELECT FROM rentals r JOIN quotes q ON q.id = r.quote_id
                      WHERE (SELECT count(*) FROM rental_gpus g WHERE g.rental_id = r.id) <> q.gpu_count
                         OR NOT EXISTS (SELECT FROM idempotency_keys k WHERE k.account_id = r.renter_id
                              AND k.status = 201 AND k.xmin::text = r.xmin::text
                              AND (k.response IS NULL OR k.response #>> '{rental,quote_id}'
                                                         = 'quo_' || replace(q.id::text, '-', ''))))
         FROM rentals",
    )
    .fetch_one(world.store.pool())
    .await
    .unwrap();
    assert!(
        whole,
        "each rental has its GPUs, its key, its timer and its entry, and no GPU is held twice"
    );
    (rentals, transactions)
}

fn told(reply: &Reply) -> String {
    let code = reply.body["code"].as_str();
    let again = (reply.header("idempotent-replayed") == "true").then_some("again");
    let words = [code, again].into_iter().flatten();
    words.fold(reply.status.as_u16().to_string(), |told, word| format!("{told} {word}"))
}

fn count(replies: &[Reply]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for reply in replies {
        *counts.entry(told(reply)).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_booked_as_one_after_the_other() {
    let world = World::with(patient).await;
    let all = pairs(&world, 13).await;
    let (busy, rest) = all.split_first().unwrap();
    let (plain, rest) = rest.split_at(4);
    // one of them has quotes for more than may wait for their deposits
    let eager = world.sign_in(240).await;
    let mut wanted = Vec::new();
    for (_, rig, _) in &rest[..5] {
        wanted.push(world.quote(&eager, rig).await);
    }
    // two want the one GPU of a machine
    let rival = world.sign_in(241).await;
    let contested = world.quote(&rival, &rest[5].1).await;
    // one is of an offer that is not what it was
    let offer: OfferId = rest[6].1.offer.parse().unwrap();
    sqlx::query("UPDATE offers SET state = 'paused' WHERE id = $1")
        .bind(offer.uuid())
        .execute(world.store.pool())
        .await
        .unwrap();
    // one key is used for two things
    let (twice, other) = (world.sign_in(242).await, &rest[7].1);
    let second = world.quote(&twice, &plain[0].1).await;
    let first = world.quote(&twice, other).await;

    let crowd = async |gate: Gate| {
        let mut bookings = Vec::new();
        for (renter, _, quote) in plain {
            bookings.push(world.book(renter, quote, "k"));
            bookings.push(world.book(renter, quote, "k"));
            bookings.push(world.book(renter, quote, "other"));
        }
        for (n, quote) in wanted.iter().enumerate() {
            bookings.push(world.book(&eager, quote, ["a", "b", "c", "d", "e"][n]));
        }
        bookings.push(world.book(&rest[5].0, &rest[5].2, "k"));
        bookings.push(world.book(&rival, &contested, "k"));
        bookings.push(world.book(&rest[6].0, &rest[6].2, "k"));
        bookings.push(world.book(&twice, &first, "k"));
        bookings.push(world.book(&twice, &second, "k"));
        bookings.push(world.book(&rival, &rest[7].2, "k"));
        let gathered = async {
            let shared = until(async || {
                let (rentals, transactions) = stored(&world).await;
                (transactions + 1 < rentals).then_some(())
            });
            // if those that are there share little, all that wait do once it is open
            drop(tokio::time::timeout(PATIENCE / 3, shared).await);
            gate.open().await;
        };
        tokio::join!(join_all(bookings), gathered).0
    };
    let replies = plugged(&world, busy, crowd).await;
    let (twins, replies) = replies.split_at(12);
    for twins in twins.chunks(3) {
        let counts = count(twins);
        // whichever key was first, the quote is booked once
        assert!(
            counts["409 already-exists"] + counts.get("201 again").unwrap_or(&0) == 2,
            "{counts:?}"
        );
        assert_eq!(counts["201"], 1);
        let bodies: Vec<_> = twins.iter().filter(|reply| reply.status == 201).collect();
        assert!(bodies.iter().all(|reply| reply.body == bodies[0].body));
    }
    assert_eq!(count(&replies[..5])["201"], 3);
    assert_eq!(count(&replies[..5])["409 state-conflict"], 2);
    let rivals = count(&replies[5..7]);
    assert_eq!((rivals["201"], rivals["409 offer-taken"]), (1, 1));
    assert_eq!(told(&replies[7]), "409 offer-changed");
    let twice = count(&replies[8..10]);
    // the other one's GPU may be taken, but its key is looked at first
    assert_eq!(twice.get("201").or(twice.get("409 offer-taken")), Some(&1), "{twice:?}");
    assert_eq!(told(&replies[10]), "404 not-found");
    let (rentals, transactions) = stored(&world).await;
    assert!(rentals > 8, "{rentals}");
    assert!(transactions < rentals - 1, "{rentals} rentals in {transactions} transactions");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_does_not_take_the_others_along() {
    let world = World::with(patient).await;
    let all = pairs(&world, 7).await;
    let (busy, crowd) = all.split_first().unwrap();
    let (four, late) = crowd.split_at(4);
    let (replies, others) = plugged(&world, busy, async |gate| {
        // somebody claims one of the keys for something else, and does not end
        let plug = Plug::of(&world, &four[3].2, "k").await;
        let others = async {
            // the four share a transaction, which waits for that key
            until_stuck(world.store.pool()).await;
            gate.open().await;
            let replies = book_all(&world, late).await;
            // all but the one are booked while it waits
            until_booked(&world, 6).await;
            plug.pull().await;
            replies
        };
        tokio::join!(book_all(&world, four), others)
    })
    .await;
    for reply in replies.into_iter().chain(others) {
        reply.ok(201);
    }
    assert_eq!(stored(&world).await.0, 7);
    let last = &crowd[5];
    assert_eq!(told(&world.book(&last.0, &last.2, "k").await), "201 again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_that_is_booked_already_does_not_make_the_others_go_alone() {
    let world = World::with(patient).await;
    let all = pairs(&world, 6).await;
    let ((busy, rest), again) = (all[1..].split_first().unwrap(), &all[0]);
    world.book(&again.0, &again.2, "first").await.ok(201);
    // its GPU is free again
    sqlx::query(
        "UPDATE rental_gpus SET during = tstzrange(lower(during), lower(during) + interval '1 s')",
    )
    .execute(world.store.pool())
    .await
    .unwrap();
    world.pass(5);
    let mut crowd: Vec<_> =
        rest.iter().map(|(renter, _, quote)| world.book(renter, quote, "k")).collect();
    crowd.push(world.book(&again.0, &again.2, "second"));
    let replies = plugged(&world, busy, async |gate| {
        let gathered = async {
            // the first, and what came of four that waited
            until_booked(&world, 4).await;
            gate.open().await;
        };
        tokio::join!(join_all(crowd), gathered).0
    })
    .await;
    let counts = count(&replies);
    assert_eq!((counts["201"], counts["409 already-exists"]), (4, 1));
    let (rentals, transactions) = stored(&world).await;
    assert!(rentals == 6 && transactions <= 4, "{rentals} rentals in {transactions} transactions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_half_way_leaves_nothing_and_says_so() {
    let world = World::with(patient).await;
    let all = pairs(&world, 5).await;
    let (busy, crowd) = all.split_first().unwrap();
    let keys = ["k", "k", "k", "held"];
    let held = Gate::before(&world, "held").await;
    let pool = world.store.pool();
    let lost = plugged(&world, busy, async |gate| {
        let calls = crowd.iter().zip(keys);
        let calls = calls.map(|((renter, _, quote), key)| world.book(renter, quote, key));
        let cut = async {
            // the one that keeps a transaction busy, and then the crowd
            let pids = until_at_gates(pool, 2).await;
            let killed: bool = sqlx::query_scalar("SELECT pg_terminate_backend($1)")
                .bind(pids[1])
                .fetch_one(pool)
                .await
                .unwrap();
            assert!(killed);
            gate.open().await;
        };
        tokio::join!(join_all(calls), cut).0
    })
    .await;
    let counts = count(&lost);
    assert!(counts.get("503 unavailable").is_some_and(|count| *count >= 2), "{counts:?}");
    held.open().await;
    for ((renter, _, quote), key) in crowd.iter().zip(keys) {
        world.book(renter, quote, key).await.ok(201);
    }
    assert_eq!(stored(&world).await.0, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_is_booked_all_the_same() {
    let world = World::with(|config| {
        patient(config);
        config.unfunded_limit = 4;
    })
    .await;
    let all = pairs(&world, 5).await;
    let (busy, rest) = all.split_first().unwrap();
    let (last, rest) = rest.split_last().unwrap();
    // of the account whose booking keeps the transaction busy: they cannot go beside it
    let mut crowd = Vec::new();
    for ((_, rig, _), key) in rest.iter().zip(["a", "b", "c"]) {
        crowd.push((world.quote(&busy.0, rig).await, key));
    }
    plugged(&world, busy, async |gate| {
        let reply = {
            let calls = crowd.iter().map(|(quote, key)| world.book(&busy.0, quote, key));
            let gone = pin!(join_all(calls));
            let last = pin!(world.book(&last.0, &last.2, "k"));
            // it goes beside the busy one as the fourth that waits: the three wait, too
            let Either::Right((reply, _)) = select(gone, last).await else {
                panic!("they wait for those before them");
            };
            reply
        };
        reply.ok(201);
        gate.open().await;
    })
    .await;
    for (quote, key) in &crowd {
        let reply = world.book(&busy.0, quote, key).await;
        assert_eq!(told(&reply), "201 again");
        assert_eq!(reply.body["rental"]["state"], json!("awaiting_funds"));
    }
    assert_eq!(stored(&world).await.0, 5);
}
