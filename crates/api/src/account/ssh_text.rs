//! What somebody pastes where an SSH public key belongs, and what is wrong with it. No answer and no log repeats it: it
//! may be a private key.

use ssh_key::{HashAlg, PublicKey, public::KeyData};

use crate::{Code, Problem};

/// The longest text that is read: an RSA key of 16,384 bits has 2,800 characters.
const MAX_TEXT: usize = 4_096;
/// The fewest bits of an RSA modulus.
const MIN_RSA_BITS: usize = 2_048;
/// The most: beyond, servers refuse it or take seconds.
const MAX_RSA_BITS: usize = 16_384;
const POINTER: &str = "/public_key";

/// A public key as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pasted {
    /// Type and base64, without options and comment.
    pub(super) line: String,
    /// `SHA256:` and base64, as `ssh-keygen -l` tells it.
    pub(super) fingerprint: String,
    /// What follows the key, often who and where.
    pub(super) comment: String,
}

/// Reads one public key.
///
/// # Errors
/// [`Code::NotAPublicKey`] with what it is instead; [`Code::ValidationFailed`] for a key that is too weak.
pub(super) fn read(text: &str) -> Result<Pasted, Problem> {
    read_at(text, POINTER)
}

/// Reads one public key, of this place in the request.
///
/// # Errors
/// As [`read`].
pub(super) fn read_at(text: &str, pointer: &str) -> Result<Pasted, Problem> {
    refuse_private_at(text, pointer)?;
    let text = text.trim();
    let refused = |what: &str| not_a_key(what, pointer);
    if text.len() > MAX_TEXT {
        return Err(refused(&format!("it is longer than {MAX_TEXT} characters")));
    }
    if let Some(what) = what_else(text) {
        return Err(refused(what));
    }
    let key = PublicKey::from_openssh(text).map_err(|_| {
        refused("it is not one line of type, base64 and comment, as OpenSSH writes it")
    })?;
    check_strength(key.key_data(), pointer)?;
    let bare = PublicKey::new(key.key_data().clone(), "");
    let line = bare.to_openssh().map_err(|_| refused("it cannot be written again"))?;
    Ok(Pasted {
        line: line.trim_end().to_owned(),
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        comment: key.comment().trim().to_owned(),
    })
}

/// Refuses a text that holds a private key, wherever in it.
///
/// # Errors
/// [`Code::NotAPublicKey`].
pub(super) fn refuse_private(text: &str) -> Result<(), Problem> {
    refuse_private_at(text, POINTER)
}

/// The same, of this place in the request.
///
/// # Errors
/// [`Code::NotAPublicKey`].
pub(super) fn refuse_private_at(text: &str, pointer: &str) -> Result<(), Problem> {
    let upper = text.to_ascii_uppercase();
    if upper.contains("PRIVATE KEY") || upper.contains("PUTTY-USER-KEY-FILE") {
        let detail = "it is a private key. It was not stored, but it has left your machine: make \
                      another one, and send the file that ends in .pub";
        return Err(not_a_key(detail, pointer));
    }
    Ok(())
}

fn not_a_key(what: &str, pointer: &str) -> Problem {
    Problem::new(Code::NotAPublicKey, what).at(pointer, what)
}

/// What a text is that is often taken for a public key.
fn what_else(text: &str) -> Option<&'static str> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.contains(['\n', '\r']) {
        return Some(if text.starts_with("---- BEGIN SSH2") {
            "it is in the form of RFC 4716; `ssh-keygen -i -f FILE` turns it into OpenSSH's"
        } else if text.starts_with("-----BEGIN") {
            "it is a PEM file; send the line that `ssh-keygen -y` or the .pub file has"
        } else {
            "it has several lines; send one key at a time"
        });
    }
    let drive = first.chars().nth(1) == Some(':');
    if first.starts_with(['/', '~', '.', '\\', '$']) || drive || text.ends_with(".pub") {
        return Some("it is the path of a file; send what is in the file");
    }
    if first.contains("-cert-v01@openssh.com") {
        return Some("it is a certificate; send the public key that it certifies");
    }
    if first.contains('=') || first.contains('"') || first.contains(',') {
        return Some("it has options before the key; send the key alone");
    }
    if text.starts_with("SHA256:") || text.starts_with("MD5:") {
        return Some("it is a fingerprint; send the key itself");
    }
    None
}

fn check_strength(key: &KeyData, pointer: &str) -> Result<(), Problem> {
    let weak = |message: String| Err(Problem::invalid(pointer, message));
    match key {
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) => Ok(()),
        KeyData::Ecdsa(_) | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Rsa(rsa) => {
            let bits = rsa.n.as_positive_bytes().map_or(0, bits);
            if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                return Ok(());
            }
            weak(format!(
                "an RSA key of {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken, or Ed25519"
            ))
        }
        KeyData::Dsa(_) => weak("a DSA key; servers take them no more. Use Ed25519".to_owned()),
        KeyData::Other(_) | _ => {
            weak("a type of key that is not known here; use Ed25519".to_owned())
        }
    }
}

/// The length of a number in bits.
fn bits(bytes: &[u8]) -> usize {
    let mut rest = bytes.iter().skip_while(|byte| **byte == 0);
    let first = rest.next().map_or(0, |byte| 8_u32.saturating_sub(byte.leading_zeros()));
    rest.count().saturating_mul(8).saturating_add(usize::try_from(first).unwrap_or_default())
}

#[cfg(test)]
mod tests;
