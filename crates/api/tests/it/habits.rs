//! What callers of a good API may rely on: traces, compression, tags, other origins, waiting, and that a request which
//! was taken is finished even if its caller has gone.

use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use domain::rental::RentalEvent;
use futures_util::future::{Either, select};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{Call, Person, Reply, Rig, World},
    payments, rpc,
};

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_goes_on_and_others_get_one() {
    let world = World::new().await;
    let reply = world.get("/v1/tokens").header("traceparent", TRACE).send().await;
    let said = reply.header("traceresponse");
    assert!(said.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{said}");
    assert!(said.ends_with("-01") && !said.contains("00f067aa0ba902b7"), "{said}");
    for bad in ["", "00-x-y-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        let reply = world.get("/v1/nothing").header("traceparent", bad).send().await;
        let said = reply.header("traceresponse").to_owned();
        assert_eq!((said.len(), &said[..3]), (TRACE.len(), "00-"), "{said}");
        assert!(!said.contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_are_compressed_unless_they_may_hold_secrets() {
    let world = World::new().await;
    let asked = |path: &str| world.get(path).header("accept-encoding", "br;q=1, gzip;q=0.9");
    let reply = asked("/v1/gpu-models").send().await;
    assert_eq!(reply.header("content-encoding"), "gzip");
    assert!(reply.header("vary").contains("accept-encoding"));
    assert!(reply.body.as_str().is_some_and(|body| !body.contains("rtx-4090")), "not readable");
    let plain = world.get("/v1/gpu-models").send().await;
    assert_eq!(plain.header("content-encoding"), "");
    assert!(plain.ok(200)["data"].is_array());
    // too short to be worth it
    assert_eq!(asked("/v1/deployment").send().await.header("content-encoding"), "");
    // a write may show a secret, whatever its length
    let person = world.sign_in(1).await;
    let gpus: Vec<_> =
        (0..8).map(|n| json!({"uuid": format!("GPU-0000-{n}"), "model": "rtx-4090"})).collect();
    let body = json!({"name": "rack", "region": "de-fra", "cpu_cores": 16, "ram_gb": 64,
                      "disk_gb": 500, "gpus": gpus});
    let call = world.post("/v1/machines").auth(&person.token).json(&body);
    let reply = call.header("accept-encoding", "gzip").send().await;
    assert_eq!(reply.header("content-encoding"), "");
    let said = reply.ok(201);
    assert!(said.to_string().len() > 1_024 && said["enroll_token"].is_string());
    // a stream is not held back by a compressor
    let running = crate::running::Running::new(&world).await;
    let stream = crate::events::Stream::open(&world, &running.id, &running.renter.token, None);
    assert_eq!(stream.await.encoding, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn public_reads_have_tags() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let (machine, offer) = (&rig.machine, &rig.offer);
    for path in [
        "/v1/tokens".to_owned(),
        "/v1/deployment".to_owned(),
        "/v1/gpu-models".to_owned(),
        "/v1/regions".to_owned(),
        "/v1/reference-prices".to_owned(),
        "/v1/templates".to_owned(),
        format!("/v1/offers/{offer}"),
        format!("/v1/machines/{machine}/public"),
        format!("/v1/machines/{machine}/checks"),
        format!("/v1/machines/{machine}/reviews"),
        "/v1/market/supply".to_owned(),
        "/v1/market/prices".to_owned(),
    ] {
        let reply = world.get(&path).send().await;
        let tag = reply.header("etag").to_owned();
        assert!(tag.len() > 2 && tag.starts_with('"'), "{path}: {tag:?}");
        reply.ok(200);
        let again = world.get(&path).header("if-none-match", &tag).send().await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (304, tag.as_str()), "{path}");
        assert_eq!(again.body, "", "{path}");
        world.get(&path).header("if-none-match", "\"other\"").send().await.ok(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offers_tag_tells_all_that_is_shown_and_a_change_asks_for_its_terms_alone() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let path = format!("/v1/offers/{}", rig.offer);
    let reply = world.get(&path).send().await;
    let tag = reply.header("etag").to_owned();
    assert_eq!(reply.ok(200)["available"], true);
    let drain = world.post(&format!("/v1/machines/{}/drain", rig.machine));
    drain.auth(&rig.provider.token).send().await.ok(200);
    let now = world.get(&path).header("if-none-match", &tag).send().await;
    assert_ne!(now.header("etag"), tag);
    assert_eq!(now.ok(200)["available"], false);
    // its terms are as they were read
    let body = json!({"price": {"amount": "0.70", "currency": "USD"}});
    let change = |tag: &str| {
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", tag);
        call.json(&body).send()
    };
    change(&tag).await.ok(200);
    change(&tag).await.problem(412, "etag-mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_named_origins_may_send_and_read_everything() {
    let origin = "https://console.example";
    let world = World::with(|config| {
        config.cors_origins = vec![HeaderValue::from_static(origin)];
        config.limits.address = api::Setting(api::Quota::new(5, 3_600));
    })
    .await;
    let words = |reply: &Reply, name: &str| -> Vec<String> {
        reply.header(name).split(',').map(|word| word.trim().to_lowercase()).collect()
    };
    let preflight = world
        .call("OPTIONS", "/v1/rentals")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .send()
        .await;
    assert_eq!(preflight.header("access-control-allow-origin"), origin);
    let methods = words(&preflight, "access-control-allow-methods");
    for method in ["get", "post", "put", "patch", "delete"] {
        assert!(methods.contains(&method.to_owned()), "{methods:?}");
    }
    let headers = words(&preflight, "access-control-allow-headers");
    for name in ["authorization", "idempotency-key", "if-match", "prefer", "traceparent"] {
        assert!(headers.contains(&name.to_owned()), "{headers:?}");
    }
    assert_eq!(preflight.header("ratelimit"), "", "a preflight costs nothing");
    // a refusal can be read too
    let mut last = None;
    for _ in 0..6 {
        last = Some(world.get("/v1/tokens").header("origin", origin).send().await);
    }
    let refused = last.unwrap();
    assert_eq!(refused.header("access-control-allow-origin"), origin);
    let exposed = words(&refused, "access-control-expose-headers");
    for name in [
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "idempotent-replayed",
        "preference-applied",
        "etag",
        "location",
        "x-request-id",
        "traceresponse",
        "next-cursor",
        "content-disposition",
        "deprecation",
        "sunset",
        "link",
    ] {
        assert!(exposed.contains(&name.to_owned()), "{exposed:?}");
    }
    refused.problem(429, "rate-limited");
    let stranger = world.get("/v1/nothing").header("origin", "https://evil.example").send().await;
    assert_eq!(stranger.header("access-control-allow-origin"), "");
}

async fn quoted(world: &World) -> (Rig, Person, serde_json::Value) {
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    (rig, renter, quote)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_prefers_to_wait_is_answered_when_the_rental_has_moved_on() {
    let world = World::new().await;
    let (_rig, renter, quote) = quoted(&world).await;
    // where a request has less time than is waited, and what comes before the wait has as much
    let rpc = rpc::start().await;
    let hasty = World::beside(world.store.clone(), world.clock.clone(), &rpc, |config| {
        config.request_timeout = Duration::from_secs(5);
    })
    .await;
    let booking = |wait: &'static str| {
        hasty
            .post("/v1/rentals")
            .auth(&renter.token)
            .key("k")
            .header("prefer", wait)
            .json(&json!({"quote_id": quote["id"]}))
    };
    // nothing happens: it is answered all the same, when its time is over, which is longer than a request's
    let reply = booking("wait=6").send().await;
    assert_eq!(reply.header("preference-applied"), "wait=6");
    let said = reply.ok(201);
    assert_eq!(said["rental"]["state"], "awaiting_funds");
    let id = said["rental"]["id"].as_str().unwrap().to_owned();
    // the same again, while the lock comes
    let (waiting, ()) = tokio::join!(booking("wait=30").send(), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.advance(&id, RentalEvent::LockIncluded).await;
    });
    assert_eq!(waiting.header("preference-applied"), "wait=30");
    assert_eq!(waiting.header("idempotent-replayed"), "true");
    let told = waiting.ok(201);
    assert_eq!(told["rental"]["lock"], "included");
    assert_eq!(told["funding"], said["funding"], "the rest is as it was answered");
    // who does not ask is told what was answered before
    let plain = world.book(&renter, &quote, "k").await;
    assert_eq!(plain.header("preference-applied"), "");
    assert_eq!(plain.ok(201)["rental"]["lock"], "none");
}

/// Whoever waits holds as much as a stream does: where no stream is to be had, nobody waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_one_of_the_streams_that_may_be_open() {
    let world = World::with(|config| config.streams_per_account = 0).await;
    let (_rig, renter, quote) = quoted(&world).await;
    let booking = world.post("/v1/rentals").auth(&renter.token).key("k").header("prefer", "wait=2");
    let reply = booking.json(&json!({"quote_id": quote["id"]})).send().await;
    assert_eq!(reply.header("preference-applied"), "");
    reply.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_is_made_even_if_its_caller_has_gone() {
    let world = World::new().await;
    let (rig, renter, quote) = quoted(&world).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(api::serve(listener, world.state.clone(), shutdown.clone()));

    // the offer's row is held, so that the booking waits inside its transaction
    let mut holder = world.store.read().await.unwrap();
    let mut held = testkit::begin(&mut holder).await.unwrap();
    let offer: domain::id::OfferId = rig.offer.parse().unwrap();
    sqlx::query("SELECT FROM offers WHERE id = $1 FOR UPDATE")
        .bind(offer.uuid())
        .execute(&mut *held)
        .await
        .unwrap();
    let body = json!({"quote_id": quote["id"]}).to_string();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /v1/rentals HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: cut\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        renter.token,
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    waits_for_a_lock(&world).await;
    // the caller goes without a word, and the service learns of it
    drop(socket);
    tokio::time::sleep(Duration::from_millis(200)).await;
    waits_for_a_lock(&world).await;
    held.rollback().await.unwrap();

    let mut found = json!([]);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        found = world.get("/v1/rentals").auth(&renter.token).send().await.ok(200)["data"].clone();
        if !found.as_array().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(found.as_array().unwrap().len(), 1, "it was booked");
    let again = world.book(&renter, &quote, "cut").await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.ok(201)["rental"]["id"], found[0]["id"]);
    shutdown.cancel();
    server.await.unwrap().unwrap();
}

/// Asks, goes while the answer waits for the rentals, and lets it go on.
pub async fn asked_by_somebody_who_goes(world: &World, call: Call) {
    let mut holder = world.store.read().await.unwrap();
    let mut held = testkit::begin(&mut holder).await.unwrap();
    let lock = "LOCK TABLE rentals, quotes IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    {
        // dropped as the server drops it when its connection is cut
        let (answer, waits) = (Box::pin(call.send()), Box::pin(waits_for_a_lock(world)));
        let first = select(answer, waits).await;
        assert!(matches!(first, Either::Right(_)), "it is answered already");
    }
    held.rollback().await.unwrap();
}

/// Waits until the database counts so many.
pub async fn comes_to(world: &World, query: &'static str, wanted: i64) {
    let mut found = None;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        found = Some(payments::count(world, query).await);
        if found == Some(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{found:?}, not {wanted}: {query}");
}

const LOCKS: &str = "SELECT count(*) FROM chain_intents WHERE purpose = 'lock'";

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_and_a_stop_are_finished_even_if_their_caller_has_gone() {
    let world = World::new().await;
    let (_rig, renter, quote) = quoted(&world).await;
    let booking = world.book(&renter, &quote, "b").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    let body = crate::funding::signed_by(&renter, &booking);
    let path = format!("/v1/rentals/{id}/authorization");
    let call = world.post(&path).auth(&renter.token).key("a").json(&body);
    asked_by_somebody_who_goes(&world, call).await;
    comes_to(&world, LOCKS, 1).await;
    let call = world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s");
    asked_by_somebody_who_goes(&world, call).await;
    comes_to(&world, "SELECT count(*) FROM rentals WHERE state = 'cancelled'", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_finished_even_if_its_caller_has_gone() {
    let world = payments::world().await;
    let rig = world.rig(2, 1, "0.65").await;
    let order = payments::order(&rig);
    let accepted = payments::required(&world, "p", &order).await;
    let payment = payments::paid_by(&accepted, &crate::fixture::key(12));
    let header = BASE64_STANDARD.encode(payment.to_string());
    let call = world.post("/v1/rentals").key("p").header("payment-signature", header).json(&order);
    asked_by_somebody_who_goes(&world, call).await;
    comes_to(&world, LOCKS, 1).await;
    comes_to(&world, "SELECT count(*) FROM rentals", 1).await;
}

/// Returns once a session of this database waits for a lock.
async fn waits_for_a_lock(world: &World) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(world.store.pool())
        .await
        .unwrap();
        if waiting > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nobody waits");
}
