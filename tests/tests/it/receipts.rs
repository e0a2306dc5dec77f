//! Receipts of rentals that ended in every way the contract knows, each told by the contract itself: what a stranger works
//! out from terms, readings and events is what was paid.

use std::sync::atomic::Ordering;

use alloy::{
    primitives::{B256, Bytes, Uint},
    signers::local::PrivateKeySigner,
};
use domain::{
    billing::auto_stop_second,
    metering::{Interval, meter},
    money::Amount,
    rate::TokenRate,
    rental::RentalState,
    time::Seconds,
};
use escrow::{
    EscrowEvent, Outcome,
    bindings::Escrow::EndSignatures,
    calldata,
    quote::{self, Fx, Line, Order, Quote},
    reading,
    receipt::{
        self, ChainEvent, FORMAT, Item, Metered, Readings, Receipt, Seal, SignedQuote, Totals,
    },
    signed,
    terms::{uint40, uint96},
};
use store::{blocks, readings};
use testkit::DEV_KEYS;
use tests::market::{Booked, Market, people};

const CHAIN: u64 = 31_337;
const DAY: u64 = 24 * 3_600;

struct Notary {
    platform: PrivateKeySigner,
    agent: PrivateKeySigner,
}

impl Notary {
    fn quote(&self, market: &Market, rental: &Booked, duration: Seconds) -> SignedQuote {
        let line = Line {
            kind: "compute".to_owned(),
            unit: "gpu_hour".to_owned(),
            unitPrice: 650_001,
            quantity: 3_600,
            max: 650_001,
        };
        let promise = Quote {
            id: "quo".to_owned(),
            order: Order {
                offer: "ofr".to_owned(),
                offerVersion: 1,
                machine: rental.machine.to_string(),
                gpuModel: "rtx-4090".to_owned(),
                gpuCount: 1,
                durationSecs: duration.get(),
                diskGb: 0,
                upGb: 0,
                downGb: 0,
                template: String::new(),
            },
            lines: vec![line],
            usdPerHour: 650_001,
            usdMax: 650_001,
            rental: rental.escrow_id,
            terms: (&rental.terms).into(),
            deposit: uint96(rental.deposit),
            fx: Fx { usdPerToken: 1_000_000, source: "fixed".to_owned(), pricedAt: Uint::from(1) },
            createdAt: uint40(market.now()),
            expiresAt: uint40(market.now()),
            readySecs: 300,
            noticeSecs: 0,
            refundRule: quote::refund_rule(),
        };
        let domain = quote::domain(CHAIN, market.site.escrow);
        let signature = quote::sign(&promise, &self.platform, &domain).unwrap();
        SignedQuote {
            message: (&promise).into(),
            signer: self.platform.address(),
            signature: signature.to_vec().into(),
        }
    }

    /// The market's spans, signed as a machine signs them.
    async fn readings(&self, market: &Market, rental: &Booked) -> Readings {
        let mut connection = market.store.read().await.unwrap();
        let stored = readings::list(&mut connection, rental.id, 0, 1_000).await.unwrap();
        let (mut root, mut items) = (B256::ZERO, Vec::new());
        for reading in stored {
            let item = Item {
                seq: reading.seq,
                from: reading.span.from,
                to: reading.span.to,
                detail: reading.detail,
                prev_hash: root,
                signature: Bytes::new(),
            };
            let message = reading::Reading {
                rental: rental.escrow_id,
                seq: item.seq,
                from: item.from.get(),
                to: item.to.get(),
                detailHash: reading::detail_hash(&item.detail),
                prevHash: root,
            };
            let signature = reading::sign(&message, &self.agent, &market.site.domain).unwrap();
            root = receipt::hash_of(&item, rental.escrow_id, CHAIN, market.site.escrow);
            items.push(Item { signature: signature.to_vec().into(), ..item });
        }
        let count = u64::try_from(items.len()).unwrap();
        let agent = (count > 0).then(|| self.agent.address());
        Readings { agent, count, root, items }
    }

    async fn receipt(&self, market: &Market, rental: &Booked) -> Receipt {
        let row = market.rental(rental).await;
        let rate = TokenRate::new(Amount::new(rental.rate).unwrap()).unwrap();
        let readings = self.readings(market, rental).await;
        let mut connection = market.store.read().await.unwrap();
        let seen = blocks::events_for(&mut connection, rental.escrow_id, 1_000).await.unwrap();
        let events: Vec<ChainEvent> = seen
            .into_iter()
            .filter(|event| event.is_final)
            .map(|event| ChainEvent {
                tx: event.tx_hash,
                block: event.block_number,
                at: event.at,
                log: event.log_index,
                said: serde_json::from_value(event.body).unwrap(),
            })
            .collect();
        let started = events.iter().find_map(|event| {
            let EscrowEvent::Started { started_at, .. } = event.said else { return None };
            Some(started_at)
        });
        let metered = started.zip(row.progress.stopped_at).map(|(from, to)| {
            let window = Interval::new(from, to);
            let covered: Vec<Interval> =
                readings.items.iter().map(|item| Interval::new(item.from, item.to)).collect();
            let found = meter(window, &covered, auto_stop_second(row.locked, rate));
            let (elapsed, covered, outages) = (found.elapsed, found.billed, found.outages);
            Metered { window, elapsed, covered, outages, left_out: None }
        });
        let mut receipt = Receipt {
            format: FORMAT.to_owned(),
            chain_id: CHAIN,
            escrow: market.site.escrow,
            rental: rental.id.to_string(),
            quote: self.quote(market, rental, auto_stop_second(rental.deposit, rate)),
            readings,
            metered,
            events,
            totals: Totals {
                deposit: row.locked,
                billed: row.billed.unwrap_or_default(),
                provider: row.paid_provider,
                fee: row.paid_fee,
                refund: row.paid_refund,
            },
            seal: Seal::default(),
        };
        receipt.seal(&self.platform).unwrap();
        receipt
    }
}

/// The rental has ended, so, and its receipt is true to the unit; a unit moved is noticed.
async fn assert_proven(market: &Market, rental: &Booked, wanted: Outcome) {
    let notary = Notary { platform: PrivateKeySigner::random(), agent: PrivateKeySigner::random() };
    let told = notary.receipt(market, rental).await;
    let EscrowEvent::Closed { outcome, .. } = told.events.last().unwrap().said else {
        panic!("{told:?}");
    };
    assert_eq!(outcome, wanted);
    let read = receipt::read(told.text().as_bytes()).unwrap();
    let proven = receipt::verify(&read, None, &[notary.platform.address()]);
    let proven = proven.unwrap_or_else(|faults| panic!("{wanted:?}: {faults:?}\n{told:#?}"));
    assert_eq!(proven.totals, told.totals);
    let one = Amount::new(1).unwrap();
    let mut other = told;
    other.totals.refund = other.totals.refund.checked_sub(one).unwrap();
    other.totals.provider = other.totals.provider.checked_add(one).unwrap();
    other.seal(&notary.platform).unwrap();
    receipt::verify(&other, None, &[]).unwrap_err();
}

async fn running(market: &Market, holdback: u32) -> Booked {
    let rental = market.book_holding(market.usdc, Seconds(holdback)).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    rental
}

/// 300 s of evidence around an outage, ended by the platform.
async fn ended(market: &Market, holdback: u32) -> Booked {
    let rental = running(market, holdback).await;
    market.run_for(&rental, 200).await;
    market.pass(60).await;
    market.run_for(&rental, 100).await;
    market.stop(&rental).await;
    rental
}

async fn until(market: &Market, rental: &Booked, state: RentalState) {
    market.until(rental, state).await;
    market.settle_in().await;
}

/// No byte of it can be another.
async fn assert_every_byte_counts(market: &Market, rental: &Booked) {
    let notary = Notary { platform: PrivateKeySigner::random(), agent: PrivateKeySigner::random() };
    let good = notary.receipt(market, rental).await.text().into_bytes();
    let holds = |bytes: &[u8]| {
        receipt::read(bytes).is_ok_and(|read| receipt::verify(&read, None, &[]).is_ok())
    };
    assert!(holds(&good));
    let mut bad = good.clone();
    for place in 0..good.len() {
        bad[place] ^= 1;
        assert!(!holds(&bad), "byte {place} of {}", String::from_utf8_lossy(&bad));
        bad[place] = good[place];
    }
}

#[tokio::test]
async fn what_the_platform_ends_bills_what_readings_cover() {
    let market = Market::new().await;
    let rental = ended(&market, 0).await;
    until(&market, &rental, RentalState::Settled).await;
    assert_proven(&market, &rental, Outcome::ClosedByOperator).await;
    assert_every_byte_counts(&market, &rental).await;

    // paid on the way by a stranger, topped up by another, and the last seconds left to silence
    let rental = running(&market, 50).await;
    market.run_for(&rental, 300).await;
    market.call(people::stranger(), calldata::release(&rental.terms)).await;
    market.top_up(people::renter(), &rental, Amount::new(12_345).unwrap()).await;
    market.run_for(&rental, 100).await;
    market.stop(&rental).await;
    until(&market, &rental, RentalState::Contested).await;
    // anybody can have the contract say that it skipped something: nobody is told, and the receipt is as good
    let early = calldata::finalize_batch(std::slice::from_ref(&rental.terms));
    market.call(people::stranger(), early).await;
    market.settle_in().await;
    let skipped = "SELECT count(*) FROM chain_events WHERE name = 'skipped'";
    assert_eq!(market.count(skipped).await, 1);
    let told = "SELECT count(*) FROM rental_events WHERE detail ->> 'event' = 'skipped'";
    assert_eq!(market.count(told).await, 0);
    market.pass(DAY).await;
    until(&market, &rental, RentalState::Settled).await;
    let seen = market.told(&rental, "released").await.len()
        + market.told(&rental, "topped_up").await.len();
    assert_eq!(seen, 2);
    assert_proven(&market, &rental, Outcome::Undisputed).await;

    let rental = market.book_holding(market.usdc, Seconds(50)).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.call(people::provider(), calldata::cancel(&rental.terms)).await;
    until(&market, &rental, RentalState::Refunded).await;
    assert_proven(&market, &rental, Outcome::Cancelled).await;
}

#[tokio::test]
async fn what_is_disputed_goes_where_the_rules_say() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    for (outcome, state) in [
        (Outcome::Resolved, RentalState::Resolved),
        (Outcome::Defaulted, RentalState::Resolved),
        (Outcome::Conceded, RentalState::Settled),
    ] {
        let rental = ended(&market, 50).await;
        until(&market, &rental, RentalState::Contested).await;
        market.call(people::provider(), calldata::dispute(&rental.terms)).await;
        market.call(people::renter(), calldata::dispute(&rental.terms)).await;
        if outcome == Outcome::Resolved {
            market.call(people::arbiter(), calldata::resolve(&rental.terms, Seconds(33))).await;
        } else if outcome == Outcome::Conceded {
            market.call(people::renter(), calldata::concede(&rental.terms)).await;
        } else {
            market.settle_in().await;
            market.pass(15 * DAY).await;
        }
        until(&market, &rental, state).await;
        assert_proven(&market, &rental, outcome).await;
    }
}

#[tokio::test]
async fn what_wallets_end_bills_the_clock_or_what_both_signed() {
    let market = Market::new().await;
    let rental = running(&market, 50).await;
    market.run_for(&rental, 200).await;
    market.call(people::renter(), calldata::stop(&rental.terms)).await;
    until(&market, &rental, RentalState::Settled).await;
    assert_proven(&market, &rental, Outcome::StoppedByRenter).await;

    let rental = running(&market, 50).await;
    market.run_for(&rental, 200).await;
    market.call(people::provider(), calldata::stop(&rental.terms)).await;
    until(&market, &rental, RentalState::Contested).await;
    market.pass(DAY).await;
    until(&market, &rental, RentalState::Settled).await;
    assert_proven(&market, &rental, Outcome::Undisputed).await;

    let rental = running(&market, 50).await;
    market.run_for(&rental, 200).await;
    let until_then = market.now().saturating_plus(Seconds(600));
    let agreed = signed::agreed_end(rental.escrow_id, Seconds(77), until_then);
    let sign = |key: &str| -> Bytes {
        let key: PrivateKeySigner = key.parse().unwrap();
        signed::sign(&agreed, &key, &market.site.domain).unwrap().to_vec().into()
    };
    let signatures = EndSignatures { renter: sign(DEV_KEYS[4]), provider: sign(DEV_KEYS[5]) };
    let call = calldata::close_agreed(&rental.terms, Seconds(77), until_then, &signatures);
    market.call(people::stranger(), call).await;
    until(&market, &rental, RentalState::Settled).await;
    assert_proven(&market, &rental, Outcome::Agreed).await;
}
