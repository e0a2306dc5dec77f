//! A database with one row of everything whose constraints are tested.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{Address, B256, keccak256};
use domain::{
    id::{RentalId, TxId},
    ledger::{Parties, lock_posting},
    metering::Interval,
    money::Amount,
    time::{Clock as _, Seconds, UnixMillis, UnixSeconds},
};
use serde_json::json;
use store::{
    Store, StoreError, TxError,
    deployment::{self, Deployment},
    ledger::{self, Sourced},
    readings::{self, Reading},
    txs,
};
use testkit::{ManualClock, TestDb};
use uuid::Uuid;

use crate::booking::{self, Booked, Order, POL, RATE, policy};

pub struct House {
    pub store: Store,
    pub order: Order,
    pub rental: Booked,
}

impl House {
    /// One booked rental with a reading, a posting and a signed transaction.
    pub async fn new() -> Self {
        let url = TestDb::new(Some(&store::MIGRATOR)).await.unwrap().url;
        let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
        let store = Store::connect(&url, 8, clock.clone(), policy()).await.unwrap();
        let now = clock.now().seconds();
        let other = Address::repeat_byte(0xee);
        booking::list_tokens(&store, Some(other), now).await;
        let order = Order {
            renter: Address::repeat_byte(1),
            provider: Address::repeat_byte(2),
            token: POL,
            rate: RATE,
            holdback: policy().holdback,
            now,
            domain: escrow::domain(31_337, Address::repeat_byte(3)),
        };
        let rental = booking::book(&store, &order).await;
        let house = Self { store, order, rental };
        house.fill().await;
        house
    }

    async fn fill(&self) {
        let (rental, now) = (self.rental.clone(), self.order.now);
        let signer = Address::repeat_byte(4);
        self.store
            .write("fill", move |tx| {
                let rental = rental.clone();
                Box::pin(async move {
                    deployment::record(tx, &the_deployment()).await?;
                    readings::append(tx, &reading(rental.id, 1, 0, 10, now)).await?;
                    for (source, token) in [("one", POL), ("two", Address::repeat_byte(0xee))] {
                        ledger::post(tx, &[locked(&rental, source, token, now)]).await?;
                    }
                    txs::register_signer(tx, signer, 7).await?;
                    let new = txs::NewTx {
                        id: TxId::from_uuid(Uuid::now_v7()),
                        signer,
                        to: Address::repeat_byte(3),
                        calldata: vec![1],
                        gas_limit: 30_000,
                    };
                    let lease = txs::lease(tx, signer, 1, now.millis(), Duration::from_secs(9));
                    let lease = lease.await?.unwrap();
                    assert_eq!(txs::number(tx, lease, &new, now.millis()).await?, Some(7));
                    let hash = B256::repeat_byte(8);
                    let attempt =
                        txs::NewAttempt { hash, raw: vec![2], max_fee: 2, tip: 1, noop: false };
                    txs::store_attempt(tx, new.id, &attempt, now.millis()).await?;
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
    }

    /// The SQLSTATE with which the statement is refused.
    async fn refusal(&self, statement: &'static str) -> String {
        let Err(error) = sqlx::raw_sql(statement).execute(self.store.pool()).await else {
            panic!("not refused: {statement}");
        };
        error.as_database_error().unwrap().code().unwrap().into_owned()
    }

    pub async fn assert_refused(&self, cases: &[(&str, &'static str)]) {
        for (code, statement) in cases {
            assert_eq!(self.refusal(statement).await, **code, "{statement}");
        }
    }
}

#[must_use]
pub fn the_deployment() -> Deployment {
    Deployment {
        chain_id: 31_337,
        genesis_hash: B256::repeat_byte(1),
        escrow: Address::repeat_byte(3),
        code_hash: B256::repeat_byte(2),
        deployed_block: 1,
    }
}

#[must_use]
pub fn reading(rental: RentalId, seq: u64, from: u32, to: u32, now: UnixSeconds) -> Reading {
    Reading {
        rental,
        seq,
        span: Interval::new(now.saturating_plus(Seconds(from)), now.saturating_plus(Seconds(to))),
        detail: json!({}),
        prev_hash: B256::ZERO,
        hash: keccak256(Uuid::now_v7()),
        signature: [0; 65],
        received_at: now,
    }
}

fn locked(rental: &Booked, source: &str, token: Address, at: UnixSeconds) -> Sourced {
    let parties = Parties {
        escrow_id: rental.escrow_id,
        renter: rental.terms.renter,
        provider: rental.terms.provider,
        treasury: Address::repeat_byte(5),
        token,
    };
    let posting = lock_posting(&parties, Amount::new(1_000).unwrap());
    Sourced { source: source.to_owned(), at, posting }
}
