//! The transition function of a transaction, a function per state.

use super::{TxEvent as E, TxState as S, TxStepError};

/// The state after `event`.
///
/// A repeated event that has taken effect leaves the state as it is, as do these, which come late or again in
/// ordinary life: `sign` and `broadcast` of a further attempt once flying or mined, `orphan` before any block,
/// `sign`, `broadcast` and `orphan` once void (the attempts are the no-op's then).
///
/// # Errors
/// [`TxStepError`] for anything else that is not a step of the machine: a fault in the caller, or a final block
/// that left the chain.
pub fn step(state: S, event: E) -> Result<S, TxStepError> {
    let next = match state {
        S::Queued => queued(event),
        S::Numbered => numbered(event),
        S::Signed => signed(event),
        S::Flying => flying(event),
        S::Mined { block } => mined(S::Mined { block }, event),
        S::FinalOk => only(event == E::FinaliseOk, state),
        S::FinalReverted => only(event == E::FinaliseReverted, state),
        S::Refused => only(event == E::Refuse, state),
        S::Void => void(event),
        S::Voided => only(event == E::FinaliseVoid, state),
    };
    next.ok_or(TxStepError { state: state.status(), event: event.name() })
}

/// An end: it accepts the repetition of the event that led there and nothing else.
fn only(is_repetition: bool, state: S) -> Option<S> {
    is_repetition.then_some(state)
}

fn queued(event: E) -> Option<S> {
    match event {
        E::Number => Some(S::Numbered),
        E::Refuse => Some(S::Refused),
        E::Sign
        | E::Broadcast
        | E::Include { .. }
        | E::Orphan
        | E::FinaliseOk
        | E::FinaliseReverted
        | E::Void
        | E::FinaliseVoid => None,
    }
}

fn numbered(event: E) -> Option<S> {
    match event {
        E::Number => Some(S::Numbered),
        E::Sign => Some(S::Signed),
        E::Void => Some(S::Void),
        E::Broadcast
        | E::Include { .. }
        | E::Orphan
        | E::FinaliseOk
        | E::FinaliseReverted
        | E::Refuse
        | E::FinaliseVoid => None,
    }
}

/// A crash can hide that the bytes were sent, so the chain's word counts from here on.
fn signed(event: E) -> Option<S> {
    match event {
        E::Sign | E::Orphan => Some(S::Signed),
        E::Broadcast => Some(S::Flying),
        E::Include { block } => Some(S::Mined { block }),
        E::FinaliseOk => Some(S::FinalOk),
        E::FinaliseReverted => Some(S::FinalReverted),
        E::Void => Some(S::Void),
        E::Number | E::Refuse | E::FinaliseVoid => None,
    }
}

fn flying(event: E) -> Option<S> {
    match event {
        E::Sign | E::Broadcast | E::Orphan => Some(S::Flying),
        E::Include { block } => Some(S::Mined { block }),
        E::FinaliseOk => Some(S::FinalOk),
        E::FinaliseReverted => Some(S::FinalReverted),
        E::Void => Some(S::Void),
        // Void, mined after all, orphaned: the no-op is still about and can win.
        E::FinaliseVoid => Some(S::Voided),
        E::Number | E::Refuse => None,
    }
}

fn mined(state: S, event: E) -> Option<S> {
    match event {
        E::Sign | E::Broadcast => Some(state),
        // Another block than before: the first one's leaving was not noticed.
        E::Include { block } => Some(S::Mined { block }),
        E::Orphan => Some(S::Flying),
        E::FinaliseOk => Some(S::FinalOk),
        E::FinaliseReverted => Some(S::FinalReverted),
        E::FinaliseVoid => Some(S::Voided),
        E::Number | E::Refuse | E::Void => None,
    }
}

fn void(event: E) -> Option<S> {
    match event {
        E::Sign | E::Broadcast | E::Orphan | E::Void => Some(S::Void),
        E::Include { block } => Some(S::Mined { block }),
        E::FinaliseOk => Some(S::FinalOk),
        E::FinaliseReverted => Some(S::FinalReverted),
        E::FinaliseVoid => Some(S::Voided),
        E::Number | E::Refuse => None,
    }
}
