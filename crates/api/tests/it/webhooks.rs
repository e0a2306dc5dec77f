//! Webhooks: asked for, changed, looked at; what is written when something happens. Calls are in `tests/webhooks.rs`.

use domain::{
    id::{DeliveryId, EventId, WebhookId},
    rental::RentalEvent,
    time::Seconds,
    webhook::{EVENTS, Rules},
};
use serde_json::{Value, json};
use store::webhooks::{deliveries, links};

use crate::{
    api_keys::make,
    fixture::{Person, World},
};

const URL: &str = "https://hooks.example.com/weir";

async fn create(world: &World, person: &Person, events: Value) -> Value {
    let body = json!({"url": URL, "events": events});
    world.post("/v1/webhooks").auth(&person.token).json(&body).send().await.ok(201)
}

fn id_of(made: &Value) -> String {
    made["webhook"]["id"].as_str().unwrap().to_owned()
}

/// Has the worker's part of the work done that makes deliveries, and returns the events of a webhook, oldest first.
async fn told(world: &World, person: &Person, webhook: &str) -> Vec<Value> {
    let now = world.now();
    world
        .store
        .write::<_, (), _>("test.fan_out", move |tx| {
            Box::pin(async move {
                links::watch(tx, now, now.saturating_minus(Seconds(30))).await?;
                Ok(deliveries::fan_out(tx, now, 1_000).await?)
            })
        })
        .await
        .unwrap();
    let path = format!("/v1/webhooks/{webhook}/deliveries?limit=200");
    let page = world.get(&path).auth(&person.token).send().await.ok(200);
    let mut all = page["data"].as_array().unwrap().clone();
    all.reverse();
    all
}

fn names(told: &[Value]) -> Vec<&str> {
    told.iter().map(|one| one["event"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_made_read_changed_and_deleted() {
    let world = World::new().await;
    let (person, other) = (world.sign_in(1).await, world.sign_in(2).await);
    let body =
        json!({"url": URL, "events": ["rental.ready", "settlement.final"], "description": "x"});
    let reply = world.post("/v1/webhooks").auth(&person.token).json(&body).send().await;
    let (location, tag) = (reply.header("location").to_owned(), reply.header("etag").to_owned());
    let made = reply.ok(201);
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == "whsec_".len() + 44, "{secret}");
    assert_eq!(location, format!("/v1/webhooks/{}", id_of(&made)));
    assert_eq!((&made["webhook"]["enabled"], &made["webhook"]["url"]), (&json!(true), &json!(URL)));

    // the secret is shown once
    let read = world.get(&location).auth(&person.token).send().await;
    assert_eq!(read.header("etag"), tag);
    let read = read.ok(200);
    assert_eq!(read, made["webhook"]);
    let list = world.get("/v1/webhooks").auth(&person.token).send().await.ok(200);
    assert_eq!(list["data"], json!([read]));
    assert!(!list.to_string().contains("whsec_"));

    // it is its owner's alone
    world.get(&location).auth(&other.token).send().await.problem(404, "not-found");
    let list = world.get("/v1/webhooks").auth(&other.token).send().await.ok(200);
    assert_eq!(list["data"], json!([]));
    for (method, path) in [
        ("DELETE", location.clone()),
        ("POST", format!("{location}/test")),
        ("POST", format!("{location}/rotate-secret")),
        ("GET", format!("{location}/deliveries")),
    ] {
        world.call(method, &path).auth(&other.token).send().await.problem(404, "not-found");
        world.call(method, &path).send().await.problem(401, "unauthenticated");
    }

    let change = |tag: &str, body: Value| {
        let call = world.call("PATCH", &location).auth(&person.token).json(&body);
        if tag.is_empty() { call } else { call.header("if-match", tag) }
    };
    change("", json!({})).send().await.problem(428, "precondition-required");
    change("\"99\"", json!({})).send().await.problem(412, "etag-mismatch");
    let stolen = world.call("PATCH", &location).auth(&other.token).json(&json!({}));
    stolen.header("if-match", &tag).send().await.problem(404, "not-found");
    let reply = change(&tag, json!({"events": ["*"], "enabled": false})).send().await;
    let tag = reply.header("etag").to_owned();
    let changed = reply.ok(200);
    assert_eq!((&changed["events"], &changed["enabled"]), (&json!(["*"]), &json!(false)));
    assert_eq!(changed["disabled_reason"], "its owner disabled it");
    let test = world.post(&format!("{location}/test")).auth(&person.token);
    test.send().await.problem(409, "state-conflict");
    let changed = change(&tag, json!({"enabled": true})).send().await.ok(200);
    assert_eq!((&changed["enabled"], &changed["disabled_at"]), (&json!(true), &json!(null)));

    world.call("DELETE", &location).auth(&person.token).send().await.ok(204);
    world.get(&location).auth(&person.token).send().await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_nobody_told_of_what_it_may_not_see() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let cases = [
        ("rentals:read", json!(["rental.ready", "settlement.final", "dispute.opened"])),
        ("machines:read", json!(["machine.offline"])),
        ("billing:read", json!(["payout.paid"])),
    ];
    for (scope, events) in cases {
        let body = json!({"url": URL, "events": events});
        let blind = make(&world, &owner, &["webhooks:write"], json!({})).await.person.token;
        let make_it = |token: &str| world.post("/v1/webhooks").auth(token).json(&body).send();
        let refused = make_it(&blind).await.problem(403, "scope-missing");
        assert_eq!(refused["scope"], scope);
        let sees = make(&world, &owner, &["webhooks:write", scope], json!({})).await.person.token;
        let made = make_it(&sees).await.ok(201);
        // nor does it have somebody else called, though it may say what the webhook is for
        let path = format!("/v1/webhooks/{}", id_of(&made));
        let change = |token: &str, body: Value| {
            let call = world.call("PATCH", &path).auth(token);
            call.header("if-match", "\"1\"").json(&body).send()
        };
        for body in [
            json!({"url": "https://evil.example/x"}),
            json!({"events": ["*"]}),
            json!({"enabled": true}),
        ] {
            change(&blind, body).await.problem(403, "scope-missing");
        }
        change(&sees, json!({"events": ["*"]})).await.problem(403, "scope-missing");
        change(&blind, json!({"description": "ours"})).await.ok(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_called_is_refused_with_the_reason() {
    let world = World::new().await;
    let person = world.sign_in(1).await;
    for (url, says) in [
        ("", "absolute URL"),
        ("hooks.example.com", "absolute URL"),
        ("http://hooks.example.com", "https://"),
        ("https://me:secret@hooks.example.com", "password"),
        ("https://hooks.example.com/#a", "fragment"),
        ("https://localhost/", "not a public address"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://169.254.169.254/latest", "not a public address"),
        ("https://[::ffff:10.0.0.1]/", "not a public address"),
        ("https://0x7f000001/", "not a public address"),
        ("https://db.internal/", "not a public address"),
        ("https://postgres/", "not a public address"),
    ] {
        let body = json!({"url": url, "events": ["*"]});
        let reply = world.post("/v1/webhooks").auth(&person.token).json(&body).send().await;
        let body = reply.problem(422, "validation-failed");
        assert_eq!(body["errors"][0]["pointer"], "/url", "{url}");
        assert!(body["detail"].as_str().unwrap().contains(says), "{url}: {body}");
    }
    for (events, pointer, says) in [
        (json!([]), "/events", "at least one"),
        (json!(["rental.reddy"]), "/events/0", "rental.ready"),
        (json!(["*", "rental.*"]), "/events/1", "no event"),
        (json!(["*", "*"]), "/events/1", "twice"),
    ] {
        let body = json!({"url": URL, "events": events});
        let reply = world.post("/v1/webhooks").auth(&person.token).json(&body).send().await;
        let body = reply.problem(422, "validation-failed");
        assert_eq!(body["errors"][0]["pointer"], pointer);
        assert!(body["detail"].as_str().unwrap().contains(says), "{body}");
    }
    for _ in 0..16 {
        create(&world, &person, json!(["*"])).await;
    }
    let body = json!({"url": URL, "events": ["*"]});
    let reply = world.post("/v1/webhooks").auth(&person.token).json(&body).send().await;
    assert!(reply.problem(409, "state-conflict")["detail"].as_str().unwrap().contains("16"));
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_called_only_where_that_is_allowed() {
    let world = World::with(|config| config.webhooks = Rules { loopback: true }).await;
    let person = world.sign_in(1).await;
    let body = json!({"url": "http://127.0.0.1:9/x", "events": ["*"]});
    world.post("/v1/webhooks").auth(&person.token).json(&body).send().await.ok(201);
    let body = json!({"url": "http://10.0.0.1/x", "events": ["*"]});
    let reply = world.post("/v1/webhooks").auth(&person.token).json(&body).send().await;
    reply.problem(422, "validation-failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_a_new_secret_asks_again_and_the_old_one_signs_on() {
    let world = World::new().await;
    let person = world.sign_in(1).await;
    let made = create(&world, &person, json!(["*"])).await;
    let path = format!("/v1/webhooks/{}/rotate-secret", id_of(&made));
    let rotate = async |token: &str| world.post(&path).auth(token).send().await.ok(200);
    let lost = rotate(&person.token).await;
    assert_ne!(lost["secret"], made["secret"]);
    assert!(lost["old_secret_until"].is_string());
    world.pass(3_600);
    let changed = rotate(&person.token).await;
    assert_ne!(changed["secret"], lost["secret"]);
    assert_eq!(changed["old_secret_until"], lost["old_secret_until"], "no longer than was said");
    world.pass(23 * 3_600);
    let person = world.sign_in(1).await;
    let later = rotate(&person.token).await;
    assert_ne!(later["old_secret_until"], lost["old_secret_until"], "the old one is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_rental_are_told_what_they_asked_for() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let all = id_of(&create(&world, &renter, json!(["*"])).await);
    let some = id_of(&create(&world, &renter, json!(["rental.ready", "rental.cancelled"])).await);
    let theirs = id_of(&create(&world, &rig.provider, json!(["*"])).await);
    let stranger = world.sign_in(20).await;
    let nothing = id_of(&create(&world, &stranger, json!(["*"])).await);

    let booking = world.start(&renter, &rig).await;
    let id = booking["rental"]["id"].as_str().unwrap();
    let expected = ["rental.booked", "rental.funded", "rental.ready"];
    assert_eq!(names(&told(&world, &renter, &all).await), expected);
    assert_eq!(names(&told(&world, &renter, &some).await), ["rental.ready"]);
    let providers = ["rental.booked", "rental.funded", "offer.rented", "rental.ready"];
    assert_eq!(names(&told(&world, &rig.provider, &theirs).await), providers);
    assert!(told(&world, &stranger, &nothing).await.is_empty());

    let last = world.now();
    world.advance(id, RentalEvent::EvidenceLost { last_good: last }).await;
    world.advance(id, RentalEvent::EvidenceBack).await;
    let stop = world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s");
    stop.send().await.ok(202);
    world.advance(id, RentalEvent::AgentStopped).await;
    let seen = told(&world, &renter, &all).await;
    assert_eq!(
        names(&seen)[3..],
        ["rental.interrupted", "rental.resumed", "rental.ended"],
        "an end is told once"
    );
    let one = &seen[0];
    assert_eq!((&one["state"], &one["attempts"]), (&json!("pending"), &json!(0)));
    assert!(one["id"].as_str().unwrap().starts_with("dlv_"));
    assert!(one["event_id"].as_str().unwrap().starts_with("evt_"));

    // pages, newest first
    let path = format!("/v1/webhooks/{all}/deliveries?limit=4");
    let page = world.get(&path).auth(&renter.token).send().await.ok(200);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("{path}&cursor={next}")).auth(&renter.token).send().await.ok(200);
    let both = page["data"].as_array().unwrap().iter().chain(rest["data"].as_array().unwrap());
    assert_eq!(both.rev().cloned().collect::<Vec<_>>(), seen);
    let path = format!("/v1/webhooks/{all}/deliveries?state=delivered");
    let none = world.get(&path).auth(&renter.token).send().await.ok(200);
    assert_eq!(none["data"], json!([]));
    let bad = format!("/v1/webhooks/{all}/deliveries?state=lost");
    world.get(&bad).auth(&renter.token).send().await.problem(400, "invalid-request");
    let foreign = format!("/v1/webhooks/{some}/deliveries?cursor={next}");
    world.get(&foreign).auth(&renter.token).send().await.problem(400, "invalid-cursor");

    // what is told is what is there, and names nobody's keys
    let data: Value = sqlx::query_scalar(
        "SELECT data FROM hook_events WHERE kind = 'rental.ended' AND data ->> 'role' = 'renter'",
    )
    .fetch_one(world.store.pool())
    .await
    .unwrap();
    assert_eq!((&data["rental_id"], &data["state"]), (&json!(id), &json!("stopping")));
    assert_eq!(
        (&data["cause"], &data["end_reason"]),
        (&json!("stop_requested"), &json!("renter_stop"))
    );
    assert!(data["timeline_id"].as_i64().unwrap() > 0 && data["machine_id"] == rig.machine);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_for_accounts_that_listen_to_nothing() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let made = create(&world, &renter, json!(["machine.offline"])).await;
    world.start(&renter, &rig).await;
    let count = || async {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM hook_events")
            .fetch_one(world.store.pool())
            .await
            .unwrap();
        count
    };
    assert_eq!(count().await, 0);
    // nor for a webhook that is disabled
    let path = format!("/v1/webhooks/{}", id_of(&made));
    let call = world.call("PATCH", &path).auth(&renter.token).header("if-match", "\"1\"");
    let body = json!({"events": ["*"], "enabled": false});
    call.json(&body).send().await.ok(200);
    let rig = world.rig(3, 1, "0.65").await;
    let quote = world.quote(&renter, &rig).await;
    world.book(&renter, &quote, "another").await.ok(201);
    assert_eq!(count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_there_only_if_what_it_tells_is() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let all = id_of(&create(&world, &renter, json!(["*"])).await);
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id: domain::id::RentalId = booking["rental"]["id"].as_str().unwrap().parse().unwrap();
    let (now, policy) = (world.now(), crate::fixture::policy());
    let refused = world
        .store
        .write::<(), &str, _>("test.refused", move |tx| {
            let policy = policy.clone();
            Box::pin(async move {
                let event = RentalEvent::LockFinal { now };
                store::advance::apply(tx, &policy, id, &event, now).await.unwrap();
                Err(store::TxError::Refused("never mind"))
            })
        })
        .await;
    assert!(refused.is_err());
    assert_eq!(names(&told(&world, &renter, &all).await), ["rental.booked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_told_when_a_machine_goes_comes_back_or_loses_its_tier() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let hook = id_of(&create(&world, &rig.provider, json!(["*"])).await);
    assert!(told(&world, &rig.provider, &hook).await.is_empty(), "the first look tells nothing");
    world.pass(31);
    assert_eq!(names(&told(&world, &rig.provider, &hook).await), ["machine.offline"]);
    assert_eq!(names(&told(&world, &rig.provider, &hook).await), ["machine.offline"], "once");
    world.heartbeat(&rig.agent, &[]).await;
    let seen = told(&world, &rig.provider, &hook).await;
    assert_eq!(names(&seen), ["machine.offline", "machine.online"]);
    let (machine, now) = (rig.machine.parse().unwrap(), world.now());
    world
        .store
        .write::<_, (), _>("test.bar", move |tx| {
            Box::pin(async move {
                Ok(store::machines::bar(tx, machine, Some("it is not what it says"), now).await?)
            })
        })
        .await
        .unwrap();
    let seen = told(&world, &rig.provider, &hook).await;
    assert_eq!(names(&seen).last(), Some(&"machine.deverified"));
    let data: Value =
        sqlx::query_scalar("SELECT data FROM hook_events WHERE kind = 'machine.deverified'")
            .fetch_one(world.store.pool())
            .await
            .unwrap();
    assert_eq!(data["reason"], "it is not what it says");
    assert_eq!((&data["machine_id"], &data["name"]), (&json!(rig.machine), &json!("rack")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_a_delivery_and_any_can_be_asked_for_again() {
    let world = World::new().await;
    let (person, other) = (world.sign_in(1).await, world.sign_in(2).await);
    let hook = id_of(&create(&world, &person, json!(["rental.ready"])).await);
    let path = format!("/v1/webhooks/{hook}/test");
    let made = world.post(&path).auth(&person.token).send().await.ok(202);
    assert_eq!((&made["event"], &made["state"]), (&json!("webhook.test"), &json!("pending")));
    let again = format!("/v1/deliveries/{}/redeliver", made["id"].as_str().unwrap());
    world.post(&again).auth(&other.token).send().await.problem(404, "not-found");
    let asked = world.post(&again).auth(&person.token).send().await.ok(202);
    assert_eq!((&asked["id"], &asked["event_id"]), (&made["id"], &made["event_id"]));
    let nobody = "/v1/deliveries/dlv_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f/redeliver";
    let body = world.post(nobody).auth(&person.token).send().await.problem(404, "not-found");
    assert!(body["detail"].as_str().unwrap().contains("delivery"), "{body}");
    assert_eq!(told(&world, &person, &hook).await.len(), 1);
}

#[test]
fn the_page_lists_every_event() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/WEBHOOKS.md");
    let page = std::fs::read_to_string(path).unwrap();
    for (name, meaning) in EVENTS {
        let row = format!("| `{name}` | {meaning} |");
        assert!(page.contains(&row), "docs/WEBHOOKS.md lacks: {row}");
    }
    for prefix in [WebhookId::PREFIX, EventId::PREFIX] {
        assert!(page.contains(&format!("{prefix}_")), "{prefix}");
    }
}

/// What a parser drops or escapes is neither kept nor called; kept as it came, a NUL would be an error of ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_kept_as_it_was_understood() {
    let world = World::new().await;
    let person = world.sign_in(1).await;
    for (url, kept) in [
        ("https://hooks.example.com/a\0b", "https://hooks.example.com/a%00b"),
        ("https://Hooks.example.com/a\tb\n", "https://hooks.example.com/ab"),
    ] {
        let body = json!({"url": url, "events": ["*"]});
        let made = world.post("/v1/webhooks").auth(&person.token).json(&body).send().await.ok(201);
        assert_eq!(made["webhook"]["url"], kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_some_deliveries_that_were_asked_for_wait() {
    let world = World::new().await;
    let person = world.sign_in(1).await;
    let hook = id_of(&create(&world, &person, json!(["*"])).await);
    let path = format!("/v1/webhooks/{hook}/test");
    let test = || world.post(&path).auth(&person.token).send();
    let first = test().await.ok(202);
    let first: DeliveryId = first["id"].as_str().unwrap().parse().unwrap();
    for _ in 1..32 {
        test().await.ok(202);
    }
    let refused = test().await.problem(409, "state-conflict");
    assert!(refused["detail"].as_str().unwrap().contains("32 deliveries"), "{refused}");
    // one comes through, and there is room for it or for another
    settle(&world, first).await;
    let again = format!("/v1/deliveries/{first}/redeliver");
    world.post(&again).auth(&person.token).send().await.ok(202);
    test().await.problem(409, "state-conflict");
    settle(&world, first).await;
    test().await.ok(202);
    world.post(&again).auth(&person.token).send().await.problem(409, "state-conflict");
    // another webhook has its own
    let other = id_of(&create(&world, &person, json!(["*"])).await);
    let path = format!("/v1/webhooks/{other}/test");
    world.post(&path).auth(&person.token).send().await.ok(202);
}

/// As if the courier had called.
async fn settle(world: &World, id: DeliveryId) {
    sqlx::query(
        "UPDATE deliveries SET state = 'delivered', delivered_at = created_at WHERE id = $1",
    )
    .bind(id.uuid())
    .execute(world.store.pool())
    .await
    .unwrap();
}
