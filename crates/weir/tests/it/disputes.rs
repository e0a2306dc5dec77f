//! Disputes from the API to the contract and back: what a side records, what its wallet sends, and what becomes of it.

use std::sync::atomic::Ordering;

use alloy::{
    dyn_abi::TypedData,
    primitives::{Address, Bytes, hex},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use api::{ApiConfig, AppState};
use domain::{money::Amount, rental::RentalState, time::Seconds};
use escrow::{EscrowEvent, Outcome, calldata};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::DEV_KEYS;
use tests::market::{Booked, Market, people};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::sync::CancellationToken;

pub const RENTER: &str = DEV_KEYS[4];
const PROVIDER: &str = DEV_KEYS[5];
const STRANGER: &str = DEV_KEYS[9];
const DAY: u64 = 24 * 3_600;

/// The API over the market's own database and chain.
pub struct House {
    pub market: Market,
    pub url: String,
    pub http: reqwest::Client,
    stop: CancellationToken,
}

/// Somebody who has signed in.
pub struct Person {
    pub key: PrivateKeySigner,
    pub token: String,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl House {
    pub async fn new() -> Self {
        let market = Market::new().await;
        // nobody signs an end here, so that something is held
        market.agreeable.store(false, Ordering::SeqCst);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = AppState::new(
            market.store.clone(),
            market.client.clone(),
            ApiConfig::new(&url, 31_337),
            None,
        );
        let stop = CancellationToken::new();
        tokio::spawn(api::serve(listener, state, stop.clone()));
        let http = tls::direct(std::time::Duration::from_secs(60)).unwrap();
        Self { market, url, http, stop }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn post(&self, path: &str, person: &Person, body: &Value, status: u16) -> Value {
        let (found, said) = self.ask(Method::POST, path, &person.token, Some(body)).await;
        assert_eq!(found.as_u16(), status, "{said:#}");
        said
    }

    /// Posts under an Idempotency-Key; and whether the answer was given before.
    pub async fn once(
        &self,
        path: &str,
        person: &Person,
        key: &str,
        body: &Value,
        status: u16,
    ) -> (Value, bool) {
        let asked = self.http.post(format!("{}{path}", self.url)).bearer_auth(&person.token);
        let answer = asked.header("idempotency-key", key).json(body).send().await.unwrap();
        let replayed = answer.headers().contains_key("idempotent-replayed");
        let found = answer.status();
        let said: Value = answer.json().await.unwrap();
        assert_eq!(found.as_u16(), status, "{said:#}");
        (said, replayed)
    }

    pub async fn get(&self, path: &str, person: &Person, status: u16) -> Value {
        let (found, said) = self.ask(Method::GET, path, &person.token, None).await;
        assert_eq!(found.as_u16(), status, "{said:#}");
        said
    }

    pub async fn sign_in(&self, key: &str) -> Person {
        let key: PrivateKeySigner = key.parse().unwrap();
        let (_, nonce) = self.ask(Method::POST, "/v1/auth/siwe/nonce", "", Some(&json!({}))).await;
        let text = |name: &str| nonce[name].as_str().unwrap().to_owned();
        let message = format!(
            "{} wants you to sign in with your Ethereum account:\n{}\n\n{}\n\nURI: {}\nVersion: 1\nChain ID: \
             31337\nNonce: {}\nIssued At: {}",
            text("domain"),
            key.address().to_checksum(None),
            text("statement"),
            text("uri"),
            text("nonce"),
            self.time(0),
        );
        let signature = key.sign_message_sync(message.as_bytes()).unwrap();
        let body =
            json!({"message": message, "signature": hex::encode_prefixed(signature.as_bytes())});
        let (status, said) = self.ask(Method::POST, "/v1/auth/siwe/verify", "", Some(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{said}");
        Person { key, token: said["token"].as_str().unwrap().to_owned() }
    }

    /// So many seconds from now.
    fn time(&self, ahead: u64) -> String {
        let at = i64::try_from(self.market.now().get() + ahead).unwrap();
        OffsetDateTime::from_unix_timestamp(at).unwrap().format(&Rfc3339).unwrap()
    }

    /// A running rental whose last 50 s are held back.
    async fn running(&self) -> Booked {
        let market = &self.market;
        let rental = market.book_holding(market.usdc, Seconds(50)).await;
        market.lock(&rental, rental.deposit).await;
        market.settle_in().await;
        market.make_active(&rental).await;
        rental
    }

    /// 300 s of evidence around 60 s of outage, ended, with the last seconds held.
    async fn held(&self) -> Booked {
        let rental = self.running().await;
        let market = &self.market;
        market.run_for(&rental, 200).await;
        market.pass(60).await;
        market.run_for(&rental, 100).await;
        market.stop(&rental).await;
        market.until(&rental, RentalState::Contested).await;
        market.settle_in().await;
        rental
    }

    /// Sends a call that the API gave out.
    async fn send(&self, from: Address, case: &Value, name: &str) {
        let actions = case["actions"].as_array().unwrap();
        let action = actions.iter().find(|action| action["name"] == name);
        let call = &action.unwrap_or_else(|| panic!("no {name} in {actions:?}"))["call"];
        let to: Address = call["to"].as_str().unwrap().parse().unwrap();
        let data: Bytes = call["calldata"].as_str().unwrap().parse().unwrap();
        self.market.send(from, to, data.to_vec()).await;
        self.market.settle_in().await;
    }

    /// The rental ended so, and the whole deposit was divided as for so many seconds.
    async fn assert_came_to(&self, rental: &Booked, wanted: Outcome, seconds: u128) {
        let told = self.market.told(rental, "closed").await;
        let EscrowEvent::Closed { outcome, billed, .. } = told[0] else { panic!("{told:?}") };
        assert_eq!((outcome, u128::from(billed.get())), (wanted, seconds));
        let locked = self.market.rental(rental).await.locked;
        self.market.assert_divided(rental, rental.parts(locked, seconds)).await;
    }
}

fn names(case: &Value) -> Vec<&str> {
    let actions = case["actions"].as_array().unwrap();
    actions.iter().map(|action| action["name"].as_str().unwrap()).collect()
}

/// Signs typed data as a wallet does that knows nothing but the JSON.
fn signed(person: &Person, answer: &Value) -> String {
    let typed: TypedData = serde_json::from_value(answer["typed_data"].clone()).unwrap();
    let hash = typed.eip712_signing_hash().unwrap();
    hex::encode_prefixed(person.key.sign_hash_sync(&hash).unwrap().as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_agree_in_the_middle_of_a_dispute() {
    let house = House::new().await;
    let rental = house.held().await;
    let (renter, provider) = (house.sign_in(RENTER).await, house.sign_in(PROVIDER).await);
    let stranger = house.sign_in(STRANGER).await;
    house.market.tamper("INSERT INTO account_streams (account_id) SELECT id FROM accounts").await;
    let open = json!({
        "rental_id": rental.id.to_string(), "code": "billing", "statement": "it was up all the time",
        "evidence": [{"sha256": format!("0x{}", "ab".repeat(32)), "uri": "ipfs://bafy/log"}],
    });
    house.post("/v1/disputes", &stranger, &open, 404).await;
    let case = house.post("/v1/disputes", &provider, &open, 201).await;
    assert_eq!((&case["state"], &case["role"]), (&json!("open"), &json!("provider")));
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    // the numbers first: readings cover what would be billed
    let facts = &case["facts"];
    assert_eq!(facts["covered_s"], 300);
    assert_eq!(facts["billed_by_default_s"], 300);
    assert_eq!(facts["judgement"], "not_supported", "{facts}");
    let gap = facts["uncovered_s"].as_u64().unwrap();
    assert!(gap >= 60, "{facts}");
    assert_eq!(names(&case), ["dispute", "concede"]);
    let mirrored = house.get(&path, &renter, 200).await;
    assert_eq!(
        (&mirrored["role"], names(&mirrored)),
        (&json!("renter"), vec!["dispute", "concede"])
    );
    house.get(&path, &stranger, 404).await;
    let twice = house.post("/v1/disputes", &renter, &open, 409).await;
    assert_eq!((&twice["code"], &twice["dispute_id"]), (&json!("already-exists"), &case["id"]));
    let list = house.get("/v1/disputes", &renter, 200).await;
    assert_eq!(list["data"][0]["id"], case["id"]);
    assert_eq!(house.get("/v1/disputes", &stranger, 200).await["data"], json!([]));

    // the provider's own wallet puts it before the contract
    house.send(people::provider(), &case, "dispute").await;
    let case = house.get(&path, &provider, 200).await;
    assert_eq!((&case["state"], &case["provider_disputes"]), (&json!("disputed"), &json!(true)));
    assert_eq!((&case["renter_disputes"], names(&case)), (&json!(false), vec!["concede"]));
    let late = house.post(&format!("{path}/withdraw"), &provider, &json!({}), 409).await;
    assert!(late["detail"].as_str().unwrap().contains("concede"), "{late}");

    // the renter proposes, the provider accepts, and anybody sends it
    let propose = format!("{path}/propose");
    let least = case["held"]["seconds"].as_u64().unwrap();
    let most = 300 + gap;
    let mut offer = json!({"billed_s": most + 1, "valid_until": house.time(3_600)});
    let wide = house.post(&propose, &renter, &offer, 422).await;
    assert_eq!(wide["errors"][0]["pointer"], "/billed_s", "{wide} {least}");
    offer["billed_s"] = json!(330);
    let to_sign = house.post(&propose, &renter, &offer, 200).await;
    assert_eq!(to_sign["typed_data"]["primaryType"], "AgreedEnd");
    offer["signature"] = json!(signed(&provider, &to_sign));
    house.post(&propose, &renter, &offer, 422).await;
    offer["signature"] = json!(signed(&renter, &to_sign));
    let case = house.post(&propose, &renter, &offer, 201).await;
    assert_eq!(case["proposals"][0]["accepted"], false);
    assert!(!names(&case).contains(&"close_agreed"));
    let accept = format!("{path}/accept");
    house.post(&accept, &renter, &json!({"seq": 1}), 422).await;
    house.post(&accept, &provider, &json!({"seq": 2}), 422).await;
    let to_sign = house.post(&accept, &provider, &json!({"seq": 1}), 200).await;
    let bad = json!({"seq": 1, "signature": signed(&renter, &to_sign)});
    house.post(&accept, &provider, &bad, 422).await;
    let good = json!({"seq": 1, "signature": signed(&provider, &to_sign)});
    let case = house.post(&accept, &provider, &good, 201).await;
    let again = house.post(&accept, &provider, &good, 201).await;
    assert_eq!(again["proposals"], case["proposals"], "the same signature changes nothing");
    assert_eq!(case["proposals"][0]["accepted"], true);
    house.send(people::stranger(), &case, "close_agreed").await;
    house.market.until(&rental, RentalState::Settled).await;
    house.market.settle_in().await;
    house.assert_came_to(&rental, Outcome::Agreed, 330).await;
    let case = house.get(&path, &renter, 200).await;
    assert_eq!((&case["state"], &case["outcome"]), (&json!("closed"), &json!("agreed")));
    assert!(names(&case).is_empty() && case["held"].is_null());
    // it is over: nothing is added, and a new case finds nothing to be about
    let more = json!({"evidence": [{"sha256": "ab".repeat(32), "uri": "https://example.com/x"}]});
    house.post(&format!("{path}/evidence"), &renter, &more, 409).await;
    house.post("/v1/disputes", &renter, &open, 409).await;
    both_were_told(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_is_kept_once_and_offered_while_the_contract_takes_it() {
    let house = House::new().await;
    let rental = house.running().await;
    let (renter, provider) = (house.sign_in(RENTER).await, house.sign_in(PROVIDER).await);
    house.market.run_for(&rental, 100).await;
    let open = json!({"rental_id": rental.id.to_string(), "code": "not_reachable"});
    let case = house.post("/v1/disputes", &renter, &open, 201).await;
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    let (propose, accept) = (format!("{path}/propose"), format!("{path}/accept"));
    let offer = async |billed: u64| {
        let mut offer = json!({"billed_s": billed, "valid_until": house.time(3_600)});
        let to_sign = house.post(&propose, &renter, &offer, 200).await;
        offer["signature"] = json!(signed(&renter, &to_sign));
        offer
    };
    let first = offer(10).await;
    let (said, replayed) = house.once(&propose, &renter, "p", &first, 201).await;
    assert_eq!((said["proposals"].as_array().unwrap().len(), replayed), (1, false));
    let (again, replayed) = house.once(&propose, &renter, "p", &first, 201).await;
    assert_eq!((&again, replayed), (&said, true));
    let (refused, _) = house.once(&propose, &renter, "p", &offer(11).await, 422).await;
    assert_eq!(refused["code"], "idempotency-mismatch");
    // without a key the same words under the same signature are one proposal
    let said = house.post(&propose, &renter, &first, 201).await;
    assert_eq!(said["proposals"].as_array().unwrap().len(), 1);
    house.post(&propose, &renter, &offer(12).await, 201).await;

    let accepted = async |seq: u64| {
        let to_sign = house.post(&accept, &provider, &json!({"seq": seq}), 200).await;
        json!({"seq": seq, "signature": signed(&provider, &to_sign)})
    };
    let (one, two) = (accepted(1).await, accepted(2).await);
    let (said, _) = house.once(&accept, &provider, "a", &one, 201).await;
    assert_eq!(names(&said), ["close_agreed"], "{said}");
    let (again, replayed) = house.once(&accept, &provider, "a", &one, 201).await;
    assert_eq!((&again, replayed), (&said, true));

    // the renter contests its last seconds: all before them is paid, and is more than was proposed
    let case = house.get(&path, &renter, 200).await;
    house.send(people::renter(), &case, "contest").await;
    house.market.until(&rental, RentalState::Contested).await;
    house.market.settle_in().await;
    let told = house.market.told(&rental, "contested").await;
    let EscrowEvent::Contested { settled, .. } = told[0] else { panic!("{told:?}") };
    assert!(settled.get() > 12, "{settled:?}");
    let case = house.get(&path, &renter, 200).await;
    assert!(!names(&case).contains(&"close_agreed"), "{case}");
    for late in [json!({"seq": 2}), two] {
        let said = house.post(&accept, &provider, &late, 409).await;
        assert_eq!(said["code"], "state-conflict", "{said}");
    }
    // what was answered is answered again, however late
    let (again, replayed) = house.once(&accept, &provider, "a", &one, 201).await;
    assert_eq!((names(&again), replayed), (vec!["close_agreed"], true));
}

/// Of the case, step by step, and the provider of its payout once that is final.
async fn both_were_told(house: &House) {
    let market = &house.market;
    let told = async |person: Address| -> Vec<(String, Value)> {
        let events =
            "SELECT e.kind, e.data FROM account_events e JOIN accounts a ON a.id = e.account_id
                      WHERE a.address = $1 ORDER BY e.xid, e.id";
        let found = sqlx::query_as(events).bind(person.as_slice());
        found.fetch_all(market.store.pool()).await.unwrap()
    };
    let steps = ["filed", "evidence", "opened", "proposed", "accepted", "closed"];
    for person in [people::renter(), people::provider()] {
        let told = told(person).await;
        let of_case: Vec<_> = told.iter().filter_map(|e| e.0.strip_prefix("dispute.")).collect();
        assert_eq!(of_case, steps, "{told:#?}");
    }
    let earned = market.kept(market.usdc, people::provider()).await;
    let all = calldata::withdraw(market.usdc, people::provider(), Amount::ZERO);
    let hash = market.call(people::provider(), all).await;
    assert!(told(people::provider()).await.iter().all(|event| event.0 != "payout.paid"));
    market.settle_in().await;
    let told = told(people::provider()).await;
    let paid: Vec<_> = told.iter().filter(|event| event.0 == "payout.paid").collect();
    assert_eq!(paid.len(), 1, "{told:#?}");
    let expected = json!({"token": market.usdc, "to": people::provider(), "amount": earned.to_string(),
                          "tx_hash": hash});
    assert_eq!(paid[0].1, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renter_contests_a_running_machine_and_the_arbiter_decides() {
    let house = House::new().await;
    let rental = house.running().await;
    let (renter, provider) = (house.sign_in(RENTER).await, house.sign_in(PROVIDER).await);
    house.market.run_for(&rental, 100).await;
    let from = house.time(0);
    house.market.pass(30).await;
    let open = json!({"rental_id": rental.id.to_string(), "code": "not_reachable", "from": from,
                      "to": house.time(0)});
    // the provider has nothing to say to the contract while it runs
    house.post("/v1/disputes", &provider, &open, 409).await;
    let case = house.post("/v1/disputes", &renter, &open, 201).await;
    assert_eq!(case["facts"]["uncovered_in_question_s"], 30);
    assert_eq!(case["facts"]["judgement"], "supported");
    assert_eq!(names(&case), ["contest"]);
    house.send(people::renter(), &case, "contest").await;
    house.market.until(&rental, RentalState::Contested).await;
    house.market.settle_in().await;
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    let case = house.get(&path, &renter, 200).await;
    assert_eq!((&case["state"], &case["renter_disputes"]), (&json!("disputed"), &json!(true)));
    assert_eq!(case["held"]["seconds"], 30, "the time in question and no more");
    let told = house.market.told(&rental, "contested").await;
    let EscrowEvent::Contested { settled, held, .. } = told[0] else { panic!("{told:?}") };
    let all = calldata::resolve(&rental.terms, held);
    house.market.call(people::arbiter(), all).await;
    house.market.until(&rental, RentalState::Resolved).await;
    house.market.settle_in().await;
    house.assert_came_to(&rental, Outcome::Resolved, u128::from(settled.get())).await;
    let case = house.get(&path, &provider, 200).await;
    assert_eq!((&case["state"], &case["outcome"]), (&json!("closed"), &json!("resolved")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_is_taken_back_or_given_in_to_or_left_to_silence() {
    let house = House::new().await;
    let rental = house.held().await;
    let (renter, provider) = (house.sign_in(RENTER).await, house.sign_in(PROVIDER).await);
    let open = |rental: &Booked| json!({"rental_id": rental.id.to_string(), "code": "data_loss"});
    let case = house.post("/v1/disputes", &renter, &open(&rental), 201).await;
    assert_eq!(case["facts"]["judgement"], "not_judged");
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    house.post(&format!("{path}/withdraw"), &provider, &json!({}), 403).await;
    let back = house.post(&format!("{path}/withdraw"), &renter, &json!({}), 200).await;
    assert_eq!(back["state"], "withdrawn");
    assert!(names(&back).is_empty());
    house.post(&format!("{path}/withdraw"), &renter, &json!({}), 409).await;

    // opened again, heard by the contract, and given in to
    let case = house.post("/v1/disputes", &renter, &open(&rental), 201).await;
    let again = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    house.send(people::renter(), &case, "dispute").await;
    let mirrored = house.get(&again, &provider, 200).await;
    assert_eq!(mirrored["state"], "disputed");
    assert_eq!(names(&mirrored), ["dispute", "concede"], "the credit is its own matter");
    house.send(people::provider(), &mirrored, "concede").await;
    house.market.until(&rental, RentalState::Settled).await;
    house.market.settle_in().await;
    let case = house.get(&again, &renter, 200).await;
    assert_eq!((&case["state"], &case["outcome"]), (&json!("closed"), &json!("conceded")));
    assert_eq!(
        house.get(&path, &renter, 200).await["state"],
        "withdrawn",
        "the chain moves no case that is over"
    );

    // and one of which the contract never heard ends with the window
    let rental = house.held().await;
    let case = house.post("/v1/disputes", &provider, &open(&rental), 201).await;
    house.market.pass(DAY).await;
    house.market.until(&rental, RentalState::Settled).await;
    house.market.settle_in().await;
    // a day later the session is over
    let provider = house.sign_in(PROVIDER).await;
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    let case = house.get(&path, &provider, 200).await;
    assert_eq!((&case["state"], &case["outcome"]), (&json!("closed"), &json!("undisputed")));
}
