//! Bookings that share a transaction: what becomes of each is what would become of it alone.

use std::{collections::BTreeMap, time::Duration};

use domain::id::{OfferId, QuoteId};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, pool::PoolConnection};

use crate::{
    fixture::{Person, Rig, World},
    http::Reply,
};

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

/// Who waits for a lock now, of the bookings.
async fn stuck(pool: &PgPool) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn until_stuck(pool: &PgPool, count: usize) -> Vec<i32> {
    for _ in 0..200 {
        let pids = stuck(pool).await;
        if pids.len() >= count {
            return pids;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nobody waits");
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

/// A transaction is kept busy, so that who comes gathers.
async fn plugged<T>(
    world: &World,
    (renter, _, quote): &(Person, Rig, Value),
    crowd: impl Future<Output = T>,
) -> T {
    let plug = Plug::of(world, quote, "busy").await;
    let crowd = async {
        until_stuck(world.store.pool(), 1).await;
        crowd.await
    };
    let release = async {
        until_stuck(world.store.pool(), 1).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        plug.pull().await;
    };
    let (held, crowd, ()) = tokio::join!(world.book(renter, quote, "busy"), crowd, release);
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
    let world = World::new().await;
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

    let crowd = async {
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
        join_all(bookings).await
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
    let world = World::new().await;
    let all = pairs(&world, 7).await;
    let (busy, crowd) = all.split_first().unwrap();
    // somebody claims one of the keys for something else, and does not end
    let plug = Plug::of(&world, &crowd[3].2, "k").await;
    let last = &crowd[5];
    let blocked = world.book(&crowd[3].0, &crowd[3].2, "k");
    let others = crowd.iter().enumerate().filter(|(n, _)| *n != 3);
    let others = join_all(others.map(|(_, (renter, _, quote))| world.book(renter, quote, "k")));
    let (blocked, others, ()) = tokio::join!(
        async {
            until_stuck(world.store.pool(), 1).await;
            blocked.await
        },
        plugged(&world, busy, others),
        async {
            // until the others are there
            for _ in 0..400 {
                if stored(&world).await.0 >= 6 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            plug.pull().await;
        }
    );
    for reply in others.into_iter().chain([blocked]) {
        reply.ok(201);
    }
    assert_eq!(stored(&world).await.0, 7);
    assert_eq!(told(&world.book(&last.0, &last.2, "k").await), "201 again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_that_is_booked_already_does_not_make_the_others_go_alone() {
    let world = World::new().await;
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
    let replies = plugged(&world, busy, join_all(crowd)).await;
    let counts = count(&replies);
    assert_eq!((counts["201"], counts["409 already-exists"]), (4, 1));
    let (rentals, transactions) = stored(&world).await;
    assert!(rentals == 6 && transactions <= 4, "{rentals} rentals in {transactions} transactions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_half_way_leaves_nothing_and_says_so() {
    let world = World::new().await;
    let all = pairs(&world, 5).await;
    let (busy, crowd) = all.split_first().unwrap();
    let plug = Plug::of(&world, &crowd[3].2, "k").await;
    let booked = join_all(crowd.iter().map(|(renter, _, quote)| world.book(renter, quote, "k")));
    let pool = world.store.pool();
    let (lost, ()) = tokio::join!(plugged(&world, busy, booked), async {
        // the one that keeps a transaction busy, and then the crowd
        let plugs = until_stuck(pool, 1).await;
        loop {
            let pids = stuck(pool).await;
            if let Some(pid) = pids.iter().find(|pid| !plugs.contains(pid)) {
                let killed: bool = sqlx::query_scalar("SELECT pg_terminate_backend($1)")
                    .bind(pid)
                    .fetch_one(pool)
                    .await
                    .unwrap();
                assert!(killed);
                break;
            }
            if pids.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let counts = count(&lost);
    assert!(counts.get("503 unavailable").is_some_and(|count| *count >= 2), "{counts:?}");
    plug.pull().await;
    for (renter, _, quote) in crowd {
        world.book(renter, quote, "k").await.ok(201);
    }
    assert_eq!(stored(&world).await.0, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_is_booked_all_the_same() {
    let world = World::new().await;
    let all = pairs(&world, 4).await;
    let (busy, crowd) = all.split_first().unwrap();
    let gone = async {
        let calls = crowd.iter().map(|(renter, _, quote)| {
            tokio::time::timeout(Duration::from_millis(200), world.book(renter, quote, "k"))
        });
        for outcome in join_all(calls).await {
            assert!(outcome.is_err(), "they wait for those before them");
        }
    };
    plugged(&world, busy, gone).await;
    for (renter, _, quote) in crowd {
        let reply = world.book(renter, quote, "k").await;
        assert_eq!(told(&reply), "201 again");
        assert_eq!(reply.body["rental"]["state"], json!("awaiting_funds"));
    }
    assert_eq!(stored(&world).await.0, 4);
}
