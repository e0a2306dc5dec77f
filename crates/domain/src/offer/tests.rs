use super::*;

const GOOD: OfferTerms = OfferTerms {
    price: UsdPerHour(UsdMicros::new(650_000)),
    gpu_count: 8,
    min_duration: Seconds(60),
    max_duration: MAX_DURATION,
};

#[test]
fn each_bound_has_its_name() {
    assert_eq!(GOOD.validate(), Ok(()));
    let price = |micros| OfferTerms { price: UsdPerHour(UsdMicros::new(micros)), ..GOOD };
    assert_eq!(price(0).validate(), Err(OfferError::PriceZero));
    assert_eq!(price(1_000_000_000).validate(), Ok(()));
    assert_eq!(price(1_000_000_001).validate(), Err(OfferError::PriceTooHigh));
    for gpu_count in [0, MAX_GPU_COUNT.saturating_add(1)] {
        let terms = OfferTerms { gpu_count, ..GOOD };
        assert_eq!(terms.validate(), Err(OfferError::GpuCount(gpu_count)));
    }
    let min_zero = OfferTerms { min_duration: Seconds::ZERO, ..GOOD };
    assert_eq!(min_zero.validate(), Err(OfferError::MinDurationZero));
    let crossed = OfferTerms { max_duration: Seconds(59), ..GOOD };
    let (min, max) = (Seconds(60), Seconds(59));
    assert_eq!(crossed.validate(), Err(OfferError::MinAboveMax { min, max }));
    let long = OfferTerms { max_duration: MAX_DURATION.saturating_add(Seconds::ONE), ..GOOD };
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
    let json = serde_json::to_string(&GOOD).unwrap();
    assert_eq!(serde_json::from_str::<OfferTerms>(&json).unwrap(), GOOD);
    let more = json.replace("\"gpu_count\"", "\"fee\":1,\"gpu_count\"");
    assert!(serde_json::from_str::<OfferTerms>(&more).is_err());
}
