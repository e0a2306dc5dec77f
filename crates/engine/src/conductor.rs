//! The conductor: turns due timers into events of the rental's state machine. Between its timers an
//! active rental costs nothing.

use std::time::Duration;

use domain::{
    rental::{Progress, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use store::{
    Connection, Policy, Store, StoreError, TxError,
    advance::{self, AdvanceError},
    blocks,
    jobs::{self, Job, JobKind},
    readings, rentals,
};

use crate::EngineError;

const LEASE: Duration = Duration::from_secs(15);
const BATCH: i64 = 64;
const RETRY: Seconds = Seconds(2);

/// The keeper of timers.
pub struct Conductor {
    store: Store,
}

/// What a due timer comes to.
enum Due {
    /// Its question has an answer.
    Event(RentalEvent),
    /// Ask again then.
    Later(UnixSeconds),
    /// The question is settled.
    Settled,
}

impl Conductor {
    /// A conductor over the store's queue.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Runs every due timer once. Returns how many.
    ///
    /// # Errors
    /// The database's; a timer that fails is put off and tried again.
    pub async fn tick(&self) -> Result<usize, EngineError> {
        let due = {
            let mut connection = self.store.read().await?;
            jobs::claim(&mut connection, self.store.now(), LEASE, BATCH).await?
        };
        for job in &due {
            if let Err(error) = self.run(job).await {
                let until = self.store.now().seconds().saturating_plus(RETRY);
                tracing::warn!(rental.id = %job.rental, job = job.kind.as_str(), %error, "timer put off");
                metrics::counter!("weir_timer_failures_total").increment(1);
                let mut connection = self.store.read().await?;
                jobs::retry(&mut connection, job, until, &error.to_string()).await?;
            }
        }
        Ok(due.len())
    }

    async fn run(&self, job: &Job) -> Result<(), EngineError> {
        let (job, now) = (job.clone(), self.store.now().seconds());
        let policy = self.store.policy().clone();
        self.store
            .write("run timer", move |tx| {
                let (job, policy) = (job.clone(), policy.clone());
                Box::pin(async move {
                    // the rental's row first, as everybody does who changes it and its timers
                    readings::lock_rental(tx, job.rental).await?;
                    // guarded by the lease: whoever lost it must not act
                    if !jobs::finish(tx, &job, now).await? {
                        return Ok::<_, TxError<EngineError>>(());
                    }
                    match look(tx, &policy, &job, now).await? {
                        Due::Event(event) => settle_illegal(
                            advance::apply(tx, &policy, job.rental, &event, now).await,
                            &job,
                        )?,
                        Due::Later(at) => jobs::schedule(tx, job.rental, job.kind, at).await?,
                        Due::Settled => {}
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }
}

/// A timer that the rental has overtaken is no failure.
fn settle_illegal(
    applied: Result<advance::Applied, AdvanceError>,
    job: &Job,
) -> Result<(), StoreError> {
    match applied {
        Ok(_) | Err(AdvanceError::Missing) => Ok(()),
        Err(AdvanceError::Illegal(error)) => {
            tracing::debug!(rental.id = %job.rental, job = job.kind.as_str(), %error, "timer overtaken");
            Ok(())
        }
        Err(AdvanceError::Store(error)) => Err(error),
    }
}

async fn look(
    tx: &mut Connection,
    policy: &Policy,
    job: &Job,
    now: UnixSeconds,
) -> Result<Due, StoreError> {
    let Some(rental) = rentals::get(tx, job.rental).await? else {
        return Ok(Due::Settled);
    };
    Ok(match job.kind {
        JobKind::FundingDeadline => funding(tx, policy, rental.created_at, now).await?,
        JobKind::ReadyDeadline => Due::Event(RentalEvent::ReadyDeadline),
        JobKind::StopDeadline => Due::Event(RentalEvent::StopDeadline),
        JobKind::DurationEnd => {
            let at = advance::duration_end(tx, &rental).await?;
            if now < at { Due::Later(at) } else { Due::Event(RentalEvent::DurationEnd { at }) }
        }
        JobKind::EvidenceWatch => {
            let newest = readings::head(tx, rental.id).await?.map(|head| head.to);
            evidence(policy, &rental.progress, newest, now)
        }
        JobKind::OutageLimit => outage(policy, &rental.progress, now),
        JobKind::Finalize => held(&rental.progress, now),
    })
}

/// The deadline counts by the chain's clock too: a lock that was mined in time is honoured even if we
/// have not read that far yet.
async fn funding(
    tx: &mut Connection,
    policy: &Policy,
    booked_at: UnixSeconds,
    now: UnixSeconds,
) -> Result<Due, StoreError> {
    let deadline = booked_at.saturating_plus(policy.funding_ttl);
    let read_to = blocks::tip(tx).await?.map(|block| block.timestamp);
    if read_to.is_some_and(|at| at >= deadline) {
        Ok(Due::Event(RentalEvent::FundingDeadline))
    } else {
        Ok(Due::Later(now.saturating_plus(Seconds::ONE)))
    }
}

fn evidence(
    policy: &Policy,
    progress: &Progress,
    newest: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Due {
    let Some(started) = progress.started_at else {
        return Due::Settled;
    };
    let last_good = newest.map_or(started, |to| to.max(started));
    let limit = last_good.saturating_plus(policy.evidence_timeout);
    if now < limit {
        Due::Later(limit)
    } else {
        Due::Event(RentalEvent::EvidenceLost { last_good })
    }
}

/// The last second of the time still belongs to it.
fn held(progress: &Progress, now: UnixSeconds) -> Due {
    match progress.held_until {
        None => Due::Settled,
        Some(until) if now > until => Due::Event(RentalEvent::FinalizeDue { now }),
        Some(until) => Due::Later(until.saturating_plus(Seconds::ONE)),
    }
}

fn outage(policy: &Policy, progress: &Progress, now: UnixSeconds) -> Due {
    match progress.interrupted_since {
        None => Due::Settled,
        Some(_) if progress.outage_has_lasted(policy.max_outage, now) => {
            Due::Event(RentalEvent::OutageTooLong { now })
        }
        Some(since) => Due::Later(since.saturating_plus(policy.max_outage)),
    }
}
