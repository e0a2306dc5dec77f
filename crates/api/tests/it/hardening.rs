//! What callers' text is to us, and what is not served at all.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::{fixture::World, running::Running};

/// Texts that mean something to SQL, HTML, JSON, shells, spreadsheets or terminals.
const TEXTS: &[&str] = &[
    "'); DROP TABLE rentals; --",
    "\" OR 1=1 --",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\\u0022,\"admin\":true,\"x\":\"",
    "$(reboot) `id` ; ls | tee",
    "=HYPERLINK(\"https://evil.example\")",
    "%s%n${jndi:ldap://x}{{7*7}}",
    "../../etc/passwd",
];

async fn count(world: &World, table: &str) -> i64 {
    let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(query).fetch_one(world.store.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_back_as_it_was_given_and_means_nothing() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let (renter, path) = (&running.renter, format!("/v1/rentals/{}", running.id));
    for text in TEXTS {
        let body = json!({ "label": text });
        let said = world.call("PATCH", &path).auth(&renter.token).json(&body).send().await;
        assert_eq!(said.header("content-type"), "application/json");
        assert_eq!(said.header("x-content-type-options"), "nosniff");
        assert_eq!(said.ok(200)["label"], *text);
        let seen = world.get(&path).auth(&renter.token).send().await.ok(200);
        assert_eq!(seen["label"], *text);
        let body = json!({"slug": "hard", "name": text, "image": "ghcr.io/me/x:1", "disk_gb": 8, "readme": text});
        let made = world.post("/v1/templates").auth(&renter.token).json(&body).send().await;
        assert!(made.status.is_success(), "{made:?}");
        assert_eq!(made.header("content-type"), "application/json");
        assert_eq!((&made.body["name"], &made.body["readme"]), (&json!(text), &json!(text)));
    }
    assert_eq!((count(&world, "rentals").await, count(&world, "sessions").await > 0), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_in_a_path_or_query_is_looked_for_and_nothing_else() {
    let world = World::new().await;
    let rentals = count(&world, "rentals").await;
    for text in TEXTS {
        let coded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in [
            format!("/errors/{coded}"),
            format!("/v1/{coded}"),
            format!("/v1/offers/{coded}"),
            format!("/v1/templates/{coded}"),
            format!("/v1/gpu-models/{coded}"),
            format!("/v1/offers?region={coded}"),
            format!("/v1/offers?cursor={coded}"),
            format!("/v1/market/prices/{coded}/history"),
        ] {
            for accept in ["*/*", "text/html"] {
                let reply = world.get(&path).header("accept", accept).send().await;
                assert!(reply.status.is_client_error(), "{path}: {reply:?}");
                // never a page that a browser would run
                assert_eq!(reply.header("content-type"), "application/problem+json", "{path}");
                assert_eq!(reply.header("x-content-type-options"), "nosniff");
            }
        }
    }
    assert_eq!(count(&world, "rentals").await, rentals);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_development_is_not_served() {
    let world = World::new().await;
    for path in [
        "/.git/HEAD",
        "/.git/config",
        "/.svn/entries",
        "/.env",
        "/Cargo.toml",
        "/src/lib.rs",
        "/debug/pprof",
        "/server-status",
        "/actuator",
        "/console",
        "/v1/debug",
        "/v1/test",
        "/admin",
        "/docs/../.git/HEAD",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/errors/",
        "/v1/",
    ] {
        let reply = world.get(path).send().await;
        assert!([400, 404].contains(&reply.status.as_u16()), "{path}: {reply:?}");
    }
    for path in ["/v1/offers", "/healthz", "/v1/me"] {
        let reply = world.call("TRACE", path).header("x-secret", "echo").send().await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(!reply.body.to_string().contains("echo"), "{reply:?}");
    }
}

/// The paths of the description that need nothing to be filled in.
fn plain_paths() -> Vec<String> {
    let api = serde_json::to_value(api::openapi()).unwrap();
    let paths = api["paths"].as_object().unwrap().iter();
    let plain = paths.filter(|(path, item)| !path.contains('{') && item.get("get").is_some());
    plain.map(|(path, _)| path.clone()).filter(|path| !path.ends_with("/stream")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_elsewhere() {
    let world =
        World::with(|config| config.public_url = "https://api.example.com".to_owned()).await;
    let paths = plain_paths();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        for (name, value) in [("x-forwarded-proto", "http"), ("host", "evil.example")] {
            let reply = world.get(&path).header(name, value).send().await;
            assert!(!reply.status.is_redirection(), "{path}: {reply:?}");
            assert_eq!(reply.header("location"), "", "{path}");
        }
    }
    // the one page that has a place for itself, here
    assert_eq!(world.get("/docs").send().await.header("location"), "/docs/");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebodys_is_kept_by_no_cache() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let mut seen = 0;
    let rental = format!("/v1/rentals/{}", running.id);
    let more = ["", "/cost", "/readings", "/timeline", "/escrow", "/ssh-keys"];
    let paths = plain_paths()
        .into_iter()
        .filter(|path| path != "/v1/events" && !path.starts_with("/v1/agent/"));
    for path in paths.chain(more.map(|rest| format!("{rental}{rest}"))) {
        let unknown = world.get(&path).send().await;
        if unknown.status != StatusCode::UNAUTHORIZED {
            continue;
        }
        assert_eq!(unknown.header("cache-control"), "no-store", "{path}");
        let path = if path == "/v1/ledger" { format!("{path}?token=USDC") } else { path };
        let reply = world.get(&path).auth(&running.renter.token).send().await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {reply:?}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        seen += 1;
    }
    assert!(seen > 12, "{seen}");
}

/// A value is read from the one place that the description names, and not from another that a proxy may read.
#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_has_one_place() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let token = &running.renter.token;
    let twice = world.get("/v1/rentals?limit=1&limit=2").auth(token).send().await;
    twice.problem(400, "invalid-request");
    // a token in the query, or in a body, is none
    let path = format!("/v1/me?access_token={token}&authorization=Bearer%20{token}");
    world.get(&path).send().await.problem(401, "unauthenticated");
    let body = json!({ "label": "x", "id": running.id, "authorization": token });
    let path = format!("/v1/rentals/{}", running.id);
    world.call("PATCH", &path).auth(token).json(&body).send().await.problem(400, "invalid-request");
    // a key in the query is no Idempotency-Key
    let quote: Value = json!({ "quote_id": "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f" });
    let call = world.post("/v1/rentals?Idempotency-Key=a").auth(token).json(&quote);
    let said = call.send().await;
    assert_eq!(said.status, StatusCode::BAD_REQUEST, "{said:?}");
}

/// Where a request ends is said once and in one way, so that no proxy sees another end.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_two_ends_is_none() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(api::serve(listener, world.state.clone(), shutdown.clone()));
    let answer = async |head: &str| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("POST /v1/auth/siwe/nonce HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n");
        let hidden = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        socket.write_all(format!("{request}{hidden}").as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        let read = socket.read_to_end(&mut seen);
        // sooner than a head that does not end is cut off
        tokio::time::timeout(Duration::from_secs(12), read).await.unwrap().ok();
        String::from_utf8_lossy(&seen).into_owned()
    };
    let good = answer("Content-Length: 0\r\nConnection: close").await;
    assert!(good.starts_with("HTTP/1.1 201"), "{good}");
    for head in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length : 5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        " Transfer-Encoding: chunked",
    ] {
        let said = answer(head).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{head}: {said}");
        assert_eq!(
            said.matches("HTTP/1.1 ").count(),
            usize::from(!said.is_empty()),
            "{head}: {said}"
        );
    }
    shutdown.cancel();
    server.await.unwrap().unwrap();
}
