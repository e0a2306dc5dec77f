//! The API as one party uses it: a request that got no answer is repeated once, with the same key.

use std::{sync::Arc, time::Duration};

use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
use reqwest::Method;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::RwLock;

use super::{record::Record, wall_clock, world::World};

/// More faults in a row than one request can meet.
const MOST_TRIES: usize = 60;

#[derive(Clone)]
pub struct Client {
    pub world: Arc<World>,
    pub record: Arc<Record>,
    token: Arc<RwLock<String>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Status and body.
    Told(u16, Value),
    /// Nothing, or not all of it, or "try again".
    Broken(String),
}

impl Client {
    pub fn new(world: &Arc<World>, record: &Arc<Record>) -> Self {
        Self { world: Arc::clone(world), record: Arc::clone(record), token: Arc::default() }
    }

    /// Its session's token.
    pub async fn token(&self) -> String {
        self.token.read().await.clone()
    }

    /// One request, one try.
    pub async fn once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Answer {
        let mut request = self.world.http.request(method, format!("{}{path}", self.world.url));
        let token = self.token.read().await.clone();
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Answer::Broken(error.to_string()),
        };
        let status = answer.status().as_u16();
        let told = answer.headers().contains_key("retry-after");
        let Ok(body) = answer.json::<Value>().await else {
            return Answer::Broken(format!("{status} without its body"));
        };
        if status == 503 && told || body["code"] == "idempotency-in-flight" {
            return Answer::Broken(format!("{status} {}", body["code"]));
        }
        if status >= 500 {
            self.record.pages().answers.server_errors += 1;
            self.record.complain(format!("{path} answers {status}: {body}"));
        }
        Answer::Told(status, body)
    }

    /// A request that changes nothing, or nothing that matters: asked until there is an answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        for _ in 0..MOST_TRIES {
            match self.once(method.clone(), path, body, None).await {
                Answer::Told(status, body) => return (status, body),
                Answer::Broken(_) => self.world.ready().await,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no answer to {path}");
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// A request that moves money: if the connection breaks it is repeated once with the same key, when the API is
    /// there again. Only another fault excuses another try.
    pub async fn keyed(&self, path: &str, body: &Value, key: &str) -> (u16, Value) {
        self.record.pages().answers.asked += 1;
        let mut broken = 0_usize;
        loop {
            let before = self.world.strikes();
            let answer = self.once(Method::POST, path, Some(body), Some(key)).await;
            match answer {
                Answer::Told(status, body) => {
                    let unsaid = status >= 500 || body["code"] == "already-exists";
                    if unsaid {
                        self.ambiguous(path, key, &format!("{status} {body}"));
                    }
                    return (status, body);
                }
                Answer::Broken(why) => {
                    broken += 1;
                    if broken == 1 {
                        self.record.pages().answers.broken += 1;
                    } else if self.world.strikes() == before {
                        self.ambiguous(path, key, &why);
                    } else {
                        self.record.pages().answers.hit_twice += 1;
                    }
                    assert!(broken < MOST_TRIES, "no answer to {path} with {key}");
                    self.world.ready().await;
                }
            }
        }
    }

    fn ambiguous(&self, path: &str, key: &str, why: &str) {
        self.record.pages().answers.ambiguous += 1;
        self.record.complain(format!("ambiguous: {path} with {key}: {why}"));
    }

    /// Signs a wallet in (ERC-4361).
    pub async fn sign_in(&self, wallet: &PrivateKeySigner) {
        for _ in 0..MOST_TRIES {
            let (_, nonce) = self.post("/v1/auth/siwe/nonce", &json!({})).await;
            let message = message(&nonce, wallet);
            let signature = wallet.sign_message_sync(message.as_bytes()).unwrap().to_string();
            let body = json!({ "message": message, "signature": signature });
            // a nonce whose answer was lost is used up: another
            let (status, session) = self.post("/v1/auth/siwe/verify", &body).await;
            if status == 201 {
                *self.token.write().await = text(&session, "/token");
                return;
            }
        }
        panic!("{} cannot sign in", wallet.address());
    }

    /// Signs a machine's key in.
    pub async fn sign_in_agent(&self, machine: &str, key: &PrivateKeySigner) -> bool {
        let (_, challenge) = self.post("/v1/agent/challenge", &json!({})).await;
        let Some(nonce) = challenge["nonce"].as_str() else { return false };
        let words = format!("weir-agent:{}:{machine}:{nonce}", self.world.rpc.chain_id);
        let signature = key.sign_message_sync(words.as_bytes()).unwrap().to_string();
        let body = json!({ "machine_id": machine, "nonce": nonce, "signature": signature });
        let (status, session) = self.post("/v1/agent/session", &body).await;
        if status == 201 {
            *self.token.write().await = text(&session, "/token");
        }
        status == 201
    }
}

/// A string in an answer that must be there.
pub fn text(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no {pointer} in {value}")).to_owned()
}

fn message(nonce: &Value, wallet: &PrivateKeySigner) -> String {
    let now = OffsetDateTime::from_unix_timestamp(i64::try_from(wall_clock()).unwrap()).unwrap();
    format!(
        "{} wants you to sign in with your Ethereum account:\n{}\n\n{}\n\nURI: {}\nVersion: 1\n\
         Chain ID: {}\nNonce: {}\nIssued At: {}\nExpiration Time: {}",
        text(nonce, "/domain"),
        wallet.address().to_checksum(None),
        text(nonce, "/statement"),
        text(nonce, "/uri"),
        nonce["chain_id"],
        text(nonce, "/nonce"),
        now.format(&Rfc3339).unwrap(),
        text(nonce, "/expires_at"),
    )
}
