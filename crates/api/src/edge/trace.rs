//! Which trace a request belongs to (W3C Trace Context): the caller's, or a new one. The trace's id is in everything
//! that is logged for the request, and in its answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
/// The answer's own place in the trace, as Trace Context Level 2 drafts it.
pub(crate) const RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// A request's place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// 32 hex digits.
    pub(crate) id: String,
    /// The caller's span, 16 hex digits; empty if this request begins the trace.
    pub(crate) parent: String,
    /// Ours.
    pub(crate) span: String,
    flags: String,
}

impl Trace {
    /// The trace that the caller names, or a new one: what cannot be read is as if it were not there.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(PARENT).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        let named = first.filter(|_| values.next().is_none()).and_then(read);
        let mut span = hex(u128::from(rand::random::<u64>().max(1)) << 64);
        span.truncate(16);
        match named {
            Some((id, parent, flags)) => {
                Self { id: id.to_owned(), parent: parent.to_owned(), span, flags: flags.to_owned() }
            }
            None => {
                let id = hex(rand::random::<u128>().max(1));
                Self { id, parent: String::new(), span, flags: "00".to_owned() }
            }
        }
    }

    /// What the answer says of it.
    pub(crate) fn response(&self) -> Option<HeaderValue> {
        let Self { id, span, flags, .. } = self;
        HeaderValue::try_from(["00", id, span, flags].join("-")).ok()
    }
}

/// 32 digits.
fn hex(value: u128) -> String {
    let mut digits = [0; 32];
    uuid::Uuid::from_u128(value).simple().encode_lower(&mut digits).to_owned()
}

/// Trace, parent and flags of a `traceparent`. Of later versions only what they share with this one is read.
fn read(text: &str) -> Option<(&str, &str, &str)> {
    let mut parts = text.trim().split('-');
    let version = parts.next().filter(|part| is_hex(part, 2) && *part != "ff")?;
    let id = parts.next().filter(|part| is_hex(part, 32) && !is_zero(part))?;
    let parent = parts.next().filter(|part| is_hex(part, 16) && !is_zero(part))?;
    let flags = parts.next().filter(|part| is_hex(part, 2))?;
    (version != "00" || parts.next().is_none()).then_some((id, parent, flags))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|b| b == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(value: &'static str) -> Trace {
        Trace::of(&HeaderMap::from_iter([(PARENT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn a_callers_trace_goes_on() {
        let trace = of(GOOD);
        assert_eq!(trace.id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.parent, "00f067aa0ba902b7");
        assert_ne!(trace.span, trace.parent);
        let said = trace.response().unwrap();
        let said = said.to_str().unwrap();
        assert!(said.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && said.ends_with("-01"));
        // a later version may say more
        assert_eq!(of("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x").id, trace.id);
    }

    #[test]
    fn what_cannot_be_read_begins_a_trace() {
        for bad in [
            "",
            "x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            let trace = of(bad);
            assert!(trace.parent.is_empty(), "{bad}");
            assert!(is_hex(&trace.id, 32) && is_hex(&trace.span, 16) && !is_zero(&trace.id));
        }
        assert_ne!(of("").id, of("").id);
        assert_eq!(hex(0xab << 64), format!("{:032x}", 0xab_u128 << 64));
    }
}
