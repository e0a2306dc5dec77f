//! A renter: books with a key, locks by its own transaction or by a signature, uses the machine some seconds,
//! stops, signs the end, and waits until the money is divided.

use std::{sync::Arc, time::Duration};

use alloy::{
    primitives::{Address, B256, U256, hex},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use domain::{
    money::{Amount, FeeBps},
    rate::TokenRate,
    terms::RentalTerms,
    time::{Seconds, UnixSeconds},
};
use escrow::{
    Terms,
    signed::{self, ReceiveWithAuthorization},
};
use serde_json::{Value, json};

use super::{
    client::{Client, text},
    record::{Note, Record},
    rpc::Sent,
    world::World,
};
use crate::random::Random;

/// What the deposit pays for; rentals are stopped long before.
const DURATION_S: u32 = 600;
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// A lock of one's own that is in no block after so many looks is sent again.
const PATIENCE: u32 = 4;

/// How one rental is to go.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub gasless: bool,
    pub native: bool,
    /// Called off as soon as it is booked and locked.
    pub called_off: bool,
    pub run_for: Duration,
}

impl Course {
    pub fn draw(random: &mut Random) -> Self {
        let way = random.below(10);
        Self {
            gasless: way < 4,
            native: way >= 8,
            called_off: random.below(12) == 0,
            run_for: Duration::from_millis(1_500 + random.below(4_000)),
        }
    }
}

pub struct Renter {
    key: PrivateKeySigner,
    client: Client,
    world: Arc<World>,
    record: Arc<Record>,
}

/// A booked rental and what was done for it.
struct Booked {
    id: String,
    escrow_id: B256,
    answer: Value,
    lock: Option<Sent>,
}

impl Renter {
    pub async fn sign_in(world: &Arc<World>, record: &Arc<Record>, key: PrivateKeySigner) -> Self {
        let client = Client::new(world, record);
        client.sign_in(&key).await;
        Self { key, client, world: Arc::clone(world), record: Arc::clone(record) }
    }

    /// One rental from the quote to the end. False if no machine came free in time.
    pub async fn rent(&self, offers: &[String], course: Course, random: &mut Random) -> bool {
        let Some(mut booked) = self.book(offers, course, random).await else { return false };
        self.lock(&mut booked, course).await;
        self.live(&booked, course).await;
        true
    }

    async fn book(&self, offers: &[String], course: Course, random: &mut Random) -> Option<Booked> {
        let token = if course.native { "POL" } else { "USDC" };
        let limit = u64::try_from(offers.len()).unwrap();
        for _ in 0..200 {
            let offer = &offers[usize::try_from(random.below(limit)).unwrap()];
            let ask = json!({ "offer_id": offer, "duration_s": DURATION_S, "token": token });
            let (status, quote) = self.client.post("/v1/quotes", &ask).await;
            if status == 201 {
                let key = format!("book-{}", hex::encode(random.bytes::<8>()));
                let body = json!({ "quote_id": text(&quote, "/id") });
                let (status, answer) = self.client.keyed("/v1/rentals", &body, &key).await;
                if status == 201 {
                    return Some(self.note(&quote, answer));
                }
                if answer["code"] == "offer-taken" {
                    self.record.pages().answers.taken += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(200 + random.below(600))).await;
        }
        None
    }

    fn note(&self, quote: &Value, answer: Value) -> Booked {
        let id = text(&answer, "/rental/id");
        let escrow_id: B256 = text(&answer, "/rental/escrow_id").parse().unwrap();
        let terms = terms(&answer);
        let note = Note {
            escrow_id,
            renter: self.key.address(),
            provider: terms.provider,
            machine: text(&answer, "/rental/machine_id"),
            token: terms.token,
            deposit: text(&answer, "/rental/deposit/base_units").parse().unwrap(),
            rate: terms.pricePerHour.to(),
            fee_bps: u128::from(terms.feeBps),
            state: "awaiting_funds".to_owned(),
            ready_at: None,
            claimed: Vec::new(),
        };
        assert_eq!(text(quote, "/deposit/base_units"), note.deposit.to_string());
        let known = self.record.pages().rentals.insert(id.clone(), note);
        if known.is_some() {
            self.record.complain(format!("{id} was booked with two keys"));
        }
        Booked { id, escrow_id, answer, lock: None }
    }

    async fn lock(&self, booked: &mut Booked, course: Course) {
        let funding = &booked.answer["funding"];
        let typed = &funding["typed_data"]["authorization"];
        if course.gasless && !course.native && !typed.is_null() {
            self.authorize(booked, typed).await;
            return;
        }
        let to: Address = text(funding, "/to").parse().unwrap();
        assert_eq!(to, self.world.escrow);
        let data = hex::decode(text(funding, "/calldata")).unwrap();
        let value: u128 = text(funding, "/value").parse().unwrap();
        booked.lock = Some(self.world.rpc.send(&self.key, to, data, value).await);
    }

    async fn authorize(&self, booked: &Booked, typed: &Value) {
        let number = |name: &str| -> U256 { text(typed, name).parse().unwrap() };
        let message = ReceiveWithAuthorization {
            from: text(typed, "/message/from").parse().unwrap(),
            to: text(typed, "/message/to").parse().unwrap(),
            value: number("/message/value"),
            validAfter: number("/message/validAfter"),
            validBefore: number("/message/validBefore"),
            nonce: text(typed, "/message/nonce").parse().unwrap(),
        };
        assert_eq!((message.nonce, message.to), (booked.escrow_id, self.world.escrow));
        let token: Address = text(typed, "/domain/verifyingContract").parse().unwrap();
        let (name, version) = (text(typed, "/domain/name"), text(typed, "/domain/version"));
        let domain = signed::token_domain(&name, &version, self.world.rpc.chain_id, token);
        let body = json!({
            "valid_after": message.validAfter.to::<u64>(),
            "valid_before": message.validBefore.to::<u64>(),
            "signature": hex::encode_prefixed(signed::sign(&message, &self.key, &domain).unwrap()),
        });
        let path = format!("/v1/rentals/{}/authorization", booked.id);
        self.client.keyed(&path, &body, &format!("authorize-{}", booked.id)).await;
    }

    /// Does what the state asks for, until the money is where it belongs.
    async fn live(&self, booked: &Booked, course: Course) {
        let path = format!("/v1/rentals/{}", booked.id);
        let (mut looks, mut stopped, mut idle) = (0_u32, false, 0_u32);
        loop {
            let (status, seen) = self.client.get(&path).await;
            assert_eq!(status, 200, "{seen}");
            let state = text(&seen, "/state");
            self.record.note(&booked.id, |note| note.state.clone_from(&state));
            match state.as_str() {
                "awaiting_funds" => {
                    looks += 1;
                    if looks.is_multiple_of(PATIENCE) {
                        self.push(booked).await;
                    }
                    if course.called_off && !stopped && looks > 1 {
                        stopped = self.stop(booked).await;
                    }
                }
                "funded" | "provisioning" if course.called_off && !stopped => {
                    stopped = self.stop(booked).await;
                }
                "active" | "interrupted" if !stopped => {
                    tokio::time::sleep(course.run_for).await;
                    stopped = self.stop(booked).await;
                }
                "settling" => self.sign_end(booked).await,
                "contested" => self.concede(booked).await,
                "settled" | "resolved" | "refunded" => return,
                // over, unless the lock comes in after all
                "expired" | "cancelled" => {
                    self.push(booked).await;
                    idle += 1;
                    if idle > 8 + 3 * self.world.plan.epoch && !self.is_locked(booked).await {
                        return;
                    }
                }
                _ => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A lock that left the chain, or never came into it, is sent again.
    async fn push(&self, booked: &Booked) {
        if let Some(lock) = &booked.lock
            && self.world.rpc.receipt(lock.hash).await.is_none()
        {
            self.world.rpc.send_again(lock).await;
        }
    }

    async fn is_locked(&self, booked: &Booked) -> bool {
        let data = format!("0x527bf466{}", hex::encode(booked.escrow_id));
        let call = json!([{ "to": self.world.escrow, "data": data }, "latest"]);
        let answer = self.world.rpc.call("eth_call", call).await;
        // the first word is the status; zero is none
        answer.as_str().unwrap()[2..66].chars().any(|digit| digit != '0')
    }

    async fn stop(&self, booked: &Booked) -> bool {
        let path = format!("/v1/rentals/{}/stop", booked.id);
        let key = format!("stop-{}", booked.id);
        let (status, answer) = self.client.keyed(&path, &json!({}), &key).await;
        if status != 202 {
            self.record.count("stops refused");
            eprintln!("chaos: {} cannot be stopped: {answer}", booked.id);
        }
        status == 202
    }

    async fn sign_end(&self, booked: &Booked) {
        let path = format!("/v1/rentals/{}/end", booked.id);
        let (200, end) = self.client.get(&path).await else { return };
        let field = |name: &str| text(&end, &format!("/typed_data/message/{name}"));
        let signed_by = end["signed_by"].as_array().unwrap();
        if signed_by.contains(&json!("renter")) {
            return;
        }
        let told = signed::end(
            field("id").parse().unwrap(),
            UnixSeconds(field("stoppedAt").parse().unwrap()),
            Seconds(field("creditSecs").parse().unwrap()),
        );
        let domain = escrow::domain(self.world.rpc.chain_id, self.world.escrow);
        let signature = self.key.sign_hash_sync(&signed::digest(&told, &domain)).unwrap();
        self.client.post(&path, &json!({ "signature": signature.to_string() })).await;
    }

    /// Some seconds are held because a signature came too late: the renter gives them up, on the chain.
    async fn concede(&self, booked: &Booked) {
        self.record.count("held seconds given up");
        let data = escrow::calldata::concede(&terms(&booked.answer));
        let sent = self.world.rpc.send(&self.key, self.world.escrow, data, 0).await;
        for _ in 0..40 {
            if self.world.rpc.receipt(sent.hash).await.is_some() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The terms that the renter was shown.
fn terms(answer: &Value) -> Terms {
    let message = &answer["funding"]["typed_data"]["terms"]["message"];
    let number = |name: &str| -> u128 { text(message, name).parse().unwrap() };
    let address = |name: &str| -> Address { text(message, name).parse().unwrap() };
    Terms::from(&RentalTerms {
        renter: address("/renter"),
        provider: address("/provider"),
        token: address("/token"),
        rate: TokenRate::new(Amount::new(number("/pricePerHour")).unwrap()).unwrap(),
        fee: FeeBps::quotable(u16::try_from(number("/feeBps")).unwrap()).unwrap(),
        start_by: UnixSeconds(u64::try_from(number("/startBy")).unwrap()),
        holdback: Seconds(u32::try_from(number("/holdback")).unwrap()),
        order_hash: text(message, "/orderHash").parse().unwrap(),
    })
}
