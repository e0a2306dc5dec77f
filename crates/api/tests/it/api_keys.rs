//! API keys: what each may do, how much it may book, and that a revoked one is dead.

use domain::rental::RentalEvent;
use serde_json::{Value, json};

use crate::{
    events::Stream,
    fixture::{Call, Person, Reply, Rig, World},
    running::Running,
};

/// A key of a person, and its id.
pub struct Key {
    pub person: Person,
    pub id: String,
}

/// Makes a key with these scopes and limits.
pub async fn make(world: &World, owner: &Person, scopes: &[&str], limits: Value) -> Key {
    let body = json!({"label": "test", "scopes": scopes, "limits": limits});
    let said = world.post("/v1/api-keys").auth(&owner.token).json(&body).send().await.ok(201);
    let token = said["token"].as_str().unwrap().to_owned();
    let id = said["key"]["id"].as_str().unwrap().to_owned();
    Key { person: Person { key: owner.key.clone(), token }, id }
}

fn usd(amount: &str) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

async fn try_quote(world: &World, renter: &Person, rig: &Rig) -> Reply {
    let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC"});
    world.post("/v1/quotes").auth(&renter.token).json(&body).send().await
}

fn revoke(world: &World, owner: &Person, key: &Key) -> Call {
    world.call("DELETE", &format!("/v1/api-keys/{}", key.id)).auth(&owner.token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_does_what_its_scopes_say() {
    let world = World::new().await;
    let rig = world.rig(3, 1, "0.65").await;
    let renter = world.sign_in(1).await;
    let key = make(&world, &renter, &["rentals:write", "rentals:write"], json!({})).await;
    let token = &key.person.token;
    assert!(token.starts_with("weir_sk_") && token.len() == 54, "{token}");

    let quote = try_quote(&world, &key.person, &rig).await.ok(201);
    let booking = world.book(&key.person, &quote, "k").await.ok(201);
    // the same account: the wallet sees what its key booked
    let path = format!("/v1/rentals/{}", booking["rental"]["id"].as_str().unwrap());
    world.get(&path).auth(&renter.token).send().await.ok(200);
    let refused = world.get(&path).auth(token).send().await.problem(403, "scope-missing");
    assert_eq!(refused["scope"], "rentals:read");

    let listed = world.get("/v1/api-keys").auth(&renter.token).send().await.ok(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    let seen = &listed["data"][0];
    assert_eq!(seen["scopes"], json!(["rentals:write"]));
    assert_eq!(seen["booked"], usd("0.650000"));
    assert_eq!(seen["booked_last_day"], usd("0.650000"));
    assert_eq!(seen["last_used_at"], "2027-01-15T08:00:00Z");
    let hint = seen["hint"].as_str().unwrap();
    assert!(hint.starts_with("weir_sk_...") && token.ends_with(&hint[11..]));
    assert!(!listed.to_string().contains(token.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_learns_what_it_may_do_and_what_it_has_left() {
    let world = World::new().await;
    let rig = world.rig(3, 1, "0.65").await;
    let renter = world.sign_in(1).await;
    let limits = json!({"spend_cap": usd("1.00"), "gpu_models": ["rtx-4090"]});
    let key = make(&world, &renter, &["account:read", "rentals:write"], limits).await;
    let quote = try_quote(&world, &key.person, &rig).await.ok(201);
    world.book(&key.person, &quote, "k").await.ok(201);
    let said = world.get("/v1/me").auth(&key.person.token).send().await.ok(200);
    let wallet = world.get("/v1/me").auth(&renter.token).send().await.ok(200);
    assert_eq!((&said["id"], &said["address"]), (&wallet["id"], &wallet["address"]));
    assert_eq!(wallet["key"], Value::Null);
    let told = &said["key"];
    assert_eq!((&told["id"], &told["expires_at"]), (&json!(key.id), &Value::Null));
    assert_eq!(told["scopes"], json!(["account:read", "rentals:write"]));
    assert_eq!(told["limits"]["gpu_models"], json!(["rtx-4090"]));
    assert_eq!(told["spend_cap_left"], usd("0.350000"));
    assert_eq!(told["spend_cap_per_day_left"], Value::Null);
    assert!(!said.to_string().contains(&key.person.token));
    let blind = make(&world, &renter, &["rentals:write"], json!({})).await;
    world.get("/v1/me").auth(&blind.person.token).send().await.problem(403, "scope-missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_wallet_manages_keys_and_sessions() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let all: Vec<&str> = domain::scope::Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let key = make(&world, &owner, &all, json!({})).await;
    let token = &key.person.token;
    world.get("/v1/me").auth(token).send().await.ok(200);
    world.get("/v1/ssh-keys").auth(token).send().await.ok(200);
    let body = json!({"label": "more", "scopes": ["rentals:read"]});
    let own = format!("/v1/api-keys/{}", key.id);
    for (method, path) in [
        ("GET", "/v1/api-keys"),
        ("POST", "/v1/api-keys"),
        ("DELETE", own.as_str()),
        ("GET", "/v1/sessions"),
        ("DELETE", "/v1/sessions"),
        ("DELETE", "/v1/sessions/ses_00000000000000000000000000000000"),
        ("POST", "/v1/ssh-keys"),
        ("DELETE", "/v1/ssh-keys/ssh_00000000000000000000000000000000"),
        ("POST", "/v1/auth/logout"),
    ] {
        let call = world.call(method, path).auth(token).json(&body);
        call.send().await.problem(403, "forbidden");
    }
    let beat = world.post("/v1/agent/heartbeats").auth(token);
    beat.json(&json!({"running": []})).send().await.problem(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_expired_or_mistyped_key_is_dead() {
    let world = World::new().await;
    let (owner, other) = (world.sign_in(1).await, world.sign_in(2).await);
    let key = make(&world, &owner, &["account:read"], json!({})).await;
    let me = |token: &str| world.get("/v1/me").auth(token).send();
    me(&key.person.token).await.ok(200);
    revoke(&world, &other, &key).send().await.problem(404, "not-found");
    me(&key.person.token).await.ok(200);
    revoke(&world, &owner, &key).send().await.ok(204);
    me(&key.person.token).await.problem(401, "unauthenticated");
    revoke(&world, &owner, &key).send().await.problem(404, "not-found");

    let body =
        json!({"label": "short", "scopes": ["account:read"], "expires_at": "2027-01-15T08:10:00Z"});
    let said = world.post("/v1/api-keys").auth(&owner.token).json(&body).send().await.ok(201);
    let token = said["token"].as_str().unwrap();
    world.pass(599);
    me(token).await.ok(200);
    let mistyped = token.replace("weir_sk_", "weir_sk_0");
    assert!(
        me(&mistyped).await.problem(401, "unauthenticated")["detail"]
            .as_str()
            .unwrap()
            .contains("checksum")
    );
    world.pass(1);
    me(token).await.problem(401, "unauthenticated");
    let listed = world.get("/v1/api-keys").auth(&owner.token).send().await.ok(200);
    assert_eq!(listed["data"], json!([]));
}

/// What was opened in the name of a key or a session ends with it, in whichever process it was revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_what_opened_it() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let (renter, id) = (running.renter.clone(), running.id.as_str());
    let key = make(&world, &renter, &["rentals:read"], json!({})).await;
    let (second, third) = (world.sign_in(9).await, world.sign_in(9).await);
    let mut streams = Vec::new();
    for token in [&key.person.token, &second.token, &third.token, &renter.token] {
        let mut stream = Stream::open(&world, id, token, None).await;
        assert!(stream.next().await.is_some());
        streams.push(stream);
    }
    // another process of the same service
    let chain = world.state.chain.clone();
    let config = api::ApiConfig::clone(&world.state.config);
    let elsewhere = api::router(api::AppState::new(world.store.clone(), chain, config, None));
    let path = format!("/v1/api-keys/{}", key.id);
    Call::new(&elsewhere, "DELETE", &path).auth(&renter.token).send().await.ok(204);
    ended(&mut streams[0]).await;
    Call::new(&elsewhere, "POST", "/v1/auth/logout").auth(&second.token).send().await.ok(204);
    ended(&mut streams[1]).await;
    Call::new(&elsewhere, "DELETE", "/v1/sessions").auth(&renter.token).send().await.ok(200);
    ended(&mut streams[2]).await;
    // that of the session that did it goes on, and tells how the rental ends
    let stop = world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s");
    stop.send().await.ok(202);
    loop {
        let seen = streams[3].next().await.expect("it goes on");
        if seen.data["state"] == "stopping" {
            break;
        }
    }
}

async fn ended(stream: &mut Stream) {
    let all = async { while stream.next().await.is_some() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("it goes on");
}

/// A booking that is under way when its key is revoked does not happen.
#[tokio::test(flavor = "multi_thread")]
async fn a_booking_of_a_revoked_key_does_not_happen() {
    let world = World::new().await;
    let rig = world.rig(3, 1, "0.65").await;
    let renter = world.sign_in(1).await;
    let key = make(&world, &renter, &["rentals:write"], json!({})).await;
    let quote = try_quote(&world, &key.person, &rig).await.ok(201);
    // the booking stops where it holds the key
    let mut held = world.store.pool().acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; UPDATE api_keys SET revoked_at = now()")
        .execute(&mut *held)
        .await
        .unwrap();
    let (booking, ()) = tokio::join!(world.book(&key.person, &quote, "k"), async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                     AND datname = current_database() AND query LIKE '%api_keys%FOR UPDATE'";
        for _ in 0..2_000 {
            let waiting: i64 =
                sqlx::query_scalar(waits).fetch_one(world.store.pool()).await.unwrap();
            if waiting > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        sqlx::raw_sql("COMMIT").execute(&mut *held).await.unwrap();
    });
    booking.problem(401, "unauthenticated");
    let rentals: i64 = sqlx::query_scalar("SELECT count(*) FROM rentals")
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    assert_eq!(rentals, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_holds_and_says_what_is_left() {
    let world = World::new().await;
    let rig = world.rig(3, 2, "0.65").await;
    let other = world.rig(5, 1, "0.65").await;
    let renter = world.sign_in(1).await;
    // two GPUs for an hour are 1.30
    let limits = json!({"spend_cap": usd("2.00"), "spend_cap_per_day": usd("1.95")});
    let key = make(&world, &renter, &["rentals:write"], limits).await;
    let quote = try_quote(&world, &key.person, &rig).await.ok(201);
    let first = world.book(&key.person, &quote, "one").await.ok(201);
    let quote = try_quote(&world, &key.person, &other).await.ok(201);
    world.book(&key.person, &quote, "two").await.ok(201);
    // replayed it is no second booking
    world.book(&key.person, &quote, "two").await.ok(201);
    let third = world.rig(7, 1, "0.000010").await;
    let quote = try_quote(&world, &key.person, &third).await.ok(201);
    let refused = world.book(&key.person, &quote, "three").await.problem(403, "spend-cap-exceeded");
    assert_eq!(
        (&refused["cap"], &refused["left"]),
        (&"spend_cap_per_day".into(), &usd("0.000000"))
    );
    // the wallet itself has no cap
    world.book(&renter, &quote, "four").await.ok(201);

    // what expires without a deposit does not count
    let id = first["rental"]["id"].as_str().unwrap();
    world.advance(id, RentalEvent::FundingDeadline).await;
    let fourth = world.rig(9, 2, "0.65").await;
    let quote = try_quote(&world, &key.person, &fourth).await.ok(201);
    world.book(&key.person, &quote, "five").await.ok(201);

    // a day later the daily cap is free, and the other is not
    world.pass(24 * 3_600);
    let renter = world.sign_in(1).await;
    let listed = world.get("/v1/api-keys").auth(&renter.token).send().await.ok(200);
    assert_eq!(listed["data"][0]["booked"], usd("1.950000"));
    assert_eq!(listed["data"][0]["booked_last_day"], usd("0.000000"));
}

/// Of bookings at the same time no two take the last of a cap.
#[tokio::test(flavor = "multi_thread")]
async fn bookings_at_once_share_a_cap() {
    let world = World::with(|config| config.unfunded_limit = 100).await;
    let renter = world.sign_in(1).await;
    let limits = json!({"spend_cap": usd("2.00")});
    let key = make(&world, &renter, &["rentals:write"], limits).await;
    let mut quotes = Vec::new();
    for n in 0..6 {
        let rig = world.rig(10 + 2 * n, 1, "0.65").await;
        quotes.push(try_quote(&world, &key.person, &rig).await.ok(201));
    }
    let tries = quotes.iter().enumerate().map(|(n, quote)| {
        let (world, person) = (&world, &key.person);
        async move { world.book(person, quote, &format!("b{n}")).await.status.as_u16() }
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 201, 403, 403, 403]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rents_only_what_it_is_limited_to() {
    let world = World::new().await;
    let (cheap, dear) = (world.rig(3, 1, "0.65").await, world.rig(5, 1, "2.50").await);
    let renter = world.sign_in(1).await;
    let scopes = ["rentals:read", "rentals:write"];
    for limits in [
        json!({"machines": [cheap.machine]}),
        json!({"offers": [cheap.offer]}),
        json!({"max_usd_per_hour": usd("2.49")}),
    ] {
        let key = make(&world, &renter, &scopes, limits.clone()).await;
        let quote = try_quote(&world, &key.person, &cheap).await.ok(201);
        try_quote(&world, &key.person, &dear).await.problem(403, "forbidden");
        // nor may it book what the wallet was quoted
        let theirs = try_quote(&world, &renter, &dear).await.ok(201);
        world.book(&key.person, &theirs, "dear").await.problem(403, "forbidden");
        let path = format!("/v1/quotes/{}", theirs["id"].as_str().unwrap());
        let reply = world.get(&path).auth(&key.person.token).send().await;
        // a price limits what is rented, not what is seen
        let seen = limits.get("max_usd_per_hour").is_some();
        assert_eq!(reply.status, if seen { 200 } else { 403 });
        let path = format!("/v1/quotes/{}", quote["id"].as_str().unwrap());
        world.get(&path).auth(&key.person.token).send().await.ok(200);
    }
    let key = make(&world, &renter, &scopes, json!({"gpu_models": ["h100-sxm"]})).await;
    try_quote(&world, &key.person, &cheap).await.problem(403, "forbidden");
    let key = make(&world, &renter, &scopes, json!({"gpu_models": ["h100-sxm", "rtx-4090"]})).await;
    try_quote(&world, &key.person, &cheap).await.ok(201);
}

/// Whose agent a machine has decides who is told renters' SSH keys: writing machines is not enough for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_writes_machines_changes_no_agent() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let machine = format!("/v1/machines/{}", rig.machine);
    let routes = [("POST", "enroll-token", 201), ("DELETE", "agent-key", 204)];
    let keys = [("machines:write", false), ("agents:write", true)];
    for (scope, may) in keys {
        let key = make(&world, &rig.provider, &[scope], json!({})).await.person.token;
        for (method, path, status) in routes {
            let said = world.call(method, &format!("{machine}/{path}")).auth(&key).send().await;
            if may {
                said.ok(status);
            } else {
                let refused = said.problem(403, "scope-missing");
                assert_eq!(refused["scope"], "agents:write");
            }
        }
        let drained = world.post(&format!("{machine}/drain")).auth(&key).json(&json!({})).send();
        if may {
            drained.await.problem(403, "scope-missing");
        } else {
            drained.await.ok(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_key_sees_and_changes_nothing_else() {
    let world = World::new().await;
    let rig = world.rig(3, 1, "0.65").await;
    let provider = rig.provider.clone();
    let second = world.post("/v1/machines").auth(&provider.token).json(&new_machine());
    let second = second.send().await.ok(201);
    let renter = world.sign_in(1).await;
    let booking = world.start(&renter, &rig).await;
    let rental = booking["rental"]["id"].as_str().unwrap();
    let scopes = [
        "agents:write",
        "machines:read",
        "machines:write",
        "offers:write",
        "rentals:read",
        "rentals:write",
    ];
    let other = second["machine"]["id"].as_str().unwrap();
    let limits = json!({"machines": [other]});
    let narrow = make(&world, &provider, &scopes, limits).await.person.token;
    let limits = json!({"machines": [rig.machine]});
    let right = make(&world, &provider, &scopes, limits).await.person.token;

    let machine = format!("/v1/machines/{}", rig.machine);
    let offer = format!("/v1/offers/{}", rig.offer);
    let rental = format!("/v1/rentals/{rental}");
    for (method, path, body) in [
        ("GET", machine.clone(), json!(null)),
        ("GET", format!("{machine}/maintenance"), json!(null)),
        ("POST", format!("{machine}/drain"), json!({})),
        ("POST", format!("{machine}/enroll-token"), json!({})),
        ("DELETE", format!("{machine}/agent-key"), json!(null)),
        ("PATCH", offer.clone(), json!({"state": "paused"})),
        ("DELETE", offer.clone(), json!(null)),
        ("GET", rental.clone(), json!(null)),
        ("GET", format!("{rental}/events"), json!(null)),
        ("POST", format!("{rental}/stop"), json!({})),
        // the same in another spelling
        ("GET", machine.replace('_', "%5f"), json!(null)),
    ] {
        let call =
            world.call(method, &path).auth(&narrow).key("k").header("if-match", "\"1-listed\"");
        call.json(&body).send().await.problem(403, "forbidden");
    }
    let items = json!({"items": [{"change": {"id": rig.offer, "if_match": "\"1-listed\"",
                                             "patch": {"state": "paused"}}},
                                 {"create": {"machine_id": rig.machine, "price": usd("1.00"), "gpu_count": 1,
                                             "min_duration_s": 60, "max_duration_s": 3600}}]});
    let said = world.post("/v1/offers/bulk").auth(&narrow).json(&items).send().await.ok(200);
    assert_eq!(said["refused"], 2);
    assert_eq!(said["data"][0]["problem"]["code"], "forbidden");
    assert_eq!(said["data"][1]["problem"]["code"], "forbidden");
    world
        .post("/v1/machines")
        .auth(&right)
        .json(&new_machine())
        .send()
        .await
        .problem(403, "forbidden");

    let count = async |token: &str, path: &str| {
        let said = world.get(path).auth(token).send().await.ok(200);
        said["data"].as_array().unwrap().len()
    };
    assert_eq!(count(&provider.token, "/v1/machines").await, 2);
    assert_eq!(count(&narrow, "/v1/machines").await, 1);
    assert_eq!(count(&provider.token, "/v1/provider/offers").await, 1);
    assert_eq!(count(&narrow, "/v1/provider/offers").await, 0);
    assert_eq!(count(&narrow, "/v1/rentals?role=provider").await, 0);
    assert_eq!(count(&right, "/v1/rentals?role=provider").await, 1);
    world.get(&machine).auth(&right).send().await.ok(200);
    world.get(&rental).auth(&right).send().await.ok(200);
    // whose it is not finds nothing, limited or not
    let stranger = world.sign_in(9).await;
    let limits = json!({"machines": [rig.machine]});
    let key = make(&world, &stranger, &scopes, limits).await;
    world.get(&machine).auth(&key.person.token).send().await.problem(404, "not-found");
    world.get(&rental).auth(&key.person.token).send().await.problem(404, "not-found");
}

fn new_machine() -> Value {
    json!({"name": "rack", "region": "de-fra", "cpu_cores": 16, "ram_gb": 64, "disk_gb": 500,
           "gpus": [{"uuid": "GPU-another-0", "model": "rtx-4090"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_makes_no_sense_is_not_made() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let read = json!(["rentals:read"]);
    let id = "mch_00000000000000000000000000000000";
    let many: Vec<&str> = vec![id; 101];
    for (body, status, pointer) in [
        (json!({"label": "x", "scopes": []}), 422, "/scopes"),
        (json!({"label": "x", "scopes": ["admin"]}), 400, "/scopes/0"),
        (json!({"label": " ", "scopes": read}), 422, "/label"),
        (json!({"label": "a\nb", "scopes": read}), 422, "/label"),
        (json!({"label": "x".repeat(65), "scopes": read}), 422, "/label"),
        (
            json!({"label": "x", "scopes": read, "expires_at": "2027-01-15T08:00:00Z"}),
            422,
            "/expires_at",
        ),
        (
            json!({"label": "x", "scopes": read, "limits": {"machines": []}}),
            422,
            "/limits/machines",
        ),
        (
            json!({"label": "x", "scopes": read, "limits": {"machines": many}}),
            422,
            "/limits/machines",
        ),
        (
            json!({"label": "x", "scopes": read, "limits": {"gpu_models": ["abacus"]}}),
            422,
            "/limits/gpu_models/0",
        ),
        (
            json!({"label": "x", "scopes": read, "limits": {"spend_cap": usd("-1")}}),
            400,
            "/limits/spend_cap/amount",
        ),
        (
            json!({"label": "x", "scopes": ["billing:read"], "limits": {"machines": [id]}}),
            422,
            "/scopes",
        ),
        (
            json!({"label": "x", "scopes": ["machines:read"],
                "limits": {"offers": ["ofr_00000000000000000000000000000000"]}}),
            422,
            "/scopes",
        ),
        (
            json!({"label": "x", "scopes": ["agents:write"],
                "limits": {"offers": ["ofr_00000000000000000000000000000000"]}}),
            422,
            "/scopes",
        ),
    ] {
        let reply = world.post("/v1/api-keys").auth(&owner.token).json(&body).send().await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer, "{body}");
    }
    for _ in 0..100 {
        make(&world, &owner, &["rentals:read"], json!({})).await;
    }
    let body = json!({"label": "x", "scopes": read});
    let more = world.post("/v1/api-keys").auth(&owner.token).json(&body);
    more.send().await.problem(409, "state-conflict");
}

/// What could not be looked up is looked up again: a stream does not go on because the database had trouble.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_session_could_not_be_looked_up_asks_again() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let sql = |text: &'static str| {
        let pool = world.store.pool();
        async move { sqlx::raw_sql(text).execute(pool).await.unwrap() }
    };
    sql("ALTER TABLE api_keys RENAME TO away").await;
    let mut stream = Stream::open(&world, &running.id, &running.renter.token, None).await;
    assert!(stream.next().await.is_some());
    // nobody is told, as if that was lost
    sql("UPDATE sessions SET revoked_at = created_at").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    sql("ALTER TABLE away RENAME TO api_keys").await;
    ended(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_session_does() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let renter = world.sign_in(9).await;
    world.pass(24 * 3_600 - 1);
    let mut stream = Stream::open(&world, &running.id, &renter.token, None).await;
    assert!(stream.next().await.is_some());
    ended(&mut stream).await;
}
