#![allow(clippy::arithmetic_side_effects)]

use proptest::prelude::*;

use super::*;
use crate::billing::gross_floor;
use crate::offer::{MAX_DURATION, MAX_GPU_COUNT};

fn usd(text: &str) -> UsdMicros {
    text.parse().unwrap()
}

fn offer() -> OfferTerms {
    OfferTerms {
        price: UsdPerHour(usd("0.65")),
        gpu_count: 4,
        min_duration: Seconds(60),
        max_duration: MAX_DURATION,
    }
}

fn request() -> QuoteRequest {
    QuoteRequest {
        duration: Seconds(7_200),
        gpu_count: 2,
        token: TokenSpec {
            address: Address::repeat_byte(1),
            decimals: Decimals::new(6).unwrap(),
            usd_per_token: usd("1"),
        },
    }
}

fn fee() -> FeeBps {
    FeeBps::quotable(1_000).unwrap()
}

#[test]
fn two_gpus_for_two_hours_in_a_dollar_token() {
    let figures = price_quote(&offer(), &request(), fee()).unwrap();
    assert_eq!(figures.rate_usd_per_hour.to_string(), "1.300000");
    assert_eq!(figures.token_rate.get(), 1_300_000);
    assert_eq!(figures.deposit.get(), 2_600_000);
    assert_eq!((figures.fee_max.get(), figures.provider_max.get()), (260_000, 2_340_000));
    assert_eq!(figures.auto_stop, Seconds(7_200));
    let line = figures.lines.first().unwrap();
    assert_eq!((line.qty, line.max_usd.to_string().as_str()), (14_400, "2.600000"));
    assert_eq!(line.qty / line.unit.qty_per_unit(), 4);
    let json = serde_json::to_string(&figures).unwrap();
    assert_eq!(serde_json::from_str::<QuoteFigures>(&json).unwrap(), figures);
}

#[test]
fn each_refusal_has_its_name() {
    let quote = |request: &QuoteRequest| price_quote(&offer(), request, fee()).unwrap_err();
    let range = QuoteError::DurationOutOfRange { min: Seconds(60), max: MAX_DURATION };
    assert_eq!(quote(&QuoteRequest { duration: Seconds(59), ..request() }), range);
    let long = MAX_DURATION.saturating_add(Seconds::ONE);
    assert_eq!(quote(&QuoteRequest { duration: long, ..request() }), range);
    for gpu_count in [0, 5] {
        let refusal = quote(&QuoteRequest { gpu_count, ..request() });
        assert_eq!(refusal, QuoteError::GpuCountOutOfRange { max: 4 });
    }
    let mut unpriced = request();
    unpriced.token.usd_per_token = UsdMicros::ZERO;
    assert_eq!(quote(&unpriced), QuoteError::TokenWithoutPrice);
    let mut dear = request();
    dear.token.decimals = Decimals::new(0).unwrap();
    dear.token.usd_per_token = usd("1000000");
    assert_eq!(quote(&dear), QuoteError::Money(MoneyError::ZeroRate));
    let no_fee = price_quote(&offer(), &request(), FeeBps::ZERO).unwrap_err();
    assert_eq!(no_fee, QuoteError::FeeNotQuotable(FeeBps::ZERO));
    let bad = OfferTerms { gpu_count: 0, ..offer() };
    let refusal = price_quote(&bad, &request(), fee()).unwrap_err();
    assert_eq!(refusal, QuoteError::Offer(OfferError::GpuCount(0)));
}

proptest! {
    #[test]
    fn figures_agree_with_each_other(
        price in 1_u64..=1_000_000_000,
        gpu_count in 1..=MAX_GPU_COUNT,
        duration in 1..=MAX_DURATION.get(),
        decimals in 0_u8..=18,
        usd_per_token in 1_u64..=1_000_000_000_000,
        bps in 1_000_u16..=1_500,
    ) {
        let offer = OfferTerms {
            price: UsdPerHour(UsdMicros::new(price)),
            gpu_count,
            min_duration: Seconds::ONE,
            max_duration: MAX_DURATION,
        };
        let token = TokenSpec {
            address: Address::ZERO,
            decimals: Decimals::new(decimals).unwrap(),
            usd_per_token: UsdMicros::new(usd_per_token),
        };
        let request = QuoteRequest { duration: Seconds(duration), gpu_count, token };
        let figures = match price_quote(&offer, &request, FeeBps::quotable(bps).unwrap()) {
            Ok(figures) => figures,
            Err(QuoteError::Money(_)) => return Ok(()),
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        let whole = figures.fee_max.get() + figures.provider_max.get();
        prop_assert_eq!(whole, gross_floor(figures.token_rate, figures.auto_stop, figures.deposit).get());
        prop_assert!(whole <= figures.deposit.get());
        prop_assert!(figures.auto_stop >= request.duration);
        // The token rate never asks for more dollars than the offer does.
        let micros = figures.token_rate.get() * u128::from(usd_per_token);
        let asked = u128::from(figures.rate_usd_per_hour.usd().get()) * token.decimals.base_units();
        prop_assert!(micros <= asked);
    }
}
