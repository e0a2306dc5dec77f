//! Errors as they leave the house: RFC 9457 problems.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::rental::StepError;
use serde::Serialize;
use serde_json::{Map, Value, json};
use store::{StoreError, TxError};
use utoipa::ToSchema;

use crate::Code;

/// The media type of every error.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
/// What `Retry-After` says, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What is wrong with one place of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    #[schema(example = "/price/amount")]
    pub pointer: String,
    /// What is expected there.
    pub message: String,
}

/// The shape of every error, for the API's description.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "/errors/offer-taken", "title": "The GPUs are rented", "status": 409,
    "detail": "somebody booked these GPUs first", "instance": "/v1/rentals", "code": "offer-taken",
    "errors": [], "retryable": false, "request_id": "0198f1c2a4b37c1e8d2f6a5b4c3d2e1f",
}))]
pub struct ProblemBody {
    /// `/errors/{code}`: a page about this kind of error.
    pub r#type: String,
    /// The kind of error in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence in a sentence.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// The kind of error, stable; see `/errors`.
    pub code: String,
    /// The places that are wrong, if the error is about the request.
    pub errors: Vec<FieldError>,
    /// True if the same request may succeed later.
    pub retryable: bool,
    /// Under which the service logged it.
    pub request_id: String,
}

/// Why one item of several was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ItemProblem {
    /// The kind of error, stable; see `/errors`.
    #[schema(example = "etag-mismatch")]
    pub code: String,
    /// The kind of error in a few words.
    pub title: String,
    /// This occurrence in a sentence.
    pub detail: String,
    /// The places that are wrong, if the error is about the request.
    pub errors: Vec<FieldError>,
    /// True if the same item may succeed later.
    pub retryable: bool,
}

/// An error on its way out. Which request it answers is added at the edge.
#[derive(Clone, Debug)]
pub struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    extra: Map<String, Value>,
}

impl Problem {
    /// An error of this kind, with a sentence about this occurrence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self(Box::new(Inner { code, detail, errors: Vec::new(), extra: Map::new() }))
    }

    /// Names a place of the request that is wrong.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        self.0.errors.push(FieldError { pointer: pointer.into(), message: message.into() });
        self
    }

    /// Adds a member beyond the standard ones.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(name.to_owned(), value.into());
        self
    }

    /// A value that is well-formed and still not acceptable.
    pub fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(Code::ValidationFailed, message.clone()).at(pointer, message)
    }

    /// The same for a body whose fields have the names of query parameters.
    #[must_use]
    pub(crate) fn in_body(mut self) -> Self {
        for error in &mut self.0.errors {
            if let Some(name) = error.pointer.strip_prefix('?') {
                let name = match name {
                    "gpu_model" => "gpu_models",
                    "region" => "regions",
                    "tier" => "tiers",
                    other => other,
                };
                error.pointer = format!("/{name}");
            }
        }
        self
    }

    /// Something that does not exist, or not for this caller.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// The kind of error.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The same as the refusal of one item of several.
    #[must_use]
    pub fn item(self) -> ItemProblem {
        let code = self.0.code;
        ItemProblem {
            code: code.as_str().to_owned(),
            title: code.title().to_owned(),
            detail: self.0.detail,
            errors: self.0.errors,
            retryable: code.retryable(),
        }
    }

    /// The body, for a request.
    pub(crate) fn body(&self, instance: &str, request_id: &str) -> Value {
        let code = self.0.code;
        let mut body = json!({
            "type": format!("/errors/{}", code.as_str()),
            "title": code.title(),
            "status": code.status().as_u16(),
            "detail": self.0.detail,
            "instance": instance,
            "code": code.as_str(),
            "errors": self.0.errors,
            "retryable": code.retryable(),
            "request_id": request_id,
        });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.0.extra.clone());
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code().status();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::SERVICE_UNAVAILABLE || self.code() == Code::IdempotencyInFlight {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(_) => {
                tracing::warn!(%error, "the store is not available");
                Self::new(Code::Unavailable, "the database does not answer in time")
            }
            StoreError::Conflict { .. } => {
                tracing::info!(%error, "a conflict that its handler did not expect");
                Self::new(Code::StateConflict, "somebody else changed the same thing first")
            }
            StoreError::Missing(_) | StoreError::Corrupt(_) | StoreError::Bug(_) => {
                tracing::error!(%error, "the store failed");
                Self::new(Code::Internal, "the service could not do this")
            }
        }
    }
}

impl From<TxError<Problem>> for Problem {
    fn from(error: TxError<Problem>) -> Self {
        match error {
            TxError::Store(error) => error.into(),
            TxError::Refused(problem) => problem,
        }
    }
}

impl From<StepError> for Problem {
    fn from(error: StepError) -> Self {
        Self::new(Code::StateConflict, error.to_string())
    }
}

/// Refuses inside a unit of work: everything is rolled back.
pub(crate) fn refuse<T>(problem: Problem) -> Result<T, TxError<Problem>> {
    Err(TxError::Refused(problem))
}

/// An error of the service's own making, logged here and shown without its inside.
pub(crate) fn internal(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "internal error");
    Problem::new(Code::Internal, "the service could not do this")
}
