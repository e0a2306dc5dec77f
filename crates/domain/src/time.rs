//! Points in time and spans, in whole seconds or milliseconds, and the clock as a seam.

use serde::{Deserialize, Serialize};

/// A span of whole seconds, 0 to 2^32 - 1 (136 years); the width that the escrow contract uses.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seconds(pub u32);

impl Seconds {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The shortest span that is billed.
    pub const ONE: Self = Self(1);
    /// The longest span.
    pub const MAX: Self = Self(u32::MAX);

    /// The number of seconds.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The sum, or `None` above 2^32 - 1.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The sum, at most 2^32 - 1.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least 0.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0)
    }
}

/// Whole seconds since 1970-01-01T00:00:00Z, the chain's resolution.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The number of seconds since 1970.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The point `span` later, or `None` past the end of the range.
    #[must_use]
    pub fn plus(self, span: Seconds) -> Option<Self> {
        self.0.checked_add(u64::from(span.0)).map(Self)
    }

    /// The point `span` earlier, or `None` before 1970.
    #[must_use]
    pub fn minus(self, span: Seconds) -> Option<Self> {
        self.0.checked_sub(u64::from(span.0)).map(Self)
    }

    /// The point `span` later, at most the end of the range.
    #[must_use]
    pub fn saturating_plus(self, span: Seconds) -> Self {
        Self(self.0.saturating_add(u64::from(span.0)))
    }

    /// The point `span` earlier, at least 1970.
    #[must_use]
    pub fn saturating_minus(self, span: Seconds) -> Self {
        Self(self.0.saturating_sub(u64::from(span.0)))
    }

    /// The span from `earlier` to here; `None` if `earlier` is later than this, or the span passes 2^32 - 1 seconds.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Seconds> {
        self.0.checked_sub(earlier.0).and_then(|span| u32::try_from(span).ok()).map(Seconds)
    }

    /// The span from `earlier` to here, 0 if `earlier` is later than this and at most 2^32 - 1 seconds.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Seconds {
        Seconds(u32::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(u32::MAX))
    }

    /// The first millisecond of this second; at the far end of the range the last one that exists.
    #[must_use]
    pub const fn millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1_000))
    }
}

impl std::fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, the resolution of the platform's own clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The number of milliseconds since 1970.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The second that this millisecond lies in.
    #[must_use]
    pub const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1_000)
    }

    /// The point `span` later, or `None` past the end of the range.
    #[must_use]
    pub fn plus(self, span: Seconds) -> Option<Self> {
        u64::from(span.0).checked_mul(1_000).and_then(|millis| self.0.checked_add(millis)).map(Self)
    }

    /// The point `millis` milliseconds later, at most the end of the range.
    #[must_use]
    pub const fn saturating_plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to here, or `None` if `earlier` is later than this.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl std::fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the time comes from. One implementation asks the machine, another is moved by tests.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> UnixMillis;
}

#[cfg(test)]
mod tests;
