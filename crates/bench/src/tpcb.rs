//! The limit: pgbench's own TPC-B load, the price of a small durable transaction on this server.

use std::{path::PathBuf, time::Duration};

use sqlx::PgConnection;

use crate::{
    BenchError, Scenario, Server, Slice, Verdict, closed_loop::drive, open_loop::pace, server::TPCB,
};

mod built_in;
mod pgbench;
mod tables;

use built_in::Teller;
use pgbench::Pgbench;

/// What drives the TPC-B load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// PostgreSQL's own program at this path.
    Pgbench(PathBuf),
    /// A client of our own that runs pgbench's script.
    BuiltIn,
}

impl Peer {
    /// `asked`, else the pgbench on `PATH`, else [`Peer::BuiltIn`].
    #[must_use]
    pub fn find(asked: Option<PathBuf>) -> Self {
        asked.or_else(pgbench::on_path).map_or(Self::BuiltIn, Self::Pgbench)
    }
}

enum Driver {
    Pgbench(Pgbench),
    BuiltIn(Vec<Teller>),
}

/// The TPC-B load with its tables.
pub struct Tpcb {
    driver: Driver,
    peer: String,
    connection: PgConnection,
    history: i64,
}

impl Tpcb {
    /// Loads pgbench's tables at `scale` and gets `clients` clients ready.
    ///
    /// # Errors
    /// If the tables cannot be loaded or the peer does not start.
    pub async fn load(
        server: &Server,
        peer: &Peer,
        scale: u32,
        clients: u16,
        seed: u64,
    ) -> Result<Self, BenchError> {
        let mut connection = server.connect(TPCB).await?;
        tables::load(&mut connection, scale).await?;
        let (driver, name) = match peer {
            Peer::Pgbench(program) => {
                let pgbench = Pgbench::new(program.clone(), server, clients);
                let version = pgbench.version().await?;
                (Driver::Pgbench(pgbench), version)
            }
            Peer::BuiltIn => {
                let mut tellers = Vec::new();
                for client in 0..u64::from(clients) {
                    let connection = server.connect(TPCB).await?;
                    tellers.push(Teller::new(connection, scale, seed, client));
                }
                (Driver::BuiltIn(tellers), built_in::NAME.to_owned())
            }
        };
        Ok(Self { driver, peer: name, connection, history: 0 })
    }

    /// What drives the load, with its version.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl Tpcb {
    /// Works for this long at so many transactions a second.
    pub(crate) async fn paced(
        &mut self,
        span: Duration,
        rate: f64,
        seed: u64,
    ) -> Result<Slice, BenchError> {
        match &mut self.driver {
            Driver::Pgbench(pgbench) => pgbench.slice(span, Some(rate)).await,
            Driver::BuiltIn(tellers) => {
                let (back, slice) = pace(std::mem::take(tellers), span, rate, seed).await?;
                *tellers = back;
                Ok(slice)
            }
        }
    }
}

impl Scenario for Tpcb {
    fn name(&self) -> &'static str {
        "tpcb"
    }

    /// Counts anew: a run that broke off may have left a slice that nobody verified.
    async fn prepare(&mut self, _span: Duration) -> Result<(), BenchError> {
        self.history = tables::sums(&mut self.connection).await?.rows;
        Ok(())
    }

    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        match &mut self.driver {
            Driver::Pgbench(pgbench) => pgbench.slice(span, None).await,
            Driver::BuiltIn(tellers) => {
                let (back, slice) = drive(std::mem::take(tellers), span).await?;
                *tellers = back;
                Ok(slice)
            }
        }
    }

    /// A history row per transaction, and branches, tellers and history that agree on the money.
    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        let sums = tables::sums(&mut self.connection).await?;
        let before = std::mem::replace(&mut self.history, sums.rows);
        let added = sums.rows.saturating_sub(before);
        Ok(Verdict::of([
            (
                u64::try_from(added) == Ok(slice.count),
                format!("{} transactions were counted, {added} are stored", slice.count),
            ),
            (
                sums.history == sums.branches && sums.history == sums.tellers,
                format!(
                    "history sums to {}, branches to {}, tellers to {}",
                    sums.history, sums.branches, sums.tellers
                ),
            ),
        ]))
    }
}
