//! Whether a machine's next reading may be appended to its chain of readings.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::time::{Seconds, UnixSeconds};

/// The last reading that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingHead {
    /// Its number.
    pub seq: u64,
    /// The end of the stretch that it covers.
    pub to: UnixSeconds,
    /// Its hash, which the next one must name.
    pub hash: B256,
}

/// What a new reading says of itself; the signature is checked elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingClaim {
    /// Its number; the first is 1.
    pub seq: u64,
    /// The first second that it covers.
    pub from: UnixSeconds,
    /// The second after the last that it covers.
    pub to: UnixSeconds,
    /// The hash of the reading before it; all zero for the first.
    pub prev_hash: B256,
}

/// The bounds on a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingRules {
    /// The longest stretch that one reading may cover.
    pub max_span: Seconds,
    /// How far back from its arrival a reading may begin: evidence made up afterwards is worth nothing.
    pub max_lag: Seconds,
    /// How far past its arrival a reading may end, for clocks that differ.
    pub max_skew: Seconds,
}

/// Why a reading is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum ReadingError {
    /// Readings before this one are missing: send them first.
    #[error("a reading is missing: expected number {expected_seq}")]
    Gap {
        /// The number that must come next.
        expected_seq: u64,
    },
    /// A reading of this number was accepted before; a repetition is harmless.
    #[error("a reading of this number was accepted before")]
    Duplicate,
    /// It does not name the hash of the reading before it.
    #[error("the reading does not name the hash of the one before it")]
    BrokenChain,
    /// It begins inside the stretch of the reading before it.
    #[error("the reading overlaps the one before it, which ends at {not_before}")]
    Overlaps {
        /// The earliest second that it may begin at.
        not_before: UnixSeconds,
    },
    /// It covers more than one reading may.
    #[error("the reading covers {span}, more than the {max_span} that one may")]
    TooLong {
        /// What it covers.
        span: Seconds,
        /// What it may cover.
        max_span: Seconds,
    },
    /// It begins too long before its arrival.
    #[error("the reading came too late: it may not begin before {not_before}")]
    TooLate {
        /// The earliest second that it may begin at.
        not_before: UnixSeconds,
    },
    /// It ends after its arrival, by more than clocks may differ.
    #[error("the reading ends in the future: it may not end after {not_after}")]
    FromFuture {
        /// The latest second that it may end at.
        not_after: UnixSeconds,
    },
    /// It covers no time.
    #[error("the reading covers no time")]
    EmptyInterval,
}

/// Checks `candidate`, which arrived at `received_at`, against the last accepted reading.
///
/// The number is judged first, so that a repetition is told from a fault whatever else it holds.
///
/// # Errors
/// The first rule that the reading breaks, in the order: number, chain, emptiness, overlap, length, future, lateness.
pub fn check_reading(
    prev: Option<&ReadingHead>,
    candidate: &ReadingClaim,
    received_at: UnixSeconds,
    rules: &ReadingRules,
) -> Result<(), ReadingError> {
    let (last_seq, prev_hash) = prev.map_or((0, B256::ZERO), |head| (head.seq, head.hash));
    if candidate.seq <= last_seq {
        return Err(ReadingError::Duplicate);
    }
    // A number above `last_seq` exists, so this cannot saturate.
    let expected_seq = last_seq.saturating_add(1);
    if candidate.seq != expected_seq {
        return Err(ReadingError::Gap { expected_seq });
    }
    if candidate.prev_hash != prev_hash {
        return Err(ReadingError::BrokenChain);
    }
    if candidate.to <= candidate.from {
        return Err(ReadingError::EmptyInterval);
    }
    if let Some(head) = prev.filter(|head| candidate.from < head.to) {
        return Err(ReadingError::Overlaps { not_before: head.to });
    }
    check_time(candidate, received_at, rules)
}

fn check_time(
    candidate: &ReadingClaim,
    received_at: UnixSeconds,
    rules: &ReadingRules,
) -> Result<(), ReadingError> {
    let span = candidate.to.saturating_since(candidate.from);
    if span > rules.max_span {
        return Err(ReadingError::TooLong { span, max_span: rules.max_span });
    }
    let not_after = received_at.saturating_plus(rules.max_skew);
    if candidate.to > not_after {
        return Err(ReadingError::FromFuture { not_after });
    }
    let not_before = received_at.saturating_minus(rules.max_lag);
    if candidate.from < not_before {
        return Err(ReadingError::TooLate { not_before });
    }
    Ok(())
}
