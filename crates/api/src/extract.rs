//! Reads requests strictly: what is not understood is refused, and the refusal names the place.

mod objects;

use std::str::FromStr;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::{Code, Problem, state::AppState};
use objects::Objects;

/// How many bytes a body of this route may have, where that is not the usual number.
#[derive(Clone, Copy)]
pub(crate) struct BodyLimit(pub(crate) usize);

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON, with Content-Type: application/json";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        let own = request.extensions().get::<BodyLimit>().map(|limit| limit.0);
        let limit = own.unwrap_or(app.config.body_limit);
        let bytes = Bytes::from_request(request, app).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let detail = format!("a body may have {limit} bytes");
                Problem::new(Code::BodyTooLarge, detail)
            } else {
                Problem::new(Code::InvalidRequest, "the body ended early")
            }
        })?;
        parse_json(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Objects(&mut json)).map_err(|error| {
        let pointer = pointer(error.path(), &error.inner().to_string());
        let inner = error.into_inner();
        if inner.is_data() {
            let message = without_position(&inner.to_string());
            Problem::new(Code::InvalidRequest, message.clone()).at(pointer, message)
        } else {
            Problem::new(Code::InvalidRequest, format!("the body is not valid JSON: {inner}"))
        }
    })?;
    json.end().map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("the body is not valid JSON: {error}"))
    })?;
    Ok(value)
}

/// What is left of a body that was read before, at a place in it.
///
/// # Errors
/// [`Code::InvalidRequest`], with a pointer that begins with `at`.
pub(crate) fn value<T: DeserializeOwned>(value: serde_json::Value, at: &str) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Objects(value)).map_err(|error| {
        let inside = pointer(error.path(), &error.inner().to_string());
        let message = error.into_inner().to_string();
        Problem::new(Code::InvalidRequest, message.clone()).at(format!("{at}{inside}"), message)
    })
}

/// The JSON pointer of a path. An unknown field is itself the place, not the object around it.
fn pointer(path: &serde_path_to_error::Path, message: &str) -> String {
    use serde_path_to_error::Segment;

    let mut pointer = String::new();
    for segment in path {
        let part = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.clone(),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&part.replace('~', "~0").replace('/', "~1"));
    }
    if let Some(field) =
        message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
        && !pointer.ends_with(&format!("/{field}"))
    {
        pointer.push('/');
        pointer.push_str(field);
    }
    pointer
}

/// serde_json's sentence without "at line 1 column 9", which the pointer says better.
fn without_position(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

/// The one id or name in the path.
pub(crate) struct Id<T>(pub(crate) T);

impl<T> FromRequestParts<AppState> for Id<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let path = <Path<String> as FromRequestParts<AppState>>::from_request_parts(parts, app);
        let Path(text) = path
            .await
            .map_err(|_| Problem::new(Code::InvalidRequest, "the path is not valid UTF-8"))?;
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| Problem::new(Code::InvalidRequest, error.to_string()))
    }
}

/// The query parameters that a list takes.
pub(crate) trait Parameters: DeserializeOwned {
    /// Their names.
    const NAMES: &'static [&'static str];
}

/// Kept apart, so that a request's future is small: a large one is moved about.
impl<T: Parameters> Parameters for Box<T> {
    const NAMES: &'static [&'static str] = T::NAMES;
}

/// Query parameters, each known and given once.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: Parameters> FromRequestParts<AppState> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        if is_plain(query, T::NAMES)
            && let Ok(value) = serde_urlencoded::from_str(query)
        {
            return Ok(Self(value));
        }
        // once more, slowly, to say what is wrong
        let refused = |detail: String| Problem::new(Code::InvalidRequest, detail);
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|rejection| refused(rejection.body_text()))?;
        let mut seen: Vec<&str> = Vec::new();
        for (name, _) in &pairs {
            if !T::NAMES.contains(&name.as_str()) {
                return Err(unknown_parameter(name, T::NAMES));
            }
            if seen.contains(&name.as_str()) {
                let detail = format!("the query parameter {name} is given twice");
                return Err(refused(detail.clone()).at(format!("?{name}"), detail));
            }
            seen.push(name);
        }
        let Query(value) = Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| {
            let detail = rejection.body_text();
            let named = pairs.iter().find(|(name, _)| detail.contains(&format!("{name}:")));
            let pointer = named.map_or_else(|| "?".to_owned(), |(name, _)| format!("?{name}"));
            refused(detail.clone()).at(pointer, detail)
        })?;
        Ok(Self(value))
    }
}

/// Whether every parameter is one of these, as it is written, and none is given twice.
fn is_plain(query: &str, names: &[&str]) -> bool {
    let mut seen = 0_u64;
    query.split('&').filter(|pair| !pair.is_empty()).all(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let place = names.iter().position(|known| *known == name);
        let bit = place.and_then(|place| 1_u64.checked_shl(u32::try_from(place).ok()?));
        let fresh = bit.filter(|bit| seen & bit == 0);
        seen |= bit.unwrap_or_default();
        fresh.is_some()
    })
}

fn unknown_parameter(name: &str, known: &[&str]) -> Problem {
    let short: String = name.chars().take(64).collect();
    let nearest = known.iter().min_by_key(|candidate| distance(&short, candidate));
    let hint = match nearest {
        Some(candidate) if distance(&short, candidate) <= 3 => {
            format!("; did you mean {candidate}?")
        }
        _ => format!("; known are {}", known.join(", ")),
    };
    let detail = format!("unknown query parameter {short:?}{hint}");
    Problem::new(Code::InvalidRequest, detail.clone()).at(format!("?{short}"), detail)
}

/// Levenshtein's distance: how many letters to change, add or take away.
pub(crate) fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(right.chars()) {
            let substituted = diagonal.saturating_add(usize::from(a != b));
            diagonal = *cell;
            before = substituted.min(before.saturating_add(1)).min(cell.saturating_add(1));
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The `Idempotency-Key` of a request that moves money.
pub(crate) struct IdempotencyKey(pub(crate) String);

impl FromRequestParts<AppState> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let missing = |detail: &str| Problem::new(Code::IdempotencyKeyMissing, detail);
        let value = parts
            .headers
            .get("idempotency-key")
            .ok_or_else(|| missing("this request moves money and needs an Idempotency-Key"))?;
        let key = value.to_str().unwrap_or_default().trim();
        if key.is_empty() || key.len() > 255 {
            return Err(missing("the Idempotency-Key must be 1 to 255 visible ASCII characters"));
        }
        Ok(Self(key.to_owned()))
    }
}

impl OptionalFromRequestParts<AppState> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        app: &AppState,
    ) -> Result<Option<Self>, Problem> {
        if !parts.headers.contains_key("idempotency-key") {
            return Ok(None);
        }
        <Self as FromRequestParts<AppState>>::from_request_parts(parts, app).await.map(Some)
    }
}

/// The entity tag that a change is conditional on.
pub(crate) struct IfMatch(pub(crate) String);

impl OptionalFromRequestParts<AppState> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Option<Self>, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(None);
        };
        let tag = value
            .to_str()
            .map_err(|_| Problem::new(Code::InvalidRequest, "If-Match is not an entity tag"))?;
        Ok(Some(Self(tag.trim().to_owned())))
    }
}

impl IfMatch {
    /// Whether the condition names this tag. Several tags or `*` are not taken: a change is of one
    /// version that was read.
    pub(crate) fn names(&self, etag: &str) -> bool {
        self.0 == etag
    }

    /// Whether the condition names a tag of this part, which ends with it or goes on behind a dot: what follows tells of
    /// what is shown beside, and is no reason to refuse a change.
    pub(crate) fn begins(&self, part: &str) -> bool {
        let tag = self.0.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        tag.is_some_and(|tag| tag.split('.').next() == Some(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Sample {
        price: Price,
        count: u16,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Price {
        amount: domain::money::UsdMicros,
    }

    fn refusal(body: &str) -> serde_json::Value {
        let problem = parse_json::<Sample>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.code(), Code::InvalidRequest);
        problem.body("/x", "r")
    }

    #[test]
    fn a_wrong_place_is_named_by_a_pointer() {
        for (body, pointer, says) in [
            (r#"{"price":{"amount":0.65},"count":1}"#, "/price/amount", "as a string"),
            (r#"{"price":{"amount":"0.65"},"count":-1}"#, "/count", "u16"),
            (r#"{"price":{"amount":"0.65"},"count":1e30}"#, "/count", "u16"),
            (r#"{"price":{"amount":"0.65"},"count":1,"cuont":2}"#, "/cuont", "unknown field"),
            (r#"{"price":{"amount":"0.65","x":1},"count":1}"#, "/price/x", "unknown field"),
        ] {
            let body = refusal(body);
            assert_eq!(body["errors"][0]["pointer"], pointer, "{body}");
            let message = body["errors"][0]["message"].as_str().unwrap();
            assert!(message.contains(says), "{message}");
            assert!(!message.contains("at line"), "{message}");
        }
    }

    #[test]
    fn broken_json_and_a_second_value_are_refused() {
        for body in ["", "{", r#"{"price":{"amount":"0.65"},"count":1} x"#, "nul"] {
            assert!(refusal(body)["detail"].as_str().unwrap().contains("not valid JSON"));
        }
    }

    #[test]
    fn the_nearest_name_is_proposed() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
        let body = unknown_parameter("gpu_modle", &["gpu_count", "gpu_model"]).body("/", "r");
        assert!(body["detail"].as_str().unwrap().contains("did you mean gpu_model?"));
        let body = unknown_parameter("zzzzzzzzzz", &["sort"]).body("/", "r");
        assert!(body["detail"].as_str().unwrap().contains("known are sort"));
    }
}
