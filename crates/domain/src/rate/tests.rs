use super::*;

fn rate_of(
    usd: &str,
    units: u32,
    decimals: u8,
    usd_per_token: &str,
) -> Result<TokenRate, MoneyError> {
    let decimals = Decimals::new(decimals).unwrap();
    token_rate_floor(usd.parse().unwrap(), units, decimals, usd_per_token.parse().unwrap())
}

#[test]
fn token_rates_round_in_the_renters_favour() {
    assert_eq!(rate_of("0.65", 2, 6, "1").unwrap().get(), 1_300_000);
    assert_eq!(rate_of("0.65", 1, 6, "0.9999").unwrap().get(), 650_065);
    assert_eq!(rate_of("0.65", 1, 18, "0.234567").unwrap().get(), 2_771_063_278_295_753_452);
}

#[test]
fn rates_out_of_range_are_refused() {
    assert_eq!(rate_of("0.65", 0, 6, "1"), Err(MoneyError::ZeroRate));
    assert_eq!(rate_of("0.65", 1, 0, "1"), Err(MoneyError::ZeroRate));
    assert_eq!(rate_of("0.65", 1, 6, "0"), Err(MoneyError::DivisionByZero));
    assert_eq!(rate_of("1", 1, 30, "1"), Err(MoneyError::AmountTooLarge));
    let most = rate_of("18446744073709.551615", u32::MAX, 30, "0.000001");
    assert_eq!(most, Err(MoneyError::Overflow));
    assert!(serde_json::from_str::<TokenRate>("\"0\"").is_err());
}
