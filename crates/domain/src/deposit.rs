//! What is told of a deposit while it is used up, and when, so that there is time to add to it.

use crate::{
    names::named_enum,
    time::{Seconds, UnixSeconds},
};

named_enum! {
    /// What is told while a rental runs; that all is used up is told by its end.
    pub enum DepositNotice ("deposit notice") {
        /// Half of it is spent.
        Budget50 => "budget_50",
        /// Four fifths are spent.
        Budget80 => "budget_80",
        /// It is used up soon.
        Expiring => "expiring",
    }
}

/// Up to where each was told last, if ever. What is added to a deposit moves the places where they are told: one that
/// lies beyond where it was told is told again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DepositTold {
    /// The billed seconds at which half was told.
    pub budget_50: Option<Seconds>,
    /// The billed seconds at which four fifths were told.
    pub budget_80: Option<Seconds>,
    /// When the near end was told.
    pub expiring: Option<UnixSeconds>,
}

/// A running deposit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepositUse {
    /// When billing began.
    pub started: UnixSeconds,
    /// For how many seconds from then on it lasts: the contract stops the clock there, outages or not.
    pub lasts: Seconds,
    /// Seconds that are billed so far; outages are not.
    pub billed: Seconds,
    /// How long before the end that is told. A deposit that does not last longer than that is not said to end.
    pub lead: Seconds,
    /// This moment.
    pub now: UnixSeconds,
}

impl DepositUse {
    /// What is to be told now and was not, and what was told then.
    #[must_use]
    pub fn due(&self, told: DepositTold) -> (Vec<DepositNotice>, DepositTold) {
        let mut after = told;
        let mut notices = Vec::new();
        if is_due(self.spent(50), self.billed, told.budget_50) {
            notices.push(DepositNotice::Budget50);
            after.budget_50 = Some(self.billed);
        }
        if is_due(self.spent(80), self.billed, told.budget_80) {
            notices.push(DepositNotice::Budget80);
            after.budget_80 = Some(self.billed);
        }
        if self.expiring().is_some_and(|at| is_due(at, self.now, told.expiring)) {
            notices.push(DepositNotice::Expiring);
            after.expiring = Some(self.now);
        }
        (notices, after)
    }

    /// The first second at which something else may be due, if time is billed from now on; none if all is told.
    #[must_use]
    pub fn next(&self, told: DepositTold) -> Option<UnixSeconds> {
        let budget = |percent: u32, told: Option<Seconds>| {
            let place = self.spent(percent);
            told.is_none_or(|told| told < place)
                .then(|| self.now.saturating_plus(place.saturating_sub(self.billed)))
        };
        let expiring = self.expiring().filter(|at| told.expiring.is_none_or(|told| told < *at));
        [budget(50, told.budget_50), budget(80, told.budget_80), expiring]
            .into_iter()
            .flatten()
            .min()
    }

    /// The billed second at which so many hundredths are spent, rounded up; at least the first.
    fn spent(&self, percent: u32) -> Seconds {
        let part = u64::from(self.lasts.get()).saturating_mul(percent.into()).div_ceil(100);
        Seconds(u32::try_from(part).unwrap_or(u32::MAX)).max(Seconds::ONE)
    }

    fn expiring(&self) -> Option<UnixSeconds> {
        let after = self.lasts.saturating_sub(self.lead);
        (after > Seconds::ZERO).then(|| self.started.saturating_plus(after))
    }
}

/// Whether a place is reached, and beyond where it was told.
fn is_due<T: Copy + Ord>(place: T, reached: T, told: Option<T>) -> bool {
    reached >= place && told.is_none_or(|told| told < place)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small figures")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Seconds = Seconds(3_600);

    fn at(lasts: Seconds, passed: u32, billed: u32) -> DepositUse {
        let started = UnixSeconds(1_000);
        let now = started.saturating_plus(Seconds(passed));
        DepositUse { started, lasts, billed: Seconds(billed), lead: Seconds(300), now }
    }

    #[test]
    fn each_is_told_once_and_in_time() {
        let mut told = DepositTold::default();
        let mut heard = Vec::new();
        for second in 0..=3_600 {
            let (notices, after) = at(HOUR, second, second).due(told);
            heard.extend(notices.into_iter().map(|notice| (second, notice)));
            told = after;
        }
        let expected = [
            (1_800, DepositNotice::Budget50),
            (2_880, DepositNotice::Budget80),
            (3_300, DepositNotice::Expiring),
        ];
        assert_eq!(heard, expected);
        assert_eq!(at(HOUR, 3_600, 3_600).next(told), None);
    }

    #[test]
    fn an_outage_moves_what_is_spent_and_not_the_end() {
        let told = DepositTold::default();
        assert_eq!(at(HOUR, 3_299, 1_799).due(told).0, []);
        assert_eq!(at(HOUR, 3_300, 1_799).due(told).0, [DepositNotice::Expiring]);
        assert_eq!(at(HOUR, 3_000, 1_200).next(told), Some(UnixSeconds(4_300)));
        assert_eq!(at(HOUR, 1_000, 600).next(told), Some(UnixSeconds(1_000 + 1_000 + 1_200)));
    }

    #[test]
    fn what_is_added_moves_them_and_they_are_told_again() {
        let (notices, told) = at(HOUR, 3_400, 3_400).due(DepositTold::default());
        assert_eq!(notices.len(), 3);
        let double = Seconds(7_200);
        assert_eq!(at(double, 3_400, 3_400).due(told), (vec![], told));
        // half of the double lies beyond where half was told, and so do the others
        assert_eq!(at(double, 3_400, 3_400).next(told), Some(UnixSeconds(1_000 + 3_600)));
        assert_eq!(at(double, 3_600, 3_600).due(told).0, [DepositNotice::Budget50]);
        // a grain more: half was told beyond it
        assert_eq!(at(Seconds(3_601), 3_400, 3_400).due(told), (vec![], told));
    }

    #[test]
    fn a_deposit_shorter_than_the_lead_is_not_said_to_end() {
        let short = at(Seconds(300), 299, 299);
        let (notices, told) = short.due(DepositTold::default());
        assert_eq!(notices, [DepositNotice::Budget50, DepositNotice::Budget80]);
        assert_eq!(short.next(told), None);
    }

    proptest! {
        #[test]
        fn nothing_is_due_before_what_is_next(
            lasts in 1..10_000_u32, passed in 0..10_000_u32, outage in 0..10_000_u32,
        ) {
            let (passed, told) = (passed.min(lasts), DepositTold::default());
            let here = at(Seconds(lasts), passed, passed.saturating_sub(outage));
            let (_, told) = here.due(told);
            prop_assert_eq!(here.due(told), (vec![], told));
            if let Some(next) = here.next(told) {
                prop_assert!(next > here.now);
                let wait = next.saturating_since(here.now).get();
                let then = at(Seconds(lasts), passed + wait, here.billed.get() + wait);
                prop_assert!(!then.due(told).0.is_empty());
                let before = at(Seconds(lasts), passed + wait - 1, here.billed.get() + wait - 1);
                prop_assert!(before.due(told).0.is_empty());
            }
        }
    }
}
