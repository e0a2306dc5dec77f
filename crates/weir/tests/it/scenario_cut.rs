//! The short form of `make r2`: five hundred requests over connections that are cut, to real processes.

use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn no_outcome_is_ambiguous_after_one_retry() {
    let outcome = tests::cut::run(Path::new(env!("CARGO_BIN_EXE_weir")), 500, 7).await;
    println!("{outcome}");
    assert!(outcome.failures.is_empty(), "{outcome}");
    assert!(outcome.asked >= 500 && outcome.again > 0);
    assert_eq!(outcome.cuts.len(), 5, "{outcome}");
    assert!(outcome.cuts.values().all(|count| *count > 20), "{outcome}");
    // a request that was cut has no answer, and none else
    assert_eq!(outcome.broken, outcome.cuts.values().sum::<u64>(), "{outcome}");
}
