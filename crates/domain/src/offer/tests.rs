#![allow(clippy::arithmetic_side_effects)]

use super::*;

use crate::money::{Bps, UsdMicros};
use crate::rate::UsdPerHour;
use crate::time::Seconds;

fn good() -> OfferTerms {
    let price = UsdPerHour(UsdMicros::new(650_000));
    let step = |min_duration, bps| Reserved { min_duration, discount_bps: Bps::new(bps).unwrap() };
    OfferTerms {
        chunks: vec![1, 2, 4, 8],
        reserved: vec![step(Seconds(86_400), 500), step(Seconds(604_800), 1_500)],
        disk_gb: 1_000,
        ..OfferTerms::plain(price, 8, Seconds(60), MAX_DURATION)
    }
}

#[test]
fn each_bound_has_its_name() {
    assert_eq!(good().validate(), Ok(()));
    let price = |micros| OfferTerms { price: UsdPerHour(UsdMicros::new(micros)), ..good() };
    assert_eq!(price(0).validate(), Err(OfferError::PriceZero));
    assert_eq!(price(1_000_000_000).validate(), Ok(()));
    assert_eq!(price(1_000_000_001).validate(), Err(OfferError::PriceTooHigh));
    for gpu_count in [0, MAX_GPU_COUNT.saturating_add(1)] {
        let terms = OfferTerms { gpu_count, chunks: vec![gpu_count], ..good() };
        assert_eq!(terms.validate(), Err(OfferError::GpuCount(gpu_count)));
    }
    let min_zero = OfferTerms { min_duration: Seconds::ZERO, ..good() };
    assert_eq!(min_zero.validate(), Err(OfferError::MinDurationZero));
    let crossed = OfferTerms { max_duration: Seconds(59), ..good() };
    let (min, max) = (Seconds(60), Seconds(59));
    assert_eq!(crossed.validate(), Err(OfferError::MinAboveMax { min, max }));
    let long = OfferTerms { max_duration: MAX_DURATION.saturating_add(Seconds::ONE), ..good() };
    assert_eq!(long.validate(), Err(OfferError::MaxDurationTooLong));
}

#[test]
fn withdrawn_offers_stay_withdrawn() {
    for state in OfferState::ALL.iter().copied() {
        assert!(state.may_become(state));
        assert!(OfferState::Listed.may_become(state) && OfferState::Paused.may_become(state));
        assert_eq!(OfferState::Withdrawn.may_become(state), state == OfferState::Withdrawn);
        assert_eq!(state.as_str().parse(), Ok(state));
    }
}

#[test]
fn model_names_have_one_form() {
    for slug in ["h100-sxm-80gb", "a6", "rtx-4090", "4090"] {
        assert_eq!(GpuModelSlug::new(slug).unwrap().as_str(), slug);
    }
    let long = "a".repeat(49);
    for slug in ["", "a", "-a", "a-", "a--b", "H100", "h 100", "h100_sxm", "h100/..", "é1", &long]
    {
        assert_eq!(GpuModelSlug::new(slug), Err(OfferError::ModelSlug), "{slug}");
    }
    assert!(serde_json::from_str::<GpuModelSlug>("\"H100\"").is_err());
}

#[test]
fn unknown_fields_of_terms_are_refused() {
    let json = serde_json::to_string(&good()).unwrap();
    assert_eq!(serde_json::from_str::<OfferTerms>(&json).unwrap(), good());
    let more = json.replace("\"gpu_count\"", "\"fee\":1,\"gpu_count\"");
    assert!(serde_json::from_str::<OfferTerms>(&more).is_err());
}

#[test]
fn what_is_rented_and_for_how_long_is_bounded() {
    for chunks in [vec![], vec![0, 8], vec![4], vec![2, 1, 8], vec![2, 2, 8], vec![1, 9]] {
        let terms = OfferTerms { chunks: chunks.clone(), ..good() };
        assert_eq!(terms.validate(), Err(OfferError::Chunks(8)), "{chunks:?}");
    }
    assert_eq!(good().least_chunk(), 1);
    let alone = OfferTerms { isolation: Isolation::Machine, ..good() };
    assert_eq!(alone.validate(), Err(OfferError::IsolatedInParts));
    assert_eq!(OfferTerms { chunks: vec![8], ..alone }.validate(), Ok(()));
    let step =
        |at, bps| Reserved { min_duration: Seconds(at), discount_bps: Bps::new(bps).unwrap() };
    for (reserved, error) in [
        (vec![step(60, 0)], OfferError::Discount(0)),
        (vec![step(60, 1), step(61, 9_001)], OfferError::Discount(1)),
        (vec![step(59, 1)], OfferError::ReservedDuration(0)),
        (vec![step(MAX_DURATION.get() + 1, 1)], OfferError::ReservedDuration(0)),
        (vec![step(60, 2), step(60, 3)], OfferError::ReservedOrder(1)),
        (vec![step(60, 2), step(61, 2)], OfferError::ReservedOrder(1)),
        (vec![step(60, 1); MAX_RESERVED_STEPS + 1], OfferError::ReservedTooMany),
    ] {
        let terms = OfferTerms { reserved, ..good() };
        assert_eq!(terms.validate(), Err(error));
    }
    for (terms, error) in [
        (
            OfferTerms { disk_price: UsdMicros::new(100_000_001), ..good() },
            OfferError::DiskPriceTooHigh,
        ),
        (OfferTerms { disk_gb: 1_048_577, ..good() }, OfferError::DiskTooLarge),
        (
            OfferTerms { up_price: UsdMicros::new(100_000_001), ..good() },
            OfferError::NetworkPriceTooHigh { up: true },
        ),
        (
            OfferTerms { down_price: UsdMicros::new(100_000_001), ..good() },
            OfferError::NetworkPriceTooHigh { up: false },
        ),
        (OfferTerms { notice: Seconds(604_801), ..good() }, OfferError::NoticeTooLong),
    ] {
        assert_eq!(terms.validate(), Err(error));
    }
}

#[test]
fn the_longest_step_that_is_reached_counts() {
    let discount = |seconds| good().discount(Seconds(seconds)).get();
    assert_eq!(discount(86_399), 0);
    assert_eq!((discount(86_400), discount(604_799)), (500, 500));
    assert_eq!((discount(604_800), discount(u32::MAX)), (1_500, 1_500));
}

#[test]
fn shares_of_the_disk_never_add_up_to_more_than_the_whole() {
    let terms = good();
    assert_eq!((terms.disk_limit(8, 8), terms.disk_limit(1, 8)), (1_000, 125));
    assert_eq!((terms.disk_limit(1, 3), terms.disk_limit(2, 3)), (333, 666));
    // no GPUs is no machine; more than it has is all of it
    assert_eq!((terms.disk_limit(1, 0), terms.disk_limit(9, 8)), (0, 1_000));
}
