//! The conductor: turns due timers, and the silence of running rentals, into events of the rental's state
//! machine. Between its timers an active rental costs nothing, and while its readings come it has none that
//! fires.

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
    quotes, readings, rentals,
};

use crate::EngineError;

mod deposits;
mod release;
mod silence;
use deposits::Deposits;
use release::Untimed;
use silence::Silence;

const LEASE: Duration = Duration::from_secs(15);
const BATCH: i64 = 64;
/// Timers of one transaction.
const TOGETHER: usize = 16;
const RETRY: Seconds = Seconds(2);

/// The keeper of timers.
pub struct Conductor {
    store: Store,
    silence: Silence,
    untimed: Untimed,
    deposits: Deposits,
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
    pub fn new(store: Store) -> Self {
        let (silence, untimed) = (Silence::new(store.clone()), Untimed::new(store.clone()));
        let deposits = Deposits::new(store.clone());
        Self { store, silence, untimed, deposits }
    }

    /// Runs every due timer once, looks for rentals that have fallen silent, and tells of deposits that are used up soon.
    /// Returns how many of all.
    ///
    /// # Errors
    /// The database's; a timer that fails is put off and tried again.
    pub async fn tick(&self) -> Result<usize, EngineError> {
        let mut due = {
            let mut connection = self.store.read().await?;
            jobs::claim(&mut connection, self.store.now(), LEASE, BATCH).await?
        };
        // one order for everybody who locks several rentals
        due.sort_unstable_by_key(|job| (job.rental, job.kind));
        for jobs in due.chunks(TOGETHER) {
            if self.run(jobs.to_vec()).await.is_err() {
                // one of them does not keep the others
                for job in jobs {
                    self.run_alone(job).await?;
                }
            }
        }
        let silent = self.silence.look().await?;
        self.untimed.look().await?;
        let told = self.deposits.look().await?;
        Ok(due.len().saturating_add(silent).saturating_add(told))
    }

    async fn run_alone(&self, job: &Job) -> Result<(), EngineError> {
        if let Err(error) = self.run(vec![job.clone()]).await {
            let until = self.store.now().seconds().saturating_plus(RETRY);
            tracing::warn!(rental.id = %job.rental, job = job.kind.as_str(), %error, "timer put off");
            metrics::counter!("weir_timer_failures_total").increment(1);
            let mut connection = self.store.read().await?;
            jobs::retry(&mut connection, job, until, &error.to_string()).await?;
        }
        Ok(())
    }

    /// Runs these jobs, in the order of their rentals, in one transaction.
    async fn run(&self, jobs: Vec<Job>) -> Result<(), EngineError> {
        let now = self.store.now().seconds();
        let (jobs, policy) = (std::sync::Arc::new(jobs), self.store.policy().clone());
        self.store
            .write("run timers", move |tx| {
                let (jobs, policy) = (jobs.clone(), policy.clone());
                Box::pin(async move {
                    // the rentals' rows first, as everybody does who changes one and its timers
                    for job in jobs.iter() {
                        readings::lock_rental(tx, job.rental).await?;
                    }
                    // guarded by the lease: whoever lost it must not act
                    let held = jobs::finish_many(tx, &jobs, now).await?;
                    for job in jobs.iter().filter(|job| held.contains(&job.id)) {
                        act(tx, &policy, job, now).await?;
                    }
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        Ok(())
    }
}

async fn act(
    tx: &mut Connection,
    policy: &Policy,
    job: &Job,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    match look(tx, policy, job, now).await? {
        Due::Event(event) => {
            settle_illegal(advance::apply(tx, policy, job.rental, &event, now).await, job)
        }
        Due::Later(at) => jobs::schedule(tx, job.rental, job.kind, at).await,
        Due::Settled => Ok(()),
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
            let (at, end) = advance::planned_end(tx, &rental, now).await?;
            if now < at { Due::Later(at) } else { Due::Event(end) }
        }
        JobKind::OutageLimit => {
            let most = quotes::max_outage(tx, rental.quote_id).await?;
            outage(most.unwrap_or(policy.max_outage), &rental.progress, now)
        }
        JobKind::Finalize => held(&rental.progress, now),
        JobKind::Release => release::look(tx, policy, &rental, now).await?,
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

/// The last second of the time still belongs to it.
fn held(progress: &Progress, now: UnixSeconds) -> Due {
    match progress.held_until {
        None => Due::Settled,
        Some(until) if now > until => Due::Event(RentalEvent::FinalizeDue { now }),
        Some(until) => Due::Later(until.saturating_plus(Seconds::ONE)),
    }
}

/// What the quote promised counts, whatever new ones promise.
fn outage(most: Seconds, progress: &Progress, now: UnixSeconds) -> Due {
    match progress.interrupted_since {
        None => Due::Settled,
        Some(_) if progress.outage_has_lasted(most, now) => {
            Due::Event(RentalEvent::OutageTooLong { now })
        }
        Some(since) => Due::Later(since.saturating_plus(most)),
    }
}
