//! What happens while a rental runs: the machine gets ready, tells how long it was good, falls silent and comes
//! back; its parties stop it, add to the deposit, take what is earned.

use alloy::{primitives::B256, sol_types::SolCall as _};
use domain::{
    metering::Interval,
    money::Amount,
    rental::{FailReason, Party as Who, RentalEvent, RentalState},
    time::UnixSeconds,
};
use escrow::{bindings::Escrow, calldata};
use serde_json::json;
use store::{
    StoreError, TxError,
    advance::{self, AdvanceError},
    readings::{self, Reading},
    rentals::Rental,
};

use super::{faults::Fault, world::World};
use crate::booking::POL;

impl World {
    pub(super) async fn prepare(&mut self, at: usize) {
        if self.chance(4) {
            let stop = RentalEvent::StopRequested { by: Who::Renter, now: self.now() };
            return self.hear(at, stop).await;
        }
        if self.rentals[at].broken {
            if self.chance(20) {
                let reason = FailReason::GpuUnavailable;
                self.hear(at, RentalEvent::AgentFailed { reason }).await;
            }
            return;
        }
        self.hear(at, RentalEvent::AgentAcked).await;
        if self.chance(70) {
            self.hear(at, RentalEvent::AgentReady { at: self.now() }).await;
        }
    }

    pub(super) async fn run(&mut self, at: usize, rental: &Rental) {
        match self.below(100) {
            0..6 => {
                self.rentals[at].silent_until = self.time + 30 + self.below(400);
                self.chain.lock().unwrap().faults.note(Fault::AgentSilent);
                self.trace.say(format!("  the machine of r{at} falls silent"));
            }
            6..14 => {
                let stop = RentalEvent::StopRequested { by: Who::Renter, now: self.now() };
                self.hear(at, stop).await;
            }
            14..17 => {
                let renter = self.renters[self.rentals[at].renter].address();
                self.submit(renter, calldata::stop(&self.rentals[at].booked.terms), 0);
                self.trace.say(format!("  the renter of r{at} stops on the chain"));
            }
            17..19 => {
                let provider = self.providers[self.rentals[at].provider].address();
                self.submit(provider, calldata::stop(&self.rentals[at].booked.terms), 0);
                self.trace.say(format!("  the provider of r{at} stops on the chain"));
            }
            19..24 => {
                let booked = &self.rentals[at].booked;
                let more = Amount::new(booked.deposit.get() / 5 + 1).unwrap();
                let data = calldata::top_up(&booked.terms, more);
                let value = if booked.terms.token == POL { more.get() } else { 0 };
                self.submit(self.renters[self.rentals[at].renter].address(), data, value);
                self.trace.say(format!("  the renter of r{at} tops up"));
            }
            24..28 => {
                let provider = self.providers[self.rentals[at].provider].address();
                let data = release(&self.rentals[at].booked.terms);
                self.submit(provider, data, 0);
                self.trace.say(format!("  the provider of r{at} releases"));
            }
            _ => self.read(at, rental).await,
        }
    }

    /// A machine that is there gets ready or tells that it was good.
    pub(super) async fn go_on(&mut self, at: usize) {
        let rental = self.rental(at).await;
        match rental.progress.state {
            RentalState::Funded | RentalState::Provisioning => self.prepare(at).await,
            RentalState::Active | RentalState::Interrupted => self.read(at, &rental).await,
            RentalState::AwaitingFunds
            | RentalState::Stopping
            | RentalState::Settling
            | RentalState::Settled
            | RentalState::Expired
            | RentalState::Cancelled
            | RentalState::StartFailed
            | RentalState::Refunding
            | RentalState::Refunded
            | RentalState::Contested
            | RentalState::Resolved => {}
        }
    }

    /// The machine's signed word on the time since its last one.
    pub(super) async fn read(&mut self, at: usize, rental: &Rental) {
        if self.time < self.rentals[at].silent_until {
            return;
        }
        let (id, now) = (rental.id, self.now());
        let Some(started) = rental.progress.started_at else { return };
        let head = {
            let mut connection = self.store.read().await.unwrap();
            readings::head(&mut connection, id).await.unwrap()
        };
        let timeout = self.store.policy().evidence_timeout;
        // nothing that the API would not take: in order, not too late, not ahead of us, not past the end
        let mut from = head.map_or(started, |head| head.to.max(started));
        from =
            from.max(now.saturating_minus(timeout)).max(UnixSeconds(self.rentals[at].silent_until));
        let to = rental.progress.stopped_at.map_or(now, |stopped| stopped.min(now));
        if from >= to {
            return;
        }
        let reading =
            self.signed(at, Interval::new(from, to), head.map(|head| (head.seq, head.hash)));
        let (state, policy) = (rental.progress.state, self.store.policy().clone());
        self.store
            .write("reading", move |tx| {
                let (reading, policy) = (reading.clone(), policy.clone());
                Box::pin(async move {
                    readings::lock_rental(tx, id).await?;
                    readings::append(tx, &reading).await?;
                    if state == RentalState::Interrupted {
                        let back = RentalEvent::EvidenceBack;
                        advance::apply(tx, &policy, id, &back, now).await.map_err(stored)?;
                    }
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
        self.trace.say(format!("  the machine of r{at} was good for {} s", to.get() - from.get()));
    }

    fn signed(&self, at: usize, span: Interval, head: Option<(u64, B256)>) -> Reading {
        let tenancy = &self.rentals[at];
        let (seq, prev_hash) = head.map_or((1, B256::ZERO), |(seq, hash)| (seq + 1, hash));
        let detail = json!({});
        let message = escrow::reading::Reading {
            rental: tenancy.booked.escrow_id,
            seq,
            from: span.from.get(),
            to: span.to.get(),
            detailHash: escrow::reading::detail_hash(&detail),
            prevHash: prev_hash,
        };
        let key = &self.providers[tenancy.provider].key;
        Reading {
            rental: tenancy.booked.id,
            seq,
            span,
            detail,
            prev_hash,
            hash: escrow::reading::hash(&message, &self.site.domain),
            signature: escrow::reading::sign(&message, key, &self.site.domain).unwrap(),
            received_at: self.now(),
        }
    }
}

fn release(terms: &escrow::Terms) -> Vec<u8> {
    Escrow::releaseCall { t: terms.clone() }.abi_encode()
}

fn stored(error: AdvanceError) -> TxError<StoreError> {
    match error {
        AdvanceError::Store(error) => TxError::Store(error),
        AdvanceError::Missing | AdvanceError::Illegal(_) => {
            TxError::Store(StoreError::Bug(error.to_string()))
        }
    }
}
