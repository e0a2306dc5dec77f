//! Public keys that are given with a rental instead of being named by id. They open that rental and are in nobody's list:
//! who pays by x402 has no list.

use domain::{id::SshKeyId, time::UnixSeconds};
use serde_json::Value;
use store::ssh_keys::{MOST_OF_RENTAL, SshKey};
use uuid::Uuid;

use super::{MAX_LABEL, ssh_text};
use crate::Problem;

const MEMBER: &str = "ssh_public_keys";
const POINTER: &str = "/ssh_public_keys";

/// Refuses a body that has a private key where a public one belongs, before anything is said of its shape: what does
/// not fit would be quoted.
///
/// # Errors
/// [`crate::Code::NotAPublicKey`].
pub(crate) fn refuse_private_keys(body: &Value) -> Result<(), Problem> {
    match body.get(MEMBER) {
        Some(given) => ssh_text::refuse_private_at(&given.to_string(), POINTER),
        None => Ok(()),
    }
}

/// Reads the keys, each once and at most as many as open a rental.
///
/// # Errors
/// [`crate::Code::NotAPublicKey`], [`crate::Code::ValidationFailed`].
pub(crate) fn given_keys(texts: &[String], now: UnixSeconds) -> Result<Vec<SshKey>, Problem> {
    if texts.len() > MOST_OF_RENTAL {
        return Err(Problem::invalid(POINTER, format!("at most {MOST_OF_RENTAL}")));
    }
    let mut keys: Vec<SshKey> = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let pointer = format!("{POINTER}/{at}");
        let pasted = ssh_text::read_at(text, &pointer)?;
        if keys.iter().any(|key| key.fingerprint == pasted.fingerprint) {
            return Err(Problem::invalid(pointer, "it is given twice"));
        }
        let named = pasted.comment.chars().filter(|c| !c.is_control()).take(MAX_LABEL);
        let label = named.collect::<String>().trim().to_owned();
        keys.push(SshKey {
            id: SshKeyId::from_uuid(Uuid::now_v7()),
            label: if label.is_empty() { "SSH key".to_owned() } else { label },
            public_key: pasted.line,
            fingerprint: pasted.fingerprint,
            created_at: now,
        });
    }
    Ok(keys)
}
