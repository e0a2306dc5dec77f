//! Connections that are needed again at once. The pool asks each one that comes back whether it still serves: for a read
//! that takes as long as the question, or less, that is half of what it costs.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};

use crate::pool::RESTED;

/// One in so many of the pool's connections may be kept.
const SHARE: u32 = 8;

/// Connections that were kept, the last one first.
#[derive(Debug)]
pub(crate) struct Shelf {
    most: usize,
    kept: Mutex<Vec<(PoolConnection<Postgres>, Instant)>>,
}

impl Shelf {
    /// For a pool of so many connections.
    pub(crate) fn of(connections: u32) -> Self {
        let most = usize::try_from(connections.checked_div(SHARE).unwrap_or_default());
        Self { most: most.unwrap_or_default(), kept: Mutex::default() }
    }

    /// The connection that was kept last, unless it has rested since: that one goes the pool's way, which asks.
    pub(crate) async fn borrow(
        &self,
        pool: &PgPool,
    ) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some((connection, since)) if since.elapsed() < RESTED => Ok(connection),
            _ => pool.acquire().await,
        }
    }

    /// Keeps a connection, unless enough are kept or somebody may be waiting for one.
    pub(crate) fn keep(&self, pool: &PgPool, connection: PoolConnection<Postgres>) {
        let is_wanted = pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.most && !is_wanted && !pool.is_closed() {
            kept.push((connection, Instant::now()));
        }
    }

    /// Gives all back to the pool.
    pub(crate) fn clear(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
