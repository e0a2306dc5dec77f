use super::*;

fn usd(text: &str) -> UsdMicros {
    text.parse().unwrap()
}

fn two_hours(side: FeeSide, deposit: Option<UsdMicros>) -> Usage {
    Usage {
        rate: UsdPerHour(usd("0.65")),
        units: 1,
        elapsed: Seconds(7_200),
        rounding: Rounding { granularity: Seconds::ONE, minimum: Seconds::ONE },
        ever_ready: true,
        fee: Fee { bps: FeeBps::new(1_000).unwrap(), side },
        deposit,
    }
}

#[test]
fn the_fee_is_taken_from_or_added_to_the_price() {
    let from = usage(&two_hours(FeeSide::Provider, Some(usd("2")))).unwrap().charge;
    assert_eq!((from.provider, from.renter_total), (usd("1.17"), usd("1.30")));
    assert_eq!((from.fee, from.refund), (usd("0.13"), Some(usd("0.70"))));
    let added = usage(&two_hours(FeeSide::Renter, Some(usd("2")))).unwrap().charge;
    assert_eq!((added.provider, added.renter_total), (usd("1.30"), usd("1.43")));
    assert_eq!(added.refund, Some(usd("0.57")));
}

#[test]
fn nobody_pays_more_than_the_deposit() {
    for side in [FeeSide::Provider, FeeSide::Renter] {
        let charge = usage(&two_hours(side, Some(usd("1")))).unwrap().charge;
        assert!(charge.renter_total <= usd("1"));
        let left = charge.refund.unwrap();
        assert_eq!(charge.renter_total.checked_add(left), Some(usd("1")));
        assert!(left <= UsdMicros::new(1), "only rounding is left");
    }
}

#[test]
fn what_was_never_ready_costs_nothing() {
    let never = Usage { ever_ready: false, ..two_hours(FeeSide::Provider, None) };
    let estimate = usage(&never).unwrap();
    assert_eq!(estimate.billed, Seconds::ZERO);
    assert_eq!(estimate.charge.renter_total, UsdMicros::ZERO);
}

#[test]
fn hours_are_exact() {
    let seconds = |text: &str| text.parse::<Hours>().unwrap().seconds_ceil().unwrap().get();
    assert_eq!((seconds("182.5"), seconds("0.25"), seconds("0")), (657_000, 900, 0));
    assert_eq!(seconds("0.000001"), 1);
    assert!("1193047".parse::<Hours>().unwrap().seconds_ceil().is_err());
    assert!("-1".parse::<Hours>().is_err());
}

#[test]
fn divisors_of_zero_are_refused() {
    let rate = UsdPerHour(usd("1"));
    assert_eq!(per_million_tokens(rate, 1, 0), Err(MoneyError::DivisionByZero));
    assert_eq!(per_gpu(rate, 0), Err(MoneyError::DivisionByZero));
}

#[test]
fn changes_are_rounded_half_up_and_named() {
    let shown = |a: &str, b: &str| compare(1, usd(a), usd(b)).unwrap().to_string();
    assert_eq!(shown("3", "2"), "3.00 -> 2.00 (-33.33%)");
    assert_eq!(shown("3", "1"), "3.00 -> 1.00 (-66.67%)");
    assert_eq!(shown("1", "3"), "1.00 -> 3.00 (+200.00%)");
    assert_eq!(shown("1", "1"), "1.00 -> 1.00 (0.00%)");
    assert_eq!(shown("0", "1"), "0.00 -> 1.00 (n/a)");
    assert_eq!(compare(u64::MAX, usd("1"), usd("1")), Err(MoneyError::Overflow));
}
