//! Readings that a receipt does not hold, as the API lists them: one per line, in one spelling, so that every byte counts.

use alloy::primitives::{B256, Bytes};
use domain::time::UnixSeconds;
use escrow::receipt::{self, Fault, Item, Receipt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line, with its members in the API's order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    from: UnixSeconds,
    to: UnixSeconds,
    detail: Value,
    prev_hash: B256,
    hash: B256,
    signature: Bytes,
}

/// The readings of a file.
///
/// # Errors
/// The first line that is none, is spelled in another way, or tells another hash than its own.
pub(super) fn read(text: &str, receipt: &Receipt) -> Result<Vec<Item>, Fault> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let lines = (!text.is_empty()).then(|| text.split('\n'));
    lines
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, line)| item(index, line, receipt))
        .collect()
}

fn item(index: usize, text: &str, receipt: &Receipt) -> Result<Item, Fault> {
    let at = |member: &str, problem: String| {
        Fault::new(format!("/readings/items/{index}{member}"), problem)
    };
    let line: Line = serde_json::from_str(text).map_err(|error| at("", error.to_string()))?;
    if serde_json::to_string(&line).ok().as_deref() != Some(text) {
        let problem = "it is not spelled as /v1/rentals/{id}/readings lists it (`jq -c '.data[]'`)";
        return Err(at("", problem.to_owned()));
    }
    let Line { seq, from, to, detail, prev_hash, hash, signature } = line;
    let item = Item { seq, from, to, detail, prev_hash, signature };
    let own = receipt::hash_of(&item, receipt.id(), receipt.chain_id, receipt.escrow);
    if own == hash { Ok(item) } else { Err(at("/hash", format!("the reading's hash is {own}"))) }
}
