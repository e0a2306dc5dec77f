//! The pool's promises: what is begun ends, and a connection that is lent serves.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

use std::sync::Arc;

use domain::{
    money::FeeBps,
    time::{Seconds, UnixMillis},
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use store::{Policy, Store, StoreError, TxError};
use testkit::{ManualClock, TestDb};

fn policy() -> Policy {
    let second = Seconds::ONE;
    Policy {
        fee: FeeBps::quotable(1_200).unwrap(),
        quote_ttl: second,
        funding_ttl: second,
        ready_ttl: second,
        evidence_timeout: second,
        max_outage: second,
        expiring_lead: second,
        stop_grace: second,
        holdback: second,
        release_every: Seconds::ZERO,
        start_slack: second,
    }
}

async fn of(connections: u32) -> (Store, TestDb) {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
    (Store::connect(&db.url, connections, clock, policy()).await.unwrap(), db)
}

async fn store() -> Store {
    of(1).await.0
}

async fn pid(connection: &mut sqlx::PgConnection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn what_is_kept_is_lent_next_and_goes_back_to_the_pool_when_it_has_rested() {
    let (store, db) = of(8).await;
    let mut connection = store.borrow().await.unwrap();
    let first = pid(&mut connection).await;
    let mut other = store.borrow().await.unwrap();
    store.keep(connection);
    let mut again = store.borrow().await.unwrap();
    assert_eq!(pid(&mut again).await, first, "the one that was kept");
    store.keep(again);
    assert_eq!(store.pool().num_idle(), 0, "the pool does not know of it");
    let second = pid(&mut other).await;
    // a server that restarted meanwhile is noticed, and not by whoever borrows
    let ended: bool = sqlx::query_scalar("SELECT pg_terminate_backend($1)")
        .bind(first)
        .fetch_one(&db.pool)
        .await
        .unwrap();
    assert!(ended);
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    let mut fresh = store.borrow().await.unwrap();
    let fresh = pid(&mut fresh).await;
    assert!(fresh != first && fresh != second, "a connection that lives");
}

#[tokio::test]
async fn nothing_is_kept_that_somebody_may_wait_for() {
    let (store, _db) = of(8).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(store.borrow().await.unwrap());
    }
    // all are lent: it goes to whoever waits for the pool
    store.keep(all.pop().unwrap());
    let read = store.read().await.unwrap();
    store.keep(all.pop().unwrap());
    drop(read);
    tokio::time::timeout(std::time::Duration::from_secs(5), async {
        drop(all);
        store.close().await;
    })
    .await
    .expect("a closed store waits for nobody");
}

#[tokio::test]
async fn one_that_has_rested_is_not_held_while_another_is_waited_for() {
    let (store, _db) = of(8).await;
    let kept = store.borrow().await.unwrap();
    let mut all = Vec::new();
    while all.len() < 6 {
        all.push(store.pool().acquire().await.unwrap());
    }
    store.keep(kept);
    all.push(store.pool().acquire().await.unwrap());
    // the eighth is on the shelf, and serves whoever asks, either way
    assert_eq!((store.pool().size(), store.pool().num_idle()), (8, 0));
    drop(store.read().await.unwrap());
    store.keep(store.borrow().await.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    drop(store.borrow().await.unwrap());
}

#[tokio::test]
async fn a_small_pool_keeps_nothing() {
    let (store, _db) = of(1).await;
    store.keep(store.borrow().await.unwrap());
    drop(store.read().await.unwrap());
}

#[tokio::test]
async fn a_refused_unit_of_work_leaves_nothing() {
    let store = store().await;
    let refused = store
        .write("refuse", |tx| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO sign_in_nonces VALUES ('refused1', now(), now() + '1 day', NULL)",
                )
                .execute(tx)
                .await?;
                Err::<(), _>(TxError::Refused("no"))
            })
        })
        .await;
    assert!(matches!(refused, Err(TxError::Refused("no"))));
    let mut connection = store.read().await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM sign_in_nonces")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_unit_of_work_begins_on_a_connection_that_lives() {
    let (store, db) = of(16).await;
    let nothing =
        || store.write("nothing", |_| Box::pin(async move { Ok::<_, TxError<StoreError>>(()) }));
    // several that have just served, kept or not
    let mut lent = Vec::new();
    for _ in 0..3 {
        lent.push(store.borrow().await.unwrap());
    }
    let mut pids = Vec::new();
    for connection in &mut lent {
        pids.push(pid(connection).await);
    }
    store.keep(lent.pop().unwrap());
    store.keep(lent.pop().unwrap());
    drop(lent);
    tokio::task::yield_now().await;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS p (pid)")
        .bind(pids)
        .execute(&db.pool)
        .await
        .unwrap();
    nothing().await.unwrap();
    nothing().await.unwrap();
}

#[tokio::test]
async fn a_unit_of_work_goes_on_when_its_caller_goes_away() {
    let store = store().await;
    let (tell, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = Arc::new(tokio::sync::Mutex::new(Some(wait)));
    let unit = store.write("slow", move |tx| {
        let wait = wait.clone();
        Box::pin(async move {
            let told = wait.lock().await.take();
            sqlx::query(
                "INSERT INTO sign_in_nonces VALUES ('detached', now(), now() + '1 day', NULL)",
            )
            .execute(tx)
            .await?;
            if let Some(told) = told {
                told.await.map_err(StoreError::corrupt)?;
            }
            Ok::<_, TxError<StoreError>>(())
        })
    });
    // the caller is dropped while the unit is inside its transaction
    tokio::select! {
        _ = unit => unreachable!("it waits for us"),
        () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
    }
    tell.send(()).unwrap();
    let mut connection = store.read().await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM sign_in_nonces")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(left, 1, "committed although nobody waited");
}

#[tokio::test]
async fn a_migration_that_does_not_get_its_locks_is_tried_again() {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let options: PgConnectOptions = db.url.parse().unwrap();
    let options = options.options([("lock_timeout", "100ms")]);
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
    let store = Store::from_pool(pool, clock, policy());
    let mut holder = db.pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE _sqlx_migrations").execute(&mut *holder).await.unwrap();
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut *holder).await.unwrap();
    };
    let (migrated, ()) = tokio::join!(store.migrate(), release);
    migrated.unwrap();
    // what is wrong otherwise is said at once
    sqlx::query("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1")
        .execute(&db.pool)
        .await
        .unwrap();
    assert!(matches!(store.migrate().await, Err(StoreError::Corrupt(_))));
}
