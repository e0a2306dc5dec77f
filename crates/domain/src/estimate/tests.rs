use super::*;
use crate::money::Bps;

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

fn rented(rate: &str, hours: u32) -> Usage {
    Usage {
        rate: UsdPerHour(usd(rate)),
        elapsed: Seconds(hours.saturating_mul(3_600)),
        ..two_hours(FeeSide::Provider, None)
    }
}

#[test]
fn interruptions_make_work_longer_and_the_discount_makes_it_cheaper() {
    // each 100 hours 10 interruptions of half an hour: 5 of 100 hours are lost, 95 are work
    let case = Spot {
        on_demand: rented("1.00", 95),
        discount: Bps::new(6_000).unwrap(),
        interruptions: "10".parse().unwrap(),
        lost: Seconds(1_800),
    };
    let found = spot(&case).unwrap();
    assert_eq!(found.running, Seconds(100 * 3_600));
    assert_eq!(found.interruptions_micros, 10_000_000);
    assert_eq!(found.on_demand.charge.renter_total, usd("95"));
    assert_eq!(found.expected.charge.renter_total, usd("40"));
    assert_eq!(found.change.to_string(), "-57.89%");
    assert_eq!(found.break_even.get(), 500, "5 of 100 hours");

    let calm = Spot { interruptions: PerHundredHours::default(), ..case };
    let found = spot(&calm).unwrap();
    assert_eq!((found.running, found.interruptions_micros), (Seconds(95 * 3_600), 0));
    assert_eq!(found.break_even.get(), 0);
}

#[test]
fn at_the_break_even_discount_both_cost_the_same() {
    let case = |discount| Spot {
        on_demand: rented("1.00", 95),
        discount: Bps::new(discount).unwrap(),
        interruptions: "10".parse().unwrap(),
        lost: Seconds(1_800),
    };
    let even = spot(&case(500)).unwrap();
    assert_eq!(even.change, Change::Same);
    assert!(matches!(spot(&case(499)).unwrap().change, Change::More(_)));
}

#[test]
fn work_that_is_interrupted_too_often_never_ends() {
    let case = |lost| Spot {
        on_demand: rented("1.00", 1),
        discount: Bps::new(9_000).unwrap(),
        interruptions: "100".parse().unwrap(),
        lost: Seconds(lost),
    };
    assert_eq!(spot(&case(3_600)), Err(EstimateError::NeverEnds));
    assert_eq!(spot(&case(u32::MAX)), Err(EstimateError::NeverEnds));
    assert_eq!(spot(&case(3_599)).unwrap().running, Seconds(3_600 * 3_600));
}

fn bought(purchase: &str, rent: &str) -> BreakEven {
    BreakEven {
        purchase: usd(purchase),
        resale: UsdMicros::ZERO,
        rent: UsdPerHour(usd(rent)),
        running_cost: UsdPerHour::default(),
        hours_per_day: "24".parse().unwrap(),
    }
}

#[test]
fn a_card_has_paid_for_itself_after_its_price_in_hours() {
    // 1,600 to 2,000 dollars at 0.80 to 0.50 an hour: 2,000 to 4,000 hours, 83 to 167 days
    for (purchase, rent, hours, days) in [
        ("1600", "0.80", "2000.000000", 83_333_334),
        ("2000", "0.50", "4000.000000", 166_666_667),
        ("1600", "0.60", "2666.666667", 111_111_112),
    ] {
        let point = break_even(&bought(purchase, rent)).unwrap().unwrap();
        assert_eq!((point.hours.to_string().as_str(), point.days_micros), (hours, days));
    }
    let powered = BreakEven {
        running_cost: power_ceil(450, usd("0.40")).unwrap(),
        resale: usd("600"),
        hours_per_day: "8".parse().unwrap(),
        ..bought("1600", "0.68")
    };
    let point = break_even(&powered).unwrap().unwrap();
    assert_eq!(point.saved_per_hour, usd("0.50"), "0.18 an hour is power");
    assert_eq!((point.hours.to_string().as_str(), point.days_micros), ("2000.000000", 250_000_000));
}

#[test]
fn a_card_that_costs_as_much_to_run_as_to_rent_never_pays() {
    let dear = BreakEven { running_cost: UsdPerHour(usd("0.50")), ..bought("1600", "0.50") };
    assert_eq!(break_even(&dear), Ok(None));
    let free = BreakEven { resale: usd("1700"), ..bought("1600", "0.50") };
    assert_eq!(break_even(&free).unwrap().unwrap().hours, Hours::default());
    let unused = BreakEven { hours_per_day: Hours::default(), ..bought("1600", "0.50") };
    assert_eq!(break_even(&unused), Err(MoneyError::DivisionByZero));
}

fn job(name: &str, gpus: u32, seconds: u32) -> Vec<AtProvider> {
    let models = crate::catalog::candidates(name);
    across_providers(&Job { models, gpus, elapsed: Seconds(seconds) }).unwrap()
}

fn low(found: &[AtProvider], provider: &str, tier: &str) -> Vec<String> {
    let named = found.iter().filter(|at| at.price.provider == provider);
    let tiered = named.filter(|at| at.price.tier.as_deref() == Some(tier));
    tiered.map(|at| at.by_second.low.cents_half_up()).collect()
}

#[test]
fn the_three_scenarios_come_out_of_the_reference_prices() {
    let two_hours = job("rtx-4090", 1, 7_200);
    assert_eq!(low(&two_hours, "RunPod", "secure_cloud"), ["1.18"]);
    assert_eq!(low(&two_hours, "Vast.ai", "marketplace_average"), ["0.80", "1.00"]);
    assert_eq!(low(&two_hours, "GPUFlow", "marketplace_average"), ["1.30"]);
    let eight_hours = job("A100 80GB", 1, 28_800);
    assert_eq!(low(&eight_hours, "AWS", "on_demand"), ["32.80"]);
    assert_eq!(low(&eight_hours, "Azure", "on_demand"), ["29.36", "217.60"]);
    assert_eq!(low(&eight_hours, "GCP", "on_demand"), ["23.44"]);
    assert_eq!(low(&eight_hours, "RunPod", "secure_cloud"), ["11.12", "11.92"]);
    assert_eq!(low(&eight_hours, "Vast.ai", "marketplace_average"), ["8.80"]);
    assert_eq!(low(&eight_hours, "GPUFlow", "marketplace_average"), ["12.00"]);
    let month = job("RTX 4090", 1, 720 * 3_600);
    assert_eq!(low(&month, "RunPod", "secure_cloud"), ["424.80"]);
    assert_eq!(low(&month, "Vast.ai", "marketplace_average"), ["288.00", "360.00"]);
    assert_eq!(low(&month, "GPUFlow", "marketplace_average"), ["468.00"]);
}

#[test]
fn what_is_contradicted_is_told_and_not_ranked() {
    let eight_hours = job("A100 80GB", 1, 28_800);
    let ranked = eight_hours.iter().take_while(|at| !at.price.contradicted).count();
    let (ranked, told) = eight_hours.split_at(ranked);
    assert!(ranked.is_sorted_by_key(|at| (at.compared().low, at.compared().high)));
    let named: Vec<_> = told.iter().map(|at| at.price.provider.as_str()).collect();
    assert_eq!(named, ["GCP", "AWS"], "behind all others");
    let clouds: Vec<AtProvider> = eight_hours
        .into_iter()
        .filter(|at| ["AWS", "Azure", "GCP"].contains(&at.price.provider.as_str()))
        .collect();
    let least = cheapest(&clouds).unwrap();
    assert_eq!(
        (least.price.provider.as_str(), least.by_second.low.cents_half_up().as_str()),
        ("Azure", "29.36")
    );
    assert!(cheapest(&[]).is_none());
}

#[test]
fn each_is_compared_as_it_bills() {
    // by the minute, all that state it
    let short = job("T4", 1, 90);
    let least = cheapest(&short).unwrap();
    assert_eq!((least.price.provider.as_str(), least.compared()), ("GCP", least.by_minute));
    assert_eq!(least.compared().low, usd("0.011666"));
    for name in ["A100 80GB", "H100 SXM", "RTX 4090"] {
        let found = job(name, 1, 61);
        for at in &found {
            let own = match at.price.provider.as_str() {
                "AWS" | "Azure" | "GCP" | "HuggingFace" => Some(at.by_minute),
                "RunPod" | "Vast.ai" | "GPUFlow" => Some(at.by_second),
                _ => None,
            };
            assert_eq!((at.own(), at.compared()), (own, own.unwrap_or(at.by_second)), "{at:?}");
        }
        let ranked = found.iter().filter(|at| !at.price.contradicted);
        assert!(ranked.map(|at| at.compared().low).is_sorted(), "{found:?}");
    }
}

#[test]
fn coarser_rounding_costs_more_and_whole_instances_are_whole() {
    for at in job("A100 80GB", 3, 3_601) {
        assert!(at.by_second.low <= at.by_minute.low && at.by_minute.low <= at.by_hour.low);
        assert!(at.by_second.low <= at.by_second.high && at.gpus >= 3);
        if at.price.instance.as_deref() == Some("ND96asr A100 v4") {
            assert_eq!((at.units, at.gpus), (1, 8));
        }
    }
    // an 80 GB job takes no 40 GB card, and nothing whose memory is not told
    let wanted = job("A100 80GB", 1, 3_600);
    assert!(wanted.iter().all(|at| at.price.models.iter().all(|model| model.vram_gb == 80)));
    // one form may be priced by what leaves the form open, not by what names the other
    let sxm = job("a100-80gb-sxm", 1, 3_600);
    let spelled: Vec<_> = sxm.iter().filter_map(|at| at.price.gpu.as_deref()).collect();
    assert!(spelled.contains(&"A100_SXM_80GB") && spelled.contains(&"A100_80GB"));
    assert!(!spelled.contains(&"A100_PCIE_80GB"));
    assert!(job("nonsense", 1, 3_600).is_empty());
}

#[test]
fn tokens_and_quantities_are_rounded_once() {
    // a million costs 0.860215..; ten million are not ten times the rounded price
    let rate = UsdPerHour(usd("4.80"));
    assert_eq!(for_tokens(rate, 1, 1_550, 10_000_000).unwrap(), usd("8.602150"));
    assert_eq!(for_quantity("2.5".parse().unwrap(), usd("0.10")).unwrap(), usd("0.25"));
}
