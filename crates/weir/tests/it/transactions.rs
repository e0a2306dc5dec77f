//! The transaction that an answer waits for is told as soon as it is signed, long before the chain has spoken.

use std::time::Duration;

use alloy::primitives::hex;
use domain::{rental::LockStatus, time::UnixSeconds};
use escrow::signed;
use reqwest::Response;
use serde_json::{Value, json};
use tests::market::Booked;

use crate::disputes::{House, Person, RENTER};

const VALID: (UnixSeconds, UnixSeconds) = (UnixSeconds(0), UnixSeconds(u64::MAX >> 17));

/// The renter's authorization of the deposit, as it is posted.
fn authorization(house: &House, rental: &Booked, renter: &Person) -> Value {
    let site = &house.market.site;
    let (escrow, deposit) = (site.escrow, rental.deposit);
    let message = signed::authorization(&rental.terms, rental.escrow_id, escrow, deposit, VALID);
    let domain = signed::token_domain("USD Coin", "1", site.chain_id, rental.terms.token);
    let signature = signed::sign(&message, &renter.key, &domain).unwrap();
    json!({"valid_after": VALID.0, "valid_before": VALID.1,
           "signature": hex::encode_prefixed(signature)})
}

async fn post(house: &House, path: &str, renter: &Person, wait: u32, body: &Value) -> Response {
    let asked = house.http.post(format!("{}{path}", house.url)).bearer_auth(&renter.token);
    let asked = asked.header("idempotency-key", path.replace('/', "-"));
    let asked = if wait > 0 { asked.header("prefer", format!("wait={wait}")) } else { asked };
    asked.json(body).send().await.unwrap()
}

async fn said(answer: Response) -> Value {
    let status = answer.status();
    let said: Value = answer.json().await.unwrap();
    assert_eq!(status, 202, "{said:#}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_told_once_it_is_signed() {
    let house = House::new().await;
    let market = &house.market;
    market.tamper("UPDATE tokens SET permit_name = 'USD Coin', permit_version = '1' WHERE symbol = 'USDC'").await;
    let renter = house.sign_in(RENTER).await;
    let rental = market.book_in(market.usdc).await;
    let path = format!("/v1/rentals/{}", rental.id);
    let authorize = format!("{path}/authorization");
    let body = authorization(&house, &rental, &renter);
    let first = said(post(&house, &authorize, &renter, 0, &body).await).await;
    assert_eq!(first["transaction"], Value::Null, "nobody has signed it yet");
    assert_eq!(house.get(&path, &renter, 200).await["transaction"], Value::Null);

    market.engine.lane.tick().await.unwrap();
    assert_eq!(market.rental(&rental).await.progress.lock, LockStatus::None, "the chain is silent");
    let again = said(post(&house, &authorize, &renter, 0, &body).await).await;
    let hash = again["transaction"].as_str().expect("the same request tells it").to_owned();
    assert_eq!(hash.len(), 66);
    assert_eq!(again["rental"], first["rental"], "all else is as it was told");
    assert_eq!(house.get(&path, &renter, 200).await["transaction"], hash);
    market.settle_in().await;
    let told = market.rental(&rental).await.progress.lock;
    assert_eq!(told, LockStatus::Final);

    // a stop before the start asks for everything back
    let stop = format!("{path}/stop");
    let first = said(post(&house, &stop, &renter, 0, &json!({})).await).await;
    assert_eq!(first["transaction"], Value::Null);
    market.engine.lane.tick().await.unwrap();
    let again = said(post(&house, &stop, &renter, 0, &json!({})).await).await;
    let cancel = again["transaction"].as_str().expect("the call that ends it");
    assert_ne!(cancel, hash);
    assert_eq!(house.get(&path, &renter, 200).await["transaction"], cancel);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_tells_it_after_the_wait() {
    let house = House::new().await;
    let market = &house.market;
    market.tamper("UPDATE tokens SET permit_name = 'USD Coin', permit_version = '1' WHERE symbol = 'USDC'").await;
    let renter = house.sign_in(RENTER).await;
    let rental = market.book_in(market.usdc).await;
    let authorize = format!("/v1/rentals/{}/authorization", rental.id);
    let body = authorization(&house, &rental, &renter);
    // the worker signs and sends, and no block comes
    let worker = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            market.engine.lane.tick().await.unwrap();
        }
    };
    let answer = tokio::select! {
        answer = post(&house, &authorize, &renter, 8, &body) => answer,
        () = worker => panic!("it has no end"),
    };
    assert_eq!(answer.headers()["preference-applied"], "wait=8");
    let told = said(answer).await;
    assert!(told["transaction"].is_string(), "{told}");
    assert_eq!(told["rental"]["lock"], "none");
}
