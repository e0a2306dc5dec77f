//! Plays a range of seeds and prints a table: `sim 1..200 [--steps N] [--jobs N] [--until-failure] [--lies logs|receipts]`.
//! Fails if a seed does.

// a tool of the tests: it stops at the first surprise, and its table is its output
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use tests::sim::{
    faults::Faults,
    play::{caught, play_with},
    report::Report,
    trace::Trace,
};

struct Options {
    from: u64,
    to: u64,
    steps: u64,
    jobs: u64,
    until_failure: bool,
    /// Nodes lie, too, about what has this word in its name.
    lies: Option<String>,
}

fn options() -> Option<Options> {
    let mut options =
        Options { from: 1, to: 20, steps: 150, jobs: 1, until_failure: false, lies: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--steps" => options.steps = arguments.next()?.parse().ok()?,
            "--jobs" => options.jobs = arguments.next()?.parse().ok()?,
            "--lies" => options.lies = Some(arguments.next()?),
            "--until-failure" => options.until_failure = true,
            range => match range.split_once("..") {
                Some((from, to)) => {
                    (options.from, options.to) = (from.parse().ok()?, to.parse().ok()?);
                }
                None => {
                    options.from = range.parse().ok()?;
                    options.to = options.from;
                }
            },
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!(
            "usage: sim 1..200 [--steps N] [--jobs N] [--until-failure] [--lies logs|receipts]"
        );
        return ExitCode::from(2);
    };
    let report = Arc::new(Mutex::new(Report::default()));
    let next = Arc::new(AtomicU64::new(options.from));
    let over = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                // one thread per seed at a time: in what order its tasks go on is then the seed's own
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > options.to || over.load(Ordering::SeqCst) {
                        return;
                    }
                    let trace = Trace::default();
                    let from = Instant::now();
                    let faults = match &options.lies {
                        Some(about) => Faults::with_lies(seed, about),
                        None => Faults::of_seed(seed),
                    };
                    let play = play_with(seed, options.steps, faults, trace.clone());
                    let played = runtime.block_on(caught(play));
                    let failed = report.lock().unwrap().add(seed, played, &trace, from.elapsed());
                    if failed && options.until_failure {
                        over.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let report = report.lock().unwrap();
    println!("{}", report.table(began.elapsed()));
    if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
