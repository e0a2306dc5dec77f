//! P4: timers that are claimed, and finished by the lease they were claimed with, in batches as the conductor's.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use store::{
    Store,
    jobs::{self, JobKind},
};

use crate::{
    BenchError, Scenario, Server, Slice, Verdict,
    closed_loop::{Client, Step, drive},
    server::{WEIR, analyze},
};

/// Rentals, each with a timer of every kind, for a second of a slice: more than a second can finish.
const RENTALS_PER_SECOND: f64 = 10_000.0;
/// Timers that are claimed and finished at once.
const BATCH: i64 = 100;
const LEASE: Duration = Duration::from_secs(15);

/// Clients that claim due timers and finish them.
pub struct Queue {
    clients: Vec<Worker>,
    connection: PgConnection,
    rentals: i64,
    done: i64,
}

impl Queue {
    pub(crate) const NAME: &str = "p4_jobs_claimed_and_done";

    /// Makes the market in which rentals will be.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn start(server: &Server, clients: u16) -> Result<Self, BenchError> {
        let store = server.store(u32::from(clients)).await?;
        let mut connection = server.connect(WEIR).await?;
        sqlx::raw_sql(MARKET).execute(&mut connection).await.map_err(BenchError::sql("set up"))?;
        let clients = (0..clients).map(|_| Worker { store: store.clone() }).collect();
        Ok(Self { clients, connection, rentals: 0, done: 0 })
    }
}

impl Scenario for Queue {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    /// Every rental has a due timer of every kind again; those of slices before are gone.
    async fn prepare(&mut self, span: Duration) -> Result<(), BenchError> {
        let wanted = (RENTALS_PER_SECOND * span.as_secs_f64()).ceil() as i64;
        sqlx::query(BOOK)
            .bind(self.rentals)
            .bind(wanted)
            .execute(&mut self.connection)
            .await
            .map_err(BenchError::sql("make rentals"))?;
        self.rentals = self.rentals.max(wanted);
        let kinds: Vec<&str> = JobKind::ALL.iter().map(|kind| kind.as_str()).collect();
        for (doing, statement) in [("forget old timers", FORGET), ("set timers", FILL)] {
            sqlx::query(statement)
                .bind(&kinds)
                .execute(&mut self.connection)
                .await
                .map_err(BenchError::sql(doing))?;
        }
        self.done = finished(&mut self.connection).await?.0;
        analyze(&mut self.connection).await
    }

    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        let (clients, slice) = drive(std::mem::take(&mut self.clients), span).await?;
        self.clients = clients;
        Ok(slice)
    }

    /// As many are done as were counted, and each was claimed once.
    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        let (now, twice) = finished(&mut self.connection).await?;
        let done = now.saturating_sub(self.done);
        Ok(Verdict::of([
            (
                u64::try_from(done) == Ok(slice.count),
                format!("{} timers were counted, {done} are done", slice.count),
            ),
            (twice == 0, format!("{twice} timers were claimed twice")),
            (!slice.ran_dry, "the timers did not last for the slice".to_owned()),
        ]))
    }
}

/// Timers that are done, and how many of them were claimed more than once.
async fn finished(connection: &mut PgConnection) -> Result<(i64, i64), BenchError> {
    sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE run_lease <> 1) FROM jobs
         WHERE done_at IS NOT NULL AND last_error = 'bench'",
    )
    .fetch_one(connection)
    .await
    .map_err(BenchError::sql("count the timers"))
}

struct Worker {
    store: Store,
}

impl Client for Worker {
    async fn once(&mut self) -> Result<Step, BenchError> {
        let doing = "run timers";
        let claimed = {
            let mut connection = self.store.read().await.map_err(BenchError::subject(doing))?;
            jobs::claim(&mut connection, self.store.now(), LEASE, BATCH)
                .await
                .map_err(BenchError::subject(doing))?
        };
        if claimed.is_empty() {
            return Ok(Step::Dry);
        }
        let (claimed, now) = (Arc::new(claimed), self.store.now().seconds());
        let done = self
            .store
            .write::<usize, String, _>("bench.finish", move |tx| {
                let claimed = claimed.clone();
                Box::pin(async move { Ok(jobs::finish_many(tx, &claimed, now).await?.len()) })
            })
            .await
            .map_err(BenchError::subject(doing))?;
        Ok(Step::Done(u64::try_from(done).unwrap_or(u64::MAX)))
    }
}

/// Two people, a machine and an offer, beside whatever there is already.
const MARKET: &str = "
    INSERT INTO accounts (id, address, created_at) VALUES
        ('00000000-0000-0000-0000-0000000000b1', decode(repeat('b1', 20), 'hex'), now()),
        ('00000000-0000-0000-0000-0000000000b2', decode(repeat('b2', 20), 'hex'), now());
    INSERT INTO machines (id, account_id, name, region, cpu_cores, ram_gb, disk_gb, created_at) VALUES
        ('00000000-0000-0000-0000-0000000000b3', '00000000-0000-0000-0000-0000000000b2', 'rack', 'de-fra',
         1, 1, 1, now());
    INSERT INTO offers (id, machine_id, account_id, state, version, created_at, updated_at) VALUES
        ('00000000-0000-0000-0000-0000000000b4', '00000000-0000-0000-0000-0000000000b3',
         '00000000-0000-0000-0000-0000000000b2', 'listed', 1, now(), now());
    INSERT INTO offer_versions (offer_id, version, model, gpu_count, usd_micros_per_hour, min_duration_s,
                                max_duration_s, created_at) VALUES
        ('00000000-0000-0000-0000-0000000000b4', 1, 'h100-sxm', 1, 1, 1, 3600, now());
    INSERT INTO tokens (address, symbol, decimals, usd_micros, price_source, priced_at) VALUES
        (decode(repeat('b7', 20), 'hex'), 'QUEUE', 6, 1, 'fixed', now());";

const BOOK: &str = "
    WITH number AS (SELECT i, gen_random_uuid() AS quote, sha256(int8send(i)) AS escrow
                    FROM generate_series($1 + 1, $2) i),
    quoted AS (
        INSERT INTO quotes (id, account_id, offer_id, offer_version, duration_s, usd_micros_per_hour, lines,
                            renter, provider, token, price_per_hour, fee_bps, start_by, holdback_s, order_hash,
                            escrow_id, deposit, created_at, expires_at)
        SELECT quote, '00000000-0000-0000-0000-0000000000b1', '00000000-0000-0000-0000-0000000000b4', 1, 60, 1,
               '[]', decode(repeat('b1', 20), 'hex'), decode(repeat('b2', 20), 'hex'),
               decode(repeat('b7', 20), 'hex'), 1, 1200, now() + interval '2 hours', 0, escrow, escrow, 1,
               now(), now() + interval '1 hour'
        FROM number)
    INSERT INTO rentals (id, quote_id, escrow_id, renter_id, provider_id, machine_id, state, lock_status,
                         agent_status, start_status, created_at, updated_at)
    SELECT gen_random_uuid(), quote, escrow, '00000000-0000-0000-0000-0000000000b1',
           '00000000-0000-0000-0000-0000000000b2', '00000000-0000-0000-0000-0000000000b3', 'awaiting_funds',
           'none', 'idle', 'none', now(), now()
    FROM number";

const FORGET: &str = "DELETE FROM jobs WHERE done_at IS NOT NULL AND kind = ANY($1::text[])";

const FILL: &str = "
    INSERT INTO jobs (id, kind, rental_id, due_at, last_error)
    SELECT gen_random_uuid(), kind, r.id, now() - interval '1 hour', 'bench'
    FROM rentals r CROSS JOIN unnest($1::text[]) AS kind
    WHERE r.machine_id = '00000000-0000-0000-0000-0000000000b3'
    ON CONFLICT (rental_id, kind) WHERE done_at IS NULL DO NOTHING";
