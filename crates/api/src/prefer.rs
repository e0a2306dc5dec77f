//! What a caller would like but does not insist on (RFC 7240): `Prefer: wait=N`.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, Method, request::Parts},
};

use crate::state::AppState;

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Tells which preference was followed.
pub(crate) const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Where it is waited.
const ROUTES: [(&str, &str); 3] = [
    ("GET", "/v1/agent/commands"),
    ("POST", "/v1/rentals"),
    ("POST", "/v1/rentals/{id}/authorization"),
];
/// Nobody is waited for longer, whatever they ask for.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// For how long the caller waits for more than "accepted", if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Option<Duration>);

impl Wait {
    /// What the headers ask for: the first `wait` counts, one that makes no sense is none.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        let mut preferences = lines.flat_map(|line| line.split(','));
        let wait = preferences.find_map(|preference| {
            let (name, value) = preference.split(';').next()?.split_once('=')?;
            name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
        });
        let seconds = wait.and_then(|text| text.parse::<u64>().ok());
        Self(seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT)))
    }
}

/// Whether it is waited there.
pub(crate) fn is_waited(method: &Method, route: &str) -> bool {
    // HEAD is answered as GET is
    let method = if method == Method::HEAD { &Method::GET } else { method };
    ROUTES.contains(&(method.as_str(), route))
}

/// What an answer says that followed the wish.
pub(crate) fn applied(wait: Duration) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok()
}

impl FromRequestParts<AppState> for Wait {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routes_that_wait_are_those_that_say_so() {
        let document = serde_json::to_value(crate::openapi()).unwrap();
        let mut waiting = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let parameters = operation["parameters"].as_array();
                if parameters.into_iter().flatten().any(|one| one["name"] == "Prefer") {
                    waiting.push((method.to_uppercase(), path.clone()));
                }
            }
        }
        assert!(is_waited(&Method::HEAD, "/v1/agent/commands"));
        assert!(!is_waited(&Method::HEAD, "/v1/rentals"));
        let said = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
        assert_eq!(waiting, said);
    }

    fn of(lines: &[&'static str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, HeaderValue::from_static(line));
        }
        Wait::of(&headers).0.map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wish_is_read_and_bounded() {
        assert_eq!(of(&["wait=10"]), Some(10));
        assert_eq!(of(&["respond-async, Wait = 5; x=1"]), Some(5));
        assert_eq!(of(&["respond-async", "wait=\"7\""]), Some(7));
        assert_eq!(of(&["wait=1000000"]), Some(30));
        assert_eq!(of(&["wait=3, wait=9"]), Some(3));
        for none in ["", "wait", "wait=", "wait=-1", "wait=soon", "return=minimal"] {
            assert_eq!(of(&[none]), None, "{none}");
        }
        assert_eq!(of(&[]), None);
    }
}
