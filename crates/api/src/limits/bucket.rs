//! Token buckets by the generic cell rate algorithm: of each caller only one time is kept, that at which its bucket is
//! full again. Whoever is full need not be remembered: two maps take turns, and the older one is thrown away.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use uuid::Uuid;

use super::Quota;

/// Callers that one map holds: seven eighths of 2^15, so that its table has about a megabyte.
const MOST: usize = 28_672;

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

/// In its highest byte a key says what it is.
const MACHINE: u128 = 9;

impl Key {
    /// All callers together.
    pub(super) const EVERYBODY: Self = Self(0);

    /// An IPv4 address, or the 48 bits of an IPv6 address that a house is given.
    pub(super) fn network(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::address(address),
            IpAddr::V6(six) => Self((5 << 120) | (six.to_bits() >> 80)),
        }
    }

    /// An account.
    pub(super) fn account(id: Uuid) -> Self {
        Self((8 << 120) | (id.as_u128() & (u128::MAX >> 8)))
    }

    /// A machine.
    pub(super) fn machine(id: Uuid) -> Self {
        Self((MACHINE << 120) | (id.as_u128() & (u128::MAX >> 8)))
    }

    pub(super) const fn is_machine(self) -> bool {
        self.0 >> 120 == MACHINE
    }

    /// An IPv4 address, or the 64 bits of an IPv6 address that name a network: whoever has one has all of it.
    pub(super) fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(four) => Self((4 << 120) | u128::from(four.to_bits())),
            IpAddr::V6(six) => Self((6 << 120) | (six.to_bits() >> 64)),
        }
    }

    /// The holder of a secret with this hash.
    pub(super) fn secret(hash: &[u8; 32]) -> Self {
        let half = hash.first_chunk::<16>().copied().unwrap_or_default();
        Self((7 << 120) | (u128::from_be_bytes(half) >> 8))
    }
}

/// How a caller stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) allowed: bool,
    /// Requests that are left.
    pub(super) remaining: u64,
    /// Whole seconds until there is one more, at least 1.
    pub(super) more_in_s: u64,
}

/// The buckets of one limit.
pub(super) struct Buckets {
    quota: Quota,
    /// Nanoseconds of one request.
    each: u64,
    /// Nanoseconds of the window: what a full bucket holds.
    window: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    new: HashMap<Key, u64>,
    old: HashMap<Key, u64>,
    turned: u64,
}

impl Kept {
    /// What was not touched for a window is full again: it is forgotten without loss. Only a crowd that fills a map
    /// within a window makes it forget more.
    fn turn(&mut self, now: u64, window: u64) {
        if self.new.len() >= MOST || now >= self.turned.saturating_add(window) {
            self.old = std::mem::take(&mut self.new);
            self.turned = now;
        }
    }
}

const SECOND: u64 = 1_000_000_000;

impl Buckets {
    pub(super) fn new(quota: Quota) -> Self {
        let window = u64::from(quota.window_s).saturating_mul(SECOND);
        let each = window.checked_div(u64::from(quota.requests)).unwrap_or(window).max(1);
        Self { quota, each, window, kept: Mutex::default() }
    }

    pub(super) const fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes a request's worth out of a caller's bucket, at this time since the service began.
    pub(super) fn take(&self, who: Key, elapsed: Duration) -> Standing {
        let now = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let mut kept = self.kept();
        kept.turn(now, self.window);
        let full_at = kept.new.get(&who).or_else(|| kept.old.get(&who)).copied().unwrap_or(0);
        let used = full_at.saturating_sub(now).saturating_add(self.each);
        if used > self.window {
            let more_in_s = used.saturating_sub(self.window).div_ceil(SECOND).max(1);
            return Standing { allowed: false, remaining: 0, more_in_s };
        }
        kept.new.insert(who, now.saturating_add(used));
        drop(kept);
        let left = self.window.saturating_sub(used);
        let begun = left.checked_rem(self.each).unwrap_or(0);
        Standing {
            allowed: true,
            remaining: left.checked_div(self.each).unwrap_or(0),
            more_in_s: self.each.saturating_sub(begun).div_ceil(SECOND).max(1),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // a panic leaves at most one caller's count behind
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Credentials that were seen to be somebody's, and whose. One that is forgotten is seen again at its next request.
#[derive(Default)]
pub(super) struct Vouched(Mutex<(HashMap<Key, Key>, HashMap<Key, Key>)>);

impl Vouched {
    pub(super) fn add(&self, key: Key, owner: Key) {
        let mut sets = self.sets();
        if sets.0.contains_key(&key) {
            return;
        }
        if sets.0.len() >= MOST {
            sets.1 = std::mem::take(&mut sets.0);
        }
        sets.0.insert(key, owner);
    }

    pub(super) fn remove(&self, key: Key) {
        let mut sets = self.sets();
        sets.0.remove(&key);
        sets.1.remove(&key);
    }

    pub(super) fn owner(&self, key: Key) -> Option<Key> {
        let sets = self.sets();
        sets.0.get(&key).or_else(|| sets.1.get(&key)).copied()
    }

    fn sets(&self) -> MutexGuard<'_, (HashMap<Key, Key>, HashMap<Key, Key>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn buckets(requests: u32, window_s: u32) -> Buckets {
        Buckets::new(Quota::new(requests, window_s).unwrap())
    }

    #[test]
    fn a_bucket_gives_its_quota_at_once_and_then_evenly() {
        let buckets = buckets(6, 60);
        let who = Key(1);
        for left in (0..6).rev() {
            let standing = buckets.take(who, at(0));
            assert_eq!((standing.allowed, standing.remaining), (true, left));
            assert_eq!(standing.more_in_s, 10);
        }
        assert_eq!(
            buckets.take(who, at(2_500)),
            Standing { allowed: false, remaining: 0, more_in_s: 8 }
        );
        assert!(!buckets.take(who, at(9_999)).allowed);
        assert!(buckets.take(who, at(10_000)).allowed, "a refusal costs nothing");
        assert!(!buckets.take(who, at(10_001)).allowed);
        assert!(buckets.take(Key(2), at(10_001)).allowed, "another has a bucket of its own");
        // after a whole window it is full again
        assert_eq!(buckets.take(who, at(80_000)).remaining, 5);
    }

    #[test]
    fn what_is_kept_is_bounded_and_whoever_comes_often_is_remembered() {
        let buckets = buckets(2, 3_600);
        let often = Key(u128::MAX);
        assert!(buckets.take(often, at(0)).allowed && buckets.take(often, at(0)).allowed);
        for number in 0..200_000_u128 {
            buckets.take(Key(number), at(1));
            if number % 20_000 == 0 {
                let again = buckets.take(often, at(1)).allowed;
                assert!(!again || number > 40_000, "{number}");
            }
        }
        let kept = buckets.kept();
        assert!(kept.new.len() <= MOST && kept.old.len() <= MOST);
    }

    #[test]
    fn the_full_are_forgotten_without_loss() {
        let buckets = buckets(10, 1);
        for number in 0..100 {
            buckets.take(Key(number), at(0));
        }
        for second in 1..4 {
            buckets.take(Key(1_000), at(second * 1_000));
        }
        let kept = buckets.kept();
        assert_eq!(kept.new.len() + kept.old.len(), 2, "one caller, in both maps");
    }

    #[test]
    fn an_ipv6_network_is_one_caller() {
        let key = |text: &str| Key::address(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        let net = |text: &str| Key::network(text.parse().unwrap());
        assert_eq!(net("2001:db8:1:2::1"), net("2001:db8:1:ffff::1"), "a house has 48 bits");
        assert_ne!(net("2001:db8:1::1"), net("2001:db8:2::1"));
        assert_ne!(net("192.0.2.1"), net("192.0.2.2"));
        let id = Uuid::from_u128(u128::MAX);
        assert!(Key::machine(id).is_machine() && !Key::account(id).is_machine());
    }

    #[test]
    fn credentials_are_vouched_for_until_they_are_not() {
        let vouched = Vouched::default();
        let (key, owner) = (Key::secret(&[7; 32]), Key::account(Uuid::from_u128(1)));
        assert_eq!(vouched.owner(key), None);
        vouched.add(key, owner);
        assert_eq!(vouched.owner(key), Some(owner));
        vouched.remove(key);
        assert_eq!(vouched.owner(key), None);
        for number in 0..100_000 {
            vouched.add(Key(number), owner);
        }
        let sets = vouched.sets();
        assert!(sets.0.len() <= MOST && sets.1.len() <= MOST);
    }
}
