//! `make chaos`: the campaigns in full length, by options from the environment.
//!
//! `WEIR_BIN` names the program under test, `ONLY` campaigns, separated by commas, `PAGE` a page whose table is written
//! anew, `RUN` what stands there for this run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::arithmetic_side_effects)] // a campaign stops at the first surprise

use std::{path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use tests::chaos::{
    campaign::{Outcome, Size, chain, kills, servers},
    report,
};

fn option<N: FromStr>(name: &str, default: N) -> N {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
        }
        _ => default,
    }
}

const NAMES: &[&str] = &[
    "kill", "places", "workers", "rotate", "storm", "lies", "reorg", "deep", "database", "standby",
    "full", "stall", "behind", "ahead",
];

#[tokio::main]
async fn main() -> ExitCode {
    let weir = PathBuf::from(std::env::var_os("WEIR_BIN").expect("WEIR_BIN"));
    let size = Size {
        seed: option("SEED", 1),
        rentals: option("RENTALS", 200),
        in_flight: option("IN_FLIGHT", 24),
        kills: option("KILLS", 60),
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let wanted: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !NAMES.contains(name)) {
        eprintln!("chaos: ONLY={unknown}: there are {}", NAMES.join(", "));
        return ExitCode::FAILURE;
    }
    let mut outcomes = Vec::new();
    for name in NAMES.iter().copied() {
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        eprintln!("chaos: {name} ...");
        let Some(outcome) = run(name, &weir, &size).await else { continue };
        eprintln!("chaos: {name}: {} wrong", outcome.verdict.failures.len());
        for failure in &outcome.verdict.failures {
            eprintln!("chaos: {name}: {failure}");
        }
        outcomes.push(outcome);
    }
    let run = option("RUN", String::new());
    let rows: Vec<String> = outcomes.iter().map(|outcome| report::row(outcome, &run)).collect();
    println!("{}", report::table(&rows));
    if let Some(path) = std::env::var_os("PAGE").filter(|path| !path.is_empty()) {
        let page = std::fs::read_to_string(&path).expect("the page");
        std::fs::write(&path, report::written(&page, &rows).unwrap()).expect("the page");
    }
    if outcomes.iter().all(Outcome::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `None` where it cannot be done here.
async fn run(name: &str, weir: &std::path::Path, size: &Size) -> Option<Outcome> {
    // all but the kills need no more rentals than meet their faults
    let some = Size { rentals: size.rentals.min(60), ..size.clone() };
    let few =
        Size { rentals: size.rentals.min(24), in_flight: size.in_flight.min(12), ..size.clone() };
    // a rental takes as long as the clocks differ: one for each renter
    let once = Size { rentals: few.in_flight, ..few.clone() };
    let outcome = match name {
        "kill" => kills::random(weir, size).await,
        "places" => kills::places(weir, &some).await,
        "workers" => kills::two_workers(weir, &some).await,
        "rotate" => kills::rotation(weir, &some).await,
        "storm" => chain::storm(weir, &some, 4, Duration::from_secs(30)).await,
        "lies" => chain::lies(weir, &some, Duration::from_secs(60)).await,
        "reorg" => chain::reorgs(weir, &some, 8, 16).await,
        "deep" => chain::reorgs(weir, &few, 64, 16).await,
        "database" => servers::database(weir, &some, (size.kills / 6).max(3)).await,
        "standby" => servers::standby(weir, &some, (size.kills / 10).max(3)).await,
        "stall" => chain::stalls(weir, &few, Duration::from_secs(30)).await,
        "behind" => chain::clocks(weir, &once, 300).await,
        "ahead" => chain::clocks(weir, &once, -300).await,
        "full" => return servers::full_disk(weir, &some, (size.kills / 10).max(3)).await,
        other => panic!("no campaign {other}"),
    };
    Some(outcome)
}
