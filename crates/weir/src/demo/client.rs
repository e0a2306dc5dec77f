//! A client of the HTTP API, as a person's program would be.

use std::time::Duration;

use domain::time::Clock as _;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{clock::SystemClock, failure::Failure, wallet::Wallet};

const TIMEOUT: Duration = Duration::from_secs(15);
/// A process that is being started again answers within this.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// The API as one account uses it.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    http: reqwest::Client,
    token: String,
}

impl Api {
    /// Signs a wallet in (ERC-4361).
    ///
    /// # Errors
    /// If the API refuses or does not answer.
    pub(crate) async fn sign_in(base: &str, wallet: &Wallet) -> Result<Self, Failure> {
        let http = tls::direct(TIMEOUT).map_err(Failure::during("the HTTP client"))?;
        let mut api = Self { base: base.to_owned(), http, token: String::new() };
        let nonce = api.post("/v1/auth/siwe/nonce", &json!({}), None).await?;
        let message = sign_in_message(&nonce, wallet)?;
        let signature = wallet.sign_text(&message)?;
        let body = json!({ "message": message, "signature": signature });
        let session = api.post("/v1/auth/siwe/verify", &body, None).await?;
        api.token = text(&session, "/token")?;
        Ok(api)
    }

    /// The session's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// GET.
    ///
    /// # Errors
    /// The API's own words, or that it did not answer.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(|| self.request(Method::GET, path)).await.map(|(_, body)| body)
    }

    /// GET that may say "not yet" (409).
    ///
    /// # Errors
    /// As [`Api::get`].
    pub(crate) async fn get_when_ready(&self, path: &str) -> Result<Option<Value>, Failure> {
        match self.answer(|| self.request(Method::GET, path)).await? {
            (StatusCode::CONFLICT, _) => Ok(None),
            (status, body) if status.is_success() => Ok(Some(body)),
            (status, body) => Err(refusal(status, &body)),
        }
    }

    /// GET of a document whose every byte counts.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub(crate) async fn document(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.request(Method::GET, path).send().await;
        let answer = answer.map_err(Failure::during("the API"))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(Failure::during("the API"))?;
        if status.is_success() {
            return Ok(body.to_vec());
        }
        Err(refusal(status, &serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// POST, with an Idempotency-Key where the request moves money. A request that got no answer is
    /// repeated; the key makes that safe.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Result<Value, Failure> {
        let build = || {
            let request = self.request(Method::POST, path).json(body);
            match key {
                Some(key) => request.header("Idempotency-Key", key),
                None => request,
            }
        };
        self.send(build).await.map(|(_, body)| body)
    }

    /// An open stream of a rental's events after the one given.
    ///
    /// # Errors
    /// If the stream cannot be opened.
    pub(crate) async fn events(
        &self,
        rental: &str,
        after: &str,
    ) -> Result<reqwest::Response, Failure> {
        let path = format!("/v1/rentals/{rental}/events");
        let mut request = self
            .request(Method::GET, &path)
            .timeout(Duration::from_secs(3_600))
            .header("Accept", "text/event-stream");
        if !after.is_empty() {
            request = request.header("Last-Event-ID", after);
        }
        let answer = request.send().await.map_err(Failure::during("the event stream"))?;
        answer.error_for_status().map_err(Failure::during("the event stream"))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    async fn send(
        &self,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<(StatusCode, Value), Failure> {
        let (status, body) = self.answer(build).await?;
        if status.is_success() { Ok((status, body)) } else { Err(refusal(status, &body)) }
    }

    async fn answer(
        &self,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<(StatusCode, Value), Failure> {
        let since = tokio::time::Instant::now();
        loop {
            let failure = match build().send().await {
                Ok(answer) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => {
                    let status = answer.status();
                    let body = answer.bytes().await.map_err(Failure::during("the API"))?;
                    return Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)));
                }
                Ok(answer) => Failure::new(format!("the API answers {}", answer.status())),
                Err(error) => Failure::new(format!("the API does not answer: {error}")),
            };
            if since.elapsed() > PATIENCE {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn refusal(status: StatusCode, body: &Value) -> Failure {
    let code = body.pointer("/code").and_then(Value::as_str).unwrap_or("no code");
    let detail = body.pointer("/detail").and_then(Value::as_str).unwrap_or("no detail");
    Failure::new(format!("the API answers {status} ({code}): {detail}"))
}

/// A string field of an answer.
///
/// # Errors
/// If it is not there.
pub(crate) fn text(value: &Value, pointer: &str) -> Result<String, Failure> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("the API's answer has no {pointer}")))
}

fn sign_in_message(nonce: &Value, wallet: &Wallet) -> Result<String, Failure> {
    let chain_id = nonce
        .pointer("/chain_id")
        .and_then(Value::as_u64)
        .ok_or_else(|| Failure::new("the API's answer has no /chain_id"))?;
    let issued = OffsetDateTime::from_unix_timestamp(
        i64::try_from(SystemClock.now().seconds().get()).map_err(Failure::during("the clock"))?,
    )
    .map_err(Failure::during("the clock"))?
    .format(&Rfc3339)
    .map_err(Failure::during("the clock"))?;
    Ok(format!(
        "{domain} wants you to sign in with your Ethereum account:\n{address}\n\n{statement}\n\n\
         URI: {uri}\nVersion: 1\nChain ID: {chain_id}\nNonce: {nonce}\nIssued At: {issued}\n\
         Expiration Time: {expires}",
        domain = text(nonce, "/domain")?,
        address = wallet.address().to_checksum(None),
        statement = text(nonce, "/statement")?,
        uri = text(nonce, "/uri")?,
        nonce = text(nonce, "/nonce")?,
        issued = issued,
        expires = text(nonce, "/expires_at")?,
    ))
}
