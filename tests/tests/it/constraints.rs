//! What the database itself refuses, whatever the code above it does.

use alloy::primitives::{B256, keccak256};
use domain::{
    id::{AccountId, QuoteId, RentalId},
    time::Seconds,
};
use store::{
    StoreError, TxError,
    deployment::{self, Deployment},
    quotes,
    readings::{self, Reading},
    rentals::{self, NewRental},
};
use tests::{
    booking::{self, policy},
    house::{House, reading, the_deployment},
};
use uuid::Uuid;

const UNIQUE: &str = "23505";
const CHECK: &str = "23514";
const EXCLUSION: &str = "23P01";
const FOREIGN_KEY: &str = "23503";
const IMMUTABLE: &str = "23001";

#[tokio::test]
async fn a_gpu_is_rented_once_at_a_time() {
    let house = House::new().await;
    // the same machine in a second quote: its GPU is held
    booking::book(&house.store, &house.order).await;
    house
        .assert_refused(&[(
            EXCLUSION,
            "INSERT INTO rental_gpus (rental_id, gpu_id, during)
             SELECT r.id, h.gpu_id, h.during FROM rental_gpus h JOIN rentals r ON r.id <> h.rental_id",
        )])
        .await;
    // after the hold it is free again
    let later =
        "UPDATE rental_gpus SET during = tstzrange(lower(during), lower(during) + '1 hour');
                 INSERT INTO rental_gpus (rental_id, gpu_id, during)
                 SELECT r.id, h.gpu_id, tstzrange(upper(h.during), NULL)
                 FROM rental_gpus h JOIN rentals r ON r.id <> h.rental_id";
    sqlx::raw_sql(later).execute(house.store.pool()).await.unwrap();
}

#[tokio::test]
async fn of_many_bookings_at_once_one_gets_the_gpu() {
    let house = House::new().await;
    let free =
        "UPDATE rental_gpus SET during = tstzrange(lower(during), lower(during) + '1 second')";
    sqlx::raw_sql(free).execute(house.store.pool()).await.unwrap();
    let mut quotes = Vec::new();
    for _ in 0..8 {
        quotes.push(another_quote(&house).await);
    }
    let now = house.order.now.saturating_plus(Seconds(5));
    let tries = quotes.into_iter().map(|(quote_id, escrow_id, account)| {
        let (store, machine) = (house.store.clone(), house.rental.machine);
        tokio::spawn(async move {
            let new = NewRental {
                id: RentalId::from_uuid(Uuid::now_v7()),
                quote_id,
                escrow_id,
                renter: account,
                provider: account,
                machine,
                gpu_count: 1,
                now,
            };
            store
                .write("book", move |tx| {
                    let new = new.clone();
                    Box::pin(async move {
                        rentals::book(tx, &policy(), &new).await?;
                        Ok::<_, TxError<StoreError>>(())
                    })
                })
                .await
        })
    });
    let mut won = 0;
    for attempt in tries.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(()) => won += 1,
            Err(TxError::Store(error)) => {
                assert!(error.is_conflict_on("gpu_rented_once"), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(won, 1);
}

/// A second quote of the same offer, with terms of its own.
async fn another_quote(house: &House) -> (QuoteId, B256, AccountId) {
    let mut connection = house.store.read().await.unwrap();
    let row = rentals::get(&mut connection, house.rental.id).await.unwrap().unwrap();
    let mut quote = quotes::get(&mut connection, row.quote_id).await.unwrap().unwrap();
    quote.id = QuoteId::from_uuid(Uuid::now_v7());
    quote.escrow_id = keccak256(quote.id.uuid());
    quotes::insert(&mut connection, &quote).await.unwrap();
    (quote.id, quote.escrow_id, quote.account)
}

#[tokio::test]
async fn a_transfer_is_balanced_and_moves_something() {
    let house = House::new().await;
    house
        .assert_refused(&[
            (CHECK, "INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount) SELECT posting_id, 1, debit_id, credit_id, 0 FROM ledger_transfers"),
            (CHECK, "INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount) SELECT posting_id, 1, debit_id, credit_id, -1 FROM ledger_transfers"),
            (CHECK, "INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount) SELECT posting_id, 1, debit_id, credit_id, 2::numeric ^ 96 FROM ledger_transfers"),
            (CHECK, "INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount) SELECT posting_id, 1, debit_id, debit_id, 1 FROM ledger_transfers"),
            // a debit in one token and a credit in another
            (FOREIGN_KEY, "INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount)
                           SELECT t.posting_id, 1, t.debit_id, u.credit_id, 1
                           FROM ledger_transfers t JOIN ledger_transfers u ON u.seq <> t.seq"),
            // accounts and postings that are none
            (FOREIGN_KEY, "INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount)
                           SELECT posting_id, 1, debit_id, gen_random_uuid(), 1 FROM ledger_transfers"),
            (FOREIGN_KEY, "INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount)
                           SELECT gen_random_uuid(), 1, debit_id, credit_id, 1 FROM ledger_transfers"),
            (UNIQUE, "INSERT INTO ledger_postings (kind, source, at) SELECT kind, source, at FROM ledger_postings"),
            (CHECK, r"INSERT INTO ledger_postings (kind, source, at) VALUES ('lock', '\\x', now())"),
            (UNIQUE, "INSERT INTO ledger_accounts (kind, owner, escrow_id, token)
                      SELECT kind, owner, escrow_id, token FROM ledger_accounts"),
            (CHECK, "INSERT INTO ledger_accounts (kind, token) VALUES ('provider_earnings', decode(repeat('00', 20), 'hex'))"),
        ])
        .await;
}

#[tokio::test]
async fn what_was_written_for_ever_cannot_be_changed() {
    let house = House::new().await;
    house
        .assert_refused(&[
            (IMMUTABLE, "UPDATE ledger_transfers SET amount = amount + 1"),
            (IMMUTABLE, "DELETE FROM ledger_transfers"),
            (IMMUTABLE, "UPDATE ledger_postings SET source = source || '.'"),
            (IMMUTABLE, "DELETE FROM ledger_postings"),
            (IMMUTABLE, "UPDATE ledger_accounts SET owner = NULL"),
            (IMMUTABLE, "DELETE FROM ledger_accounts"),
            (IMMUTABLE, "TRUNCATE ledger_transfers"),
            (IMMUTABLE, "TRUNCATE ledger_postings"),
            (IMMUTABLE, "TRUNCATE ledger_accounts, ledger_balances"),
            (IMMUTABLE, "UPDATE readings SET to_at = to_at + interval '1 second'"),
            (IMMUTABLE, "DELETE FROM readings"),
            (IMMUTABLE, "UPDATE quotes SET deposit = deposit + 1"),
            (IMMUTABLE, "DELETE FROM quotes"),
            (IMMUTABLE, "UPDATE offer_versions SET usd_micros_per_hour = 1"),
            (IMMUTABLE, "DELETE FROM offer_versions"),
            (IMMUTABLE, "UPDATE chain_tx_attempts SET raw = 'x'"),
            (IMMUTABLE, "DELETE FROM chain_tx_attempts"),
            (IMMUTABLE, "UPDATE rental_events SET kind = 'x'"),
            (IMMUTABLE, "DELETE FROM rental_events"),
            (IMMUTABLE, "DELETE FROM rentals"),
            (IMMUTABLE, "DELETE FROM accounts"),
            (IMMUTABLE, "DELETE FROM tokens"),
            (IMMUTABLE, "UPDATE tokens SET address = decode(repeat('09', 20), 'hex')"),
            (IMMUTABLE, "TRUNCATE offer_versions"),
        ])
        .await;
}

#[tokio::test]
async fn a_rental_never_pays_more_or_less_than_was_locked() {
    let house = House::new().await;
    house
        .assert_refused(&[
            (CHECK, "UPDATE rentals SET locked = 100, lock_status = 'final', state = 'settled',
                     paid_provider = 88, paid_fee = 11"),
            (CHECK, "UPDATE rentals SET locked = 100, lock_status = 'final', state = 'refunded', paid_refund = 99"),
            (CHECK, "UPDATE rentals SET locked = 100, paid_provider = 89, paid_fee = 12"),
            (CHECK, "UPDATE rentals SET locked = 100, paid_refund = -1"),
            (CHECK, "UPDATE rentals SET locked = 2::numeric ^ 96"),
            // nothing runs on money that is not final
            (CHECK, "UPDATE rentals SET state = 'active', started_at = created_at, lock_status = 'included', locked = 1"),
            (CHECK, "UPDATE rentals SET state = 'active', started_at = created_at, lock_status = 'final'"),
            (CHECK, "UPDATE rentals SET state = 'active', lock_status = 'final', locked = 1"),
            (CHECK, "UPDATE rentals SET started_at = created_at, stopped_at = created_at - interval '1 second'"),
            (CHECK, "UPDATE rentals SET state = 'free'"),
        ])
        .await;
    let adds_up = "UPDATE rentals SET locked = 100, lock_status = 'final', state = 'settled',
                   paid_provider = 88, paid_fee = 11, paid_refund = 1";
    sqlx::raw_sql(adds_up).execute(house.store.pool()).await.unwrap();
}

#[tokio::test]
async fn what_may_exist_once_exists_once() {
    let house = House::new().await;
    house
        .assert_refused(&[
            // the funding deadline's timer is open
            (UNIQUE, "INSERT INTO jobs (id, kind, rental_id, due_at)
                      SELECT gen_random_uuid(), kind, rental_id, due_at FROM jobs"),
            (UNIQUE, "INSERT INTO deployment SELECT true, 1, genesis_hash, escrow, code_hash, 1 FROM deployment"),
            (CHECK, "INSERT INTO deployment SELECT false, 1, genesis_hash, escrow, code_hash, 1 FROM deployment"),
            // a nonce belongs to its row
            (UNIQUE, "INSERT INTO chain_txs (id, signer, nonce, to_address, calldata, gas_limit, state, next_send_at, created_at, updated_at)
                      SELECT gen_random_uuid(), signer, nonce, to_address, calldata, gas_limit, 'numbered', next_send_at, created_at, updated_at FROM chain_txs"),
            (CHECK, "UPDATE chain_txs SET gas_limit = 16777217"),
            (CHECK, "UPDATE chain_txs SET state = 'mined'"),
            (UNIQUE, "INSERT INTO chain_intents (id, rental_id, purpose, seq, args, state, not_before, created_at)
                      SELECT gen_random_uuid(), r.id, 'close', 1, '{}', 'queued', now(), now() FROM rentals r, generate_series(1, 2)"),
            (CHECK, "INSERT INTO chain_intents (id, rental_id, purpose, seq, args, state, not_before, created_at)
                     SELECT gen_random_uuid(), id, 'close', 1, '{}', 'sent', now(), now() FROM rentals"),
            // a release has its time
            (CHECK, "INSERT INTO chain_intents (id, rental_id, purpose, seq, args, state, not_before, created_at)
                     SELECT gen_random_uuid(), id, 'release', 1, '{}', 'queued', now(), now() FROM rentals"),
            // a quote is booked once
            (UNIQUE, "INSERT INTO rentals (id, quote_id, escrow_id, renter_id, provider_id, machine_id, state, lock_status, agent_status, start_status, created_at, updated_at)
                      SELECT gen_random_uuid(), quote_id, escrow_id, renter_id, provider_id, machine_id, state, lock_status, agent_status, start_status, created_at, updated_at FROM rentals"),
            (UNIQUE, "INSERT INTO machines (id, account_id, name, region, cpu_cores, ram_gb, disk_gb, enroll_token_hash, enroll_expires_at, created_at)
                      SELECT gen_random_uuid(), account_id, name, region, 1, 1, 1, enroll_token_hash, enroll_expires_at, created_at FROM machines"),
            (UNIQUE, "INSERT INTO gpus SELECT gen_random_uuid(), machine_id, vendor_uuid, model, 1 FROM gpus"),
            (UNIQUE, "INSERT INTO offers SELECT gen_random_uuid(), machine_id, account_id, state, 1, created_at, updated_at FROM offers"),
        ])
        .await;
    // the store says the same of a second deployment, and nothing of the same one again
    let record = |deployment: Deployment| {
        house.store.write("record", move |tx| {
            let deployment = deployment.clone();
            Box::pin(
                async move { Ok::<_, TxError<()>>(deployment::record(tx, &deployment).await?) },
            )
        })
    };
    record(the_deployment()).await.unwrap();
    let second = record(Deployment { chain_id: 137, ..the_deployment() }).await.unwrap_err();
    let TxError::Store(error) = second else { panic!("{second}") };
    assert!(error.is_conflict_on("deployment_pkey"), "{error}");
}

#[tokio::test]
async fn evidence_neither_overlaps_nor_repeats() {
    let house = House::new().await;
    let (id, now) = (house.rental.id, house.order.now);
    for (seq, from, to, constraint) in [
        (2, 9, 20, "readings_disjoint"),
        (1, 10, 20, "readings_pkey"),
        (2, 0, 10, "readings_disjoint"),
    ] {
        let refused = append(&house, reading(id, seq, from, to, now)).await.unwrap_err();
        assert!(refused.is_conflict_on(constraint), "{refused}");
    }
    append(&house, reading(id, 2, 10, 20, now)).await.unwrap();
    house
        .assert_refused(&[(
            CHECK,
            "INSERT INTO readings SELECT rental_id, 9, to_at, to_at, detail, prev_hash,
             decode(repeat('99', 32), 'hex'), signature, received_at, 1 FROM readings WHERE seq = 2",
        )])
        .await;
}

async fn append(house: &House, reading: Reading) -> Result<(), StoreError> {
    let done = house.store.write("append", move |tx| {
        let reading = reading.clone();
        Box::pin(async move { Ok::<_, TxError<()>>(readings::append(tx, &reading).await?) })
    });
    match done.await {
        Ok(()) => Ok(()),
        Err(TxError::Store(error)) => Err(error),
        Err(TxError::Refused(())) => panic!("refused"),
    }
}

#[tokio::test]
async fn a_quote_keeps_to_the_platforms_bounds() {
    let house = House::new().await;
    macro_rules! quote {
        ($fee:literal, $provider:literal, $rate:literal, $deposit:literal) => {
            concat!(
                "INSERT INTO quotes SELECT gen_random_uuid(), account_id, offer_id, offer_version, duration_s,
                 usd_micros_per_hour, lines, renter, ", $provider, ", token, ", $rate, ", ", $fee, ",
                 start_by, holdback_s, order_hash, decode(repeat('77', 32), 'hex'), ", $deposit, ",
                 created_at, expires_at FROM quotes"
            )
        };
    }
    house
        .assert_refused(&[
            (CHECK, quote!("999", "provider", "1", "1")),
            (CHECK, quote!("1501", "provider", "1", "1")),
            (CHECK, quote!("1000", "renter", "1", "1")),
            (CHECK, quote!("1000", "provider", "0", "1")),
            (CHECK, quote!("1000", "provider", "1", "0")),
            (CHECK, quote!("1000", "provider", "2::numeric ^ 96", "1")),
            (CHECK, quote!("1000", "provider", "1", "2::numeric ^ 96")),
        ])
        .await;
    let good = quote!("1500", "provider", "1", "1");
    sqlx::raw_sql(good).execute(house.store.pool()).await.unwrap();
}
