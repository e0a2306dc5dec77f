//! What is named elsewhere than in the path: in bodies and cursors.

use serde_json::{Value, json};

use super::{belongings::belongings, cast::Cast};
use crate::fixture::World;

/// What is named in a body is guarded as what is named in a path.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_body_names_is_guarded_too() {
    let world = World::new().await;
    let cast = Cast::new(&world).await;
    let quote = world.quote(&cast.other, &cast.other_rig).await;
    let before = belongings(&world).await;
    let post = async |path: &str, body: Value| {
        world.post(path).auth(&cast.other.token).key("body").json(&body).send().await
    };
    post("/v1/rentals", json!({"quote_id": cast.quote})).await.problem(404, "not-found");
    let price = json!({"amount": "0.10", "currency": "USD"});
    let offer = json!({"machine_id": cast.running.rig.machine, "price": price, "gpu_count": 1,
                       "min_duration_s": 60, "max_duration_s": 86_400});
    post("/v1/offers", offer.clone()).await.problem(422, "validation-failed");
    let change = json!({"id": cast.running.rig.offer, "if_match": "\"1-listed\"", "patch": {"state": "paused"}});
    let said =
        post("/v1/offers/bulk", json!({"items": [{"create": offer}, {"change": change}]})).await;
    let said = said.ok(200);
    assert_eq!((&said["done"], &said["refused"]), (&0.into(), &2.into()));
    post("/v1/rentals", json!({"quote_id": quote["id"], "ssh_key_ids": [cast.ssh_key]}))
        .await
        .problem(422, "validation-failed");
    // a machine's agent says that a rental of another machine runs there: it learns nothing of it
    let beat = json!({"running": [cast.running.id]});
    let said = world.post("/v1/agent/heartbeats").auth(&cast.other_rig.agent.token).json(&beat);
    assert_eq!(said.send().await.ok(200)["evidence"], json!([]));
    assert_eq!(belongings(&world).await, before);
}

/// A renter opens a rental with their own keys only.
#[tokio::test(flavor = "multi_thread")]
async fn a_rental_is_opened_with_no_key_of_somebody_elses() {
    let world = World::new().await;
    let cast = Cast::new(&world).await;
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkbe7gwx7s0dlApEEzpUyOAPrzPLy4czEZw/sh8m8rd";
    let body = json!({ "public_key": line });
    let made = world.post("/v1/ssh-keys").auth(&cast.other.token).json(&body).send().await;
    let theirs = made.ok(201)["id"].clone();
    let before = belongings(&world).await;
    let path = format!("/v1/rentals/{}/ssh-keys", cast.running.id);
    let put = async |ids: &[&Value]| {
        let body = json!({ "ssh_key_ids": ids });
        world.call("PUT", &path).auth(&cast.running.renter.token).json(&body).send().await
    };
    put(&[&theirs]).await.problem(422, "validation-failed");
    put(&[&json!(cast.ssh_key), &theirs]).await.problem(422, "validation-failed");
    assert_eq!(belongings(&world).await, before);
}

/// Where a page of somebody's ends is no way into it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_somebody_elses_shows_ones_own() {
    let world = World::new().await;
    let cast = Cast::new(&world).await;
    let renter = &cast.running.renter;
    let mut followed = 0;
    for list in ["/v1/sessions", "/v1/rentals", "/v1/disputes", "/v1/ledger"] {
        let page = if list == "/v1/ledger" { "?token=USDC&limit=1" } else { "?limit=1" };
        let path = format!("{list}{page}");
        let said = world.get(&path).auth(&renter.token).send().await.ok(200);
        let Some(cursor) = said["next_cursor"].as_str() else { continue };
        let path = format!("{path}&cursor={cursor}");
        let reply = world.get(&path).auth(&cast.other.token).send().await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        cast.tells_nothing(&reply, &path);
        followed += 1;
    }
    assert!(followed >= 3, "{followed}");
}

/// What was refused as not found is still there, and its owner finds it.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_deletes_stays() {
    let world = World::new().await;
    let cast = Cast::new(&world).await;
    let lists = [
        ("sessions", &cast.session),
        ("api-keys", &cast.api_key),
        ("ssh-keys", &cast.ssh_key),
        ("webhooks", &cast.webhook),
    ];
    for (list, id) in lists {
        let one = format!("/v1/{list}/{id}");
        for stranger in [&cast.other, &cast.running.rig.provider] {
            let said = world.call("DELETE", &one).auth(&stranger.token).send().await;
            said.problem(404, "not-found");
        }
        let path = format!("/v1/{list}");
        let said = world.get(&path).auth(&cast.running.renter.token).send().await.ok(200);
        let mut all = said["data"].as_array().unwrap().iter();
        assert!(all.any(|one| one["id"] == **id), "{list} {id}: {said}");
    }
}
