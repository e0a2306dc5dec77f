//! Routes that are on their way out: every answer of one says since when, until when, and what takes its place.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use domain::time::UnixSeconds;

/// One of them.
pub(crate) struct Retired {
    /// `GET`, and so on.
    pub(crate) method: &'static str,
    /// Its pattern, as it is routed.
    pub(crate) route: &'static str,
    /// Since when nobody should begin to use it: `Deprecation` (RFC 9745).
    pub(crate) since: UnixSeconds,
    /// From when on it may be gone: `Sunset` (RFC 8594), as HTTP writes dates.
    pub(crate) sunset: &'static str,
    /// The path that takes its place.
    pub(crate) successor: &'static str,
}

/// All of them: none yet.
pub(crate) const RETIRED: &[Retired] = &[];

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// The one that is called so, if it is on its way out.
pub(crate) fn find<'a>(all: &'a [Retired], method: &str, route: &str) -> Option<&'a Retired> {
    all.iter().find(|retired| retired.route == route && retired.method == method)
}

/// Says so in an answer.
pub(super) fn mark(all: &[Retired], method: &Method, route: &str, headers: &mut HeaderMap) {
    let Some(retired) = find(all, method.as_str(), route) else { return };
    let link = format!("<{}>; rel=\"successor-version\"", retired.successor);
    for (name, value) in [
        (DEPRECATION, format!("@{}", retired.since.get())),
        (SUNSET, retired.sunset.to_owned()),
        (header::LINK, link),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[Retired] = &[Retired {
        method: "GET",
        route: "/v1/old/{id}",
        since: UnixSeconds(1_767_225_600),
        sunset: "Wed, 01 Jul 2026 00:00:00 GMT",
        successor: "/v1/new",
    }];

    #[test]
    fn answers_of_what_is_on_its_way_out_say_so() {
        let mut headers = HeaderMap::new();
        mark(OLD, &Method::GET, "/v1/old/{id}", &mut headers);
        assert_eq!(headers["deprecation"], "@1767225600");
        assert_eq!(headers["sunset"], "Wed, 01 Jul 2026 00:00:00 GMT");
        assert_eq!(headers["link"], "</v1/new>; rel=\"successor-version\"");
        for (method, route) in [(Method::POST, "/v1/old/{id}"), (Method::GET, "/v1/new")] {
            let mut headers = HeaderMap::new();
            mark(OLD, &method, route, &mut headers);
            assert!(headers.is_empty(), "{method} {route}");
        }
    }
}
