//! What `weir serve` logs: a line of JSON for each event whatever callers send, signing in and refusals under a target of
//! their own, and no secret.

use std::{collections::BTreeSet, fs::File, process::Stdio, time::Duration};

use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use reqwest::Client;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    market::Market,
    process::{Server, http},
};

const TARGET: &str = "weir::security";
/// What nobody but a forger would write: a line of its own, red.
const FORGED: &str = "\r\n\u{1b}[31m{\"level\":\"INFO\",\"forged\":true}\r\n";

/// Sends bytes as they are; what comes back does not matter.
async fn send_raw(server: &Server, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    // whoever sends no request may be hung up on
    if stream.write_all(bytes).await.is_ok() {
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_millis(300), read).await.ok();
    }
}

async fn send_what_forgers_send(server: &Server) {
    let path = "/v1/offers/x%0d%0a%1b%5b31m%7b%22forged%22:true%7d";
    let encoded = "a%0d%0a%1b[31mforged";
    for (name, value) in [
        ("User-Agent", encoded.as_bytes().to_vec()),
        ("User-Agent", b"\xff\xfe\x80forged\tforged".to_vec()),
        ("User-Agent", FORGED.as_bytes().to_vec()),
        ("X-Request-Id", FORGED.as_bytes().to_vec()),
        ("X-Request-Id", encoded.as_bytes().to_vec()),
        ("traceparent", FORGED.as_bytes().to_vec()),
        ("X-Forwarded-For", FORGED.as_bytes().to_vec()),
        ("Authorization", [b"Bearer ", FORGED.as_bytes()].concat()),
        ("Authorization", b"Bearer weir_sk_%0d%0aforged".to_vec()),
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{name}: ");
        send_raw(server, &[head.as_bytes(), &value, b"\r\n\r\n"].concat()).await;
    }
    let line = format!("GET /v1/me{FORGED} HTTP/1.1\r\nHost: x\r\n\r\n");
    send_raw(server, line.as_bytes()).await;
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// What happens to somebody in a day; returns what must not be in the log.
async fn live(client: &Client, server: &Server, wallet: &PrivateKeySigner) -> Vec<String> {
    let url = |path: &str| format!("{}{path}", server.url);
    let nonce = client.post(url("/v1/auth/siwe/nonce")).send().await.unwrap();
    let nonce: Value = nonce.json().await.unwrap();
    let now = i64::try_from(tests::chaos::wall_clock()).unwrap();
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
    let message = format!(
        "{} wants you to sign in with your Ethereum account:\n{}\n\n{}\n\nURI: {}\nVersion: 1\nChain ID: {}\nNonce: \
         {}\nIssued At: {}",
        text(&nonce, "/domain"),
        wallet.address().to_checksum(None),
        text(&nonce, "/statement"),
        text(&nonce, "/uri"),
        nonce["chain_id"],
        text(&nonce, "/nonce"),
        now.format(&Rfc3339).unwrap(),
    );
    let signature = wallet.sign_message_sync(message.as_bytes()).unwrap().to_string();
    let verify = async |message: &str| {
        let body = json!({ "message": message, "signature": signature });
        client.post(url("/v1/auth/siwe/verify")).json(&body).send().await.unwrap()
    };
    let session: Value = verify(&message).await.json().await.unwrap();
    let session = text(&session, "/token");
    assert_eq!(verify(&message).await.status(), 401, "it was used");
    assert_eq!(verify(&format!("{message}{FORGED}")).await.status(), 401);
    let body = json!({ "label": FORGED.trim(), "scopes": ["account:read"] });
    let make =
        |body: &Value| client.post(url("/v1/api-keys")).bearer_auth(&session).json(body).send();
    make(&body).await.unwrap();
    let made = make(&json!({ "label": "reads", "scopes": ["account:read"] })).await.unwrap();
    let made: Value = made.json().await.unwrap();
    let (key, id) = (text(&made, "/token"), text(&made, "/key/id"));
    let get = async |path: &str, token: &str| {
        client.get(url(path)).bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(get("/v1/rentals", &key).await, 403);
    assert_eq!(get("/v1/sessions", &key).await, 403);
    assert_eq!(get("/v1/me", "invented").await, 401);
    let one = url(&format!("/v1/api-keys/{id}"));
    assert_eq!(client.delete(one).bearer_auth(&session).send().await.unwrap().status(), 204);
    let out = client.post(url("/v1/auth/logout")).bearer_auth(&session).send().await.unwrap();
    assert_eq!(out.status(), 204);
    let mut limited = false;
    for _ in 0..20 {
        let asked = client.post(url("/v1/auth/siwe/nonce")).send().await.unwrap();
        limited |= asked.status() == 429;
    }
    assert!(limited);
    vec![session, key, signature]
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_forge_no_line_and_what_concerns_security_is_there() {
    let market = Market::open().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = Stdio::from(File::options().append(true).open(file.path()).unwrap());
    let more =
        [("WEIR_LOG", "debug"), ("WEIR_LOG_FORMAT", "json"), ("WEIR_LIMIT_SIGN_IN", "10/60")];
    let server = Server::logging_to(&market.with(&more), log).await;
    let wallet = PrivateKeySigner::random();
    send_what_forgers_send(&server).await;
    let secrets = live(&http(), &server, &wallet).await;
    server.running.signal("TERM");
    assert!(server.running.end().await.success());
    let logged = std::fs::read_to_string(file.path()).unwrap();
    assert!(!logged.contains(['\r', '\u{1b}']), "a control character came through");
    for secret in &secrets {
        assert!(!logged.contains(secret.trim_start_matches("0x")), "a secret is in the log");
    }
    let mut seen = BTreeSet::new();
    for line in logged.lines() {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event.get("forged").is_none(), "{line}");
        assert!(text(&event, "/timestamp").ends_with('Z'), "{line}");
        if event["target"] != TARGET {
            continue;
        }
        let (what, span) = (text(&event, "/fields/security.event"), &event["span"]);
        assert!(span["request.id"].is_string() && span["client.address"] == "127.0.0.1", "{line}");
        if what == "sign_in" {
            assert_eq!(text(&event, "/fields/who"), wallet.address().to_string());
        }
        if what == "api_key_made" {
            assert!(text(&event, "/fields/account.id").starts_with("acc_"), "{line}");
        }
        let reason = event["fields"]["reason"].as_str().unwrap_or_default();
        seen.insert(format!("{what} {reason}").trim().to_owned());
    }
    let wanted = [
        "api_key_made",
        "api_key_revoked",
        "limited",
        "refused scope-missing",
        "refused unauthenticated",
        "refused wallet-only",
        "session_ended",
        "sign_in",
        "sign_in_refused siwe-invalid",
    ];
    assert_eq!(seen, wanted.into_iter().map(str::to_owned).collect(), "{logged}");
}
