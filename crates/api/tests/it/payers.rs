//! Who pays by x402: how it gets in, what it is given when an answer was lost, and how much others leave to it.

use std::{net::SocketAddr, time::Duration};

use alloy::primitives::B256;
use axum::extract::ConnectInfo;
use domain::{
    id::{AccountId, RentalId, SessionId},
    money::Amount,
    rental::RentalEvent,
};
use escrow::EscrowEvent;
use serde_json::{Value, json};
use store::{payments, sessions};
use uuid::Uuid;

use crate::{
    fixture::{NOW, USDC, key},
    payments::{ask, count, decoded, order, paid_by, pay, required, world},
    sealed::say,
};

const LAPTOP: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPw8HJBchohwQHqtlJIgkrqDpPLo6uKmRn4FWWDrTNdT me@laptop";
const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkbe7gwx7s0dlApEEzpUyOAPrzPLy4czEZw/sh8m8rd";
/// A key of a request that nobody guesses.
const SECRET: &str = "0198f1c2-a4b3-4c1e-8d2f-6a5b4c3d2e1f";

fn access(body: &Value) -> &str {
    body["access"]["token"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_answer_is_given_another_token() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let accepted = required(&world, SECRET, &order(&rig)).await;
    let sent = paid_by(&accepted, &key(40));
    let first = pay(&world, SECRET, &order(&rig), &sent).await.ok(202);
    let path = format!("/v1/rentals/{}", first["rental"]["id"].as_str().unwrap());
    world.pass(5);
    let mut tokens = vec![access(&first).to_owned()];
    for _ in 1..8 {
        let reply = pay(&world, SECRET, &order(&rig), &sent).await;
        assert_eq!(reply.header("idempotent-replayed"), "true");
        let again = reply.ok(202);
        assert!(!tokens.iter().any(|token| token == access(&again)));
        assert_eq!(again["access"]["expires_at"], first["access"]["expires_at"]);
        tokens.push(access(&again).to_owned());
    }
    // each is good, and there is an end to them
    for token in &tokens {
        world.get(&path).auth(token).send().await.ok(200);
    }
    assert!(pay(&world, SECRET, &order(&rig), &sent).await.ok(202)["access"].is_null());
    // whoever only knows what the chain shows has another key, and gains nothing
    let other = pay(&world, "another-key-of-some-length", &order(&rig), &sent).await;
    other.problem(409, "already-exists");
    assert_eq!(count(&world, "SELECT count(*) FROM rental_tokens").await, 8);
}

/// Whoever ends the tokens, of one rental or of all, ends those too that are given at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_survives_the_end_of_all() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let accepted = required(&world, SECRET, &order(&rig)).await;
    let sent = paid_by(&accepted, &key(40));
    let body = pay(&world, SECRET, &order(&rig), &sent).await.ok(202);
    let id: RentalId = body["rental"]["id"].as_str().unwrap().parse().unwrap();
    let pool = world.store.pool();
    let (account,): (Uuid,) =
        sqlx::query_as("SELECT renter_id FROM rentals").fetch_one(pool).await.unwrap();
    let (account, now) = (AccountId::from_uuid(account), world.now());
    let end = async |tx: &mut store::Connection, all: bool| {
        if all {
            let none = SessionId::from_uuid(Uuid::now_v7());
            sessions::revoke_others(tx, account, none, now).await.unwrap()
        } else {
            payments::end_tokens_of(tx, id, account).await.unwrap()
        }
    };
    let give = async |tx: &mut store::Connection, n: u8| {
        payments::give_another(tx, &[n; 32], id, now).await.unwrap()
    };
    let (mut one, mut two) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    for (n, all) in [(1, false), (3, true)] {
        let mut tx = testkit::begin(&mut one).await.unwrap();
        assert!(give(&mut tx, n).await.is_some());
        let ended = async { end(&mut two, all).await };
        let commit = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            tx.commit().await.unwrap();
        };
        assert_eq!(tokio::join!(ended, commit).0, 2, "given a moment before");
        assert_eq!(count(&world, "SELECT count(*) FROM rental_tokens").await, 0);

        // one that is good, for the other order
        let until = now.saturating_plus(domain::time::Seconds(60));
        payments::give_token(&mut two, &[9; 32], id, account, now, until).await.unwrap();
        let mut tx = testkit::begin(&mut one).await.unwrap();
        assert_eq!(end(&mut tx, all).await, 1);
        let given = async { give(&mut two, n + 1).await };
        let commit = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            tx.commit().await.unwrap();
        };
        assert_eq!(tokio::join!(given, commit).0, None, "asked a moment after");
        assert_eq!(count(&world, "SELECT count(*) FROM rental_tokens").await, 0);
        payments::give_token(&mut two, &[9; 32], id, account, now, until).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_told_of_whoever_sent_it() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let accepted = required(&world, "k", &order(&rig)).await;
    let sent = paid_by(&accepted, &key(40));
    let body = pay(&world, "k", &order(&rig), &sent).await.ok(202);
    let rental = &body["rental"];
    let locked = EscrowEvent::Locked {
        id: rental["escrow_id"].as_str().unwrap().parse().unwrap(),
        renter: key(40).address(),
        provider: rig.provider.key.address(),
        token: USDC,
        deposit: Amount::new(650_000).unwrap(),
        prepaid: false,
    };
    say(&world, 5, NOW.0, &[locked]).await;
    world.advance(rental["id"].as_str().unwrap(), RentalEvent::LockIncluded).await;
    let reply = pay(&world, "k", &order(&rig), &sent).await;
    let told = decoded(&reply, "payment-response");
    assert_eq!(
        (&told["success"], &told["transaction"]),
        (&json!(true), &json!(B256::repeat_byte(5)))
    );
    reply.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_is_let_in_by_keys_that_it_brings() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let with = |keys: Value| {
        let mut order = order(&rig);
        order["ssh_public_keys"] = keys;
        order
    };
    // told before anything is paid
    let problem = ask(&world, "k", &with(json!([LAPTOP, "~/.ssh/id.pub"]))).await;
    let problem = problem.problem(422, "not-a-public-key");
    assert_eq!(problem["errors"][0]["pointer"], "/ssh_public_keys/1");
    let twice = ask(&world, "k", &with(json!([LAPTOP, LAPTOP]))).await;
    twice.problem(422, "validation-failed");
    ask(&world, "k", &with(json!(vec![LAPTOP; 17]))).await.problem(422, "validation-failed");
    let secret = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk";
    let problem = ask(&world, "k", &with(json!({"a": secret}))).await;
    let problem = problem.problem(422, "not-a-public-key");
    assert!(!problem.to_string().contains("b3BlbnNzaC1rZXk"), "{problem}");

    let asked = with(json!([LAPTOP]));
    let accepted = required(&world, "k", &asked).await;
    let sent = paid_by(&accepted, &key(40));
    // others' keys are no part of what was priced
    pay(&world, "k", &with(json!([OTHER])), &sent).await.problem(402, "payment-invalid");
    let body = pay(&world, "k", &asked, &sent).await.ok(202);
    let id = body["rental"]["id"].as_str().unwrap();
    let (path, token) = (format!("/v1/rentals/{id}/ssh-keys"), access(&body));
    let read = async || world.get(&path).auth(token).send().await.ok(200)["data"].clone();
    let lines = |data: &Value| -> Vec<String> {
        let keys = data.as_array().unwrap().iter();
        keys.map(|key| key["public_key"].as_str().unwrap().to_owned()).collect()
    };
    let bare = LAPTOP.rsplit_once(' ').unwrap().0;
    assert_eq!(lines(&read().await), [bare]);
    assert_eq!(read().await[0]["label"], "me@laptop");

    // the token replaces them
    let put = async |body: Value| world.call("PUT", &path).auth(token).json(&body).send().await;
    put(json!({})).await.problem(422, "validation-failed");
    put(json!({"ssh_public_keys": [secret]})).await.problem(422, "not-a-public-key");
    let both = put(json!({"ssh_public_keys": [OTHER, LAPTOP]})).await.ok(200);
    assert_eq!(lines(&both["data"]).len(), 2);
    assert_eq!(lines(&put(json!({"ssh_public_keys": [OTHER]})).await.ok(200)["data"]), [OTHER]);
    // and the machine is told
    world.advance(id, RentalEvent::LockIncluded).await;
    let orders = world.heartbeat(&rig.agent, &[]).await["commands"].clone();
    let orders = orders.as_array().unwrap().iter();
    let mut orders = orders.filter(|order| order["kind"] == "provision");
    assert_eq!(orders.next().unwrap()["payload"]["ssh_keys"], json!([OTHER]));

    // they are this rental's, and not in the payer's list
    let person = world.sign_in(40).await;
    let list = world.get("/v1/ssh-keys").auth(&person.token).send().await.ok(200);
    assert_eq!(list["data"], json!([]));
    let own = json!({"public_key": OTHER});
    world.post("/v1/ssh-keys").auth(&person.token).json(&own).send().await.ok(201);
    let key = read().await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/ssh-keys/{key}");
    world.call("DELETE", &path).auth(&person.token).send().await.problem(404, "not-found");
    assert_eq!(put(json!({"ssh_key_ids": []})).await.ok(200)["data"], json!([]));
    assert_eq!(
        count(&world, "SELECT count(*) FROM ssh_keys").await,
        1,
        "what opens nothing is gone"
    );

    // a quote lets nobody in
    let asked = with(json!([LAPTOP]));
    let quote = world.post("/v1/quotes").auth(&person.token).json(&asked).send().await;
    let problem = quote.problem(422, "validation-failed");
    assert_eq!(problem["errors"][0]["pointer"], "/ssh_public_keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_all_the_prices_that_may_wait() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let from = async |address: &str| {
        let peer: SocketAddr = address.parse().unwrap();
        let call = world.post("/v1/rentals").extension(ConnectInfo(peer)).key("k");
        call.json(&order(&rig)).send().await
    };
    for _ in 0..99 {
        from("192.0.2.1:5000").await.problem(402, "payment-required");
    }
    from("192.0.2.1:5001").await.problem(402, "payment-required");
    from("192.0.2.1:5000").await.problem(503, "unavailable");
    from("192.0.2.2:5000").await.problem(402, "payment-required");
    // of IPv6, 48 bits are one customer's
    let fill = "UPDATE payment_offers SET network = decode('20010db80001', 'hex')";
    sqlx::query(fill).execute(world.store.pool()).await.unwrap();
    from("[2001:db8:1:ffff::9]:5000").await.problem(503, "unavailable");
    from("[2001:db8:2::9]:5000").await.problem(402, "payment-required");
    from("192.0.2.1:5000").await.problem(402, "payment-required");
    // theirs go with their time
    world.pass(121);
    world.heartbeat(&rig.agent, &[]).await;
    from("[2001:db8:1::9]:5000").await.problem(402, "payment-required");
}
