//! Who may do what: every operation of the OpenAPI document, asked by everybody about somebody else's things.
//!
//! An operation that has no row in `table.rs` fails the test: say there whose thing it is about. From the same rows
//! `docs/ACCESS.md` is made: `UPDATE_DOCS=1 cargo test -p api --test it access`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fixture::World;

mod cast;
mod page;
mod table;

use cast::{Cast, Role};
use table::{Cell, ROWS, Row};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Every operation of the document: method, path and what it says of who may.
fn operations() -> Vec<(String, String, Value)> {
    let api = serde_json::to_value(api::openapi()).unwrap();
    let mut found = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                let security = operation["security"].clone();
                found.push((method.to_uppercase(), path.clone(), security));
            }
        }
    }
    found
}

fn row_of(method: &str, path: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.method == method && row.path == path)
}

/// The scope that an API key needs, by the document; `None` if it takes no keys.
fn scope_in(security: &Value) -> Option<String> {
    let all = security.as_array()?;
    let scopes = all.iter().find_map(|one| one.get("api_key"))?;
    Some(scopes[0].as_str().unwrap().to_owned())
}

#[test]
fn every_operation_has_a_row_and_every_row_an_operation() {
    let mut seen = BTreeSet::new();
    for (method, path, security) in operations() {
        let row = row_of(&method, &path);
        let row =
            row.unwrap_or_else(|| panic!("{method} {path}: say in access/table.rs whose it is"));
        seen.insert((row.method, row.path));
        let said = security.to_string();
        let scheme = match (security.is_null(), said.contains("\"agent\"")) {
            (true, _) => "anybody",
            (false, true) => "agent",
            (false, false) => "wallet",
        };
        assert_eq!(row.whose.scheme(), scheme, "{method} {path}");
    }
    for row in ROWS {
        assert!(seen.contains(&(row.method, row.path)), "{} {} is gone", row.method, row.path);
    }
    assert_eq!(seen.len(), ROWS.len(), "a row is there twice");
}

#[test]
fn the_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ACCESS.md");
    let page = page::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == page,
        "docs/ACCESS.md is stale: UPDATE_DOCS=1 cargo test -p api --test it access"
    );
}

/// Every refusal of the table, asked for, and then that nothing of anybody's has changed.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_at_what_is_somebody_elses() {
    let world = World::new().await;
    let cast = Cast::new(&world).await;
    let before = cast.belongings(&world).await;
    let mut asked = 0;
    for (method, path, security) in operations() {
        let Some(row) = row_of(&method, &path) else { continue };
        let scope = scope_in(&security);
        for role in Role::ALL {
            let cell = row.cell(*role, scope.as_deref());
            let what = format!("{method} {path} by {role:?}");
            match cell {
                Cell::Refused(status) => {
                    let reply = cast.ask(&world, row, *role, scope.as_deref()).await;
                    assert_eq!(reply.status, status, "{what}: {reply:?}");
                    let code = reply.body["code"].as_str().unwrap_or_default().to_owned();
                    cast.tells_nothing(&reply, &what);
                    reply.problem(status, &code);
                    asked += 1;
                }
                Cell::OfTheirOwn if method == "GET" && row.path != "/v1/events" => {
                    let reply = cast.ask(&world, row, *role, scope.as_deref()).await;
                    assert_eq!(reply.status, 200, "{what}: {reply:?}");
                    cast.tells_nothing(&reply, &what);
                    asked += 1;
                }
                Cell::Yes if method == "GET" && row.path != "/v1/rentals/{id}/events" => {
                    let reply = cast.ask(&world, row, *role, scope.as_deref()).await;
                    assert!(![401, 403, 404].contains(&reply.status.as_u16()), "{what}: {reply:?}");
                    assert!(reply.status.as_u16() < 500, "{what}: {reply:?}");
                    asked += 1;
                }
                Cell::OfTheirOwn | Cell::Yes | Cell::Anybody => {}
            }
        }
    }
    assert!(asked > 300, "{asked}");
    assert_eq!(cast.belongings(&world).await, before, "what was refused changed something");
}

/// What is named in a body is guarded as what is named in a path.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_body_names_is_guarded_too() {
    let world = World::new().await;
    let cast = Cast::new(&world).await;
    let before = cast.belongings(&world).await;
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
    let quote = world.quote(&cast.other, &cast.other_rig).await;
    post("/v1/rentals", json!({"quote_id": quote["id"], "ssh_key_ids": [cast.ssh_key]}))
        .await
        .problem(422, "validation-failed");
    // a machine's agent says that a rental of another machine runs there: it learns nothing of it
    let beat = json!({"running": [cast.running.id]});
    let said = world.post("/v1/agent/heartbeats").auth(&cast.other_rig.agent.token).json(&beat);
    assert_eq!(said.send().await.ok(200)["evidence"], json!([]));
    assert_eq!(cast.belongings(&world).await, before);
}
