//! What the machine and the people behind it do through the platform.

use std::sync::atomic::Ordering;

use alloy::{
    primitives::{Address, B256, keccak256},
    signers::local::PrivateKeySigner,
};
use domain::{
    id::RentalId,
    metering::Interval,
    rental::{Party, RentalEvent, RentalState, StartStatus},
    time::Seconds,
};
use escrow::signed;
use serde_json::json;
use store::{
    StoreError, TxError, advance,
    ends::{self, Side},
    readings::{self, Reading},
};
use testkit::DEV_KEYS;
use uuid::Uuid;

use super::{Booked, Market, POL, people, policy};
use crate::booking::{self, Order, RATE, USDC_RATE};

impl Market {
    /// A machine with one GPU, offered, quoted and booked in the native coin.
    pub async fn book(&self) -> Booked {
        self.book_in(POL).await
    }

    pub async fn book_in(&self, token: Address) -> Booked {
        self.book_holding(token, policy().holdback).await
    }

    /// The same with terms whose last seconds are held at the end.
    pub async fn book_holding(&self, token: Address, holdback: Seconds) -> Booked {
        self.sync().await;
        let order = Order {
            renter: people::renter(),
            provider: people::provider(),
            token,
            rate: if token == POL { RATE } else { USDC_RATE },
            holdback,
            now: self.now(),
            domain: self.site.domain.clone(),
        };
        booking::book(&self.store, &order).await
    }

    pub async fn apply(&self, rental: &Booked, event: RentalEvent) {
        let (id, now) = (rental.id, self.now());
        self.store
            .write("apply", move |tx| {
                Box::pin(async move {
                    advance::apply(tx, &policy(), id, &event, now).await.unwrap();
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
        self.agree().await;
    }

    /// The provider signs the ends that wait to be told, if it is agreeable.
    pub async fn agree(&self) {
        if !self.agreeable.load(Ordering::SeqCst) {
            return;
        }
        let open =
            "SELECT r.id, r.escrow_id FROM chain_intents i JOIN rentals r ON r.id = i.rental_id
                    WHERE i.purpose = 'close' AND i.state = 'queued'";
        let open: Vec<(Uuid, Vec<u8>)> =
            sqlx::query_as(open).fetch_all(self.store.pool()).await.unwrap();
        for (id, escrow_id) in open {
            self.sign_end(
                RentalId::from_uuid(id),
                B256::from_slice(&escrow_id),
                Side::Provider,
                DEV_KEYS[5],
            )
            .await;
        }
    }

    /// Somebody signs the end that waits to be told.
    pub async fn sign_end(&self, rental: RentalId, escrow_id: B256, side: Side, key: &str) {
        let key: PrivateKeySigner = key.parse().unwrap();
        let (domain, now) = (self.site.domain.clone(), self.now());
        self.store
            .write("sign end", move |tx| {
                let (key, domain) = (key.clone(), domain.clone());
                Box::pin(async move {
                    let Some((end, _)) = ends::open(tx, rental).await? else { return Ok(()) };
                    let told = signed::end(escrow_id, end.stopped_at, end.credit);
                    let signature = signed::sign(&told, &key, &domain).unwrap();
                    ends::sign(tx, rental, side, end, &signature, now).await?;
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
    }

    /// The agent takes the order and says that the machine is ready.
    pub async fn ready(&self, rental: &Booked) {
        self.sync().await;
        self.apply(rental, RentalEvent::AgentAcked).await;
        self.apply(rental, RentalEvent::AgentReady { at: self.now() }).await;
        assert_eq!(self.state(rental).await, RentalState::Active);
    }

    /// Locked, ready, and started on the chain.
    pub async fn make_active(&self, rental: &Booked) {
        self.ready(rental).await;
        self.settle_in().await;
        assert_eq!(self.rental(rental).await.progress.start, StartStatus::Final);
    }

    /// From a booking to a running machine.
    pub async fn running(&self, token: Address) -> Booked {
        let rental = self.book_in(token).await;
        self.lock(&rental, rental.deposit).await;
        self.settle_in().await;
        self.make_active(&rental).await;
        rental
    }

    /// Time passes, and a reading covers it.
    pub async fn run_for(&self, rental: &Booked, seconds: u32) {
        self.sync().await;
        let from = self.now();
        self.pass(u64::from(seconds)).await;
        let span = Interval::new(from, from.saturating_plus(Seconds(seconds)));
        let (id, received_at) = (rental.id, self.now());
        self.store
            .write("reading", move |tx| {
                Box::pin(async move {
                    let head = readings::head(tx, id).await?;
                    let reading = Reading {
                        rental: id,
                        seq: head.map_or(1, |head| head.seq + 1),
                        span,
                        detail: json!({}),
                        prev_hash: head.map_or(B256::ZERO, |head| head.hash),
                        hash: keccak256(Uuid::now_v7()),
                        signature: [0; 65],
                        received_at,
                    };
                    readings::append(tx, &reading).await?;
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
    }

    /// The renter asks the platform to stop.
    pub async fn ask_to_stop(&self, rental: &Booked) {
        self.sync().await;
        let stop = RentalEvent::StopRequested { by: Party::Renter, now: self.now() };
        self.apply(rental, stop).await;
    }

    /// The renter asks the platform to stop, and the machine has cleaned up.
    pub async fn stop(&self, rental: &Booked) {
        self.ask_to_stop(rental).await;
        self.apply(rental, RentalEvent::AgentStopped).await;
    }

    /// Whatever the machine and the renter do next: get ready, run for `seconds`, stop, clean up. Asked
    /// between the steps of an engine, it takes a locked rental to its end.
    pub async fn play(&self, rental: &Booked, seconds: u32) {
        let progress = self.rental(rental).await.progress;
        if matches!(progress.state, RentalState::Funded | RentalState::Provisioning) {
            self.ready(rental).await;
        } else if progress.state == RentalState::Active && progress.start == StartStatus::Final {
            self.run_for(rental, seconds).await;
            self.ask_to_stop(rental).await;
        } else if progress.state == RentalState::Stopping {
            self.apply(rental, RentalEvent::AgentStopped).await;
        }
    }
}
