//! Who may call from a browser, and how many may connect.

use std::time::Duration;

use api::ConnectionConfig;
use axum::http::HeaderValue;
use reqwest::Url;

use super::{number, seconds, text};
use crate::failure::Failure;

/// What an origin is written like.
const FORM: &str = "https://HOST or https://HOST:PORT, or http:// for this machine itself (localhost, 127.0.0.1, [::1])";

/// The origins of `WEIR_CORS_ORIGINS`, as browsers send them.
///
/// # Errors
/// Names the first that is none.
pub(super) fn origins(list: &str) -> Result<Vec<HeaderValue>, Failure> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    let mut origins = Vec::new();
    for part in parts {
        if part == "*" {
            return Err(Failure::new(
                "WEIR_CORS_ORIGINS: `*` is not taken, as every page would call in the name of whoever reads it and holds a \
                 token there; name the origins",
            ));
        }
        let origin = origin(part).ok_or_else(|| {
            Failure::new(format!(
                "WEIR_CORS_ORIGINS: {part:?} is no origin: {FORM}, without a path"
            ))
        })?;
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    Ok(origins)
}

fn origin(text: &str) -> Option<HeaderValue> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let safe = url.scheme() == "https" || (url.scheme() == "http" && here);
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let nobody = url.username().is_empty() && url.password().is_none();
    if !(safe && bare && nobody) || host.contains('*') {
        return None;
    }
    HeaderValue::from_str(&url.origin().ascii_serialization()).ok()
}

/// How many connections there may be, and how slow.
///
/// # Errors
/// Names the variable that makes no sense.
pub(super) fn connections() -> Result<ConnectionConfig, Failure> {
    let count = |name| match number::<usize>(name)? {
        0 => Err(Failure::new(format!("{name} must be at least 1, not {:?}", text(name)))),
        count => Ok(count),
    };
    let time = |name| Ok(Duration::from_secs(seconds(name)?.get().into()));
    Ok(ConnectionConfig {
        most: count("WEIR_CONNECTIONS")?,
        share: count("WEIR_CONNECTIONS_NETWORK")?,
        head: time("WEIR_HEAD_S")?,
        idle: time("WEIR_IDLE_S")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_send_them() {
        let read = origins(
            "https://Console.Example , https://app.example:8443,https://app.example:443/,http://localhost:5173,\
             http://127.0.0.1:3000,http://[::1]:80,https://console.example,",
        );
        assert_eq!(
            read.unwrap(),
            [
                "https://console.example",
                "https://app.example:8443",
                "https://app.example",
                "http://localhost:5173",
                "http://127.0.0.1:3000",
                "http://[::1]",
            ]
        );
        assert!(origins("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_origin_is_refused_with_a_reason() {
        for bad in [
            "null",
            "console.example",
            "http://console.example",
            "https://console.example/app",
            "https://console.example?x",
            "https://me@console.example",
            "https://*.example",
            "ftp://console.example",
            "https://",
        ] {
            let said = origins(&format!("https://good.example,{bad}")).unwrap_err().to_string();
            assert!(said.contains("WEIR_CORS_ORIGINS") && said.contains(bad), "{bad}: {said}");
        }
        let said = origins("*").unwrap_err().to_string();
        assert!(said.contains("name the origins"), "{said}");
    }

    #[test]
    fn the_defaults_are_those_of_the_service() {
        let (ours, theirs) = (connections().unwrap(), ConnectionConfig::default());
        assert_eq!((ours.most, ours.share), (theirs.most, theirs.share));
        assert_eq!((ours.head, ours.idle), (theirs.head, theirs.idle));
    }
}
