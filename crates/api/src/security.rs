//! What is logged of signing in, of credentials and of refusals for who asks: events of one target, for whoever watches
//! over them. Each has the request's id, where it came from and, if known, whose it is, by the request's span; none holds
//! a secret.

use std::{
    fmt::Display,
    net::IpAddr,
    sync::{Mutex, OnceLock, PoisonError},
};

use tokio::time::Instant;
use tracing::Span;

use crate::{Problem, limits::Whose};

/// What a log filter or a collector names to get these and nothing else.
pub(crate) const TARGET: &str = "weir::security";

/// Refusals that are logged in one second: anybody can cause them, and a log is no place for a flood.
const MOST_IN_A_SECOND: u32 = 100;

/// How many were logged in this second, and how many were not.
#[derive(Default)]
struct Room {
    second: u64,
    logged: u32,
    left_out: u64,
}

impl Room {
    /// Whether one more may be logged; with the first of a second, how many were left out before.
    fn take(&mut self, second: u64) -> (bool, u64) {
        let mut left_out = 0;
        if second != self.second {
            left_out = std::mem::take(&mut self.left_out);
            (self.second, self.logged) = (second, 0);
        }
        if self.logged < MOST_IN_A_SECOND {
            self.logged = self.logged.saturating_add(1);
            return (true, left_out);
        }
        self.left_out = self.left_out.saturating_add(1);
        (false, left_out)
    }
}

fn may_log() -> bool {
    static ROOM: Mutex<Room> = Mutex::new(Room { second: 0, logged: 0, left_out: 0 });
    static SINCE: OnceLock<Instant> = OnceLock::new();
    let second = SINCE.get_or_init(Instant::now).elapsed().as_secs();
    let (may, left_out) = ROOM.lock().unwrap_or_else(PoisonError::into_inner).take(second);
    if left_out > 0 {
        tracing::warn!(target: TARGET, { security.event = "left_out", count = left_out }, "refusals were not logged");
    }
    may
}

/// What the request's span says of where it comes from.
pub(crate) fn comes_from(address: IpAddr) {
    Span::current().record("client.address", tracing::field::display(address));
}

/// What the request's span says of who asks.
pub(crate) fn asked_by(whose: Whose) {
    match whose {
        Whose::Account(id) => Span::current().record("account.id", tracing::field::display(id)),
        Whose::Machine(id) => Span::current().record("machine.id", tracing::field::display(id)),
    };
}

/// Somebody signed in, or did not. Who, is what they say: a wallet's address or a machine.
pub(crate) fn signed_in<T>(
    with: &'static str,
    who: Option<impl Display>,
    done: &Result<T, Problem>,
) {
    let who = who.map(tracing::field::display);
    match done {
        Ok(_) => {
            tracing::info!(target: TARGET, { security.event = "sign_in", with, who }, "signed in");
        }
        Err(problem) if may_log() => {
            let reason = problem.code().as_str();
            tracing::warn!(target: TARGET, { security.event = "sign_in_refused", with, who, reason }, "not signed in");
        }
        Err(_) => {}
    }
}

/// A credential was made or ended, such as `api_key_made`.
pub(crate) fn credential(event: &'static str, account: impl Display, id: impl Display) {
    tracing::info!(target: TARGET, { security.event = event, account.id = %account, credential.id = %id }, "credential");
}

/// Somebody was refused for who they are.
pub(crate) fn refused(reason: &'static str, problem: &Problem) {
    if may_log() {
        let code = problem.code().as_str();
        tracing::warn!(target: TARGET, { security.event = "refused", reason, error.code = code }, "refused");
    }
}

/// Somebody asked too often.
pub(crate) fn limited(policy: &'static str) {
    if may_log() {
        tracing::warn!(target: TARGET, { security.event = "limited", policy }, "asked too often");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written_down() {
        let mut room = Room::default();
        let logged = (0..10_000).filter(|_| room.take(7).0).count();
        assert_eq!(logged, 100);
        assert_eq!(room.take(8), (true, 9_900));
        assert_eq!(room.take(8), (true, 0));
    }
}
