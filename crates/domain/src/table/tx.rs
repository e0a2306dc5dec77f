//! The table of the transaction machine.

use alloy_primitives::B256;

use crate::tx::{BlockRef, TxEvent, TxState, TxStatus, step};

const BLOCK: BlockRef = BlockRef { number: 1, hash: B256::ZERO };

/// Every state, `Mined` with some block.
pub fn tx_states() -> impl Iterator<Item = TxState> {
    TxStatus::ALL.iter().filter_map(|&status| {
        let block = (status == TxStatus::Mined).then_some(BLOCK);
        TxState::from_parts(status, block)
    })
}

/// Every event, `Include` with the block of [`tx_states`].
#[must_use]
pub const fn tx_events() -> [TxEvent; 10] {
    [
        TxEvent::Number,
        TxEvent::Sign,
        TxEvent::Broadcast,
        TxEvent::Include { block: BLOCK },
        TxEvent::Orphan,
        TxEvent::FinaliseOk,
        TxEvent::FinaliseReverted,
        TxEvent::Refuse,
        TxEvent::Void,
        TxEvent::FinaliseVoid,
    ]
}

/// A row per event, a column per state: the next state, `=` where it stays, empty where the event is refused.
#[must_use]
pub fn tx_table() -> String {
    let mut lines = vec![row("event", tx_states().map(|state| state.as_str().to_owned()))];
    lines.push(row("---", tx_states().map(|_| "---".to_owned())));
    for event in tx_events() {
        let cells = tx_states().map(|state| match step(state, event) {
            Ok(next) if next == state => "=".to_owned(),
            Ok(next) => next.as_str().to_owned(),
            Err(_) => String::new(),
        });
        lines.push(row(event.name(), cells));
    }
    lines.join("\n")
}

fn row(first: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.collect();
    format!("| {first} | {} |", cells.join(" | "))
}
