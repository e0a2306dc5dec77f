//! Cursors that only the service can write: sealed with a secret of the database, bound to a query, good for an hour.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use market::Position;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{Code, Problem};

/// How long a cursor is good for, in seconds.
const GOOD_FOR: u32 = 3_600;
/// Second, fingerprint, key, id, seal.
const LENGTH: usize = 4 + 8 + 16 + 16 + 16;

/// What a cursor belongs to.
pub(super) type Fingerprint = [u8; 8];

/// The fingerprint of a query's text. Another `order` has other keys: a cursor of it belongs to another query.
pub(super) fn fingerprint(query: &[u8], order: u8) -> Fingerprint {
    let mut digest = Sha256::new().chain_update(query);
    if order > 0 {
        // no text has this byte
        digest.update([0, order]);
    }
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(digest.finalize()) {
        *to = from;
    }
    first
}

/// Hashed twice with the secret, as HMAC does, so that what was sealed cannot be made longer.
fn seal(secret: &[u8; 32], bytes: &[u8]) -> [u8; 16] {
    let inner = Sha256::new().chain_update(secret).chain_update([1]).chain_update(bytes).finalize();
    let outer = Sha256::new().chain_update(secret).chain_update([2]).chain_update(inner).finalize();
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(outer) {
        *to = from;
    }
    first
}

/// A cursor for what comes after `position`.
pub(super) fn write(secret: &[u8; 32], of: &Fingerprint, now: u32, position: Position) -> String {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend(now.to_be_bytes());
    bytes.extend(of);
    bytes.extend(position.key.to_be_bytes());
    bytes.extend(position.id.as_bytes());
    bytes.extend(seal(secret, &bytes));
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn refused(detail: &str) -> Problem {
    Problem::new(Code::InvalidCursor, detail).at("?cursor", detail)
}

/// The position of a cursor.
///
/// # Errors
/// [`Code::InvalidCursor`] for one that is forged, of another query, or too old.
pub(super) fn read(
    secret: &[u8; 32],
    of: &Fingerprint,
    now: u32,
    cursor: &str,
) -> Result<Position, Problem> {
    let bytes = (cursor.len() <= LENGTH.saturating_mul(2))
        .then(|| BASE64_URL_SAFE_NO_PAD.decode(cursor).ok())
        .flatten();
    let parts = bytes.as_deref().and_then(parts);
    let (sealed, at, query, position, found) =
        parts.ok_or_else(|| refused("this list did not give out this cursor"))?;
    let wanted = seal(secret, sealed);
    // every byte is looked at, so that the time tells nothing of how many were right
    let differs = wanted.iter().zip(found).fold(0, |differs, (a, b)| differs | (a ^ b));
    if differs != 0 {
        return Err(refused("this list did not give out this cursor"));
    }
    if query != of {
        return Err(refused("this cursor is of a search with other filters or another order"));
    }
    if at.saturating_add(GOOD_FOR) < now {
        return Err(refused("this cursor is more than an hour old"));
    }
    Ok(position)
}

type Parts<'a> = (&'a [u8], u32, &'a [u8], Position, &'a [u8]);

fn parts(bytes: &[u8]) -> Option<Parts<'_>> {
    let (sealed, seal) = bytes.split_at_checked(LENGTH.saturating_sub(16))?;
    let (at, rest) = sealed.split_at_checked(4)?;
    let (query, rest) = rest.split_at_checked(8)?;
    let (key, id) = rest.split_at_checked(16)?;
    let position =
        Position { key: u128::from_be_bytes(key.try_into().ok()?), id: Uuid::from_slice(id).ok()? };
    (seal.len() == 16).then_some((
        sealed,
        u32::from_be_bytes(at.try_into().ok()?),
        query,
        position,
        seal,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_out_for_this_query_lately_is_read() {
        let (secret, query, now) = ([7; 32], fingerprint(b"a", 0), 1_800_000_000);
        let position = Position { key: 1 << 90, id: Uuid::from_u128(5) };
        let cursor = write(&secret, &query, now, position);
        assert_eq!(read(&secret, &query, now + 3_600, &cursor).unwrap(), position);
        let says = |secret, query: &Fingerprint, now, cursor: &str| {
            let problem = read(&secret, query, now, cursor).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidCursor);
            problem.body("/", "r")["detail"].as_str().unwrap().to_owned()
        };
        assert!(says([7; 32], &query, now + 3_601, &cursor).contains("hour old"));
        assert!(says([7; 32], &fingerprint(b"b", 0), now, &cursor).contains("other filters"));
        assert!(says([7; 32], &fingerprint(b"a", 1), now, &cursor).contains("another order"));
        assert!(says([8; 32], &query, now, &cursor).contains("did not give out"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        for place in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            let forged = BASE64_URL_SAFE_NO_PAD.encode(forged);
            assert!(says([7; 32], &query, now, &forged).contains("did not give out"), "{place}");
        }
        for garbage in
            ["", "!", "AAAA", &cursor[..cursor.len() - 2], &"A".repeat(500), &format!("{cursor}AA")]
        {
            says([7; 32], &query, now, garbage);
        }
    }
}
