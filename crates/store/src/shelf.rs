//! Connections that are needed again at once. The pool asks each one that comes back whether it still serves: for a read
//! that takes as long as the question, or less, that is half of what it costs.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};

use crate::pool::RESTED;

/// One in so many of the pool's connections may be kept.
const SHARE: u32 = 4;
/// After so many times one goes back to the pool, which ends those that have lived for long.
const TURNS: u32 = 1_000;

/// Connections that were kept, the last one first.
#[derive(Debug)]
pub(crate) struct Shelf {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    connections: Vec<(PoolConnection<Postgres>, Instant)>,
    turns: u32,
}

impl Shelf {
    /// For a pool of so many connections.
    pub(crate) fn of(connections: u32) -> Self {
        let most = usize::try_from(connections.checked_div(SHARE).unwrap_or_default());
        Self { most: most.unwrap_or_default(), kept: Mutex::default() }
    }

    /// The connection that was kept last, unless it has rested since: then it and those before it go back to the pool,
    /// which asks.
    pub(crate) async fn borrow(
        &self,
        pool: &PgPool,
    ) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self.take() {
            Some(connection) => Ok(connection),
            None => pool.acquire().await,
        }
    }

    /// A connection of the pool; if all of them are lent, one that is kept.
    pub(crate) async fn read(
        &self,
        pool: &PgPool,
    ) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        if all_are_lent(pool) { self.borrow(pool).await } else { pool.acquire().await }
    }

    /// Keeps a connection, unless enough are kept or somebody may be waiting for one.
    pub(crate) fn keep(&self, pool: &PgPool, connection: PoolConnection<Postgres>) {
        let is_wanted = all_are_lent(pool);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.turns = kept.turns.wrapping_add(1);
        let is_due = kept.turns.checked_rem(TURNS) == Some(0);
        kept.connections.retain(|(_, since)| since.elapsed() < RESTED);
        if kept.connections.len() < self.most && !is_wanted && !is_due && !pool.is_closed() {
            kept.connections.push((connection, Instant::now()));
        }
    }

    /// Gives all back to the pool.
    pub(crate) fn clear(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).connections.clear();
    }

    fn take(&self) -> Option<PoolConnection<Postgres>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.connections.pop();
        let fresh = last.filter(|(_, since)| since.elapsed() < RESTED);
        if fresh.is_none() {
            kept.connections.clear();
        }
        fresh.map(|(connection, _)| connection)
    }
}

fn all_are_lent(pool: &PgPool) -> bool {
    pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections()
}
