//! The short form of `make fuzz`: some thousand requests made from the API's description, to real processes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tests::fuzz::{Size, run};

/// What is there only while a rental runs, or once it is over, or for whoever has made something: their good answers are
/// held against the description too.
const MUST_BE_GOOD: &[&str] = &[
    "GET /v1/disputes/{id}",
    "GET /v1/quotes/{id}",
    "GET /v1/rentals/{id}",
    "GET /v1/rentals/{id}/cost",
    "GET /v1/rentals/{id}/end",
    "GET /v1/rentals/{id}/escrow",
    "GET /v1/rentals/{id}/readings",
    "GET /v1/rentals/{id}/receipt",
    "GET /v1/rentals/{id}/sealed-receipt",
    "GET /v1/rentals/{id}/ssh-keys",
    "GET /v1/rentals/{id}/timeline",
    "GET /v1/templates/{slug}",
    "GET /v1/webhooks/{id}",
    "GET /v1/webhooks/{id}/deliveries",
    "POST /v1/agent/rentals/{id}/access",
    "POST /v1/agent/rentals/{id}/ready",
    "POST /v1/rentals/{id}/stop",
    "POST /v1/rentals/{id}/top-up",
    "POST /v1/webhooks/{id}/test",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_answered_with_a_fault_or_against_the_description() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let installed =
        Command::new(root.join("scripts/pypi-tool")).arg("schemathesis").output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let programs = PathBuf::from(String::from_utf8(installed.stdout).unwrap().trim());
    let weir = Path::new(env!("CARGO_BIN_EXE_weir"));
    let size = Size { seed: 7, examples: 4, whole: false };
    let (tally, found) = run(weir, &programs.join("st"), size).await;
    println!("{tally}");
    assert_eq!(found, Vec::<String>::new());
    let sum = tally.sum();
    assert!(sum.asked > 3_000, "{sum:?}");
    assert_eq!((sum.faults, sum.against), (0, 0));
    for operation in MUST_BE_GOOD {
        assert!(tally.good(operation) > 0, "{operation} was never answered well");
    }
}
