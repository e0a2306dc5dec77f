//! The one form of a receipt as text.

use serde::Serialize;
use serde_json::Value;

use super::{FORMAT, Fault, Receipt};

/// JSON with sorted keys and no spaces.
pub(super) fn text(value: &impl Serialize) -> String {
    // serde_json's maps are sorted (its `preserve_order` feature is off in this workspace); a receipt always has JSON
    serde_json::to_value(value).unwrap_or(Value::Null).to_string()
}

/// Reads a receipt, in its one form only.
///
/// # Errors
/// Where it is not one: a JSON pointer as far as there is a place, and what is wrong.
pub fn read(bytes: &[u8]) -> Result<Receipt, Fault> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let receipt: Receipt = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer_of(error.path());
        Fault::new(pointer, format!("it is not a receipt: {}", error.inner()))
    })?;
    if receipt.format != FORMAT {
        return Err(Fault::new("/format", format!("only {FORMAT} is understood here")));
    }
    let written = receipt.text();
    if written.as_bytes() == bytes {
        return Ok(receipt);
    }
    let same = written.bytes().zip(bytes).take_while(|(ours, theirs)| ours == *theirs).count();
    let detail = "a receipt has sorted keys, no spaces, one spelling of every value and no byte after its end";
    Err(Fault::new("", format!("it is not in its one form, from byte {same} on: {detail}")))
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escaped(key))),
            Segment::Enum { variant } => pointer.push_str(&format!("/{}", escaped(variant))),
            Segment::Unknown => {}
        }
    }
    pointer
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
