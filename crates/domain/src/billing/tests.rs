#![allow(clippy::arithmetic_side_effects)]

use proptest::prelude::*;

use super::*;

fn amount(base_units: u128) -> Amount {
    Amount::new(base_units).unwrap()
}

fn rate(per_hour: u128) -> TokenRate {
    TokenRate::new(amount(per_hour)).unwrap()
}

#[test]
fn seconds_are_rounded_up_to_the_granularity() {
    let billed = |elapsed, granularity, minimum, ready| {
        billed_seconds(Seconds(elapsed), Seconds(granularity), Seconds(minimum), ready).get()
    };
    assert_eq!(billed(61, 60, 60, true), 120);
    assert_eq!(billed(60, 60, 60, true), 60);
    assert_eq!(billed(0, 60, 60, true), 60);
    assert_eq!(billed(0, 1, 1, true), 1);
    assert_eq!(billed(61, 60, 60, false), 0);
    assert_eq!(billed(7, 0, 0, true), 7);
    assert_eq!(billed(u32::MAX, 60, 60, true), u32::MAX);
}

#[test]
fn a_deposit_smaller_than_one_second_is_used_up_by_the_first() {
    let (deposit, rate) = (amount(1), rate(7_200));
    assert_eq!(auto_stop_second(deposit, rate), Seconds::ZERO);
    let fee = FeeBps::MAX;
    let billed = settlement_seconds(deposit, rate, Seconds::ZERO, Seconds::ZERO);
    assert_eq!(billed, Seconds::ONE);
    assert_eq!(gross_floor(rate, billed, deposit), deposit);
    let nothing = split(deposit, rate, fee, Seconds::ZERO).unwrap();
    assert_eq!(nothing.refund, deposit);
}

#[test]
fn the_extremes_stay_in_range() {
    let most = rate(Amount::MAX.get());
    assert_eq!(gross_floor(most, Seconds::MAX, Amount::MAX), Amount::MAX);
    assert_eq!(auto_stop_second(Amount::MAX, rate(1)), Seconds::MAX);
    assert_eq!(auto_stop_second(Amount::ZERO, most), Seconds::ZERO);
    assert_eq!(deposit_ceil(most, Seconds(3_601)), Err(MoneyError::AmountTooLarge));
    assert_eq!(deposit_ceil(most, Seconds(3_600)), Ok(Amount::MAX));
    let dearest = UsdPerHour(UsdMicros::new(u64::MAX));
    assert_eq!(usd_gross_floor(dearest, u32::MAX, Seconds::MAX), Err(MoneyError::Overflow));
}

#[test]
fn rounding_favours_the_renter_in_what_is_paid_and_covers_what_is_asked() {
    let per_hour = UsdPerHour("0.65".parse().unwrap());
    let shown = |seconds| usd_gross_floor(per_hour, 1, Seconds(seconds)).unwrap().to_string();
    assert_eq!(shown(1), "0.000180");
    assert_eq!(shown(3_601), "0.650180");
    let bound = usd_gross_ceil(per_hour, 1, Seconds(1)).unwrap();
    assert_eq!(bound.to_string(), "0.000181");
    assert_eq!(deposit_ceil(rate(650_000), Seconds(1)), Ok(amount(181)));
}

#[test]
fn settled_seconds_cannot_fall() {
    let refusal =
        payout_between(rate(1), FeeBps::MAX, amount(1), Seconds(2), Seconds(1)).unwrap_err();
    assert_eq!(refusal, MoneyError::SettledFell { before: 2, after: 1 });
}

proptest! {
    #[test]
    fn a_quoted_deposit_pays_for_its_duration(
        per_hour in 1..=Amount::MAX.get() >> 12,
        duration in 1_u32..=31 * 24 * 3_600,
    ) {
        let (rate, duration) = (rate(per_hour), Seconds(duration));
        let deposit = deposit_ceil(rate, duration).unwrap();
        let paid_for = auto_stop_second(deposit, rate);
        prop_assert!(paid_for >= duration);
        if per_hour > 3_600 {
            prop_assert_eq!(paid_for, duration);
        }
        let left = deposit.get() - gross_floor(rate, duration, deposit).get();
        prop_assert!(left <= 1, "only rounding is left");
    }

    #[test]
    fn the_gross_never_falls_with_time(
        per_hour in 1..=Amount::MAX.get(),
        deposit in 0..=Amount::MAX.get(),
        a in any::<u32>(),
        b in any::<u32>(),
    ) {
        let gross = |seconds| gross_floor(rate(per_hour), Seconds(seconds), amount(deposit));
        prop_assert!(gross(a.min(b)) <= gross(a.max(b)));
        prop_assert!(gross(a) <= amount(deposit));
    }

    #[test]
    fn parts_in_any_cut_make_the_whole(
        per_hour in 1..=Amount::MAX.get() >> 20,
        deposit in 0..=Amount::MAX.get(),
        bps in 0_u16..=1_500,
        mut cuts in prop::collection::vec(0_u32..=4_000_000, 1..12),
    ) {
        let (rate, deposit, bps) = (rate(per_hour), amount(deposit), FeeBps::new(bps).unwrap());
        cuts.sort_unstable();
        let end = Seconds(*cuts.last().unwrap());
        let (mut from, mut net, mut fee) = (Seconds::ZERO, 0, 0);
        for cut in cuts {
            let part = payout_between(rate, bps, deposit, from, Seconds(cut)).unwrap();
            net += part.net.get();
            fee += part.fee.get();
            from = Seconds(cut);
        }
        let whole = split(deposit, rate, bps, end).unwrap();
        prop_assert_eq!((net, fee), (whole.provider.get(), whole.fee.get()));
        prop_assert_eq!(net + fee + whole.refund.get(), deposit.get());
        prop_assert_eq!(whole.gross().unwrap().get(), net + fee);
    }
}
