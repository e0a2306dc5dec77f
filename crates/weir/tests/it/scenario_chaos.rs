//! The short form of `make chaos`: every kind of fault once, on real processes, with some rentals in flight.

use std::path::Path;

use tests::chaos::campaign;

#[tokio::test(flavor = "multi_thread")]
async fn a_market_that_is_killed_and_lied_to_loses_no_unit() {
    let outcome = campaign::slice(Path::new(env!("CARGO_BIN_EXE_weir"))).await;
    println!("{outcome:#?}");
    assert!(outcome.passed(), "{:#?}", outcome.verdict.failures);
    assert!(outcome.rentals >= 8 && outcome.faults >= 8);
    let ended: u64 = outcome.verdict.states.values().sum();
    assert_eq!(usize::try_from(ended).unwrap(), outcome.rentals);
    assert!(outcome.verdict.states.get("settled").is_some_and(|settled| *settled > 0));
}
