//! How many event streams are open: in all, and of each account, so that one cannot take them all; and what their readers
//! are told when the service stops.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::response::sse::Event;
use domain::id::AccountId;

/// Readers that are sent away come again after this and up to two seconds more.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// The last event of a stream that the service ends: not all readers come again at the same moment.
pub(crate) fn come_again() -> Event {
    let spread = u64::from(rand::random::<u8>()).saturating_mul(8);
    let after = RECONNECT_AFTER.saturating_add(Duration::from_millis(spread));
    Event::default().event("reconnect").retry(after).data(r#"{"reason":"the service stops"}"#)
}

/// The open streams.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Inner>);

struct Inner {
    in_all: usize,
    per_account: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    in_all: usize,
    of: HashMap<AccountId, usize>,
}

impl Streams {
    pub(crate) fn new(in_all: usize, per_account: usize) -> Self {
        Self(Arc::new(Inner { in_all, per_account, open: Mutex::default() }))
    }

    /// One more for this account, until the permit is dropped; `None` if that were too many.
    pub(crate) fn open(&self, account: AccountId) -> Option<StreamPermit> {
        let mut open = self.0.open();
        let theirs = open.of.get(&account).copied().unwrap_or_default();
        if theirs >= self.0.per_account || open.in_all >= self.0.in_all {
            return None;
        }
        open.in_all = open.in_all.saturating_add(1);
        open.of.insert(account, theirs.saturating_add(1));
        Some(StreamPermit { streams: self.clone(), account })
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, Open> {
        // nothing in here can be left half done by a panic
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one open stream.
pub(crate) struct StreamPermit {
    streams: Streams,
    account: AccountId,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.0.open();
        open.in_all = open.in_all.saturating_sub(1);
        if let Some(count) = open.of.get_mut(&self.account) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.of.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nobody_takes_all_streams_and_all_are_given_back() {
        let streams = Streams::new(5, 2);
        let fresh = || AccountId::from_uuid(Uuid::now_v7());
        let (one, other) = (fresh(), fresh());
        let mut held: Vec<_> = (0..2).map(|_| streams.open(one).unwrap()).collect();
        assert!(streams.open(one).is_none(), "its share");
        held.extend((0..2).map(|_| streams.open(other).unwrap()));
        held.push(streams.open(fresh()).unwrap());
        assert!(streams.open(fresh()).is_none(), "all in all");
        held.remove(0);
        assert!(streams.open(other).is_none());
        assert!(streams.open(one).is_some());
        held.clear();
        assert!(streams.0.open().of.is_empty() && streams.0.open().in_all == 0);
    }
}
