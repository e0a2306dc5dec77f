//! Renting by x402: a key and some USDC, no account, no session.

use alloy::{
    primitives::{Address, B256, U256, hex},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use domain::rental::RentalEvent;
use escrow::{
    signed::{self, ReceiveWithAuthorization},
    terms::Terms,
    terms_hash,
};
use serde_json::{Value, json};
use store::rentals::MoneyDelta;

use crate::{
    events::Stream,
    fixture::{CHAIN_ID, ESCROW, NOW, Reply, Rig, USDC, World, key},
    rpc,
};

pub fn decoded(reply: &Reply, name: &str) -> Value {
    serde_json::from_slice(&BASE64_STANDARD.decode(reply.header(name)).unwrap()).unwrap()
}

pub fn order(rig: &Rig) -> Value {
    json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC"})
}

pub async fn world() -> World {
    World::with(|config| config.payment_patience = std::time::Duration::ZERO).await
}

pub async fn ask(world: &World, key: &str, order: &Value) -> Reply {
    world.post("/v1/rentals").key(key).json(order).send().await
}

pub async fn pay(world: &World, key: &str, order: &Value, payment: &Value) -> Reply {
    let header = BASE64_STANDARD.encode(payment.to_string());
    let call = world.post("/v1/rentals").key(key).header("payment-signature", header);
    call.json(order).send().await
}

/// What is to be paid, as the only one of the requirements.
pub async fn required(world: &World, key: &str, order: &Value) -> Value {
    let reply = ask(world, key, order).await;
    let required = decoded(&reply, "payment-required");
    let body = reply.problem(402, "payment-required");
    assert_eq!(body["payment"], required, "the body says what the header says");
    assert_eq!(required["x402Version"], 2);
    assert_eq!(required["accepts"].as_array().unwrap().len(), 1);
    required["accepts"][0].clone()
}

/// The authorization that a payer signs: all that it needs is in the requirements.
fn authorization(accepted: &Value, payer: Address) -> ReceiveWithAuthorization {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let terms = &accepted["extra"]["terms"];
    let terms = Terms {
        renter: payer,
        provider: text(&terms["provider"]).parse().unwrap(),
        token: text(&terms["token"]).parse().unwrap(),
        pricePerHour: text(&terms["pricePerHour"]).parse().unwrap(),
        feeBps: text(&terms["feeBps"]).parse().unwrap(),
        startBy: text(&terms["startBy"]).parse().unwrap(),
        holdback: text(&terms["holdback"]).parse().unwrap(),
        orderHash: text(&terms["orderHash"]).parse().unwrap(),
    };
    let escrow: Address = text(&accepted["payTo"]).parse().unwrap();
    assert!(accepted["maxTimeoutSeconds"].as_u64().unwrap() > 0);
    ReceiveWithAuthorization {
        from: payer,
        to: escrow,
        value: text(&accepted["amount"]).parse().unwrap(),
        validAfter: U256::ZERO,
        validBefore: U256::from(NOW.0 + 1_000),
        nonce: terms_hash(&terms, &escrow::domain(CHAIN_ID, escrow)),
    }
}

fn payment(accepted: &Value, told: &ReceiveWithAuthorization, key: &PrivateKeySigner) -> Value {
    let domain = signed::token_domain("USD Coin", "2", CHAIN_ID, USDC);
    let signature = key.sign_hash_sync(&signed::digest(told, &domain)).unwrap();
    json!({
        "x402Version": 2,
        "accepted": accepted,
        "payload": {
            "signature": hex::encode_prefixed(signature.as_bytes()),
            "authorization": {
                "from": told.from, "to": told.to, "value": told.value.to_string(),
                "validAfter": told.validAfter.to_string(),
                "validBefore": told.validBefore.to_string(), "nonce": told.nonce,
            },
        },
    })
}

pub fn paid_by(accepted: &Value, key: &PrivateKeySigner) -> Value {
    payment(accepted, &authorization(accepted, key.address()), key)
}

pub async fn count(world: &World, what: &'static str) -> i64 {
    sqlx::query_scalar(what).fetch_one(world.store.pool()).await.unwrap()
}

const RENTALS: &str = "SELECT count(*) FROM rentals";
const LOCKS: &str = "SELECT count(*) FROM chain_intents WHERE purpose = 'lock'";
const ACCOUNTS: &str = "SELECT count(*) FROM accounts";
const QUOTES: &str = "SELECT count(*) FROM quotes";

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_a_key_rents_in_two_requests() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let accounts = count(&world, ACCOUNTS).await;
    let accepted = required(&world, "k", &order(&rig)).await;
    assert_eq!(accepted["scheme"], "weir-escrow");
    assert_eq!(accepted["network"], "eip155:31337");
    assert_eq!(accepted["amount"], "650000");
    assert_eq!(accepted["asset"], USDC.to_checksum(None));
    assert_eq!(accepted["payTo"], ESCROW.to_checksum(None));
    assert_eq!(
        (&accepted["extra"]["name"], &accepted["extra"]["version"]),
        (&json!("USD Coin"), &json!("2"))
    );
    assert_eq!(count(&world, ACCOUNTS).await, accounts, "nobody has an account for asking");
    assert_eq!(count(&world, RENTALS).await, 0);

    let payer = key(40);
    let sent = paid_by(&accepted, &payer);
    let reply = pay(&world, "k", &order(&rig), &sent).await;
    assert_eq!(reply.header("idempotent-replayed"), "");
    let body = reply.ok(202);
    assert_eq!(body.get("transaction"), Some(&Value::Null), "none is signed yet");
    let rental = &body["rental"];
    let id = rental["id"].as_str().unwrap().to_owned();
    assert_eq!(rental["renter"], json!(payer.address()));
    assert_eq!(rental["escrow_id"], sent["payload"]["authorization"]["nonce"]);
    assert_eq!(rental["state"], "awaiting_funds");
    assert_eq!((count(&world, RENTALS).await, count(&world, LOCKS).await), (1, 1));
    let signature: Value =
        sqlx::query_scalar("SELECT args -> 'signature' FROM chain_intents WHERE purpose = 'lock'")
            .fetch_one(world.store.pool())
            .await
            .unwrap();
    assert_eq!(signature, sent["payload"]["signature"]);

    // the token is for this rental alone
    let token = body["access"]["token"].as_str().unwrap();
    let path = format!("/v1/rentals/{id}");
    assert_eq!(world.get(&path).auth(token).send().await.ok(200)["id"], id);
    world.get(&format!("{path}/readings")).auth(token).send().await.ok(200);
    for elsewhere in ["/v1/me", "/v1/rentals", "/v1/provider/earnings", &format!("{path}0")] {
        world.get(elsewhere).auth(token).send().await.problem(403, "forbidden");
    }
    world.post("/v1/auth/logout").auth(token).send().await.problem(403, "forbidden");
    let other = format!("{}x", token);
    world.get(&path).auth(&other).send().await.problem(401, "unauthenticated");
    // and the payer's own session sees it too
    let person = world.sign_in(40).await;
    assert_eq!(world.get(&path).auth(&person.token).send().await.ok(200)["id"], id);
    let stop = world.post(&format!("{path}/stop")).auth(token).key("s").send().await.ok(202);
    assert_eq!(stop["rental"]["state"], "cancelled");
    world.pass(3_600 + 24 * 3_600);
    world.get(&path).auth(token).send().await.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_books_once_and_shows_its_token_once() {
    let world = world().await;
    let rig = world.rig(1, 2, "0.65").await;
    let path = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    world
        .call("PATCH", &path)
        .auth(&rig.provider.token)
        .header("if-match", &tag)
        .json(&json!({"chunks": [1, 2]}))
        .send()
        .await
        .ok(200);
    let order = |rig: &Rig| {
        let mut order = order(rig);
        order["gpu_count"] = json!(1);
        order
    };
    let payer = key(40);
    let accepted = required(&world, "k", &order(&rig)).await;
    let sent = paid_by(&accepted, &payer);
    let asked = order(&rig);
    let twice = tokio::join!(pay(&world, "k", &asked, &sent), pay(&world, "k", &asked, &sent));
    let (one, two) = twice;
    let (one, two) = (one.ok(202), two.ok(202));
    assert_eq!(one["rental"]["id"], two["rental"]["id"]);
    let tokens = [&one, &two].iter().filter(|body| body["access"]["token"].is_string()).count();
    assert_eq!(tokens, 1, "the signature is public once it is mined, and opens nothing");
    let again = pay(&world, "k", &order(&rig), &sent).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert!(again.ok(202)["access"].is_null());
    // who lost the answer and begins anew under the same key is told of the same rental
    let accepted = required(&world, "k", &order(&rig)).await;
    let anew = pay(&world, "k", &order(&rig), &paid_by(&accepted, &payer)).await.ok(202);
    assert_eq!(anew["rental"]["id"], one["rental"]["id"]);
    // the price is over, and the answer is the same
    world.pass(600);
    world.heartbeat(&rig.agent, &[]).await;
    required(&world, "other", &order(&rig)).await;
    assert_eq!(
        pay(&world, "k", &order(&rig), &sent).await.ok(202)["rental"]["id"],
        one["rental"]["id"]
    );
    let mut longer = order(&rig);
    longer["duration_s"] = json!(7_200);
    let accepted = required(&world, "k", &longer).await;
    let other = pay(&world, "k", &longer, &paid_by(&accepted, &payer)).await;
    assert_eq!(decoded(&other, "payment-response")["success"], false);
    other.problem(422, "idempotency-mismatch");
    assert_eq!((count(&world, RENTALS).await, count(&world, LOCKS).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_booked_without_a_good_payment() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let (payer, stranger) = (key(40), key(41));
    let accepted = required(&world, "k", &order(&rig)).await;
    let good = authorization(&accepted, payer.address());
    let quotes = count(&world, QUOTES).await;
    let late = U256::from(NOW.0 + 9);
    let changed = [
        ReceiveWithAuthorization { to: Address::repeat_byte(9), ..good.clone() },
        ReceiveWithAuthorization { value: good.value - U256::ONE, ..good.clone() },
        ReceiveWithAuthorization { nonce: B256::repeat_byte(9), ..good.clone() },
        ReceiveWithAuthorization { validAfter: U256::from(NOW.0 + 1), ..good.clone() },
        ReceiveWithAuthorization { validBefore: late, ..good.clone() },
    ];
    let mut bad: Vec<Value> = changed.iter().map(|told| payment(&accepted, told, &payer)).collect();
    // by somebody else's key
    bad.push(payment(&accepted, &good, &stranger));
    // a good signature over another time
    let mut other = payment(&accepted, &good, &payer);
    other["payload"]["authorization"]["validBefore"] = json!((NOW.0 + 500).to_string());
    bad.push(other);
    // from an empty purse
    bad.push(paid_by(&accepted, &key(rpc::POOR)));
    // by the provider itself
    bad.push(paid_by(&accepted, &rig.provider.key));
    // for a price that was never given
    let mut other = paid_by(&accepted, &payer);
    other["accepted"]["extra"]["quote"] = json!("quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f");
    bad.push(other);
    for sent in &bad {
        let reply = pay(&world, "k", &order(&rig), sent).await;
        let told = decoded(&reply, "payment-response");
        assert_eq!((&told["success"], &told["transaction"]), (&json!(false), &json!("")));
        assert_eq!(told["errorReason"], "payment-invalid", "{sent}");
        reply.problem(402, "payment-invalid");
    }
    // for another order than it was priced for
    let mut longer = order(&rig);
    longer["duration_s"] = json!(7_200);
    pay(&world, "k", &longer, &paid_by(&accepted, &payer)).await.problem(402, "payment-invalid");
    // not of this scheme, chain or form
    for (pointer, value) in [
        ("/accepted/scheme", json!("exact")),
        ("/accepted/network", json!("eip155:1")),
        ("/x402Version", json!(1)),
        ("/payload/authorization/value", json!("0x9")),
        ("/payload/authorization/validBefore", json!("18446744073709551616")),
        ("/payload/signature", json!(7)),
    ] {
        let mut sent = paid_by(&accepted, &payer);
        *sent.pointer_mut(pointer).unwrap() = value;
        pay(&world, "k", &order(&rig), &sent).await.problem(400, "invalid-request");
    }
    let call = world.post("/v1/rentals").key("k").header("payment-signature", "%");
    call.json(&order(&rig)).send().await.problem(400, "invalid-request");
    // to ask for the price takes no key, to pay it does
    let keyless = || world.post("/v1/rentals").json(&order(&rig));
    keyless().send().await.problem(402, "payment-required");
    let paid = BASE64_STANDARD.encode(paid_by(&accepted, &payer).to_string());
    let paid = keyless().header("payment-signature", &paid).send().await;
    paid.problem(400, "idempotency-key-missing");
    let mut odd = order(&rig);
    odd["colour"] = json!("red");
    ask(&world, "k", &odd).await.problem(400, "invalid-request");
    let mut native = order(&rig);
    native["token"] = json!("POL");
    ask(&world, "k", &native).await.problem(422, "validation-failed");
    assert_eq!((count(&world, RENTALS).await, count(&world, LOCKS).await), (0, 0));
    assert_eq!(count(&world, QUOTES).await, quotes);

    // a quote that somebody asked for by session is booked by session
    let person = world.sign_in(40).await;
    let quote = world.quote(&person, &rig).await;
    let mut own = accepted.clone();
    own["extra"]["quote"] = quote["id"].clone();
    let told = ReceiveWithAuthorization {
        nonce: quote["escrow_id"].as_str().unwrap().parse().unwrap(),
        ..good.clone()
    };
    let sent = payment(&own, &told, &payer);
    pay(&world, "k", &order(&rig), &sent).await.problem(402, "payment-invalid");
    assert_eq!((count(&world, RENTALS).await, count(&world, LOCKS).await), (0, 0));

    // a price is for one payer
    pay(&world, "k", &order(&rig), &paid_by(&accepted, &payer)).await.ok(202);
    let second = pay(&world, "k", &order(&rig), &paid_by(&accepted, &stranger)).await;
    second.problem(402, "payment-invalid");
    // and a machine for one renter
    ask(&world, "k2", &order(&rig)).await.problem(409, "offer-taken");
    assert_eq!(count(&world, RENTALS).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_is_over_with_its_time() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let accepted = required(&world, "k", &order(&rig)).await;
    world.pass(121);
    world.heartbeat(&rig.agent, &[]).await;
    let told = authorization(&accepted, key(40).address());
    let sent = payment(&accepted, &told, &key(40));
    let reply = pay(&world, "k", &order(&rig), &sent).await;
    assert_eq!(decoded(&reply, "payment-response")["errorReason"], "quote-expired");
    reply.problem(410, "quote-expired");
    assert_eq!((count(&world, RENTALS).await, count(&world, LOCKS).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_that_the_contract_does_not_take_is_told_of() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let accepted = required(&world, "k", &order(&rig)).await;
    let sent = paid_by(&accepted, &key(40));
    let id = pay(&world, "k", &order(&rig), &sent).await.ok(202)["rental"]["id"].clone();
    sqlx::query("UPDATE chain_intents SET state = 'refused', last_error = 'no money' WHERE purpose = 'lock'")
        .execute(world.store.pool())
        .await
        .unwrap();
    let reply = pay(&world, "k", &order(&rig), &sent).await;
    assert_eq!(decoded(&reply, "payment-response")["success"], false);
    let body = reply.problem(402, "payment-invalid");
    assert_eq!(body["rental_id"], id);
    assert!(body["detail"].as_str().unwrap().contains("no money"));
    world.advance(id.as_str().unwrap(), RentalEvent::FundingDeadline).await;
}

async fn pay_and_wait(world: &World, seconds: u32, order: &Value, payment: &Value) -> Reply {
    let header = BASE64_STANDARD.encode(payment.to_string());
    let call = world.post("/v1/rentals").key("k").header("payment-signature", header);
    call.header("prefer", format!("wait={seconds}")).json(order).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_prefers_to_wait_is_answered_once_the_lock_is_seen() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let mut order = order(&rig);
    order["label"] = json!("by an agent");
    let accepted = required(&world, "k", &order).await;
    let sent = paid_by(&accepted, &key(40));
    let begun = std::time::Instant::now();
    let reply = pay_and_wait(&world, 1, &order, &sent).await;
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
    assert_eq!(reply.header("preference-applied"), "wait=1");
    let first = reply.ok(202);
    assert_eq!(first["rental"]["label"], "by an agent");
    let id = first["rental"]["id"].as_str().unwrap();
    let (waited, ()) = tokio::join!(pay_and_wait(&world, 25, &order, &sent), async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        world.advance(id, RentalEvent::LockIncluded).await;
    });
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "not to the end");
    assert_eq!(waited.header("preference-applied"), "wait=25");
    assert_eq!(waited.ok(201)["rental"]["id"], id);
    // without a wish it is looked once
    let reply = pay(&world, "k", &order, &sent).await;
    assert_eq!(reply.header("preference-applied"), "");
    reply.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rentals_token_opens_and_follows_a_case_about_it() {
    let world = crate::disputes::world().await;
    let (rig, other) = (world.rig(1, 1, "0.65").await, world.rig(5, 1, "0.65").await);
    let mut held = Vec::new();
    for (rig, name) in [(&rig, "one"), (&other, "two")] {
        let accepted = required(&world, name, &order(rig)).await;
        let header = BASE64_STANDARD.encode(paid_by(&accepted, &key(40)).to_string());
        let call = world.post("/v1/rentals").key(name).header("payment-signature", header);
        let said = call.header("prefer", "wait=0").json(&order(rig)).send().await.ok(202);
        let id = said["rental"]["id"].as_str().unwrap().to_owned();
        world.advance(&id, RentalEvent::LockIncluded).await;
        let locked = said["rental"]["deposit"]["base_units"].as_str().unwrap().parse().unwrap();
        world.pay(&id, MoneyDelta { locked, ..MoneyDelta::default() }).await;
        world.advance(&id, RentalEvent::LockFinal { now: world.now() }).await;
        world.advance(&id, RentalEvent::AgentAcked).await;
        let ready = format!("/v1/agent/rentals/{id}/ready");
        world.post(&ready).auth(&rig.agent.token).send().await.ok(200);
        held.push((id, said["access"]["token"].as_str().unwrap().to_owned()));
    }
    let ((mine, token), (theirs, others)) = (&held[0], &held[1]);
    let open = |token: &str, rental: &str| {
        let body = json!({"rental_id": rental, "code": "not_reachable"});
        world.post("/v1/disputes").auth(token).json(&body).send()
    };
    open(token, theirs).await.problem(403, "forbidden");
    let case = open(token, mine).await.ok(201);
    open(others, theirs).await.ok(201);
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    assert_eq!(world.get(&path).auth(token).send().await.ok(200)["id"], case["id"]);
    // of the payer's cases it sees its own
    let list = world.get("/v1/disputes").auth(token).send().await.ok(200);
    let seen: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(seen, [&case["id"]]);
    world.get(&path).auth(others).send().await.problem(404, "not-found");
    let withdraw = format!("{path}/withdraw");
    world.post(&withdraw).auth(others).send().await.problem(404, "not-found");
    assert_eq!(world.post(&withdraw).auth(token).send().await.ok(200)["state"], "withdrawn");
    world.get("/v1/disputesx").auth(token).send().await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_without_end_are_not_kept() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let fill = "INSERT INTO payment_offers (id, request_hash, quote, created_at, expires_at)
                SELECT gen_random_uuid(), decode(repeat('00', 32), 'hex'), '{}',
                       to_timestamp($1::float8), to_timestamp($1::float8 + 60)
                FROM generate_series(1, 10000)";
    let fill = sqlx::query(fill).bind(NOW.0 as f64);
    fill.execute(world.store.pool()).await.unwrap();
    // of one network: one of its prices gives way to another's, and still there are no more than may wait
    required(&world, "k", &order(&rig)).await;
    assert_eq!(count(&world, "SELECT count(*) FROM payment_offers").await, 10_000);
    // of ten thousand networks nobody has more than who asks
    let spread = "UPDATE payment_offers o SET network = int4send(n::int)
                  FROM (SELECT id, row_number() OVER () AS n FROM payment_offers) r WHERE r.id = o.id";
    sqlx::query(spread).execute(world.store.pool()).await.unwrap();
    ask(&world, "k", &order(&rig)).await.problem(503, "unavailable");
    let over = "DELETE FROM payment_offers WHERE quote <> '{}'";
    sqlx::query(over).execute(world.store.pool()).await.unwrap();
    // they go by themselves
    world.pass(61);
    world.heartbeat(&rig.agent, &[]).await;
    required(&world, "k", &order(&rig)).await;
    let left = count(&world, "SELECT count(*) FROM payment_offers").await;
    assert_eq!(left, 9_999 - 20 + 1);
}

/// By the wallet, or by whoever holds one: the others of that rental too, and nothing of another rental.
#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_one_rental_are_ended_by_its_payer() {
    let world = world().await;
    let mut paid = Vec::new();
    for n in [1, 3] {
        let rig = world.rig(n, 1, "0.65").await;
        let key_of = format!("k{n}");
        let accepted = required(&world, &key_of, &order(&rig)).await;
        let body = pay(&world, &key_of, &order(&rig), &paid_by(&accepted, &key(40))).await.ok(202);
        let text = |pointer: &str| body.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        paid.push((format!("/v1/rentals/{}", text("/rental/id")), text("/access/token"), rig));
    }
    let [(one, token, rig), (other, other_token, _)] = &paid[..] else { unreachable!() };
    let mut stream = Stream::open(&world, &one["/v1/rentals/".len()..], token, None).await;
    assert!(stream.next().await.is_some());
    let end = |path: &str, token: &str| {
        world.call("DELETE", &format!("{path}/tokens")).auth(token).send()
    };
    end(other, token).await.problem(403, "forbidden");
    end(one, &rig.provider.token).await.problem(403, "forbidden");
    end(one, &world.sign_in(41).await.token).await.problem(404, "not-found");
    world.get(one).auth(token).send().await.ok(200);
    let payer = world.sign_in(40).await;
    assert_eq!(end(one, &payer.token).await.status, 204);
    world.get(one).auth(token).send().await.problem(401, "unauthenticated");
    let all = async { while stream.next().await.is_some() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("it goes on");
    end(one, &payer.token).await.problem(404, "not-found");
    world.get(other).auth(other_token).send().await.ok(200);
    assert_eq!(end(other, other_token).await.status, 204, "whoever has it can end it");
    end(other, other_token).await.problem(401, "unauthenticated");
    world.get(other).auth(&payer.token).send().await.ok(200);
}

/// The token is listed nowhere, and ended with all that the account has beside its own session.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_signs_in_can_end_the_token() {
    let world = world().await;
    let rig = world.rig(1, 1, "0.65").await;
    let accepted = required(&world, "k", &order(&rig)).await;
    let body = pay(&world, "k", &order(&rig), &paid_by(&accepted, &key(40))).await.ok(202);
    let text = |pointer: &str| body.pointer(pointer).unwrap().as_str().unwrap();
    let (id, token) = (text("/rental/id"), text("/access/token"));
    let mut stream = Stream::open(&world, id, token, None).await;
    assert!(stream.next().await.is_some());
    let stranger = world.sign_in(41).await;
    let ended = world.call("DELETE", "/v1/sessions").auth(&stranger.token).send().await.ok(200);
    assert_eq!(ended["ended"], 0);
    let path = format!("/v1/rentals/{id}");
    world.get(&path).auth(token).send().await.ok(200);

    let payer = world.sign_in(40).await;
    let ended = world.call("DELETE", "/v1/sessions").auth(&payer.token).send().await.ok(200);
    assert_eq!(ended["ended"], 1);
    world.get(&path).auth(token).send().await.problem(401, "unauthenticated");
    world.get(&path).auth(&payer.token).send().await.ok(200);
    let all = async { while stream.next().await.is_some() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("it goes on");
}
