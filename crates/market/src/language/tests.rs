use proptest::prelude::*;

use super::*;
use crate::query::Field;

/// Every name but one is a model's, and every place but one is there.
struct Most;

impl Lexicon for Most {
    fn models(&self, name: &str) -> Result<Vec<String>, NoName> {
        let unknown = NoName { reason: "no such model".to_owned(), nearest: Some("rtx-4090") };
        if name == "RTX_4091" { Err(unknown) } else { Ok(vec![name.to_owned()]) }
    }

    fn place(&self, name: &str) -> Result<(), NoName> {
        let unknown = NoName { reason: "no such place".to_owned(), nearest: Some("de") };
        if name == "germany" { Err(unknown) } else { Ok(()) }
    }
}

fn read(text: &str) -> (Query, Option<bool>) {
    let mut query = Query::default();
    let rentable = parse(text, &mut query, &Most);
    let rentable = rentable.unwrap_or_else(|error| panic!("{text}: {error}"));
    (query, rentable)
}

fn parsed(text: &str) -> Query {
    read(text).0
}

fn refused(text: &str) -> LanguageError {
    parse(text, &mut Query::default(), &Most).unwrap_err()
}

fn test(field: Field, set: Set) -> Test {
    Test { field, set }
}

#[test]
fn vasts_own_example_is_understood() {
    let query = parsed(
        "gpu_name=RTX_4090 num_gpus>=2 dph<0.5 reliability>0.98 geolocation in [DE, SE] verified=true",
    );
    assert_eq!(query.models, [Names { names: vec!["RTX_4090".to_owned()], not: false }]);
    assert_eq!(query.places, [Names { names: vec!["de".to_owned(), "se".to_owned()], not: false }]);
    assert_eq!(
        query.tests,
        [
            test(Field::GpuCount, Set::at_least(2)),
            test(Field::Hourly, Set::at_most(499_999)),
            test(Field::Reliability, Set::at_least(9_801)),
            test(Field::Verification, Set::OneOf(vec![1])),
        ]
    );
}

#[test]
fn spaces_quotes_lists_and_units_are_understood() {
    for (text, field, set) in [
        ("gpu_ram >= 24", Field::Vram, Set::at_least(24)),
        ("price == 0.65", Field::Price, Set::OneOf(vec![650_000])),
        ("price != 0.65", Field::Price, Set::NoneOf(vec![650_000])),
        ("price <= .5", Field::Price, Set::at_most(500_000)),
        ("price < 0", Field::Price, Set::Span(1, 0)),
        ("reliability >= 0.98765", Field::Reliability, Set::at_least(9_877)),
        ("reliability < 0.98765", Field::Reliability, Set::at_most(9_876)),
        ("reliability = 0.98765", Field::Reliability, Set::OneOf(vec![])),
        ("compute_cap >= 860", Field::ComputeCapability, Set::at_least(86)),
        ("compute_capability >= 8.6", Field::ComputeCapability, Set::at_least(86)),
        ("cuda_max_good>=12.4", Field::Cuda, Set::at_least(124)),
        ("pcie_bw>12.5", Field::Pcie, Set::at_least(12_501)),
        ("duration>=3.5", Field::MaxDuration, Set::at_least(302_400)),
        ("NUM_GPUS in [1,2,4]", Field::GpuCount, Set::OneOf(vec![1, 2, 4])),
        ("num_gpus not in [1, 2]", Field::GpuCount, Set::NoneOf(vec![1, 2])),
        ("dph_total<2", Field::Hourly, Set::at_most(1_999_999)),
        ("dph_base = 2", Field::Hourly, Set::OneOf(vec![2_000_000])),
        ("dph<=2", Field::Hourly, Set::at_most(2_000_000)),
        ("total_flops>=82.6", Field::TotalFlops, Set::at_least(82_600)),
        ("flops_usd > 100.5", Field::FlopsUsd, Set::at_least(100_501)),
        ("gpu_arch in ['nvidia']", Field::Vendor, Set::OneOf(vec![0])),
        ("rented=False", Field::Rented, Set::OneOf(vec![0])),
        ("tier notin [unverified]", Field::Tier, Set::NoneOf(vec![0])),
        ("static_ip=true", Field::StaticIp, Set::OneOf(vec![1])),
        ("runs_templates=true", Field::Templates, Set::OneOf(vec![1])),
        ("form = SXM", Field::Form, Set::OneOf(vec![1])),
    ] {
        assert_eq!(parsed(text).tests, [test(field, set)], "{text}");
    }
    let (query, rentable) = read(
        "  gpu_name != \"Tesla V100\"  rentable = True,id=ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f",
    );
    assert_eq!(query.models, [Names { names: vec!["Tesla V100".to_owned()], not: true }]);
    assert_eq!((rentable, query.offers.len()), (Some(true), 1));
    // as Vast.ai's own help writes it
    let query = parsed("geolocation not in ['XV', 'XZ'] gpu_name = 'RTX 4090'");
    assert_eq!(query.places, [Names { names: vec!["xv".to_owned(), "xz".to_owned()], not: true }]);
    assert_eq!(query.models, [Names { names: vec!["RTX 4090".to_owned()], not: false }]);
    assert_eq!(parsed("gpu_name = \"it's\"").models[0].names, ["it's"]);
    assert_eq!(parsed("verified=any").tests, []);
    assert_eq!(parsed("").tests, []);
}

#[test]
fn what_is_said_of_being_rentable_holds_together() {
    for (text, said) in [
        ("price<1", None),
        ("rentable=any", None),
        ("rentable=true", Some(true)),
        ("available != false", Some(true)),
        ("rentable=false", Some(false)),
        ("rentable in [true, false]", Some(false)),
        // what asks for more takes nothing back of what asks for less
        ("rentable=true rentable=false", Some(true)),
        ("rentable=false price<1 available=true", Some(true)),
        ("rentable=false available=false", Some(false)),
    ] {
        let (query, rentable) = read(text);
        assert_eq!((rentable, query.available), (said, false), "{text}");
    }
}

#[test]
fn what_is_not_understood_is_named_with_its_place() {
    for (text, position, says, nearest) in [
        ("gpu_nmae=RTX_4090", 1, "no field \"gpu_nmae\"; did you mean gpu_name?", Some("gpu_name")),
        ("price<1 relibility>0.9", 9, "did you mean reliability?", Some("reliability")),
        ("zzzzzzzzzzzzzzzz=1", 1, "there is no field", None),
        ("price", 6, "expected an operator", None),
        ("price ~ 1", 7, "expected an operator", None),
        ("price =< 1", 7, "\"=<\" is no operator", None),
        ("price<", 7, "expected a value, found the end", None),
        ("price<cheap", 7, "\"cheap\" is not a number", None),
        ("price<1e3", 7, "is not a number", None),
        ("price<-1", 7, "is not a number", None),
        ("price<1234567890123", 7, "too many digits", None),
        ("gpu_name>RTX", 10, "use =, !=, in or notin", None),
        ("gpu_name!=RTX_4091", 11, "no such model", Some("rtx-4090")),
        ("price<1 gpu_name in [T4, RTX_4091]", 26, "no such model", Some("rtx-4090")),
        ("rentable notin [true, false]", 17, "this is neither", None),
        ("country=Germany", 9, "no such place", Some("de")),
        ("country!='germany'", 10, "no such place", Some("de")),
        ("price<1 geolocation in [DE, Germany]", 29, "no such place", Some("de")),
        ("region=germany", 8, "no such place", Some("de")),
        ("country in DE", 12, "expected a list", None),
        ("country in [DE", 15, "expected a comma or the list's end", None),
        ("country in []", 13, "expected a value", None),
        ("gpu_name=\"RTX", 10, "has no end", None),
        ("gpu_name='RTX\"", 10, "has no end", None),
        ("country not DE", 9, "expected an operator", None),
        ("country not in DE", 16, "expected a list", None),
        ("gpu_arch=cpu", 10, "none of nvidia", None),
        ("tier=gold", 6, "none of unverified", None),
        ("id=abc", 4, "expected an id", None),
        ("id!=ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f", 5, "not excluded", None),
        ("'; DROP TABLE offers; --", 1, "expected the name of a field", None),
        ("price<1; DROP TABLE offers", 8, "expected the name of a field", None),
    ] {
        let error = refused(text);
        assert_eq!((error.position, error.nearest), (position, nearest), "{text}: {error}");
        assert!(error.reason.contains(says), "{text}: {error}");
    }
    assert!(refused(&"price<1 ".repeat(33)).reason.contains("more than 32"));
    assert!(refused(&"x".repeat(3_000)).reason.contains("longer"));
    assert!(refused(&format!("country in [{}DE]", "DE,".repeat(64))).reason.contains("at most 64"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_fail_in_another_way(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = parse(&text, &mut Query::default(), &Most) {
            prop_assert!(error.position >= 1 && error.position <= text.chars().count().saturating_add(1));
        }
    }

    #[test]
    fn no_text_of_its_own_words_does_either(words in proptest::collection::vec(
        prop_oneof![
            Just("price"), Just("gpu_name"), Just("in"), Just("notin"), Just("not "), Just("'"), Just("["), Just("]"), Just(","),
            Just("<"), Just(">="), Just("="), Just("!="), Just("0.5"), Just("RTX_4090"), Just("\""), Just(" "),
            Just("tier"), Just("id"), Just("é"), Just("any"), Just("18446744073709551615"),
        ], 0..24)) {
        let text = words.concat();
        if let Err(error) = parse(&text, &mut Query::default(), &Most) {
            prop_assert!(error.position >= 1 && error.position <= text.chars().count().saturating_add(1));
        }
    }

    #[test]
    fn a_number_is_compared_exactly(micros in 0_u64..10_000_000, asked in 0_u64..10_000_000) {
        let number = format!("{}.{:06}", asked / 1_000_000, asked % 1_000_000);
        let holds = |op: &str| {
            let query = parsed(&format!("price{op}{number}"));
            query.tests[0].set.holds(micros)
        };
        prop_assert_eq!(holds("<"), micros < asked);
        prop_assert_eq!(holds("<="), micros <= asked);
        prop_assert_eq!(holds(">"), micros > asked);
        prop_assert_eq!(holds(">="), micros >= asked);
        prop_assert_eq!(holds("="), micros == asked);
        prop_assert_eq!(holds("!="), micros != asked);
    }
}
