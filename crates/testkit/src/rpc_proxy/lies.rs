//! What a call becomes on its way to the node, and the node's answer on its way back.

use serde_json::{Value, json};

use super::faults::{Fate, Finality};

/// A call's method, or nothing for what is no call.
pub(super) fn method(call: &Value) -> &str {
    call.get("method").and_then(Value::as_str).unwrap_or_default()
}

/// A call's parameters, or nothing.
pub(super) fn params(call: &Value) -> &Value {
    call.get("params").unwrap_or(&Value::Null)
}

pub(super) fn error(call: &Value, code: i64, message: &str) -> Value {
    refused(call, &json!({ "code": code, "message": message }))
}

pub(super) fn refused(call: &Value, error: &Value) -> Value {
    let id = call.get("id").cloned().unwrap_or_default();
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

pub(super) fn result(call: &Value, result: &Value) -> Value {
    let id = call.get("id").cloned().unwrap_or_default();
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// The number that a hexadecimal quantity is.
pub(super) fn quantity(value: Option<&Value>) -> Option<u64> {
    u64::from_str_radix(value?.as_str()?.strip_prefix("0x")?, 16).ok()
}

fn hex(number: u64) -> Value {
    json!(format!("{number:#x}"))
}

fn first(call: &Value) -> Option<&Value> {
    call.get("params")?.get(0)
}

fn with_first(call: &Value, parameter: Value) -> Value {
    let mut changed = call.clone();
    if let Some(first) = changed.pointer_mut("/params/0") {
        *first = parameter;
    }
    changed
}

/// What is asked instead of `call`: another call, or nothing, for the answer is known.
pub(super) enum Asked {
    Call(Value),
    Known(Value),
}

/// The call as finality has it.
pub(super) fn finality(call: &Value, finality: Finality) -> Asked {
    let about = method(call) == "eth_getBlockByNumber"
        && first(call).and_then(Value::as_str) == Some("finalized");
    match finality {
        Finality::Null if about => Asked::Known(result(call, &Value::Null)),
        Finality::Stuck(number) if about => Asked::Call(with_first(call, hex(number))),
        Finality::Honest | Finality::Null | Finality::Stuck(_) => Asked::Call(call.clone()),
    }
}

/// The call as a node answers it whose newest block is `head`.
pub(super) fn stale(call: &Value, head: u64) -> Asked {
    match (method(call), first(call).and_then(Value::as_str)) {
        ("eth_blockNumber", _) => Asked::Known(result(call, &hex(head))),
        ("eth_getBlockByNumber", Some("latest")) => Asked::Call(with_first(call, hex(head))),
        ("eth_getBlockByNumber", Some(_)) if quantity(first(call)).is_some_and(|at| at > head) => {
            Asked::Known(result(call, &Value::Null))
        }
        _ => Asked::Call(call.clone()),
    }
}

/// True if the answer is of a block that a node at `head` does not have yet.
pub(super) fn is_ahead(answer: &Value, head: u64) -> bool {
    let Some(result) = answer.get("result") else { return false };
    let of = |value: &Value| {
        quantity(value.get("blockNumber")).or_else(|| quantity(value.get("number")))
    };
    let number = of(result).or_else(|| result.get(0).and_then(of));
    number.is_some_and(|number| number > head)
}

/// Changes an answer in place, as the dice fall.
pub(super) fn change(fate: &mut Fate, call: &Value, answer: &mut Value) {
    let faults = fate.faults.clone();
    match method(call) {
        "eth_getLogs" | "eth_getBlockReceipts" => {
            if let Some(list) = answer.get_mut("result").and_then(Value::as_array_mut)
                && !list.is_empty()
                && fate.strikes(faults.truncated, "truncated lists")
            {
                let kept = fate.below(u64::try_from(list.len()).unwrap_or(u64::MAX));
                list.truncate(usize::try_from(kept).unwrap_or_default());
            }
        }
        "eth_getTransactionCount" => {
            if let Some(nonce) = quantity(answer.get("result"))
                && fate.strikes(faults.nonce, "wrong nonces")
            {
                let by = fate.below(3).saturating_add(1);
                let up = fate.below(2) == 0;
                let told = if up { nonce.saturating_add(by) } else { nonce.saturating_sub(by) };
                *answer = result(call, &hex(told));
            }
        }
        "eth_sendRawTransaction"
            if answer.get("result").is_some()
                && fate.strikes(faults.already_known, "already known") =>
        {
            *answer = error(call, -32_000, "already known");
        }
        "eth_getBlockByNumber" | "eth_getBlockByHash" if faults.clock != 0 => {
            if let Some(time) = answer.pointer_mut("/result/timestamp")
                && let Some(seconds) = quantity(Some(time))
            {
                *time = hex(seconds.saturating_add_signed(faults.clock));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, first: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": [first, false] })
    }

    #[test]
    fn a_node_that_is_behind_knows_nothing_newer() {
        let Asked::Call(asked) = stale(&call("eth_getBlockByNumber", json!("latest")), 10) else {
            panic!("it must be asked")
        };
        assert_eq!(asked["params"][0], "0xa");
        let Asked::Known(told) = stale(&call("eth_getBlockByNumber", json!("0xb")), 10) else {
            panic!("block 11 is not there yet")
        };
        assert!(told["result"].is_null() && told["id"] == 7);
        assert!(is_ahead(&json!({ "result": [{ "blockNumber": "0xb" }] }), 10));
        assert!(!is_ahead(&json!({ "result": { "number": "0xa" } }), 10));
        assert!(!is_ahead(&json!({ "result": "0xb" }), 10));
    }

    #[test]
    fn finality_is_null_or_old_and_nothing_else_is() {
        let about = call("eth_getBlockByNumber", json!("finalized"));
        assert!(
            matches!(finality(&about, Finality::Null), Asked::Known(told) if told["result"].is_null())
        );
        assert!(
            matches!(finality(&about, Finality::Stuck(5)), Asked::Call(call) if call["params"][0] == "0x5")
        );
        let other = call("eth_getBlockByNumber", json!("latest"));
        assert!(matches!(finality(&other, Finality::Null), Asked::Call(same) if same == other));
    }

    #[test]
    fn lists_lose_their_ends_and_nonces_are_wrong() {
        let mut fate = Fate::new(1);
        fate.faults.truncated = 1_000;
        fate.faults.nonce = 1_000;
        fate.faults.already_known = 1_000;
        fate.faults.clock = -300;
        let mut logs = json!({ "result": [1, 2, 3] });
        change(&mut fate, &call("eth_getLogs", json!({})), &mut logs);
        let left = logs["result"].as_array().unwrap();
        assert!(left.len() < 3 && left.iter().zip(1..).all(|(log, at)| *log == at));
        let mut nonce = json!({ "result": "0x9" });
        change(&mut fate, &call("eth_getTransactionCount", json!("0x")), &mut nonce);
        let told = quantity(nonce.get("result")).unwrap();
        assert!(told != 9 && (6..=12).contains(&told));
        let mut sent = json!({ "result": "0xabc" });
        change(&mut fate, &call("eth_sendRawTransaction", json!("0x")), &mut sent);
        assert_eq!(sent["error"]["message"], "already known");
        let mut block = json!({ "result": { "timestamp": "0x200" } });
        change(&mut fate, &call("eth_getBlockByNumber", json!("latest")), &mut block);
        assert_eq!(block["result"]["timestamp"], "0xd4");
    }
}
