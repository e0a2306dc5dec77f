#![allow(clippy::arithmetic_side_effects)]

use alloy_primitives::{U256, U512};
use proptest::prelude::*;

use super::*;

#[test]
fn dollars_are_read_strictly() {
    for (text, micros) in [
        ("0", 0),
        ("0.65", 650_000),
        ("0.650000", 650_000),
        ("1", 1_000_000),
        ("182.5", 182_500_000),
        ("18446744073709.551615", u64::MAX),
    ] {
        assert_eq!(text.parse(), Ok(UsdMicros::new(micros)), "{text}");
    }
    for text in [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1e3",
        "1,5",
        " 1",
        "1 ",
        "0.1234567",
        "1.2.3",
        "1_000",
        "18446744073709.551616",
        "99999999999999999999",
        "٣",
        "0x1",
        "NaN",
    ] {
        assert!(text.parse::<UsdMicros>().is_err(), "{text}");
    }
}

#[test]
fn cents_are_rounded_half_up_for_showing() {
    for (micros, shown) in [
        (0, "0.00"),
        (4_999, "0.00"),
        (5_000, "0.01"),
        (860_215, "0.86"),
        (4_096_250, "4.10"),
        (995_000, "1.00"),
        (u64::MAX, "18446744073709.55"),
    ] {
        assert_eq!(UsdMicros::new(micros).cents_half_up(), shown);
    }
}

#[test]
fn amounts_are_bounded_and_have_one_spelling() {
    assert_eq!(Amount::MAX.get(), (1_u128 << 96) - 1);
    assert_eq!(Amount::new(1 << 96), Err(MoneyError::AmountTooLarge));
    assert_eq!(Amount::MAX.checked_add(Amount::new(1).unwrap()), None);
    assert_eq!(Amount::ZERO.checked_sub(Amount::new(1).unwrap()), None);
    assert_eq!("79228162514264337593543950335".parse(), Ok(Amount::MAX));
    for text in ["79228162514264337593543950336", "340282366920938463463374607431768211456"] {
        assert_eq!(text.parse::<Amount>(), Err(MoneyError::AmountTooLarge));
    }
    for text in ["", "-1", "+1", "01", "00", "1.0", " 1", "1e3", "0x1"] {
        assert!(matches!(text.parse::<Amount>(), Err(MoneyError::NotANumber { .. })), "{text}");
    }
}

#[test]
fn money_in_json_is_a_string() {
    let amount = Amount::new(1_500_000).unwrap();
    assert_eq!(serde_json::to_string(&amount).unwrap(), "\"1500000\"");
    assert_eq!(serde_json::from_str::<Amount>("\"1500000\"").unwrap(), amount);
    let price = UsdMicros::new(650_000);
    assert_eq!(serde_json::to_string(&price).unwrap(), "\"0.650000\"");
    for number in ["1500000", "1.5", "-1", "null"] {
        let refusal = serde_json::from_str::<Amount>(number).unwrap_err().to_string();
        assert!(refusal.contains("as a string and not as a JSON number"), "{refusal}");
        let refusal = serde_json::from_str::<UsdMicros>(number).unwrap_err().to_string();
        assert!(refusal.contains("as a string and not as a JSON number"), "{refusal}");
    }
}

#[test]
fn shares_are_bounded() {
    assert!(Bps::new(10_000).is_ok());
    assert_eq!(Bps::new(10_001), Err(MoneyError::BpsOutOfRange(10_001)));
    assert!(FeeBps::new(0).is_ok() && FeeBps::new(1_500).is_ok());
    assert_eq!(FeeBps::new(1_501), Err(MoneyError::FeeAboveCap(1_501)));
    assert!(FeeBps::quotable(1_000).is_ok() && FeeBps::quotable(1_500).is_ok());
    for bps in [0, 999, 1_501] {
        assert_eq!(FeeBps::quotable(bps), Err(MoneyError::FeeNotQuotable(bps)));
    }
    assert!(serde_json::from_str::<FeeBps>("1501").is_err());
    assert_eq!(serde_json::to_string(&FeeBps::MAX).unwrap(), "1500");
    assert!(Decimals::new(30).is_ok());
    assert_eq!(Decimals::new(31), Err(MoneyError::DecimalsOutOfRange(31)));
    assert_eq!(Decimals::MAX.base_units(), 10_u128.pow(30));
}

#[test]
fn division_by_zero_is_an_error() {
    for (a, b) in [(0, 0), (1, 1), (u128::MAX, u128::MAX)] {
        assert_eq!(mul_div_floor(a, b, 0), Err(MoneyError::DivisionByZero));
        assert_eq!(mul_div_ceil(a, b, 0), Err(MoneyError::DivisionByZero));
    }
}

/// Numbers of any length, so that small and large products both come up.
fn number() -> impl Strategy<Value = u128> {
    (any::<u128>(), 0_u32..128).prop_map(|(wide, shift)| wide >> shift)
}

proptest! {
    #[test]
    fn mul_div_agrees_with_512_bits(a in number(), b in number(), d in number()) {
        prop_assume!(d != 0);
        let product = U512::from(a) * U512::from(b);
        let (floor, rest) = (product / U512::from(d), product % U512::from(d));
        let ceil = if rest == U512::ZERO { floor } else { floor + U512::from(1) };
        let narrow = |wide: U512| u128::try_from(wide).map_err(|_| MoneyError::Overflow);
        prop_assert_eq!(mul_div_floor(a, b, d), narrow(floor));
        prop_assert_eq!(mul_div_ceil(a, b, d), narrow(ceil));
        prop_assert!(U256::from(a).checked_mul(U256::from(b)).is_some());
    }

    #[test]
    fn dollars_round_trip(micros in any::<u64>()) {
        let usd = UsdMicros::new(micros);
        prop_assert_eq!(usd.to_string().parse(), Ok(usd));
        let json = serde_json::to_string(&usd).unwrap();
        prop_assert_eq!(serde_json::from_str::<UsdMicros>(&json).unwrap(), usd);
    }

    #[test]
    fn amounts_round_trip(base_units in 0..=Amount::MAX.get()) {
        let amount = Amount::new(base_units).unwrap();
        prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        let json = serde_json::to_string(&amount).unwrap();
        prop_assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,80}") {
        if let Ok(amount) = text.parse::<Amount>() {
            prop_assert_eq!(amount.to_string(), text.clone());
        }
        if let Ok(usd) = text.parse::<UsdMicros>() {
            prop_assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b'.'), "{}", usd);
        }
    }
}
