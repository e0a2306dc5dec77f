//! Answers that anybody may keep for a while: an entity tag over the body, and `304` to whoever has it already.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{Problem, problem::internal};

/// Bytes of the hash that make a tag.
const TAG_BYTES: usize = 16;

/// A JSON answer that may be kept for so many seconds.
///
/// # Errors
/// [`crate::Code::Internal`] if it cannot be written.
pub(crate) fn json(
    request: &HeaderMap,
    max_age_s: u32,
    body: &impl Serialize,
) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(body).map_err(internal)?;
    bytes_of(request, max_age_s, "application/json", bytes.into())
}

/// A JSON answer for its reader alone, who asks each time whether it changed, and whom no cache stands in for. Its tag begins
/// with `part` and a dot.
///
/// # Errors
/// [`crate::Code::Internal`] if it cannot be written.
pub(crate) fn own(
    request: &HeaderMap,
    part: &str,
    body: &impl Serialize,
) -> Result<Response, Problem> {
    parted(request, part, "no-store", body)
}

/// A JSON answer for anybody, who asks each time whether it changed. Its tag begins with `part` and a dot.
///
/// # Errors
/// [`crate::Code::Internal`] if it cannot be written.
pub(crate) fn revalidated(
    request: &HeaderMap,
    part: &str,
    body: &impl Serialize,
) -> Result<Response, Problem> {
    parted(request, part, "no-cache", body)
}

fn parted(
    request: &HeaderMap,
    part: &str,
    cache: &str,
    body: &impl Serialize,
) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(body).map_err(internal)?;
    let tag = format!("\"{part}.{}\"", hash_of(&bytes));
    tagged(request, &tag, cache, ("application/json", bytes.into()))
}

/// The same of anything.
///
/// # Errors
/// [`crate::Code::Internal`] if a header cannot be written.
pub(crate) fn bytes_of(
    request: &HeaderMap,
    max_age_s: u32,
    content_type: &'static str,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let tag = format!("\"{}\"", hash_of(&bytes));
    tagged(request, &tag, &format!("public, max-age={max_age_s}"), (content_type, bytes))
}

/// A JSON answer that is told to many as it was written once: its bytes and their tag.
pub(crate) struct Written {
    tag: String,
    bytes: Bytes,
}

impl Written {
    /// # Errors
    /// [`crate::Code::Internal`] if it cannot be written.
    pub(crate) fn json(body: &impl Serialize) -> Result<Self, Problem> {
        let bytes = Bytes::from(serde_json::to_vec(body).map_err(internal)?);
        Ok(Self { tag: format!("\"{}\"", hash_of(&bytes)), bytes })
    }

    /// What [`json`] would answer.
    ///
    /// # Errors
    /// [`crate::Code::Internal`] if a header cannot be written.
    pub(crate) fn answer(&self, request: &HeaderMap, max_age_s: u32) -> Result<Response, Problem> {
        let cache = format!("public, max-age={max_age_s}");
        tagged(request, &self.tag, &cache, ("application/json", self.bytes.clone()))
    }
}

fn hash_of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.get(..TAG_BYTES).map(alloy::primitives::hex::encode).unwrap_or_default()
}

fn tagged(
    request: &HeaderMap,
    tag: &str,
    cache: &str,
    (content_type, bytes): (&'static str, Bytes),
) -> Result<Response, Problem> {
    let known = has(request, tag);
    let mut response = Response::new(if known { Body::empty() } else { Body::from(bytes) });
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_str(tag).map_err(internal)?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(cache).map_err(internal)?);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Ok(response)
}

/// Whether the caller has what is tagged so: `If-None-Match` compares weakly (RFC 9110, 13.1.2).
fn has(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH);
    let mut listed =
        values.iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
    listed.any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))])
    }

    #[test]
    fn tags_are_compared_weakly_and_one_of_a_list_is_enough() {
        let tag = "\"a\"";
        for value in ["\"a\"", "W/\"a\"", "*", "\"b\", W/\"a\""] {
            assert!(has(&asked(value), tag), "{value}");
        }
        for value in ["\"b\"", "a", "", "w/\"a\""] {
            assert!(!has(&asked(value), tag), "{value}");
        }
        assert!(!has(&HeaderMap::new(), tag));
    }

    #[test]
    fn the_same_body_has_the_same_tag_and_another_another() {
        let tag = |body: &str| {
            let made = bytes_of(
                &HeaderMap::new(),
                60,
                "text/plain",
                Bytes::copy_from_slice(body.as_bytes()),
            );
            made.unwrap().headers()[header::ETAG].clone()
        };
        assert_eq!(tag("x"), tag("x"));
        assert_ne!(tag("x"), tag("y"));
    }

    #[test]
    fn what_was_written_once_is_answered_as_if_anew() {
        let told = Written::json(&["x"]).unwrap().answer(&HeaderMap::new(), 60).unwrap();
        let anew = json(&HeaderMap::new(), 60, &["x"]).unwrap();
        assert_eq!((told.status(), told.headers()), (anew.status(), anew.headers()));
    }
}
