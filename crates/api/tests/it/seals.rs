//! Quotes that the platform signs, and tokens whose price nobody vouches for.

use alloy::{
    hex,
    primitives::{Address, B256, Uint, keccak256},
};
use domain::time::{Seconds, UnixSeconds};
use escrow::quote::{Fx, Line, Order, Quote, QuoteError, Terms, verify};
use serde_json::{Value, json};
use store::{Policy, Store};

use crate::{
    fixture::{CHAIN_ID, ESCROW, NOW, World, key, policy},
    rpc,
};

/// The platform's quoting key.
const QUOTER: u8 = 77;

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}")).to_owned()
}

fn number<T: std::str::FromStr>(value: &Value, name: &str) -> T {
    let text = text(value, name);
    text.parse().ok().unwrap_or_else(|| panic!("{name}: {text}"))
}

/// What a stranger reads out of the typed data.
fn read(message: &Value) -> Quote {
    let (order, terms, fx) = (&message["order"], &message["terms"], &message["fx"]);
    let lines = message["lines"].as_array().unwrap();
    Quote {
        id: text(message, "id"),
        order: Order {
            offer: text(order, "offer"),
            offerVersion: number(order, "offerVersion"),
            machine: text(order, "machine"),
            gpuModel: text(order, "gpuModel"),
            gpuCount: number(order, "gpuCount"),
            durationSecs: number(order, "durationSecs"),
            diskGb: number(order, "diskGb"),
            upGb: number(order, "upGb"),
            downGb: number(order, "downGb"),
            template: text(order, "template"),
        },
        lines: lines
            .iter()
            .map(|line| Line {
                kind: text(line, "kind"),
                unit: text(line, "unit"),
                unitPrice: number(line, "unitPrice"),
                quantity: number(line, "quantity"),
                max: number(line, "max"),
            })
            .collect(),
        usdPerHour: number(message, "usdPerHour"),
        usdMax: number(message, "usdMax"),
        rental: number(message, "rental"),
        terms: Terms {
            renter: number(terms, "renter"),
            provider: number(terms, "provider"),
            token: number(terms, "token"),
            pricePerHour: number(terms, "pricePerHour"),
            feeBps: number(terms, "feeBps"),
            startBy: number(terms, "startBy"),
            holdback: number(terms, "holdback"),
            orderHash: number(terms, "orderHash"),
        },
        deposit: number(message, "deposit"),
        fx: Fx {
            usdPerToken: number(fx, "usdPerToken"),
            source: text(fx, "source"),
            pricedAt: number(fx, "pricedAt"),
        },
        createdAt: number(message, "createdAt"),
        expiresAt: number(message, "expiresAt"),
        readySecs: number(message, "readySecs"),
        noticeSecs: number(message, "noticeSecs"),
        refundRule: number::<B256>(message, "refundRule"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_can_check_everything_that_was_promised() {
    let world = World::with(|config| config.quoter = Some(key(QUOTER))).await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let signed = &quote["signed"];
    assert_eq!(signed["signer"], json!(key(QUOTER).address()));
    let message = &signed["typed_data"]["message"];
    let sealed = read(message);
    let signature = hex::decode(text(signed, "signature")).unwrap();
    let check = |quote: &Quote| verify(quote, &signature, key(QUOTER).address(), CHAIN_ID, ESCROW);
    assert_eq!(check(&sealed), Ok(()));
    // it says what the answer says
    let order = keccak256(text(&quote, "order"));
    assert_eq!(order, sealed.terms.orderHash);
    let order: Value = serde_json::from_str(&text(&quote, "order")).unwrap();
    let sla = ["ready_s", "notice_s", "evidence_s", "max_outage_s"];
    assert!(sla.iter().all(|name| order[name] == quote["sla"][name]), "{order}");
    assert_eq!(order["isolation"], quote["isolation"]);
    assert_eq!(message["id"], quote["id"]);
    assert_eq!(message["rental"], quote["escrow_id"]);
    assert_eq!(message["deposit"], quote["deposit"]["base_units"]);
    assert_eq!(message["terms"], quote["eip712"]["message"]);
    assert_eq!(sealed.terms.renter, renter.key.address());
    assert_eq!(sealed.refundRule, keccak256(text(&quote, "refund_rule")));
    assert_eq!(u64::from(sealed.readySecs), quote["sla"]["ready_s"].as_u64().unwrap());
    assert_eq!(sealed.lines.len(), quote["lines"].as_array().unwrap().len());
    let cheaper = Quote { deposit: Uint::from(1), ..sealed.clone() };
    assert!(matches!(check(&cheaper), Err(QuoteError::Signer(_))));

    // by the key that the service is known by
    let deployment = world.get("/v1/deployment").send().await.ok(200);
    assert_eq!(deployment["quote_signer"], signed["signer"]);
    let unsigned = World::new().await.get("/v1/deployment").send().await.ok(200);
    assert_eq!(unsigned["quote_signer"], Value::Null);

    // and says it again later, whatever the key is by then
    let path = format!("/v1/quotes/{}", quote["id"].as_str().unwrap());
    assert_eq!(world.get(&path).auth(&renter.token).send().await.ok(200), quote);

    // also where the platform promises something else by then
    let other = Policy { evidence_timeout: Seconds(1), max_outage: Seconds(2), ..policy() };
    let store = Store::from_pool(world.store.pool().clone(), world.clock.clone(), other);
    let later = World::beside(store, world.clock.clone(), &rpc::start().await, |_| {}).await;
    assert_eq!(later.get(&path).auth(&renter.token).send().await.ok(200), quote);
}

async fn feed(world: &World, max_age: i32) {
    sqlx::query(
        "INSERT INTO price_feeds (token, feed, decimals, max_age_s) VALUES ($1, $2, 8, $3)
         ON CONFLICT (token) DO UPDATE SET max_age_s = $3",
    )
    .bind(Address::ZERO.as_slice())
    .bind(Address::repeat_byte(0xfe).as_slice())
    .bind(max_age)
    .execute(world.store.pool())
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_quoted_at_a_price_that_is_too_old() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let ask = |token: &str| {
        let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": token});
        world.post("/v1/quotes").auth(&renter.token).json(&body).send()
    };
    // a price that was only written down is nobody's; a definition is
    ask("POL").await.ok(201);
    let decree = async |fixed: bool| {
        sqlx::query("UPDATE tokens SET fixed = $1 WHERE symbol = 'POL'")
            .bind(fixed)
            .execute(world.store.pool())
            .await
            .unwrap();
    };
    decree(false).await;
    for _ in 0..2 {
        let body = ask("POL").await.problem(503, "fx-stale");
        assert_eq!(body["errors"][0]["pointer"], "/token");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains("has no price feed"), "{detail}");
    }
    let listed = world.get("/v1/tokens").send().await.ok(200);
    let fixed =
        |n: usize| (listed["data"][n]["symbol"].clone(), listed["data"][n]["price_fixed"].clone());
    assert_eq!([fixed(0), fixed(1)], [(json!("POL"), json!(false)), (json!("USDC"), json!(true))]);
    feed(&world, 60).await;
    world.pass(60);
    world.heartbeat(&rig.agent, &[]).await;
    let quote = ask("POL").await.ok(201);
    assert_eq!(quote["fx"]["priced_at"], "2027-01-15T08:00:00Z");
    assert_eq!(quote["fx"]["usd_per_token"]["amount"], "0.500000");
    // nor at one beside which the oracle says quite another
    let doubt = async |doubted: bool| {
        sqlx::query(
            "UPDATE price_feeds SET doubted_at = CASE WHEN $1 THEN timestamptz '2027-01-15 08:01Z' END",
        )
        .bind(doubted)
        .execute(world.store.pool())
        .await
        .unwrap();
    };
    doubt(true).await;
    let body = ask("POL").await.problem(503, "fx-stale");
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains("quite another price since 2027-01-15T08:01:00Z"), "{detail}");
    doubt(false).await;
    ask("POL").await.ok(201);
    world.pass(1);
    let reply = ask("POL").await;
    assert_eq!(reply.header("retry-after"), "1");
    let body = reply.problem(503, "fx-stale");
    assert_eq!(
        (&body["retryable"], &body["errors"][0]["pointer"]),
        (&json!(true), &json!("/token"))
    );
    // a token that is a dollar by definition has no oracle
    ask("USDC").await.ok(201);
    // what was quoted in time is kept
    world.book(&renter, &quote, "k").await.ok(201);

    let now = UnixSeconds(NOW.get() + 61);
    let listed = world.get("/v1/tokens").send().await.ok(200);
    assert_eq!(listed["data"][0]["priced_at"], "2027-01-15T08:00:00Z");
    assert_eq!(world.now(), now);
}
