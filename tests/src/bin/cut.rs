//! `make r2`: requests with an `Idempotency-Key` over connections that are cut at random.
//!
//! `WEIR_BIN` names the program under test, `REQUESTS` how many are asked, `SEED` decides which are cut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // it stops at the first surprise

use std::{path::PathBuf, process::ExitCode};

use tests::cut::run;

fn option(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
        }
        _ => default,
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let weir = PathBuf::from(std::env::var_os("WEIR_BIN").expect("WEIR_BIN"));
    let outcome = run(&weir, option("REQUESTS", 10_000), option("SEED", 1)).await;
    println!("{outcome}");
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
