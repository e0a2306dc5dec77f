//! Opaque cursors: where a page ends, bound to the list and the order it was made for.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{Code, Problem};

/// The longest cursor that is looked at.
const MAX_LEN: usize = 256;

/// Writes a cursor of a list.
pub(crate) fn write(list: &str, position: &[String]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{list}|{}", position.join("|")))
}

/// Reads a cursor of a list with so many parts.
///
/// # Errors
/// [`Code::InvalidCursor`] if this list did not write it.
pub(crate) fn read<const PARTS: usize>(
    list: &str,
    cursor: &str,
) -> Result<[String; PARTS], Problem> {
    decode(list, cursor).and_then(|parts| parts.try_into().ok()).ok_or_else(invalid)
}

fn decode(list: &str, cursor: &str) -> Option<Vec<String>> {
    let bytes = Some(cursor).filter(|cursor| cursor.len() <= MAX_LEN)?;
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(bytes).ok()?).ok()?;
    let rest = text.strip_prefix(list)?.strip_prefix('|')?;
    Some(rest.split('|').map(str::to_owned).collect())
}

/// The refusal of a cursor.
pub(crate) fn invalid() -> Problem {
    let detail = "this list did not give out this cursor";
    Problem::new(Code::InvalidCursor, detail).at("?cursor", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let cursor = write("offers:price", &["650000".to_owned(), "ofr_1".to_owned()]);
        let [price, id]: [String; 2] = read("offers:price", &cursor).unwrap();
        assert_eq!((price.as_str(), id.as_str()), ("650000", "ofr_1"));
        for (list, cursor) in [
            ("offers:-created", cursor.as_str()),
            ("offers:price", "garbage!"),
            ("offers:price", ""),
            ("offers:price", &"A".repeat(300)),
        ] {
            assert_eq!(read::<2>(list, cursor).unwrap_err().code(), Code::InvalidCursor);
        }
        assert!(read::<1>("offers:price", &cursor).is_err());
    }
}
