//! The short form of `make fuzz`: some thousand requests made from the API's description, to real processes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tests::fuzz::{Size, run};

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_answered_with_a_fault_or_against_the_description() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let installed =
        Command::new(root.join("scripts/pypi-tool")).arg("schemathesis").output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let programs = PathBuf::from(String::from_utf8(installed.stdout).unwrap().trim());
    let weir = Path::new(env!("CARGO_BIN_EXE_weir"));
    let asked = run(weir, &programs.join("st"), Size { seed: 7, examples: 4 }).await.unwrap();
    assert!(asked > 2_000, "{asked} requests");
}
