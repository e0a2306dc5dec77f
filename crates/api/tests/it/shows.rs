//! Answers of a market in which something happens, to be shown in the API's description.

use std::collections::BTreeMap;

use domain::rental::RentalEvent;
use serde_json::{Value, json};

use crate::{
    escrows::{self, settle},
    fixture::World,
    running::Running,
};

/// Answers by operation.
pub async fn answers() -> BTreeMap<String, Value> {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let other = world.rig(30, 2, "0.40").await;
    let mut given = BTreeMap::new();
    let renter = running.renter.clone();
    let get = async |path: &str| world.get(path).auth(&renter.token).send().await.ok(200);

    let body = json!({"offer_id": other.offer, "duration_s": 3_600, "token": "USDC"});
    let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201);
    let quote_id = quote["id"].as_str().unwrap().to_owned();
    given.insert("get /v1/quotes/{id}".to_owned(), get(&format!("/v1/quotes/{quote_id}")).await);
    let body = json!({"quote_id": quote["id"]});
    let booked =
        world.post("/v1/rentals").auth(&renter.token).key("shown").json(&body).send().await.ok(201);
    given.insert("post /v1/rentals".to_owned(), booked.clone());
    given.insert("post /v1/quotes".to_owned(), quote);
    let id = booked["rental"]["id"].as_str().unwrap();
    world.advance(id, RentalEvent::LockIncluded).await;
    let orders = world.get("/v1/agent/commands").auth(&other.agent.token).send().await.ok(200);
    given.insert("get /v1/agent/commands".to_owned(), orders);
    let usage =
        json!({"kind": "usage", "price": {"amount": "0.65", "currency": "USD"}, "hours": "2"});
    let estimate = world.post("/v1/estimates").json(&usage).send().await.ok(200);
    given.insert("post /v1/estimates".to_owned(), estimate);
    world.rig(40, 2, "0.50").await;
    world.state.catch_up_with_market().await.unwrap();
    let need = json!({"gpus": 2, "hours": "24", "gpu_models": ["rtx-4090"]});
    let found = world.post("/v1/match").json(&need).send().await.ok(200);
    given.insert("post /v1/match".to_owned(), found);
    given.insert("get /v1/market/book/{model}".to_owned(), get("/v1/market/book/rtx-4090").await);
    given.insert("get /v1/market/prices".to_owned(), get("/v1/market/prices").await);
    given.insert("get /v1/market/supply".to_owned(), get("/v1/market/supply").await);

    settle(&world, &mut running).await;
    crate::figures::assess(&world, &running.rig.machine).await;
    let machine = format!("/v1/machines/{}/reliability", running.rig.machine);
    given.insert("get /v1/machines/{id}/reliability".to_owned(), get(&machine).await);
    let rental = format!("/v1/rentals/{}", running.id);
    given.insert("get /v1/rentals/{id}".to_owned(), get(&rental).await);
    for part in ["cost", "receipt", "escrow", "timeline"] {
        given.insert(
            format!("get /v1/rentals/{{id}}/{part}"),
            get(&format!("{rental}/{part}")).await,
        );
    }
    let invoice = format!("/v1/invoices/{}.json", running.id);
    given.insert("get /v1/invoices/{id}".to_owned(), get(&invoice).await);
    let escrow = format!("/v1/escrow/{:#x}", running.escrow_id);
    given.insert("get /v1/escrow/{id}".to_owned(), get(&escrow).await);
    given.insert("get /v1/rentals".to_owned(), get("/v1/rentals?limit=1").await);
    given.insert("get /v1/settlements".to_owned(), get("/v1/settlements").await);
    escrows::mine(&world, 11, true, &[]).await;
    given.insert("get /v1/status".to_owned(), get("/v1/status").await);
    let provider = running.rig.provider.clone();
    crate::income::withdrawn(&world, provider.key.address(), &[(500, 0)]).await;
    for part in ["payouts", "reliability"] {
        let path = format!("/v1/provider/{part}");
        let said = world.get(&path).auth(&provider.token).send().await.ok(200);
        given.insert(format!("get {path}"), said);
    }
    given
}
