//! Who may do what: every operation of the OpenAPI document, asked by everybody about somebody else's things.
//!
//! An operation that has no row in `table.rs` fails the test: say there whose thing it is about. From the same rows
//! `docs/ACCESS.md` is made: `UPDATE_DOCS=1 cargo test -p api --test it access`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fixture::World;

mod belongings;
mod bodies;
mod cast;
mod page;
mod role;
mod table;

use belongings::belongings;
use cast::Cast;
use role::Role;
use table::{Cell, ROWS, Row, Whose};

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
        let anonymous = security.as_array().is_some_and(|all| all.contains(&json!({})));
        assert_eq!(row.whose == Whose::Paid, anonymous, "{method} {path}: {said}");
        let by_token = row.cell(Role::Token, scope_in(&security).as_deref());
        let takes_tokens =
            matches!(by_token, Cell::Yes | Cell::OfTheirOwn) && row.whose != Whose::Public;
        assert_eq!(takes_tokens, said.contains("\"rental_token\""), "{method} {path}: {said}");
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
    let before = belongings(&world).await;
    let mut asked = 0;
    for (method, path, security) in operations() {
        let Some(row) = row_of(&method, &path) else { continue };
        let scope = scope_in(&security);
        for role in Role::ALL {
            let cell = row.cell(*role, scope.as_deref());
            let what = format!("{method} {path} by {role:?}");
            match cell {
                // the price is kept for whoever pays it
                Cell::Refused(402) => {}
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
    assert!(asked > 400, "{asked}");
    assert_eq!(belongings(&world).await, before, "what was refused changed something");
    what_is_allowed_is_done(&world, &cast).await;
}

/// What ends something is asked for after all else, and what ends the one who asks last of all.
fn turn(method: &str, path: &str) -> u8 {
    match (method, path) {
        ("POST", "/v1/auth/logout") => 3,
        ("DELETE", "/v1/sessions") => 2,
        ("DELETE", _) | ("POST", "/v1/machines/{id}/retire" | "/v1/rentals/{id}/stop") => 1,
        _ => 0,
    }
}

/// Every answer of the table that is no refusal, asked for by something other than GET: what is wrong with it then is
/// never who asks.
async fn what_is_allowed_is_done(world: &World, cast: &Cast) {
    let mut all = operations();
    all.retain(|(method, ..)| method != "GET");
    all.sort_by_key(|(method, path, _)| turn(method, path));
    let mut asked = 0;
    for (method, path, security) in &all {
        let Some(row) = row_of(method, path) else { continue };
        let scope = scope_in(security);
        for role in Role::ALL {
            let cell = row.cell(*role, scope.as_deref());
            // the first of them ends them all
            let is_over = (row.path, role) == ("/v1/rentals/{id}/tokens", &Role::Renter);
            if is_over || !matches!(cell, Cell::Yes | Cell::OfTheirOwn) {
                continue;
            }
            let reply = cast.ask(world, row, *role, scope.as_deref()).await;
            let status = reply.status.as_u16();
            let what = format!("{method} {path} by {role:?}: {reply:?}");
            assert!(status < 500 && ![401, 403].contains(&status), "{what}");
            assert!(cell != Cell::Yes || status != 404, "{what}");
            asked += 1;
        }
    }
    assert!(asked > 80, "{asked}");
}

/// Whoever pays needs no account: the price is the answer.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_the_price_and_nothing_else() {
    let world = World::new().await;
    let cast = Cast::new(&world).await;
    let row = row_of("POST", "/v1/rentals").unwrap();
    let reply = cast.ask(&world, row, Role::Nobody, None).await;
    cast.tells_nothing(&reply, "POST /v1/rentals by Nobody");
    let said = reply.problem(402, "payment-required");
    assert!(said["payment"]["accepts"][0]["amount"].is_string(), "{said}");
    // a quote is somebody's, and needs them
    let body = json!({"quote_id": cast.quote});
    let said = world.post("/v1/rentals").key("q").json(&body).send().await;
    said.problem(401, "unauthenticated");
}
