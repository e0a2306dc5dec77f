//! One request and its answer, both bounded in time and size.

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, header, redirect};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{AgentError, wire::Problem};

/// From the first byte sent to the last received.
const TIMEOUT: Duration = Duration::from_secs(10);
/// To reach the service at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why a request was not answered as hoped.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// No answer, or one that says "later": try again.
    #[error("the service does not answer: {0}")]
    Unreachable(String),
    /// The service will not do this.
    #[error("refused ({}): {}", .0.code, .0.detail)]
    Refused(Problem),
    /// The answer is not one that this program knows.
    #[error("the answer is not understood: {0}")]
    Malformed(String),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

impl CallError {
    /// A name for the kind of fault, to tell one from another in the log.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused(problem) => &problem.code,
            Self::Malformed(_) => "malformed",
            Self::Stopping => "stopping",
        }
    }
}

/// A connection pool to one service.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client,
    base: Url,
}

impl Http {
    /// # Errors
    /// [`AgentError::Http`] if the address cannot be used or the client not be made.
    pub(crate) fn new(server: &Url) -> Result<Self, AgentError> {
        let failed = |reason: &dyn std::fmt::Display| AgentError::Http(reason.to_string());
        if !matches!(server.scheme(), "http" | "https") || server.host_str().is_none() {
            let reason =
                format_args!("{server} is not of the form https://host or http://host:port");
            return Err(failed(&reason));
        }
        let mut base = server.clone();
        base.set_path(&format!("{}/", server.path().trim_end_matches('/')));
        let mut builder = tls::client()
            .map_err(|error| failed(&error))?
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // a redirect would carry the session's token to wherever it points
            .redirect(redirect::Policy::none());
        if is_loopback(server) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| failed(&error))?;
        Ok(Self { client, base })
    }

    /// Asks for `path`, which has no leading slash.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(self.request(Method::GET, path, None)?).await
    }

    /// Asks for `path` with a session's token, and lets the service wait for something to tell for so long.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn wait<T: DeserializeOwned>(
        &self,
        path: &str,
        token: &str,
        wait: Duration,
    ) -> Result<T, CallError> {
        let request = self.request(Method::GET, path, Some(token))?;
        let prefer = format!("wait={}", wait.as_secs());
        self.call(request.header("prefer", prefer).timeout(TIMEOUT.saturating_add(wait))).await
    }

    /// Posts JSON to `path`, with a session's token if there is one.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_value(body).map_err(malformed)?;
        self.call(self.request(Method::POST, path, token)?.json(&body)).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
    ) -> Result<RequestBuilder, CallError> {
        let url = self.base.join(path).map_err(malformed)?;
        let request = self.client.request(method, url);
        Ok(match token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        })
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CallError> {
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let bytes = read(response).await?;
        if status.is_success() {
            let bytes = if bytes.is_empty() { b"null".as_slice() } else { &bytes };
            return serde_json::from_slice(bytes).map_err(malformed);
        }
        Err(refusal(status, &bytes))
    }
}

fn is_loopback(server: &Url) -> bool {
    let host = server.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn read(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if bytes.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err(malformed("it is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn refusal(status: StatusCode, bytes: &[u8]) -> CallError {
    let mut problem: Problem = serde_json::from_slice(bytes).unwrap_or_default();
    problem.status = status.as_u16();
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || later.contains(&status) {
        return CallError::Unreachable(format!("{status} {}", problem.detail));
    }
    if problem.code.is_empty() {
        problem.code = format!("http-{}", status.as_u16());
    }
    CallError::Refused(problem)
}

fn malformed(error: impl ToString) -> CallError {
    CallError::Malformed(error.to_string())
}

/// The error and what caused it, without the address, which is known.
fn unreachable(error: reqwest::Error) -> CallError {
    CallError::Unreachable(tls::causes(&error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_what_helps() {
        let body = br#"{"code": "reading-gap", "detail": "d", "not_before": 7, "new": []}"#;
        let refused = refusal(StatusCode::CONFLICT, body);
        let CallError::Refused(problem) = refused else { panic!("{refused}") };
        assert_eq!((problem.status, problem.code.as_str()), (409, "reading-gap"));
        assert_eq!(problem.not_before.map(|at| at.get()), Some(7));
        assert_eq!(refusal(StatusCode::NOT_FOUND, b"<html>").kind(), "http-404");
        for later in [500, 502, 503, 408, 429] {
            let later = refusal(StatusCode::from_u16(later).unwrap(), b"");
            assert_eq!(later.kind(), "unreachable");
        }
    }

    #[test]
    fn addresses_that_cannot_work_are_refused() {
        for bad in ["mailto:a@b", "data:,x", "ws://example.com"] {
            assert!(Http::new(&bad.parse().unwrap()).is_err(), "{bad}");
        }
        let http = Http::new(&"http://127.0.0.1:1/base".parse().unwrap()).unwrap();
        assert_eq!(http.base.join("v1/x").unwrap().path(), "/base/v1/x");
    }
}
