//! `bench`: measures, prints one line of JSON per scenario and tables, the last of which says which goals are met. Ends
//! with 1 if something in it is void, with 2 if nothing could be measured; a goal that is missed fails it only with
//! `--strict`.

use std::{
    io::{Write as _, stdout},
    process::ExitCode,
};

use bench::{BenchError, Options, Report};
use clap::Parser as _;

/// As in the service.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let strict = options.strict;
    let plan = options.plan();
    let outcome = tokio::select! {
        outcome = bench::run(&plan) => outcome,
        // The server is stopped and its folder removed on the way out.
        signal = tokio::signal::ctrl_c() => match signal {
            Ok(()) => Err(BenchError::Interrupted),
            Err(error) => Err(BenchError::io("listen for Ctrl-C")(error)),
        },
    };
    match outcome.and_then(|report| print(&report).map(|()| passes(&report, strict))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn passes(report: &Report, strict: bool) -> bool {
    report.is_sound() && !(strict && report.misses_a_goal())
}

fn print(report: &Report) -> Result<(), BenchError> {
    let mut out = stdout().lock();
    for line in report.json_lines()? {
        writeln!(out, "{line}").map_err(BenchError::io("print"))?;
    }
    write!(out, "\n{}", report.table()).map_err(BenchError::io("print"))
}
