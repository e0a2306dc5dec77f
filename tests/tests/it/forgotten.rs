//! What is kept for a while only goes by itself, whether or not anybody comes again.

use std::sync::Arc;

use domain::{
    time::{Seconds, UnixMillis},
    webhook::Rules,
};
use engine::Courier;
use store::Store;
use testkit::{ManualClock, TestDb};
use tests::booking::policy;

/// A price that somebody unknown asked for is kept with the network that it was asked from.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_price_was_asked_from_is_forgotten_soon_after_it_is_over() {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
    let store = Store::from_pool(db.pool.clone(), clock.clone(), policy());
    let price = "INSERT INTO payment_offers (id, request_hash, quote, created_at, expires_at, network)
                 SELECT gen_random_uuid(), decode(repeat('00', 32), 'hex'), '{}', to_timestamp(1800000000),
                        to_timestamp(1800000000 + n), decode('c0000201', 'hex')
                 FROM unnest(ARRAY[120, 3600]) n";
    sqlx::query(price).execute(&db.pool).await.unwrap();
    let networks = async || -> i64 {
        let count = "SELECT count(network) FROM payment_offers";
        sqlx::query_scalar(count).fetch_one(&db.pool).await.unwrap()
    };
    // a worker looks at what is old when it begins
    let look = async || {
        let courier = Courier::new(store.clone(), Rules::default(), Seconds(30));
        courier.tick().await.unwrap();
        courier.finish().await;
    };
    clock.advance(Seconds(180));
    look().await;
    assert_eq!(networks().await, 2, "a payment of it may be under way");
    clock.advance(Seconds(1));
    look().await;
    assert_eq!(networks().await, 1);
}
