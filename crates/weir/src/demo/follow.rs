//! Follows a rental's live events and prints them as a timeline; connects again where it left off.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{client::Api, say};

const RECONNECT_AFTER: Duration = Duration::from_millis(300);
/// More than this without the end of an event is no event stream.
const LONGEST_EVENT: usize = 1 << 20;

/// Follows until `stop`.
pub(super) async fn follow(api: Api, rental: String, since: Instant, stop: CancellationToken) {
    let mut last = String::new();
    while !stop.is_cancelled() {
        let read = read_stream(&api, &rental, since, &mut last);
        tokio::select! {
            () = stop.cancelled() => return,
            () = read => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECONNECT_AFTER) => {}
        }
    }
}

async fn read_stream(api: &Api, rental: &str, since: Instant, last: &mut String) {
    let Ok(mut stream) = api.events(rental, last).await else {
        return;
    };
    let mut text = String::new();
    while let Ok(Some(chunk)) = stream.chunk().await {
        text.push_str(&String::from_utf8_lossy(&chunk));
        while let Some((event, rest)) = text.split_once("\n\n") {
            show(event, since, last);
            text = rest.to_owned();
        }
        if text.len() > LONGEST_EVENT {
            return;
        }
    }
}

fn show(event: &str, since: Instant, last: &mut String) {
    let field = |name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    if let Some(id) = field("id:") {
        *last = id;
    }
    let (Some(kind), Some(data)) = (field("event:"), field("data:")) else {
        return;
    };
    let Ok(data) = serde_json::from_str::<Value>(&data) else {
        return;
    };
    if let Some(line) = line(&kind, &data) {
        say(since, "rental", &line);
    }
}

fn line(kind: &str, data: &Value) -> Option<String> {
    let of = |pointer: &str| data.pointer(pointer).and_then(Value::as_str);
    match kind {
        "state" => {
            let state = of("/state").or_else(|| of("/detail/state"))?;
            let why = of("/event").or_else(|| of("/detail/event"));
            Some(why.map_or_else(|| state.to_owned(), |why| format!("{state}  ({why})")))
        }
        "tx" => {
            let event = of("/event").or_else(|| of("/detail/event"))?;
            let hash = of("/tx_hash").or_else(|| of("/detail/tx_hash"))?;
            Some(format!("final on the chain: {event}, tx {hash}"))
        }
        "cost" => {
            let seconds = data.pointer("/seconds_billed")?;
            let accrued = of("/accrued/base_units")?;
            let left = of("/remaining/base_units")?;
            let token = of("/accrued/token")?;
            Some(format!(
                "{seconds} s billed, {accrued} base units of {token} accrued, {left} left"
            ))
        }
        _ => None,
    }
}
