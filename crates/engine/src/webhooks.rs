//! The courier: takes what has happened to whoever asked to be told. Events are rows already, written where they
//! happened; here they become deliveries, each claimed for a short while, tried outside of any transaction, and recorded
//! by whoever holds its lease. A process that dies between the call and the record calls again, with the same id.

mod call;
mod sign;

use std::{sync::Mutex, time::Duration};

use domain::{
    time::{Seconds, UnixSeconds},
    webhook::{Rules, wait_after},
};
use store::{
    Store, TxError, account_events, payments,
    webhooks::{
        claim::{self, Due, Places},
        deliveries::{self, Recorded, Tried},
        expiries, links, upkeep,
    },
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::call::{Answer, Caller};
use crate::{EngineError, run::keep_going};

/// Between two looks at what is to be told.
const PAUSE: Duration = Duration::from_millis(500);
/// The same while there was something.
const SOON: Duration = Duration::from_millis(50);
/// An endpoint may take so long, from its name to its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// A delivery that is not recorded after so long may be taken by somebody else.
const LEASE: Duration = Duration::from_secs(30);
/// Calls of this process that are under way at once.
const AT_ONCE: usize = 256;
/// Calls at once to one endpoint, for one account and to one host, by all processes.
const EACH: i64 = 4;
const OF_ACCOUNT: i64 = 16;
const TO_HOST: i64 = 16;
/// And to all endpoints to which nothing came through lately: a quarter of one process's places.
const FAILING: i64 = 64;
/// Events that one transaction fans out.
const FAN: i64 = 200;
/// Between two looks at machines, backlog and age.
const LOOK: Duration = Duration::from_secs(5);
/// What happened longer ago is forgotten, some at a look.
const KEEP: Seconds = Seconds(30 * 86_400);
const FORGET: i64 = 1_000;
/// The same of what streams of accounts can be resumed from.
const FORGET_OF_ACCOUNTS: i64 = 10_000;
/// The longest wait that an endpoint can ask for.
const LONGEST_WAIT: u32 = 86_400;

/// Tells webhooks what has happened.
pub struct Courier {
    store: Store,
    caller: Caller,
    /// A machine that was not heard of for longer is offline.
    offline_after: Seconds,
    under_way: Mutex<JoinSet<()>>,
    looked: Mutex<Option<Instant>>,
}

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Events whose deliveries were made.
    pub events: u64,
    /// Deliveries that are being tried from now on.
    pub begun: usize,
}

/// Delivers until `stop`, and then waits for the calls that are under way.
pub async fn deliver(courier: Courier, stop: CancellationToken) {
    let never = Notify::new();
    keep_going("courier", PAUSE, (&stop, &never), || async {
        let told = courier.tick().await?;
        // more may be waiting
        let busy = told.begun > 0 || told.events > 0;
        Ok(busy.then_some(SOON))
    })
    .await;
    courier.finish().await;
}

impl Courier {
    /// A courier that calls what `rules` allow. `offline_after`: without a heartbeat for longer a machine is offline.
    #[must_use]
    pub fn new(store: Store, rules: Rules, offline_after: Seconds) -> Self {
        Self {
            store,
            caller: Caller::new(rules),
            offline_after,
            under_way: Mutex::default(),
            looked: Mutex::default(),
        }
    }

    /// Makes deliveries of new events, and begins to try those that are due, as far as there is room. Does not wait for
    /// an endpoint.
    ///
    /// # Errors
    /// The database's.
    pub async fn tick(&self) -> Result<Told, EngineError> {
        let now = self.store.now().seconds();
        if self.is_time_to_look() {
            self.look(now).await?;
        }
        let events = self
            .store
            .write("webhooks.fan_out", move |tx| {
                Box::pin(async move {
                    Ok::<_, TxError<EngineError>>(deliveries::fan_out(tx, now, FAN).await?)
                })
            })
            .await?;
        let room = AT_ONCE.saturating_sub(self.reap());
        let places = Places {
            free: i64::try_from(room).unwrap_or(i64::MAX),
            webhook: EACH,
            account: OF_ACCOUNT,
            host: TO_HOST,
            failing: FAILING,
        };
        let due = {
            let mut connection = self.store.read().await?;
            claim::claim(&mut connection, self.store.now(), LEASE, places).await?
        };
        let begun = due.len();
        for due in due {
            let (store, caller) = (self.store.clone(), self.caller.clone());
            self.under_way().spawn(try_one(store, caller, due));
        }
        Ok(Told { events, begun })
    }

    /// Waits for every call that is under way.
    pub async fn finish(&self) {
        let mut left = std::mem::take(&mut *self.under_way());
        while let Some(ended) = left.join_next().await {
            log_panic(ended);
        }
    }

    /// Forgets the calls that have ended. Returns how many have not.
    fn reap(&self) -> usize {
        let mut calls = self.under_way();
        while let Some(ended) = calls.try_join_next() {
            log_panic(ended);
        }
        calls.len()
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        // a set of tasks is whole whoever panicked
        self.under_way.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_time_to_look(&self) -> bool {
        let now = Instant::now();
        let mut looked = self.looked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK);
        if due {
            *looked = Some(now);
        }
        due
    }

    /// Looks at machines that come and go, at what waits, and at what is old.
    async fn look(&self, now: UnixSeconds) -> Result<(), EngineError> {
        let heard_since = now.saturating_minus(self.offline_after);
        self.store
            .write("webhooks.look", move |tx| {
                Box::pin(async move {
                    links::watch(tx, now, heard_since).await?;
                    expiries::tell(tx, now, FORGET).await?;
                    account_events::forget(tx, FORGET_OF_ACCOUNTS).await?;
                    upkeep::forget(tx, now.saturating_minus(KEEP), FORGET).await?;
                    upkeep::clear(tx, FORGET).await?;
                    payments::forget(tx, now, FORGET).await?;
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        let mut connection = self.store.read().await?;
        let backlog = upkeep::backlog(&mut connection, now).await?;
        let due = u32::try_from(backlog.due).unwrap_or(u32::MAX);
        metrics::gauge!("weir_webhook_due").set(due);
        metrics::gauge!("weir_webhook_oldest_due_seconds").set(backlog.oldest.get());
        Ok(())
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a webhook's call ended in an unexpected way");
    }
}

/// Tries a delivery and records what came of it.
async fn try_one(store: Store, caller: Caller, due: Due) {
    let begun = Instant::now();
    let body = sign::body(&due);
    let signed = sign::headers(&due.event.to_string(), store.now().seconds(), &body, &due.secrets);
    let answer = match timeout(PATIENCE, caller.post(&due.url, &signed, body)).await {
        Ok(answer) => answer,
        Err(_) => Answer::failed(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    metrics::histogram!("weir_webhook_seconds").record(begun.elapsed().as_secs_f64());
    let tried = judge(&answer, due.tries, rand::random());
    let recorded = record(&store, &due, tried).await;
    let outcome = match recorded {
        Ok(Recorded::Delivered) => "delivered",
        Ok(Recorded::PutOff) => "put_off",
        Ok(Recorded::GivenUp) => "given_up",
        Ok(Recorded::Disabled) => {
            tracing::warn!(webhook.id = %due.webhook, "a webhook is disabled");
            "disabled"
        }
        Ok(Recorded::Lost) => "lost",
        Err(error) => {
            tracing::warn!(delivery.id = %due.id, %error, "what came of a delivery is not recorded; it is tried again");
            "unrecorded"
        }
    };
    metrics::counter!("weir_webhook_tries_total", "outcome" => outcome).increment(1);
    tracing::debug!(
        delivery.id = %due.id,
        webhook.id = %due.webhook,
        event.kind = due.kind,
        http.status = answer.status,
        error = answer.error,
        outcome,
        "webhook called"
    );
}

async fn record(store: &Store, due: &Due, tried: Tried) -> Result<Recorded, EngineError> {
    let (due, now) = (due.clone(), store.now().seconds());
    store
        .write("webhooks.record", move |tx| {
            let (due, tried) = (due.clone(), tried.clone());
            Box::pin(async move {
                Ok::<_, TxError<EngineError>>(deliveries::record(tx, &due, &tried, now).await?)
            })
        })
        .await
        .map_err(EngineError::from)
}

/// What an answer means (Standard Webhooks, "Delivery success and failure").
fn judge(answer: &Answer, tries: u32, random: u32) -> Tried {
    let why = match (answer.status, &answer.error) {
        (Some(status @ 200..=299), _) => return Tried::Taken(status),
        (Some(410), _) => return Tried::Gone,
        (Some(status @ 300..=399), _) => format!("{status}: redirects are not followed"),
        (Some(status), _) => format!("it answered {status}"),
        (None, Some(why)) => why.clone(),
        (None, None) => "no answer".to_owned(),
    };
    let asked = Seconds(answer.retry_after.unwrap_or_default().min(LONGEST_WAIT));
    let wait = wait_after(tries, random).map(|wait| wait.max(asked));
    Tried::Failed(answer.status, why, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<u32>) -> Answer {
        Answer { status: Some(status), error: None, retry_after }
    }

    #[test]
    fn answers_are_judged_by_their_status() {
        assert_eq!(judge(&answer(204, None), 1, 0), Tried::Taken(204));
        assert_eq!(judge(&answer(410, None), 1, 0), Tried::Gone);
        for status in [101, 301, 307, 400, 404, 429, 500, 503] {
            let Tried::Failed(Some(seen), _, Some(wait)) = judge(&answer(status, None), 1, 0)
            else {
                panic!("{status}");
            };
            assert_eq!((seen, wait.get()), (status, 5), "the first is soon");
        }
        let waits = |retry| match judge(&answer(503, retry), 2, 0) {
            Tried::Failed(_, _, wait) => wait.unwrap().get(),
            Tried::Taken(_) | Tried::Gone => panic!(),
        };
        assert_eq!((waits(None), waits(Some(10)), waits(Some(900))), (300, 300, 900));
        assert_eq!(waits(Some(u32::MAX)), LONGEST_WAIT);
        assert!(matches!(judge(&answer(500, None), 10, 0), Tried::Failed(_, _, None)));
        let silent = Answer::failed("no answer within 15 s".to_owned());
        assert!(
            matches!(judge(&silent, 1, 0), Tried::Failed(None, why, Some(_)) if why.contains("15 s"))
        );
    }
}
