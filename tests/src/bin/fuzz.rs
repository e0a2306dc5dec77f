//! `make fuzz`: a market of real processes, with rentals running in it, under requests that schemathesis makes from the
//! API's own description: by wallets that own machines and rent, a rental's token, a program's key, nobody, and a machine's
//! agent.
//!
//! `WEIR_BIN` names the program under test, `ST` schemathesis, `EXAMPLES` the most requests of a kind for each operation,
//! `MIN_REQUESTS` the least of all together, `SEED` decides what is asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::arithmetic_side_effects)] // it stops at the first surprise

use std::{path::PathBuf, process::ExitCode};

use tests::fuzz::{Size, run};

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
    let program = |name: &str| PathBuf::from(std::env::var_os(name).expect(name));
    let size = Size { seed: option("SEED", 1), examples: option("EXAMPLES", 20), whole: true };
    let least = usize::try_from(option("MIN_REQUESTS", 0)).expect("a number");
    let (tally, mut found) = run(&program("WEIR_BIN"), &program("ST"), size).await;
    println!("{tally}");
    if tally.sum().asked < least {
        found.push(format!("fewer than {least} requests were made"));
    }
    for reason in &found {
        eprintln!("fuzz: {reason}");
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
