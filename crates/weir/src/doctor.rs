//! `weir doctor`: is everything around the program as it must be? A line per check: what was found, what is
//! required, what to do. Changes nothing, holds no lock, and says no secret.

mod chain;
mod database;
mod finding;
mod judge;
pub(crate) mod quoter;
mod signer;
mod tokens;

use clap::Args as ClapArgs;

use crate::{config::Config, failure::Failure};

use finding::{Outcome, Report};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
    /// How many closes the signer's coins must pay for at present fees
    #[arg(long, value_name = "N", default_value_t = 100)]
    closes: u64,
}

/// Makes every check and prints what came of it.
///
/// # Errors
/// If the configuration makes no sense, or any check failed: the program then ends with 1.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let config = Config::from_env()?;
    let mut report = Report::new(&config);
    let known = database::examine(&config, &mut report).await;
    chain::examine(&config, &known, args.closes, &mut report).await;
    if args.json {
        println!("{}", report.as_json());
    } else {
        print!("{}", report.as_text());
    }
    match report.count(Outcome::Fail) {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{failed} of {} checks failed", report.len()))),
    }
}
