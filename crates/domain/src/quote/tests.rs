#![allow(clippy::arithmetic_side_effects)]

use proptest::prelude::*;

use super::*;
use crate::billing::gross_floor;
use crate::offer::{MAX_DURATION, MAX_GPU_COUNT, Reserved};

fn usd(text: &str) -> UsdMicros {
    text.parse().unwrap()
}

fn offer() -> OfferTerms {
    OfferTerms {
        chunks: vec![1, 2, 4],
        disk_price: usd("0.10"),
        disk_gb: 1_000,
        up_price: usd("0.02"),
        down_price: usd("0.005"),
        ..OfferTerms::plain(UsdPerHour(usd("0.65")), 4, Seconds(60), MAX_DURATION)
    }
}

fn request() -> QuoteRequest {
    QuoteRequest {
        duration: Seconds(7_200),
        gpu_count: 2,
        disk_gb: 0,
        up_gb: 0,
        down_gb: 0,
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
    for gpu_count in [0, 3, 5] {
        let refusal = quote(&QuoteRequest { gpu_count, ..request() });
        assert_eq!(refusal, QuoteError::NoSuchChunk { chunks: vec![1, 2, 4] });
    }
    let disk = quote(&QuoteRequest { disk_gb: 1_001, ..request() });
    assert_eq!(disk, QuoteError::DiskTooLarge { max: 1_000 });
    let up = quote(&QuoteRequest { up_gb: MAX_TRAFFIC_GB + 1, ..request() });
    assert_eq!(up, QuoteError::TrafficTooLarge { up: true });
    let down = quote(&QuoteRequest { down_gb: MAX_TRAFFIC_GB + 1, ..request() });
    assert_eq!(down, QuoteError::TrafficTooLarge { up: false });
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

#[test]
fn a_week_with_disk_and_network_line_by_line() {
    let offer = OfferTerms {
        reserved: vec![Reserved {
            min_duration: Seconds(604_800),
            discount_bps: Bps::new(1_000).unwrap(),
        }],
        ..offer()
    };
    let request = QuoteRequest {
        duration: Seconds(604_800),
        disk_gb: 200,
        up_gb: 50,
        down_gb: 100,
        ..request()
    };
    let figures = price_quote(&offer, &request, fee()).unwrap();
    let lines: Vec<(&str, String, u64, String)> = figures
        .lines
        .iter()
        .map(|line| {
            let price = line.unit_price.to_string();
            (line.kind.as_str(), price, line.qty, line.max_usd.to_string())
        })
        .collect();
    let line = |kind, price: &str, qty, max: &str| (kind, price.to_owned(), qty, max.to_owned());
    assert_eq!(
        lines,
        [
            line("compute", "0.650000", 1_209_600, "218.400000"),
            line("reserved_discount", "-0.130000", 604_800, "-21.840000"),
            line("disk", "0.100000", 120_960_000, "4.666667"),
            line("network_up", "0.020000", 50, "1.000000"),
            line("network_down", "0.005000", 100, "0.500000"),
            line("fee", "0.000000", 1, "0.000000"),
            line("rounding", "0.000109", 1, "0.000109"),
        ]
    );
    // 1.17 for the GPUs, 200 * 0.1 / 720 = 0.027778 for the disk, 1.5 / 168 = 0.008929 for the network, an hour
    assert_eq!(figures.rate_usd_per_hour.to_string(), "1.206707");
    assert_eq!(figures.subtotal_usd.to_string(), "202.726667");
    assert_eq!(figures.total_usd.to_string(), "202.726776");
    assert_eq!(figures.deposit.get(), 202_726_776);
    assert_eq!(figures.discount.get(), 1_000);
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
        (disk_gb, up_gb, down_gb) in (0_u32..=1_048_576, 0..=MAX_TRAFFIC_GB, 0..=MAX_TRAFFIC_GB),
        prices in proptest::array::uniform3(0_u64..=100_000_000),
        discount in 0_u16..=9_000,
    ) {
        let [disk_price, up_price, down_price] = prices.map(UsdMicros::new);
        let step = Reserved { min_duration: Seconds::ONE, discount_bps: Bps::new(discount).unwrap() };
        let offer = OfferTerms {
            reserved: if discount == 0 { vec![] } else { vec![step] },
            disk_price,
            disk_gb: 1_048_576,
            up_price,
            down_price,
            ..OfferTerms::plain(
                UsdPerHour(UsdMicros::new(price)), gpu_count, Seconds::ONE, MAX_DURATION)
        };
        let token = TokenSpec {
            address: Address::ZERO,
            decimals: Decimals::new(decimals).unwrap(),
            usd_per_token: UsdMicros::new(usd_per_token),
        };
        let request =
            QuoteRequest { duration: Seconds(duration), gpu_count, disk_gb, up_gb, down_gb, token };
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
        let rate = u128::from(figures.rate_usd_per_hour.usd().get());
        prop_assert!(micros <= rate * token.decimals.base_units());
        // The lines add up to the total, and the rounding is less than a micro-dollar per hour and part, and line.
        let sum: i64 = figures.lines.iter().map(|line| line.max_usd.get()).sum();
        prop_assert_eq!(u64::try_from(sum).unwrap(), figures.total_usd.get());
        let rounding = figures.lines.last().unwrap().max_usd.get();
        prop_assert!(rounding.unsigned_abs() <= 3 * (u64::from(duration) / 3_600 + 1) + 5);
        // Each part by plain fractions, an hour: between the exact sum and three micro-dollars more.
        let exact_seconds = u128::from(price) * u128::from(gpu_count) * (10_000 - u128::from(discount))
            * 720 * u128::from(duration)
            + u128::from(prices[0]) * u128::from(disk_gb) * 10_000 * u128::from(duration)
            + (u128::from(prices[1]) * u128::from(up_gb) + u128::from(prices[2]) * u128::from(down_gb))
                * 3_600 * 10_000 * 720;
        let scale = 10_000 * 720 * u128::from(duration);
        prop_assert!(rate * scale >= exact_seconds);
        prop_assert!(rate * scale < exact_seconds + 3 * scale);
    }
}
