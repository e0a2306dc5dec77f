//! Room for what may be open at once, such as event streams and connections: so much in all and so much of each owner, so
//! that one cannot take it all. And what the readers of streams are told when the service stops.

use std::{
    collections::HashMap,
    hash::Hash,
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

/// The streams of accounts.
pub(crate) type Streams = Seats<AccountId>;

/// Room for so many, and for so many of each owner.
pub(crate) struct Seats<K: Eq + Hash>(Arc<Inner<K>>);

impl<K: Eq + Hash> Clone for Seats<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<K> {
    in_all: usize,
    share: usize,
    /// Whether an owner may have no more than are still free, so that a few of them do not have all.
    yields: bool,
    open: Mutex<Open<K>>,
}

struct Open<K> {
    in_all: usize,
    of: HashMap<K, usize>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The owner has its share.
    Share,
    /// There is none for anybody.
    All,
}

impl Full {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::All => "all",
        }
    }
}

impl<K: Clone + Eq + Hash> Seats<K> {
    pub(crate) fn new(in_all: usize, share: usize) -> Self {
        Self::with(in_all, share, false)
    }

    /// As [`Seats::new`], but nobody has more than are still free: of `n` owners that want all they can have, each has at
    /// most one part of `n + 1`, and the last part stays for others.
    pub(crate) fn that_yield(in_all: usize, share: usize) -> Self {
        Self::with(in_all, share, true)
    }

    fn with(in_all: usize, share: usize, yields: bool) -> Self {
        let open = Mutex::new(Open { in_all: 0, of: HashMap::new() });
        Self(Arc::new(Inner { in_all, share, yields, open }))
    }

    /// One more for this owner, until the seat is dropped; nobody's counts in all only.
    ///
    /// # Errors
    /// If that were too many.
    pub(crate) fn take(&self, owner: Option<K>) -> Result<Seat<K>, Full> {
        let mut open = self.0.open();
        if open.in_all >= self.0.in_all {
            return Err(Full::All);
        }
        if let Some(owner) = &owner {
            let theirs = open.of.get(owner).copied().unwrap_or_default();
            let free = self.0.in_all.saturating_sub(open.in_all);
            let share = if self.0.yields { self.0.share.min(free) } else { self.0.share };
            if theirs >= share {
                return Err(Full::Share);
            }
            open.of.insert(owner.clone(), theirs.saturating_add(1));
        }
        open.in_all = open.in_all.saturating_add(1);
        Ok(Seat { seats: self.clone(), owner })
    }
}

impl<K> Inner<K> {
    fn open(&self) -> MutexGuard<'_, Open<K>> {
        // nothing in here can be left half done by a panic
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one of them.
pub(crate) struct Seat<K: Eq + Hash> {
    seats: Seats<K>,
    owner: Option<K>,
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut open = self.seats.0.open();
        open.in_all = open.in_all.saturating_sub(1);
        let Some(owner) = &self.owner else { return };
        if let Some(count) = open.of.get_mut(owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.of.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nobody_takes_all_seats_and_all_are_given_back() {
        let seats = Streams::new(5, 2);
        let fresh = || Some(AccountId::from_uuid(Uuid::now_v7()));
        let (one, other) = (fresh(), fresh());
        let mut held: Vec<_> = (0..2).map(|_| seats.take(one).unwrap()).collect();
        assert_eq!(seats.take(one).err(), Some(Full::Share));
        held.extend((0..2).map(|_| seats.take(other).unwrap()));
        held.push(seats.take(None).unwrap());
        assert_eq!(seats.take(fresh()).err(), Some(Full::All));
        assert_eq!(seats.take(None).err(), Some(Full::All));
        held.remove(0);
        assert_eq!(seats.take(other).err(), Some(Full::Share));
        assert!(seats.take(one).is_ok());
        held.clear();
        assert!(seats.0.open().of.is_empty() && seats.0.open().in_all == 0);
    }

    #[test]
    fn a_few_that_want_all_leave_some_to_others() {
        let seats = Seats::<u8>::that_yield(16, 4);
        let mut held = Vec::new();
        for owner in 1..=4 {
            while let Ok(seat) = seats.take(Some(owner)) {
                held.push(seat);
            }
        }
        assert!(held.len() > 12 && seats.take(Some(5)).is_ok(), "{}", held.len());
        held.clear();
        assert_eq!((0..4).filter_map(|_| seats.take(Some(1)).ok()).count(), 4);
    }

    #[test]
    fn what_is_nobodys_counts_in_all_only() {
        let seats = Seats::<u8>::new(3, 1);
        let held: Vec<_> = (0..3).map(|_| seats.take(None).unwrap()).collect();
        assert_eq!(seats.take(Some(1)).err(), Some(Full::All));
        drop(held);
        assert!(seats.take(Some(1)).is_ok());
    }
}
