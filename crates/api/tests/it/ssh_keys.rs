//! SSH keys, and the rentals that they open.

use domain::rental::RentalEvent;
use serde_json::{Value, json};

use crate::{
    api_keys::make,
    fixture::{Person, Reply, World},
    running::Running,
};

const LAPTOP: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPw8HJBchohwQHqtlJIgkrqDpPLo6uKmRn4FWWDrTNdT me@laptop";
const FINGERPRINT: &str = "SHA256:oY4nF2PgMJROOgkWpZSfx5NjEiy1nKsIONZkZODno/U";
#[rustfmt::skip]
const SERVER: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCk5vNy6ZohUngZjcrG2XgVEIOcsJfHkzSMQb84zaRB7RtFYghIUdh2P7keriDjx+EDPYBdbuy4rFaam9Tnql3NsQhLNYkAx8ERCAyG/hkhcFZvnWz98VEuua0oyjfyex2qoASP65DOF8YSlQ0xCHrxm9jFJHHEWnHLnjy+k0ShEfWkucYjiP2zc+ofQQQaMVrEJyVocPi+bXC5Rcy1EXueGxA4Va1M6sG28kyxYOr22KeEk3TZpIsoPsICKdG2IlSeQd8OOZ57DVwOoJZUc9RyPFMeozRSbeSVMJGvC3CyetRCGghPlqTdKb0yoG9UDKvrpuQ5Sr5TFziXBVKEEWLj me@laptop";

async fn try_add(world: &World, owner: &Person, public_key: &str) -> Reply {
    let body = json!({"public_key": public_key});
    world.post("/v1/ssh-keys").auth(&owner.token).json(&body).send().await
}

async fn add(world: &World, owner: &Person, public_key: &str) -> String {
    let said = try_add(world, owner, public_key).await.ok(201);
    said["id"].as_str().unwrap().to_owned()
}

fn bare(public_key: &str) -> &str {
    public_key.rsplit_once(' ').unwrap().0
}

/// The orders that wait for the machine, of one kind.
async fn orders(world: &World, running: &Running, kind: &str) -> Vec<Value> {
    let said = world.heartbeat(&running.rig.agent, &[]).await;
    let all = said["commands"].as_array().unwrap().iter().cloned();
    all.filter(|order| order["kind"] == kind).collect()
}

async fn put(world: &World, who: &Person, rental: &str, ids: &[&str]) -> Reply {
    let path = format!("/v1/rentals/{rental}/ssh-keys");
    world.call("PUT", &path).auth(&who.token).json(&json!({"ssh_key_ids": ids})).send().await
}

async fn ack(world: &World, running: &Running, order: &Value, outcome: &str) {
    let path = format!("/v1/agent/commands/{}/ack", order["id"].as_str().unwrap());
    let said = world.post(&path).auth(&running.rig.agent.token).json(&json!({"outcome": outcome}));
    assert_eq!(said.send().await.ok(200)["acknowledged"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_added_listed_and_deleted() {
    let world = World::new().await;
    let (owner, other) = (world.sign_in(1).await, world.sign_in(2).await);
    let said = try_add(&world, &owner, LAPTOP).await.ok(201);
    assert_eq!(said["fingerprint"], FINGERPRINT);
    assert_eq!((&said["label"], &said["public_key"]), (&"me@laptop".into(), &bare(LAPTOP).into()));
    // once, whatever its comment
    let again = format!("{} elsewhere", bare(LAPTOP));
    try_add(&world, &owner, &again).await.problem(409, "already-exists");
    add(&world, &other, LAPTOP).await;
    let body = json!({"public_key": bare(SERVER), "label": "the server"});
    let second = world.post("/v1/ssh-keys").auth(&owner.token).json(&body).send().await.ok(201);
    assert_eq!(second["label"], "the server");
    let listed = world.get("/v1/ssh-keys").auth(&owner.token).send().await.ok(200);
    assert_eq!(listed["data"], json!([second, said]));

    let path = format!("/v1/ssh-keys/{}", said["id"].as_str().unwrap());
    world.call("DELETE", &path).auth(&other.token).send().await.problem(404, "not-found");
    world.call("DELETE", &path).auth(&owner.token).send().await.ok(204);
    world.call("DELETE", &path).auth(&owner.token).send().await.problem(404, "not-found");
    let listed = world.get("/v1/ssh-keys").auth(&owner.token).send().await.ok(200);
    assert_eq!(listed["data"], json!([second]));
    try_add(&world, &owner, LAPTOP).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_public_key_is_refused_and_never_repeated() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let path =
        try_add(&world, &owner, "~/.ssh/id_ed25519.pub").await.problem(422, "not-a-public-key");
    assert!(path["detail"].as_str().unwrap().contains("path of a file"));
    assert_eq!(path["errors"][0]["pointer"], "/public_key");
    let secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ";
    let private = format!(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n-----END OPENSSH PRIVATE KEY-----\n"
    );
    for body in [
        json!({"public_key": private}),
        json!({"public_key": LAPTOP, "label": private}),
        // where a refusal of the shape would quote it
        json!(private),
        json!([private]),
        json!({"public_key": {"key": private}}),
        json!({private.clone(): LAPTOP}),
        json!({"public_key": LAPTOP, "label": [private]}),
    ] {
        let reply = world.post("/v1/ssh-keys").auth(&owner.token).json(&body).send().await;
        let said = reply.problem(422, "not-a-public-key");
        assert!(!said.to_string().contains(secret), "{said}");
        assert!(said["detail"].as_str().unwrap().contains("private key"), "{said}");
    }
    let listed = world.get("/v1/ssh-keys").auth(&owner.token).send().await.ok(200);
    assert_eq!(listed["data"], json!([]));
    let body = json!({"public_key": LAPTOP, "lable": "x"});
    let reply = world.post("/v1/ssh-keys").auth(&owner.token).json(&body).send().await;
    reply.problem(400, "invalid-request");
}

/// What was named at the booking is in the order to provision.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_told_whom_to_let_in() {
    let world = World::new().await;
    let rig = world.rig(3, 1, "0.65").await;
    let (renter, other) = (world.sign_in(1).await, world.sign_in(2).await);
    let theirs = add(&world, &other, LAPTOP).await;
    let (laptop, server) = (add(&world, &renter, LAPTOP).await, add(&world, &renter, SERVER).await);
    let quote = world.quote(&renter, &rig).await;
    let book = async |key: &str, ids: Value| {
        let body = json!({"quote_id": quote["id"], "ssh_key_ids": ids});
        world.post("/v1/rentals").auth(&renter.token).key(key).json(&body).send().await
    };
    let refused = book("a", json!([laptop, theirs])).await.problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/ssh_key_ids/1");
    book("a", json!([laptop, laptop])).await.problem(422, "validation-failed");
    let many: Vec<String> = (0..17).map(|n| format!("ssh_{n:032x}")).collect();
    book("a", json!(many)).await.problem(422, "validation-failed");
    let booking = book("a", json!([laptop])).await.ok(201);
    // another list is another request; the same one is the same
    assert_eq!(book("a", json!([laptop])).await.ok(201), booking);
    book("a", json!([server])).await.problem(422, "idempotency-mismatch");
    world.book(&renter, &quote, "a").await.problem(422, "idempotency-mismatch");

    let id = booking["rental"]["id"].as_str().unwrap();
    // replaced before anybody was told
    let said = put(&world, &renter, id, &[&server]).await.ok(200);
    assert_eq!(said["data"][0]["id"], server.as_str());
    world.advance(id, RentalEvent::LockIncluded).await;
    let told = world.heartbeat(&rig.agent, &[]).await;
    let orders = told["commands"].as_array().unwrap();
    assert_eq!((orders.len(), &orders[0]["kind"]), (1, &"provision".into()));
    assert_eq!(orders[0]["payload"]["ssh_keys"], json!([bare(SERVER)]));
}

/// A body without keys is the request that it was before there were any.
#[tokio::test(flavor = "multi_thread")]
async fn a_booking_without_keys_is_the_request_that_it_was() {
    let world = World::new().await;
    let rig = world.rig(3, 1, "0.65").await;
    let renter = world.sign_in(1).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "a").await.ok(201);
    let body = json!({"quote_id": quote["id"], "ssh_key_ids": []});
    let call = world.post("/v1/rentals").auth(&renter.token).key("a").json(&body);
    assert_eq!(call.send().await.ok(201), booking);
    let stored: Vec<u8> = sqlx::query_scalar("SELECT request_hash FROM idempotency_keys")
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    let query = "SELECT sha256(convert_to('POST /v1/rentals' || chr(10) || $1, 'UTF8'))";
    let before: Vec<u8> = sqlx::query_scalar(query)
        .bind(json!({"quote_id": quote["id"]}).to_string())
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    assert_eq!(stored, before);
    let told = format!("/v1/rentals/{}/ssh-keys", booking["rental"]["id"].as_str().unwrap());
    let said = world.get(&told).auth(&renter.token).send().await.ok(200);
    assert_eq!(said["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_replaced_while_it_runs_and_a_deleted_one_is_shut_out() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let (id, renter) = (running.id.as_str(), running.renter.clone());
    // the fixture starts it without its agent's word
    for order in orders(&world, &running, "provision").await {
        ack(&world, &running, &order, "ok").await;
    }
    let (laptop, server) = (add(&world, &renter, LAPTOP).await, add(&world, &renter, SERVER).await);
    put(&world, &renter, id, &[&laptop, &server]).await.ok(200);
    put(&world, &renter, id, &[&laptop]).await.ok(200);
    let open = orders(&world, &running, "access").await;
    assert_eq!(open.len(), 1, "the last one is in place of the one before");
    assert_eq!(open[0]["payload"]["ssh_keys"], json!([bare(LAPTOP)]));
    ack(&world, &running, &open[0], "ok").await;
    assert_eq!(orders(&world, &running, "access").await, Vec::<Value>::new());

    world
        .call("DELETE", &format!("/v1/ssh-keys/{server}"))
        .auth(&renter.token)
        .send()
        .await
        .ok(204);
    assert_eq!(orders(&world, &running, "access").await, Vec::<Value>::new(), "it opened nothing");
    world
        .call("DELETE", &format!("/v1/ssh-keys/{laptop}"))
        .auth(&renter.token)
        .send()
        .await
        .ok(204);
    let open = orders(&world, &running, "access").await;
    assert_eq!(open[0]["payload"]["ssh_keys"], json!([]));
    ack(&world, &running, &open[0], "failed").await;
    put(&world, &renter, id, &[&laptop]).await.problem(422, "validation-failed");

    // the provider sees the rental and lets nobody in; to others it is not there
    let server = add(&world, &running.rig.provider, SERVER).await;
    put(&world, &running.rig.provider, id, &[&server]).await.problem(403, "forbidden");
    let path = format!("/v1/rentals/{id}/ssh-keys");
    let read = world.get(&path).auth(&running.rig.provider.token).send().await;
    read.problem(403, "forbidden");
    let stranger = world.sign_in(20).await;
    put(&world, &stranger, id, &[]).await.problem(404, "not-found");
    world.get(&path).auth(&stranger.token).send().await.problem(404, "not-found");

    // a program with the scope may, too
    let key = make(&world, &renter, &["rentals:write"], json!({})).await;
    put(&world, &key.person, id, &[]).await.ok(200);
    let stop = world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s");
    stop.send().await.ok(202);
    assert_eq!(orders(&world, &running, "access").await, Vec::<Value>::new(), "nobody is let in");
    put(&world, &renter, id, &[]).await.problem(409, "state-conflict");
}

/// The rental is locked before the key, as by everybody who gives orders: neither waits for what the other holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_deleted_after_its_rentals_are_locked() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let (id, renter) = (running.id.as_str(), running.renter.clone());
    let laptop = add(&world, &renter, LAPTOP).await;
    put(&world, &renter, id, &[&laptop]).await.ok(200);
    let mut held = world.store.pool().acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT id FROM rentals FOR UPDATE").execute(&mut *held).await.unwrap();
    let path = format!("/v1/ssh-keys/{laptop}");
    let (deleted, free) =
        tokio::join!(world.call("DELETE", &path).auth(&renter.token).send(), async {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                         AND datname = current_database()";
            for _ in 0..2_000 {
                let waiting: i64 =
                    sqlx::query_scalar(waits).fetch_one(world.store.pool()).await.unwrap();
                if waiting > 0 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            let free = sqlx::raw_sql("SELECT id FROM ssh_keys FOR SHARE NOWAIT; COMMIT");
            let free = free.execute(&mut *held).await;
            if free.is_err() {
                sqlx::raw_sql("ROLLBACK").execute(&mut *held).await.unwrap();
            }
            free
        });
    deleted.ok(204);
    free.expect("whoever waits for the rental holds no key");
}
