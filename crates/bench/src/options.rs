//! What a run measures, for how long, with how many clients.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use crate::Peer;

/// Measures Weir against PostgreSQL's own TPC-B load on a server that it starts for the purpose.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Pairs of slices per scenario
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pairs: u32,
    /// Seconds per slice
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Clients of either side
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,
    /// pgbench's scale: 100,000 accounts each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    scale: u32,
    /// Decides who pays whom, and the bootstrap
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Twenty seconds to see that it works; the figures are worth nothing
    #[arg(long)]
    quick: bool,
    /// End with 1 if a goal is missed
    #[arg(long)]
    pub strict: bool,
    /// Only scenarios whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// pgbench; else the one on PATH, else a client of our own that runs the same script
    #[arg(long, env = "PGBENCH")]
    pgbench: Option<PathBuf>,
    /// Offers that are searched
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    offers: u32,
    /// Where the server's folder is made; it must lie on a disk [default: the temporary folder]
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Options {
    /// The plan that the options ask for.
    #[must_use]
    pub fn plan(self) -> Plan {
        let (pairs, seconds, scale) =
            if self.quick { (2, 1, 1) } else { (self.pairs, self.seconds, self.scale) };
        Plan {
            pairs,
            span: Duration::from_secs(u64::from(seconds)),
            clients: self.clients,
            scale,
            seed: self.seed,
            only: self.only.unwrap_or_default(),
            offers: if self.quick { 10_000 } else { self.offers },
            peer: Peer::find(self.pgbench),
            folder: self.folder.unwrap_or_else(std::env::temp_dir),
        }
    }
}

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pairs of slices per scenario.
    pub pairs: u32,
    /// How long a slice is.
    pub span: Duration,
    /// Clients of either side, 1 to 64.
    pub clients: u16,
    /// pgbench's scale.
    pub scale: u32,
    /// Decides everything random.
    pub seed: u64,
    /// Only scenarios whose name contains this; empty for all.
    pub only: String,
    /// Offers that are searched.
    pub offers: u32,
    /// What drives the TPC-B load.
    pub peer: Peer,
    /// Where the server's folder is made.
    pub folder: PathBuf,
}
