//! Two at the same row at once, in the order that hurts.

use std::time::Duration;

use alloy::primitives::{B256, keccak256};
use domain::{
    id::{QuoteId, RentalId},
    time::Seconds,
};
use serde_json::json;
use store::{
    StoreError, TxError,
    blocks::{self, FollowedBlock, NewEvent},
    quotes, readings,
    rentals::{self, NewRental},
    timeline,
};
use tests::{booking::policy, house::House, market::Market};
use uuid::Uuid;

/// Long enough for a task to reach the lock that it has to wait for.
const A_WHILE: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_booking_sees_the_lock_that_is_being_read_off_the_chain() {
    let house = House::new().await;
    let mut watcher = house.store.read().await.unwrap();
    let row = rentals::get(&mut watcher, house.rental.id).await.unwrap().unwrap();
    let mut quote = quotes::get(&mut watcher, row.quote_id).await.unwrap().unwrap();
    quote.id = QuoteId::from_uuid(Uuid::now_v7());
    quote.escrow_id = keccak256(quote.id.uuid());
    quotes::insert(&mut watcher, &quote).await.unwrap();
    let free =
        "UPDATE rental_gpus SET during = tstzrange(lower(during), lower(during) + '1 second')";
    sqlx::raw_sql(free).execute(house.store.pool()).await.unwrap();

    let mut tx = testkit::begin(&mut watcher).await.unwrap();
    quotes::lock(&mut tx, quote.escrow_id).await.unwrap();
    let new = NewRental {
        id: RentalId::from_uuid(Uuid::now_v7()),
        quote_id: quote.id,
        escrow_id: quote.escrow_id,
        renter: row.renter,
        provider: row.provider,
        machine: row.machine,
        gpu_count: 1,
        now: house.order.now.saturating_plus(Seconds(5)),
    };
    let store = house.store.clone();
    let booking = tokio::spawn(async move {
        store
            .write("book", move |tx| {
                let new = new.clone();
                Box::pin(async move {
                    rentals::book(tx, &policy(), &new).await?;
                    Ok::<_, TxError<()>>(())
                })
            })
            .await
    });
    tokio::time::sleep(A_WHILE).await;
    let block = FollowedBlock {
        number: 1,
        hash: B256::repeat_byte(1),
        parent_hash: B256::ZERO,
        timestamp: house.order.now,
        is_final: false,
    };
    let lock = NewEvent {
        log_index: 0,
        tx_hash: B256::repeat_byte(2),
        name: "locked",
        escrow_id: Some(quote.escrow_id),
        body: json!({}),
    };
    blocks::append(&mut tx, &block, &[lock]).await.unwrap();
    tx.commit().await.unwrap();
    let Err(TxError::Store(refused)) = booking.await.unwrap() else { panic!("booked") };
    assert!(refused.is_conflict_on(rentals::LOCKED_BEFORE_BOOKING), "{refused}");
}

/// Anybody can have the contract say, for nothing but gas, that a call about any id was skipped.
#[tokio::test]
async fn what_is_said_of_terms_on_the_chain_is_no_lock_of_them() {
    let house = House::new().await;
    let mut connection = house.store.read().await.unwrap();
    let row = rentals::get(&mut connection, house.rental.id).await.unwrap().unwrap();
    let quote = quotes::get(&mut connection, row.quote_id).await.unwrap().unwrap();
    drop(connection);
    let escrow_id = keccak256("nobody's");
    let said = |name: &'static str, number: u64| {
        let timestamp = house.order.now;
        let block = FollowedBlock {
            number,
            hash: B256::repeat_byte(u8::try_from(number).unwrap()),
            parent_hash: B256::ZERO,
            timestamp,
            is_final: false,
        };
        let event = NewEvent {
            log_index: 0,
            tx_hash: B256::repeat_byte(2),
            name,
            escrow_id: Some(escrow_id),
            body: json!({}),
        };
        house.store.write("said", move |tx| {
            let (block, event) = (block.clone(), event.clone());
            Box::pin(async move {
                blocks::append(tx, &block, &[event]).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        })
    };
    let ground = async || {
        let (renter, offer) = (quote.account, quote.offer);
        let read = house.store.write("read", move |tx| {
            Box::pin(async move {
                let ground = rentals::hold_ground(tx, renter, offer, escrow_id, 9).await?;
                Ok::<_, TxError<StoreError>>(ground)
            })
        });
        read.await.unwrap()
    };
    said("skipped", 1).await.unwrap();
    assert!(!ground().await.locked_before, "nothing is locked");
    said("locked", 2).await.unwrap();
    assert!(ground().await.locked_before);
}

#[tokio::test]
async fn a_booking_that_waits_for_a_change_of_price_finds_the_new_one() {
    let house = House::new().await;
    let mut provider = house.store.read().await.unwrap();
    let row = rentals::get(&mut provider, house.rental.id).await.unwrap().unwrap();
    let offer = quotes::get(&mut provider, row.quote_id).await.unwrap().unwrap().offer;
    let mut tx = testkit::begin(&mut provider).await.unwrap();
    let change = "INSERT INTO offer_versions SELECT offer_id, 2, model, gpu_count, 700000,
                      min_duration_s, max_duration_s, created_at FROM offer_versions;
                  UPDATE offers SET version = 2";
    sqlx::raw_sql(change).execute(&mut *tx).await.unwrap();
    let (store, renter, escrow_id) = (house.store.clone(), row.renter, row.escrow_id);
    let booking = tokio::spawn(async move {
        let read = store.write("read", move |tx| {
            Box::pin(async move {
                let ground = rentals::hold_ground(tx, renter, offer, escrow_id, 9).await?;
                Ok::<_, TxError<StoreError>>(ground)
            })
        });
        read.await.unwrap()
    });
    tokio::time::sleep(A_WHILE).await;
    assert!(!booking.is_finished());
    tx.commit().await.unwrap();
    let ground = booking.await.unwrap();
    assert_eq!((ground.offer.1, ground.unfunded), (2, 1));
}

#[tokio::test]
async fn the_timelines_numbers_grow_in_the_order_in_which_they_can_be_read() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.tick().await;
    for _ in 0..3 {
        market.mine().await;
    }
    let mut somebody = market.store.read().await.unwrap();
    let mut tx = testkit::begin(&mut somebody).await.unwrap();
    readings::lock_rental(&mut tx, rental.id).await.unwrap();
    let (now, id) = (market.now(), rental.id);
    let meanwhile = async move {
        tokio::time::sleep(A_WHILE).await;
        timeline::append(&mut tx, id, now, "first", &json!({})).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (watched, ()) = tokio::join!(market.engine.watcher.tick(), meanwhile);
    assert_eq!(watched.unwrap().applied, 1, "the lock became final meanwhile");
    let mut connection = market.store.read().await.unwrap();
    let entries = timeline::after(&mut connection, id, 0, 100).await.unwrap();
    let place = |kind: &str| entries.iter().position(|entry| entry.kind == kind).unwrap();
    assert!(place("first") < place("tx"), "{entries:?}");
}
