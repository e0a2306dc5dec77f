//! One way of doing something against another.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::money::{MoneyError, UsdMicros, mul_div_floor};

/// How the second way's total differs from the first's, in hundredths of a percent of the first, rounded half up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "direction", content = "basis_points", rename_all = "snake_case")]
pub enum Change {
    /// The second is cheaper by this much.
    Less(u64),
    /// Both cost the same.
    Same,
    /// The second is dearer by this much.
    More(u64),
    /// The first costs nothing, so there is no share of it.
    FromNothing,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Less(bps) => write!(f, "-{}.{:02}%", bps / 100, bps % 100),
            Self::More(bps) => write!(f, "+{}.{:02}%", bps / 100, bps % 100),
            Self::Same => f.write_str("0.00%"),
            Self::FromNothing => f.write_str("n/a"),
        }
    }
}

/// Two totals side by side. Shown as `15000.00 -> 4000.00 (-73.33%)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the first way costs.
    pub total_a: UsdMicros,
    /// What the second way costs.
    pub total_b: UsdMicros,
    /// How the second differs.
    pub change: Change,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = (self.total_a.cents_half_up(), self.total_b.cents_half_up());
        write!(f, "{a} -> {b} ({})", self.change)
    }
}

/// Compares `count` things at `cost_a` each with as many at `cost_b` each.
///
/// # Errors
/// [`MoneyError::Overflow`] out of range.
pub fn compare(count: u64, cost_a: UsdMicros, cost_b: UsdMicros) -> Result<Comparison, MoneyError> {
    let total_a = cost_a.checked_mul(count).ok_or(MoneyError::Overflow)?;
    let total_b = cost_b.checked_mul(count).ok_or(MoneyError::Overflow)?;
    Ok(Comparison { total_a, total_b, change: change(total_a, total_b)? })
}

/// How `to` differs from `from`.
///
/// # Errors
/// [`MoneyError::Overflow`] out of range.
pub fn change(from: UsdMicros, to: UsdMicros) -> Result<Change, MoneyError> {
    if from == to {
        return Ok(Change::Same);
    }
    if from == UsdMicros::ZERO {
        return Ok(Change::FromNothing);
    }
    // Half up: twice the share, plus one, halved.
    let doubled =
        mul_div_floor(u128::from(from.get().abs_diff(to.get())), 20_000, u128::from(from.get()))?;
    let bps = u64::try_from(doubled.saturating_add(1) / 2).map_err(|_| MoneyError::Overflow)?;
    Ok(if to < from { Change::Less(bps) } else { Change::More(bps) })
}
