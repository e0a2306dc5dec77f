//! Queues are counted as they are, and each thing's age counts from the moment that it should have been done.

use domain::time::Seconds;
use store::{
    StoreError, TxError,
    health::{self, Queues, Waiting},
    intents::{self, Call},
};
use tests::{booking::policy, house::House};

const fn one(oldest: u32) -> Waiting {
    Waiting { count: 1, oldest: Seconds(oldest) }
}

/// What is waiting so long after the booking.
async fn after(house: &House, seconds: u32) -> Queues {
    let mut connection = house.store.read().await.unwrap();
    let at = house.order.now.saturating_plus(Seconds(seconds)).millis();
    health::queues(&mut connection, at).await.unwrap()
}

#[tokio::test]
async fn what_waits_has_the_age_of_its_time() {
    let house = House::new().await;
    // the house has one booking that waits for its lock, and one transaction that is under way
    let deadline = policy().funding_ttl.get();
    let (rental, now) = (house.rental.id, house.order.now);
    house
        .store
        .write("queue", move |tx| {
            Box::pin(async move {
                let later = now.saturating_plus(Seconds(300));
                intents::queue(tx, rental, &Call::Cancel, now, later).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
    let early = Queues { intents_waiting: one(10), transactions: one(10), ..Queues::default() };
    assert_eq!(after(&house, 10).await, early);

    let late = deadline + 60;
    let due = Queues {
        intents_due: one(late - 300),
        transactions: one(late),
        jobs_due: one(60),
        ..Queues::default()
    };
    assert_eq!(after(&house, late).await, due);

    let send = "UPDATE chain_intents SET state = 'sent', tx_id = (SELECT id FROM chain_txs)";
    sqlx::raw_sql(send).execute(house.store.pool()).await.unwrap();
    let sent = Queues { intents_due: Waiting::default(), intents_sent: one(late), ..due };
    assert_eq!(after(&house, late).await, sent);

    let done = "UPDATE chain_txs SET state = 'voided'; UPDATE jobs SET done_at = due_at;";
    sqlx::raw_sql(done).execute(house.store.pool()).await.unwrap();
    assert_eq!(after(&house, late).await, Queues::default(), "what is done waits for nothing");
}

#[tokio::test]
async fn freezes_are_counted_where_there_are_any() {
    let house = House::new().await;
    let mut connection = house.store.read().await.unwrap();
    let table =
        "CREATE TABLE IF NOT EXISTS freezes (scope text, reason text, detail text, block bigint,
                     frozen_at timestamptz, lifted_at timestamptz, lifted_by text);";
    sqlx::raw_sql(table).execute(&mut *connection).await.unwrap();
    assert_eq!(health::open_freezes(&mut connection).await.unwrap(), Some(0));
    let freeze = "INSERT INTO freezes (scope, reason, detail, block, frozen_at)
                  VALUES ('all', 'finality_missing', 'a test', 1, now())";
    sqlx::raw_sql(freeze).execute(&mut *connection).await.unwrap();
    assert_eq!(health::open_freezes(&mut connection).await.unwrap(), Some(1));
}

#[tokio::test]
async fn the_server_tells_its_limit_and_its_clock() {
    let house = House::new().await;
    let mut connection = house.store.read().await.unwrap();
    let of = health::connections(&mut connection).await.unwrap();
    assert!(of.limit >= of.open && of.open >= 1, "{of:?}");
    let first = health::clock(&mut connection).await.unwrap();
    let then = health::clock(&mut connection).await.unwrap();
    assert!(then >= first);
}
