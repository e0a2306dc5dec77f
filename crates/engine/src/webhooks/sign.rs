//! Bodies and signatures by Standard Webhooks: HMAC-SHA256 over id, time and body, once for each secret that is good.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use domain::time::UnixSeconds;
use hmac::{Hmac, Mac as _};
use serde_json::json;
use sha2::Sha256;
use store::webhooks::claim::Due;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What is sent: the same bytes with every try.
pub(super) fn body(due: &Due) -> String {
    let at = i64::try_from(due.at.get())
        .ok()
        .and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    let timestamp = at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    json!({ "type": due.kind, "timestamp": timestamp, "data": due.data }).to_string()
}

/// The three headers of a call.
pub(super) fn headers(
    id: &str,
    now: UnixSeconds,
    body: &str,
    secrets: &[Vec<u8>],
) -> [(&'static str, String); 3] {
    let at = now.get().to_string();
    let signatures: Vec<String> =
        secrets.iter().filter_map(|secret| signature(secret, id, &at, body)).collect();
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", at),
        ("webhook-signature", signatures.join(" ")),
    ]
}

fn signature(secret: &[u8], id: &str, at: &str, body: &str) -> Option<String> {
    // a key of any length is good for HMAC
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    for part in [id, ".", at, ".", body] {
        mac.update(part.as_bytes());
    }
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn the_known_answer_is_found() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let made = signature(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(made.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_good_secret_signs_once() {
        let secrets = [vec![1; 32], vec![2; 32]];
        let [(_, id), (_, at), (_, signed)] = headers("evt_1", UnixSeconds(5), "{}", &secrets);
        assert_eq!((id.as_str(), at.as_str()), ("evt_1", "5"));
        let signed: Vec<_> = signed.split(' ').collect();
        assert_eq!(signed.len(), 2);
        assert_ne!(signed[0], signed[1]);
        assert!(signed.iter().all(|one| one.starts_with("v1,")));
    }
}
