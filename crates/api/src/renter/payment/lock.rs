//! What became of the deposit's lock, for an answer that has to be given in time: what was booked stays booked, and the
//! answer to it has the payer's token.

use std::time::Duration;

use alloy::primitives::B256;
use domain::{id::RentalId, rental::LockStatus};
use store::{StoreError, blocks, intents, rentals};
use tokio::time::Instant;

use crate::{AppState, Problem};

/// The lock is looked for so often even without news.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A look may take so much longer than there is to wait.
const GRACE: Duration = Duration::from_millis(500);
/// What is left of a request's time once nothing is waited for any more.
const RESERVE: Duration = Duration::from_secs(1);

/// What is known of a lock.
#[derive(Debug)]
pub(super) enum Lock {
    /// It is in no block yet, or nobody could say; the transaction that carries it, once that is signed.
    Open(Option<B256>),
    /// It is in a block: in this transaction, whoever sent it.
    Mined(Option<B256>),
    /// The contract or the token does not take it.
    Refused(String),
}

/// Until when the answer to a request that came at `since` may wait for the lock: as long as its caller prefers, for whom
/// the request may take so much longer, or as long as is set.
pub(super) fn patience(app: &AppState, since: Instant, wait: Option<Duration>) -> Instant {
    let patience = wait.unwrap_or(app.config.payment_patience);
    let limit = app.config.request_timeout.saturating_add(wait.unwrap_or_default());
    bounded(Instant::now(), since, patience, limit)
}

fn bounded(now: Instant, since: Instant, patience: Duration, limit: Duration) -> Instant {
    let own = now.checked_add(patience).unwrap_or(now);
    own.min(since.checked_add(limit.saturating_sub(RESERVE)).unwrap_or(now))
}

/// What becomes of the lock until then; one look, if that is over.
pub(super) async fn outcome(app: &AppState, id: RentalId, until: Instant) -> Lock {
    let latest = until.max(Instant::now()).checked_add(GRACE).unwrap_or(until);
    match tokio::time::timeout_at(latest, follow(app, id, until)).await {
        Ok(Ok(lock)) => lock,
        Ok(Err(problem)) => {
            tracing::warn!(rental.id = %id, error.code = problem.code().as_str(), "the lock could not be looked for");
            Lock::Open(None)
        }
        Err(_) => Lock::Open(None),
    }
}

async fn follow(app: &AppState, id: RentalId, until: Instant) -> Result<Lock, Problem> {
    if Instant::now() >= until {
        return look(app, id).await;
    }
    let room = app.feed.follow(id).await?;
    loop {
        // before the look: what happens after it is heard
        let version = room.snapshot().map_or(0, |shown| shown.version);
        let lock = look(app, id).await?;
        let over = Instant::now() >= until || app.leaving.is_cancelled();
        if over || !matches!(lock, Lock::Open(_)) {
            return Ok(lock);
        }
        let next = Instant::now().checked_add(LOOK_EVERY).map_or(until, |next| next.min(until));
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = app.leaving.cancelled() => {}
            () = room.changed_from(version) => {}
        }
    }
}

async fn look(app: &AppState, id: RentalId) -> Result<Lock, Problem> {
    let mut connection = app.store.read().await?;
    let rental = rentals::get(&mut connection, id).await?;
    let rental = rental.ok_or(StoreError::Missing("the rental"))?;
    if rental.progress.lock != LockStatus::None {
        let seen = blocks::lock_of(&mut connection, rental.escrow_id).await?;
        return Ok(Lock::Mined(seen.map(|event| event.tx_hash)));
    }
    let steps = intents::for_rental(&mut connection, id).await?;
    let step = steps.into_iter().rfind(|step| step.purpose == "lock");
    Ok(match step {
        Some(step) if step.state == "refused" => Lock::Refused(step.last_error.unwrap_or_default()),
        step => Lock::Open(step.and_then(|step| step.tx_hash)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)] // a test stops at the first surprise

    use super::*;

    #[test]
    fn nobody_waits_longer_than_the_request_may_take() {
        let seconds = Duration::from_secs;
        let since = Instant::now();
        let until = |passed, patience| {
            bounded(since + seconds(passed), since, seconds(patience), seconds(10))
        };
        assert_eq!(until(0, 8), since + seconds(8));
        assert_eq!(until(1, 8), since + seconds(9));
        // what came before took its time
        assert_eq!(until(4, 8), since + seconds(9));
        assert_eq!(until(9, 8), since + seconds(9));
        assert_eq!(until(3, 0), since + seconds(3));
        let hurried = bounded(since, since, seconds(8), Duration::from_millis(300));
        assert_eq!(hurried, since);
    }
}
