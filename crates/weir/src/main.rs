//! `weir`: the one binary. `up` runs everything embedded; `serve`, `work` and `agent` are its parts, each
//! a process of its own, so that the one that answers the internet holds no key that moves money.

mod adopt;
mod agent;
mod clock;
mod config;
mod demo;
mod deploy;
mod doctor;
mod failure;
mod feeds;
mod fill;
mod freezes;
mod machines;
mod metrics;
mod place;
mod purse;
mod serve;
mod services;
mod shutdown;
mod telemetry;
mod up;
mod verify;
mod vitals;
mod wallet;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// A request makes and drops some hundred small things, for which the system's allocator took a tenth of its time.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "weir",
    version,
    about = "A GPU rental marketplace whose money sits in an escrow contract"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything embedded, play one rental, and keep serving
    Up(up::Args),
    /// Serve the HTTP API (DATABASE_URL, RPC_URL); holds no key
    Serve,
    /// Settle rentals on the chain (DATABASE_URL, RPC_URL, WEIR_OPERATOR_KEY)
    Work,
    /// Run the agent on a provider's machine
    Agent(agent::Args),
    /// List the money that waits because a figure or a final block is not what it was (DATABASE_URL)
    Freezes,
    /// Let frozen money go on, once you know why it was frozen (DATABASE_URL)
    Thaw(freezes::ThawArgs),
    /// What machines have shown: show one, take its tier away, give it back, note a data centre (DATABASE_URL)
    #[command(subcommand)]
    Machines(machines::Verb),
    /// Put a generated market of many offers into the database, to look at the search (DATABASE_URL)
    Fill(fill::Args),
    /// Check a receipt, offline and against the chain; 8 if anything in it is not true
    Verify(verify::Args),
    /// Apply pending database migrations and stop
    Migrate,
    /// Tell the database which deployed contract it belongs to, once all of it was checked on the chain (DATABASE_URL, RPC_URL)
    Adopt(adopt::Args),
    /// Check everything around the program, a line each; 1 if anything is not as it must be
    Doctor(doctor::Args),
    /// Print every configuration key with its default and meaning
    Config,
    /// Print every metric with its meaning, or the alerts or the dashboard made for them
    Metrics(metrics::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("weir: the runtime could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("weir: {failure}");
            ExitCode::from(failure.exit())
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Serve => serve::run().await,
        Command::Work => work::run().await,
        Command::Agent(args) => agent::run(args).await,
        Command::Freezes => freezes::list().await,
        Command::Thaw(args) => freezes::thaw(args).await,
        Command::Machines(verb) => machines::run(verb).await,
        Command::Fill(args) => fill::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Migrate => serve::migrate().await,
        Command::Adopt(args) => adopt::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Metrics(args) => {
            metrics::print(&args);
            Ok(())
        }
        Command::Config => {
            print!("{}", config::as_markdown());
            Ok(())
        }
    }
}
