//! What is acceptable, with the place that is not.

use domain::{
    estimate::{EstimateError, Hours, Rounding},
    money::{MoneyError, UsdMicros},
    rate::UsdPerHour,
    time::Seconds,
};

use crate::{Problem, views::Usd};

/// The most units, GPUs or replicas.
pub(super) const MAX_UNITS: u32 = 10_000;
/// The highest price of anything: 10 million dollars.
const MAX_PRICE: UsdMicros = UsdMicros::new(10_000_000_000_000);
/// The longest time: ten years of 365 days.
const MAX_ELAPSED: Seconds = Seconds(315_360_000);
const MAX_ROUNDING: u32 = 86_400;
const MAX_LABEL: usize = 64;

/// A place of the request that is being looked at.
#[derive(Clone, Copy)]
pub(super) struct At<'a>(pub(super) &'a str);

impl At<'_> {
    pub(super) fn refused(self, member: &str, message: impl Into<String>) -> Problem {
        Problem::invalid(format!("{}/{member}", self.0), message)
    }

    /// A price above 0.
    pub(super) fn price(self, member: &str, price: Usd) -> Result<UsdMicros, Problem> {
        if price.amount == UsdMicros::ZERO {
            return Err(self.refused(&format!("{member}/amount"), "the price must be above 0"));
        }
        self.amount(member, price)
    }

    pub(super) fn rate(self, member: &str, price: Usd) -> Result<UsdPerHour, Problem> {
        self.price(member, price).map(UsdPerHour)
    }

    /// An amount that may be 0.
    pub(super) fn amount(self, member: &str, amount: Usd) -> Result<UsdMicros, Problem> {
        if amount.amount > MAX_PRICE {
            let message = format!("at most {} dollars", MAX_PRICE.cents_half_up());
            return Err(self.refused(&format!("{member}/amount"), message));
        }
        Ok(amount.amount)
    }

    /// A count from `least` to [`MAX_UNITS`].
    pub(super) fn count(self, member: &str, count: u32, least: u32) -> Result<u32, Problem> {
        if (least..=MAX_UNITS).contains(&count) {
            return Ok(count);
        }
        Err(self.refused(member, format!("{least} to {MAX_UNITS}")))
    }

    /// One of two ways to say how long.
    pub(super) fn elapsed(
        self,
        elapsed_s: Option<u32>,
        hours: Option<Hours>,
    ) -> Result<Seconds, Problem> {
        match (elapsed_s, hours) {
            (Some(seconds), None) => self.bounded("elapsed_s", Seconds(seconds)),
            (None, Some(hours)) => self.hours("hours", hours),
            (Some(_), Some(_)) => Err(self.refused("hours", "say elapsed_s or hours, not both")),
            (None, None) => Err(self.refused("hours", "say how long: elapsed_s or hours")),
        }
    }

    /// Hours within the longest time.
    pub(super) fn hours(self, member: &str, hours: Hours) -> Result<Seconds, Problem> {
        self.bounded(member, hours.seconds_ceil().unwrap_or(Seconds(u32::MAX)))
    }

    fn bounded(self, member: &str, elapsed: Seconds) -> Result<Seconds, Problem> {
        if elapsed > MAX_ELAPSED {
            return Err(self.refused(member, "at most 10 years of 365 days"));
        }
        Ok(elapsed)
    }

    pub(super) fn rounding(self, granularity_s: u32, min_s: u32) -> Result<Rounding, Problem> {
        if !(1..=MAX_ROUNDING).contains(&granularity_s) {
            return Err(self.refused("granularity_s", format!("1 to {MAX_ROUNDING}")));
        }
        if min_s > MAX_ROUNDING {
            return Err(self.refused("min_s", format!("0 to {MAX_ROUNDING}")));
        }
        Ok(Rounding { granularity: Seconds(granularity_s), minimum: Seconds(min_s) })
    }

    pub(super) fn label(self, member: &str, label: &str) -> Result<(), Problem> {
        let length = label.chars().count();
        if (1..=MAX_LABEL).contains(&length) && !label.chars().any(char::is_control) {
            return Ok(());
        }
        Err(self.refused(member, format!("1 to {MAX_LABEL} characters, no control characters")))
    }

    /// A list of acceptable length.
    pub(super) fn length(
        self,
        member: &str,
        length: usize,
        least: usize,
        most: usize,
    ) -> Result<(), Problem> {
        if (least..=most).contains(&length) {
            return Ok(());
        }
        Err(self.refused(member, format!("{least} to {most} of them")))
    }

    /// The whole of what was asked is out of range.
    pub(super) fn out_of_range(self, error: MoneyError) -> Problem {
        Problem::invalid(self.0, format!("no estimate can be made: {error}"))
    }

    pub(super) fn no_estimate(self, error: EstimateError) -> Problem {
        match error {
            EstimateError::Money(error) => self.out_of_range(error),
            EstimateError::NeverEnds => {
                self.refused("interruptions_per_100h", EstimateError::NeverEnds.to_string())
            }
        }
    }
}
