//! Requests and answers.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::Value;
use tower::ServiceExt as _;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    /// The header with this name, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts success and returns the body.
    #[track_caller]
    pub fn ok(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    /// Asserts that it is this error, whole and well formed, and returns the body.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status.as_u16(), self.body["code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = &self.body;
        assert_eq!(body["type"], format!("/errors/{code}"));
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        assert!(body["instance"].as_str().unwrap().starts_with('/'));
        for text in ["title", "detail"] {
            assert!(!body[text].as_str().unwrap().is_empty());
        }
        assert!(body["errors"].is_array() && body["retryable"].is_boolean());
        let waits = matches!(status, 503 | 429) || code == "idempotency-in-flight";
        assert_eq!(self.headers.contains_key("retry-after"), waits);
        self.body
    }
}

/// A request in the making.
pub struct Call {
    router: Router,
    request: axum::http::request::Builder,
    body: Body,
}

impl Call {
    /// A request to the service behind `router`.
    pub fn new(router: &Router, method: &str, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path);
        Self { router: router.clone(), request, body: Body::empty() }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.request = self.request.header(name, value.as_ref());
        self
    }

    /// What the server would know of the request beside its bytes.
    pub fn extension(mut self, value: impl Clone + Send + Sync + 'static) -> Self {
        self.request = self.request.extension(value);
        self
    }

    pub fn auth(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub fn json(self, body: &Value) -> Self {
        self.raw(body.to_string())
    }

    pub fn raw(self, body: impl Into<Body>) -> Self {
        let mut call = self.header("content-type", "application/json");
        call.body = body.into();
        call
    }

    pub async fn send(self) -> Reply {
        let request: Request<Body> = self.request.body(self.body).unwrap();
        let response = self.router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 4 << 20).await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Reply { status: parts.status, headers: parts.headers, body }
    }
}
