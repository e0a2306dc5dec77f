use super::*;
use crate::table::{tx_events, tx_states};

#[test]
fn names_and_parts_round_trip() {
    assert_eq!(tx_states().count(), TxStatus::ALL.len());
    for state in tx_states() {
        let block = if let TxState::Mined { block } = state { Some(block) } else { None };
        let status: TxStatus = state.as_str().parse().unwrap();
        assert_eq!(TxState::from_parts(status, block), Some(state));
        let other =
            if block.is_some() { None } else { Some(BlockRef { number: 1, hash: B256::ZERO }) };
        assert_eq!(TxState::from_parts(status, other), None);
    }
}

#[test]
fn a_number_is_never_handed_back() {
    for state in tx_states() {
        for event in tx_events() {
            let Ok(next) = step(state, event) else {
                continue;
            };
            assert!(
                next.status().has_number() || !state.status().has_number(),
                "{state:?} {event:?}"
            );
        }
    }
}

#[test]
fn ends_stay_and_everything_else_can_end() {
    for state in tx_states() {
        for event in tx_events() {
            let Ok(next) = step(state, event) else {
                continue;
            };
            assert!(!state.is_terminal() || next == state, "{state:?} {event:?}");
        }
        let mut reached = vec![state];
        let mut at = 0;
        while let Some(from) = reached.get(at).copied() {
            for next in tx_events().into_iter().filter_map(|event| step(from, event).ok()) {
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
            at = at.saturating_add(1);
        }
        assert!(reached.iter().any(|state| state.is_terminal()), "{state:?}");
    }
}

#[test]
fn a_repeated_event_changes_nothing() {
    for state in tx_states() {
        for event in tx_events() {
            if let Ok(next) = step(state, event) {
                assert_eq!(step(next, event), Ok(next), "{state:?} {event:?}");
            }
        }
    }
}

#[test]
fn a_block_that_leaves_the_chain_takes_the_transaction_along() {
    let block = |byte| BlockRef { number: 7, hash: B256::repeat_byte(byte) };
    let mined = step(TxState::Flying, TxEvent::Include { block: block(1) }).unwrap();
    assert_eq!(mined, TxState::Mined { block: block(1) });
    assert_eq!(step(mined, TxEvent::Orphan), Ok(TxState::Flying));
    let moved = step(mined, TxEvent::Include { block: block(2) }).unwrap();
    assert_eq!(moved, TxState::Mined { block: block(2) });
    let refusal = step(TxState::FinalOk, TxEvent::Orphan).unwrap_err();
    assert_eq!(refusal.to_string(), "a transaction that is final_ok cannot orphan");
}
