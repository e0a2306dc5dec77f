//! The pool's promise: nobody gets a connection that is inside somebody else's transaction.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

use std::sync::Arc;

use domain::{
    money::FeeBps,
    time::{Seconds, UnixMillis},
};
use sqlx::Row as _;
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
        stop_grace: second,
        holdback: second,
        release_every: Seconds::ZERO,
        start_slack: second,
    }
}

async fn store() -> Store {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
    Store::connect(&db.url, 1, clock, policy()).await.unwrap()
}

#[tokio::test]
async fn a_connection_left_inside_a_transaction_is_cleaned_before_the_next_borrower() {
    let store = store().await;
    {
        let mut connection = store.read().await.unwrap();
        sqlx::raw_sql(
            "BEGIN; INSERT INTO sign_in_nonces VALUES ('leftover', now(), now() + '1 day', NULL)",
        )
        .execute(&mut *connection)
        .await
        .unwrap();
    }
    // there is one connection only: this is the same
    let mut connection = store.read().await.unwrap();
    let row = sqlx::raw_sql(
        "SELECT now() = statement_timestamp(), (SELECT count(*) FROM sign_in_nonces)",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert!(row.try_get::<bool, _>(0).unwrap(), "still inside the transaction");
    assert_eq!(row.try_get::<i64, _>(1).unwrap(), 0, "what was left is rolled back");
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
