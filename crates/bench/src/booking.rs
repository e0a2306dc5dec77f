//! P2: booking over HTTP, as a renter's program does it: a session, a quote made before, an
//! Idempotency-Key, and one rental for every 201.

use std::{net::Ipv4Addr, time::Duration};

use api::{ApiConfig, AppState};
use chain::ReadClient;
use sqlx::PgConnection;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{
    BenchError, Scenario, Server, Slice, Verdict,
    closed_loop::drive,
    open_loop::pace,
    server::{WEIR, analyze},
};

mod client;
mod growth;
mod http;
mod pool;

use client::Renter;
pub(crate) use growth::growth;
use pool::UNFUNDED;
pub(crate) use pool::{CHAIN_ID, Pool, Spread};

/// Database connections of the service, as `WEIR_DB_CONNECTIONS` is by default.
const CONNECTIONS: u32 = 16;
/// Bookings per second that are prepared for before any were measured.
const FIRST_GUESS: f64 = 5_000.0;
/// So many times as much as the fastest slice used is kept ready.
const RESERVE: f64 = 1.5;

/// Bookings through the whole service, on real sockets.
pub struct Booking {
    name: &'static str,
    clients: Vec<Renter>,
    pool: Pool,
    connection: PgConnection,
    known: Stored,
    fastest: f64,
    _service: Service,
}

impl Booking {
    pub(crate) const SPREAD: &str = "p2_booking_http";
    pub(crate) const SHARED: &str = "p2_booking_http_shared";

    /// Each client books on machines of its own: the price of a booking.
    ///
    /// # Errors
    /// If the service does not start, or the accounts cannot be made.
    pub async fn spread(server: &Server, clients: u16, seed: u64) -> Result<Self, BenchError> {
        Self::start(server, Self::SPREAD, Spread::Own, clients, seed).await
    }

    /// All clients book on the same machines, each in an order of its own, so that now and then two
    /// of them want a GPU of one machine at the same time: the price of a crowd.
    ///
    /// # Errors
    /// If the service does not start, or the accounts cannot be made.
    pub async fn shared(server: &Server, clients: u16, seed: u64) -> Result<Self, BenchError> {
        Self::start(server, Self::SHARED, Spread::Shared, clients, seed).await
    }

    async fn start(
        server: &Server,
        name: &'static str,
        spread: Spread,
        clients: u16,
        seed: u64,
    ) -> Result<Self, BenchError> {
        let store = server.store(u32::from(clients)).await?;
        let pool = Pool::open(store, spread, clients, seed).await?;
        let service = Service::start(server).await?;
        let mut renters = Vec::new();
        for number in 0..usize::from(clients) {
            renters.push(Renter::new(number, &service.url).await?);
        }
        let mut connection = server.connect(WEIR).await?;
        let known = stored(&mut connection, &[]).await?;
        let fastest = FIRST_GUESS;
        Ok(Self { name, clients: renters, pool, connection, known, fastest, _service: service })
    }
}

impl Booking {
    /// Works for this long at so many bookings a second.
    pub(crate) async fn paced(
        &mut self,
        span: Duration,
        rate: f64,
        seed: u64,
    ) -> Result<Slice, BenchError> {
        let done = pace(std::mem::take(&mut self.clients), span, rate, seed).await?;
        Ok(self.back(done))
    }

    fn back(&mut self, (mut clients, mut slice): (Vec<Renter>, Slice)) -> Slice {
        // They come back as they finish; quotes belong to one of them.
        clients.sort_unstable_by_key(Renter::number);
        slice.retried = clients.iter_mut().map(Renter::take_retried).sum();
        self.clients = clients;
        self.fastest = self.fastest.max(slice.rate());
        slice
    }
}

impl Scenario for Booking {
    fn name(&self) -> &'static str {
        self.name
    }

    /// Makes machines, offers and quotes until there are more than a slice can use.
    async fn prepare(&mut self, span: Duration) -> Result<(), BenchError> {
        let wanted = (self.fastest * RESERVE * span.as_secs_f64()).ceil() as usize;
        let each = wanted.div_ceil(self.clients.len().max(1));
        let fewest = self.clients.iter().map(Renter::ready).min().unwrap_or(0);
        let fresh = self.pool.make_quotes(each.saturating_sub(fewest)).await?;
        for (client, quotes) in self.clients.iter_mut().zip(fresh) {
            client.add(quotes);
        }
        analyze(&mut self.connection).await
    }

    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        let done = drive(std::mem::take(&mut self.clients), span).await?;
        Ok(self.back(done))
    }

    /// A rental, a key and a held GPU for each 201, no GPU held twice, and one answer said again
    /// when it is asked for again.
    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        let mut booked: Vec<Uuid> = Vec::new();
        for client in &mut self.clients {
            booked.append(&mut client.take_booked());
        }
        let mut replays = true;
        if let Some(client) = self.clients.first_mut() {
            replays = client.replays_last().await?;
        }
        let now = stored(&mut self.connection, &booked).await?;
        let before = std::mem::replace(&mut self.known, now);
        let rentals = now.rentals.saturating_sub(before.rentals);
        let keys = now.keys.saturating_sub(before.keys);
        let held = now.held.saturating_sub(before.held);
        let counted = i64::try_from(slice.count).unwrap_or(i64::MAX);
        Ok(Verdict::of([
            (
                rentals == counted && now.named == counted,
                format!(
                    "{counted} bookings were counted, {rentals} rentals are stored, {} of them were named",
                    now.named
                ),
            ),
            (keys == counted, format!("{counted} bookings were counted, {keys} keys are stored")),
            (held == counted, format!("{counted} bookings were counted, {held} GPUs are held")),
            (now.twice == 0, format!("{} GPUs are held twice", now.twice)),
            (replays, "a repeated request was not answered as before".to_owned()),
            (!slice.ran_dry, "the quotes that were made did not last for the slice".to_owned()),
        ]))
    }
}

/// The service; dropped, it stops.
struct Service {
    url: String,
    _stop: DropGuard,
    _task: JoinHandle<std::io::Result<()>>,
}

impl Service {
    async fn start(server: &Server) -> Result<Self, BenchError> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(BenchError::io("listen"))?;
        let address = listener.local_addr().map_err(BenchError::io("listen"))?;
        let url = format!("http://{address}");
        // The market's tokens have no permit, so that the chain is never asked.
        let chain = ReadClient::connect("http://127.0.0.1:9")
            .map_err(BenchError::subject("make a chain client"))?;
        let store = server.store(CONNECTIONS).await?;
        // none of the bookings is ever funded
        let config = ApiConfig {
            unfunded_limit: UNFUNDED,
            limits: crate::server::generous(),
            ..ApiConfig::new(&url, CHAIN_ID)
        };
        let app = AppState::new(store, chain, config, None);
        // a large market is read while nothing is measured
        app.catch_up_with_market().await.map_err(BenchError::subject("read the market"))?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(api::serve(listener, app, stop.clone()));
        Ok(Self { url, _stop: stop.drop_guard(), _task: task })
    }
}

/// What the market holds.
#[derive(Clone, Copy, Debug)]
struct Stored {
    rentals: i64,
    keys: i64,
    held: i64,
    /// GPUs in more than one rental; none is given back during a run.
    twice: i64,
    /// Rentals among those that the answers named.
    named: i64,
}

async fn stored(connection: &mut PgConnection, booked: &[Uuid]) -> Result<Stored, BenchError> {
    let (rentals, keys, held, twice, named) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM rentals), (SELECT count(*) FROM idempotency_keys),
                count(*), count(*) - count(DISTINCT gpu_id),
                (SELECT count(*) FROM rentals WHERE id = ANY($1))
         FROM rental_gpus",
    )
    .bind(booked)
    .fetch_one(connection)
    .await
    .map_err(BenchError::sql("count the rentals"))?;
    Ok(Stored { rentals, keys, held, twice, named })
}
