//! The text of an API key: `weir_sk_`, 40 random letters and digits, and a checksum of 6, so that scanners find one
//! that was published by its form alone, and a mistyped one is told without the database.
//!
//! `weir_sk_[0-9A-Za-z]{46}`; the last 6 are the CRC-32 of all before, in base 62, as in GitHub's tokens.

use rand::TryRngCore as _;

use crate::{
    Problem,
    identity::{Secret, hash_of},
    problem::internal,
};

/// What every key begins with.
pub(crate) const PREFIX: &str = "weir_sk_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^40 is more than 2^238.
const RANDOM: usize = 40;
const CHECKSUM: usize = 6;
/// How many of its last characters are kept to be shown.
const HINT: usize = 4;

/// A new key, from the operating system's randomness.
///
/// # Errors
/// [`crate::Code::Internal`] if there is none.
pub(crate) fn new() -> Result<Secret, Problem> {
    let mut text = String::from(PREFIX);
    let full = PREFIX.len().saturating_add(RANDOM);
    while text.len() < full {
        let mut bytes = [0_u8; RANDOM];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(internal)?;
        // bytes from 248 on would make some letters likelier than others
        let letters = bytes.iter().filter(|byte| **byte < 248).map(|byte| letter(u32::from(*byte)));
        text.extend(letters.take(full.saturating_sub(text.len())));
    }
    text.push_str(&checksum(&text));
    let hash = hash_of(&text);
    Ok(Secret { text, hash })
}

/// Whether a text is a whole key, as we make them.
pub(crate) fn is_whole(text: &str) -> bool {
    let whole = PREFIX.len().saturating_add(RANDOM).saturating_add(CHECKSUM);
    if text.len() != whole || !text.is_ascii() || !text.starts_with(PREFIX) {
        return false;
    }
    let (body, check) = text.split_at(whole.saturating_sub(CHECKSUM));
    body.bytes().skip(PREFIX.len()).all(|b| b.is_ascii_alphanumeric()) && check == checksum(body)
}

/// The characters by which people tell it from others. They are the checksum's: they say nothing of the secret.
pub(crate) fn hint(text: &str) -> String {
    text.chars().skip(text.len().saturating_sub(HINT)).collect()
}

fn checksum(body: &str) -> String {
    let mut left = crc32fast::hash(body.as_bytes());
    let mut digits: Vec<char> = Vec::with_capacity(CHECKSUM);
    for _ in 0..CHECKSUM {
        digits.push(letter(left));
        left /= 62;
    }
    digits.iter().rev().collect()
}

/// The digit of a number's last place in base 62.
fn letter(number: u32) -> char {
    let place = usize::try_from(number % 62).unwrap_or_default();
    ALPHABET.get(place).copied().map_or('0', char::from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_has_its_form_and_no_other_text_has_it() {
        let keys: BTreeSet<String> = (0..200).map(|_| new().unwrap().text).collect();
        assert_eq!(keys.len(), 200);
        for key in &keys {
            assert!(is_whole(key), "{key}");
            assert_eq!(key.len(), 54);
            assert!(key.ends_with(&hint(key)) && hint(key).len() == 4);
        }
        let key = keys.first().unwrap();
        for at in 0..key.len() {
            for other in ['0', 'z', '_', ' ', 'é'] {
                let mut changed: Vec<char> = key.chars().collect();
                if changed[at] == other {
                    continue;
                }
                changed[at] = other;
                let changed: String = changed.into_iter().collect();
                assert!(!is_whole(&changed), "{changed}");
            }
            assert!(!is_whole(&key[..at]));
        }
        assert!(!is_whole(&format!("{key}0")) && !is_whole(&format!(" {key}")));
    }

    #[test]
    fn every_letter_is_used() {
        let all: String = (0..100).map(|_| new().unwrap().text).collect();
        assert!(ALPHABET.iter().all(|letter| all.contains(char::from(*letter))));
    }

    /// Others have to be able to check it: CRC-32 as zlib has it.
    #[test]
    fn the_checksum_is_the_usual_one() {
        // zlib.crc32(b"weir_sk_" + b"0" * 40) = 3096854993, which is 3Na5S5 in base 62
        let body = format!("{PREFIX}{}", "0".repeat(40));
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum(&body), "3Na5S5");
    }
}
