//! What an oracle says about a token's price, and when that is believed.
//!
//! The oracle is a contract with Chainlink's `AggregatorV3Interface`: `latestRoundData` answers a round, a price with
//! the feed's decimals, and the time of the answer.

use alloy_primitives::I256;
use thiserror::Error;

use crate::money::{Decimals, UsdMicros, mul_div_ceil};
use crate::time::{Seconds, UnixSeconds};

/// How far ahead of ours the oracle's clock may be: it is the chain's, and a block may be dated a little ahead.
pub const MAX_AHEAD: Seconds = Seconds(60);
/// The dearest token that is believed: a billion dollars for a whole one.
pub const MAX_USD_MICROS: u64 = 1_000_000_000_000_000;

/// A price is believed that is at most so many times the one before, or at least one in so many of it. Feeds answer anew
/// when a price moves by a few per cent or less: more at once is a broken feed, or a day on which nobody should be held to
/// a price.
pub const MAX_STEP: u64 = 2;

/// What `latestRoundData` and `decimals` answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// The round's number.
    pub id: u128,
    /// The price, with `decimals`.
    pub answer: I256,
    /// When it was answered; 0 while the round is not complete.
    pub updated_at: u64,
    /// The round in which the answer was computed; below `id` where it is an older round's.
    pub answered_in: u128,
    /// The decimals that the feed says it has.
    pub decimals: u8,
}

/// A price that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Dollars for one whole token, rounded up: the renter never locks a unit more than the oracle's price asks for.
    pub usd: UsdMicros,
    /// The round's number.
    pub round: u128,
    /// The oracle's own time.
    pub at: UnixSeconds,
}

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OracleError {
    /// The feed has other decimals than when it was named: the same number would be another price.
    #[error("the feed has {found} decimals and had {expected}")]
    Decimals {
        /// Now.
        found: u8,
        /// When it was named.
        expected: u8,
    },
    /// A price of nothing, or less.
    #[error("the answer is not above 0")]
    NotPositive,
    /// A price beyond all reason.
    #[error("the answer is above a billion dollars")]
    TooLarge,
    /// The round is not complete, or its answer is an older round's.
    #[error("the round is not complete")]
    Incomplete,
    /// An answer of the future.
    #[error("the answer is dated {ahead} ahead of our clock")]
    Future {
        /// How far ahead.
        ahead: Seconds,
    },
    /// A round before the newest that was believed.
    #[error("the feed went back to an older round")]
    Older,
    /// Another price altogether than the one that was believed last, which is not too old yet.
    #[error("the answer is {usd} USD and the last one that was believed is {before} USD")]
    Jump {
        /// Now.
        usd: UsdMicros,
        /// Before.
        before: UsdMicros,
    },
    /// An answer older than the feed's bound.
    #[error("the answer is {age} old")]
    Stale {
        /// How old.
        age: Seconds,
    },
}

impl OracleError {
    /// A word for it, for counting.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Decimals { .. } => "decimals",
            Self::NotPositive => "not_positive",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::Future { .. } => "future",
            Self::Older => "older",
            Self::Jump { .. } => "jump",
            Self::Stale { .. } => "stale",
        }
    }
}

/// Whether an answer is believed at `now`, of a feed with these `decimals` and `max_age`, after the answer `newest`. An
/// answer that was believed before is believed again until it is too old. One that is more than [`MAX_STEP`] times away
/// from it is not, until that one is too old: nothing should be quoted meanwhile, at either price.
///
/// # Errors
/// See [`OracleError`].
pub fn believe(
    round: &Round,
    decimals: Decimals,
    max_age: Seconds,
    newest: Option<Answer>,
    now: UnixSeconds,
) -> Result<Answer, OracleError> {
    if round.decimals != decimals.get() {
        return Err(OracleError::Decimals { found: round.decimals, expected: decimals.get() });
    }
    if round.updated_at == 0 || round.answered_in < round.id {
        return Err(OracleError::Incomplete);
    }
    let at = UnixSeconds(round.updated_at);
    let ahead = span(now, at);
    if ahead > MAX_AHEAD {
        return Err(OracleError::Future { ahead });
    }
    if newest.is_some_and(|newest| round.id < newest.round || at < newest.at) {
        return Err(OracleError::Older);
    }
    let usd = price(round.answer, decimals)?;
    let is_new = |newest: &Answer| (round.id, at) != (newest.round, newest.at);
    let held = newest.filter(|newest| is_new(newest) && !is_stale(newest.at, max_age, now));
    if let Some(before) = held.map(|newest| newest.usd).filter(|before| is_jump(*before, usd)) {
        return Err(OracleError::Jump { usd, before });
    }
    let age = span(at, now);
    if age > max_age {
        return Err(OracleError::Stale { age });
    }
    Ok(Answer { usd, round: round.id, at })
}

fn price(answer: I256, decimals: Decimals) -> Result<UsdMicros, OracleError> {
    if answer <= I256::ZERO {
        return Err(OracleError::NotPositive);
    }
    let answer = u128::try_from(answer).map_err(|_| OracleError::TooLarge)?;
    let micros = mul_div_ceil(answer, 1_000_000, decimals.base_units())
        .map_err(|_| OracleError::TooLarge)?;
    let micros = u64::try_from(micros).map_err(|_| OracleError::TooLarge)?;
    if micros > MAX_USD_MICROS {
        return Err(OracleError::TooLarge);
    }
    Ok(UsdMicros::new(micros))
}

fn is_jump(before: UsdMicros, after: UsdMicros) -> bool {
    let (less, more) = (before.get().min(after.get()), before.get().max(after.get()));
    more > less.saturating_mul(MAX_STEP)
}

/// From one time to a later one; nothing if it is not later.
fn span(from: UnixSeconds, to: UnixSeconds) -> Seconds {
    Seconds(u32::try_from(to.get().saturating_sub(from.get())).unwrap_or(u32::MAX))
}

/// Whether a price of this time is too old at `now`.
#[must_use]
pub fn is_stale(priced_at: UnixSeconds, max_age: Seconds, now: UnixSeconds) -> bool {
    span(priced_at, now) > max_age
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
    const HOUR: Seconds = Seconds(3_600);

    fn round() -> Round {
        Round {
            id: 7,
            answer: "21839001".parse().unwrap(),
            updated_at: NOW.get().saturating_sub(3_600),
            answered_in: 7,
            decimals: 8,
        }
    }

    fn said(round: &Round) -> Result<Answer, OracleError> {
        believe(
            round,
            Decimals::new(8).unwrap(),
            HOUR,
            Some(before(6, 218_391, UnixSeconds(1))),
            NOW,
        )
    }

    fn before(round: u128, micros: u64, at: UnixSeconds) -> Answer {
        Answer { usd: UsdMicros::new(micros), round, at }
    }

    #[test]
    fn a_price_that_jumps_is_believed_when_the_one_before_is_too_old() {
        let eight = Decimals::new(8).unwrap();
        let asked = |answer: &str, newest, now| {
            let answer = answer.parse().unwrap();
            let fresh = Round { answer, updated_at: NOW.get(), ..round() };
            believe(&fresh, eight, HOUR, Some(newest), now).map(|answer| answer.usd.get())
        };
        let since = UnixSeconds(NOW.get().saturating_sub(3_600));
        let last = before(6, 1_000_000, since);
        assert_eq!(asked("200000000", last, NOW), Ok(2_000_000));
        assert_eq!(asked("50000000", last, NOW), Ok(500_000));
        let jump = |usd| Err(OracleError::Jump { usd: UsdMicros::new(usd), before: last.usd });
        assert_eq!(asked("200000001", last, NOW), jump(2_000_001));
        assert_eq!(asked("49999900", last, NOW), jump(499_999));
        // a second later the one before is no price any more
        let later = NOW.saturating_plus(Seconds::ONE);
        assert_eq!(asked("200000001", last, later), Ok(2_000_001));
        // the same round is the same answer, however its price was rounded when it was taken
        let same = Answer { round: 7, at: NOW, ..last };
        assert_eq!(asked("200000001", same, NOW), Ok(2_000_001));
    }

    #[test]
    fn a_good_answer_is_a_price_rounded_up() {
        let answer = said(&round()).unwrap();
        assert_eq!(answer.usd.to_string(), "0.218391");
        assert_eq!((answer.round, answer.at.get()), (7, NOW.get().saturating_sub(3_600)));
        let least = Round { answer: I256::ONE, ..round() };
        let first = believe(&least, Decimals::new(8).unwrap(), HOUR, None, NOW);
        assert_eq!(first.unwrap().usd.get(), 1);
        // the same answer again, and one from a block that is dated a little ahead
        let again = Some(answer);
        assert!(believe(&round(), Decimals::new(8).unwrap(), HOUR, again, NOW).is_ok());
        let ahead = Round { updated_at: NOW.get().saturating_add(60), ..round() };
        assert!(said(&ahead).is_ok());
    }

    #[test]
    fn each_bad_answer_has_its_name() {
        let old = NOW.get().saturating_sub(3_601);
        for (bad, error) in [
            (Round { decimals: 18, ..round() }, OracleError::Decimals { found: 18, expected: 8 }),
            (Round { answer: I256::ZERO, ..round() }, OracleError::NotPositive),
            (Round { answer: I256::MINUS_ONE, ..round() }, OracleError::NotPositive),
            (Round { answer: I256::MAX, ..round() }, OracleError::TooLarge),
            (
                Round { answer: "100000000000000001".parse().unwrap(), ..round() },
                OracleError::TooLarge,
            ),
            (Round { updated_at: 0, ..round() }, OracleError::Incomplete),
            (Round { answered_in: 6, ..round() }, OracleError::Incomplete),
            (
                Round { updated_at: NOW.get().saturating_add(61), ..round() },
                OracleError::Future { ahead: Seconds(61) },
            ),
            (Round { id: 5, answered_in: 5, ..round() }, OracleError::Older),
            (Round { updated_at: old, ..round() }, OracleError::Stale { age: Seconds(3_601) }),
            (
                Round { updated_at: 2, ..round() },
                OracleError::Stale { age: Seconds(1_799_999_998) },
            ),
        ] {
            assert_eq!(said(&bad), Err(error), "{bad:?}");
            assert!(!error.reason().is_empty());
        }
        let newer = Some(before(7, 218_391, NOW));
        let older = believe(&round(), Decimals::new(8).unwrap(), HOUR, newer, NOW);
        assert_eq!(older, Err(OracleError::Older));
    }
}
