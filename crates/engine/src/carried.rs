//! What becomes of intents when the transaction that carried them is final: done, or asked for anew.

use std::time::Duration;

use alloy::primitives::B256;
use domain::{
    id::{RentalId, TxId},
    rental::RentalEvent,
    time::{UnixMillis, UnixSeconds},
};
use store::{
    Connection, Policy, Store, StoreError, TxError, advance,
    ends::{self, End},
    intents::{self, Call, Intent},
    payments, quotes, readings, rentals, timeline,
    txs::{Finalised, Outcome},
};
use uuid::Uuid;

use crate::{EngineError, lane::is_pointless, watcher::seen::lenient};

/// Calls that one tick asks about.
const ASKED_PER_TICK: i64 = 500;
/// What could not be answered is asked again after this.
const ASK_AGAIN_MS: u64 = 15_000;

/// Ends the intents of a final transaction. Of a batch that the contract did, the state machine is asked anew about those
/// that it skipped; of one that reverted, about all, and never again in a batch of that size.
pub(crate) async fn finish(
    tx: &mut Connection,
    done: &Finalised,
    now: UnixMillis,
) -> Result<(), TxError<EngineError>> {
    let failure = match done.outcome {
        Outcome::Succeeded => None,
        Outcome::Reverted => Some("the transaction reverted"),
        Outcome::Voided => Some("the transaction was given up"),
    };
    end(tx, done, failure, now).await
}

/// Ends the intents of a transaction that can never be mined: something else spent its number.
pub(crate) async fn lose(
    tx: &mut Connection,
    id: TxId,
    now: UnixMillis,
) -> Result<(), TxError<EngineError>> {
    tracing::error!(tx.id = %id, "a transaction that is none of ours spent the number of this one; see the runbook");
    metrics::counter!("weir_lost_nonces_total").increment(1);
    let done = Finalised { id, attempt: B256::ZERO, outcome: Outcome::Voided };
    end(tx, &done, Some("another transaction spent the number of this one"), now).await
}

async fn end(
    tx: &mut Connection,
    done: &Finalised,
    failure: Option<&str>,
    now: UnixMillis,
) -> Result<(), TxError<EngineError>> {
    let carried = intents::carried(tx, done.id, done.attempt).await?;
    let half = u32::try_from(carried.len().div_ceil(2)).unwrap_or(u32::MAX);
    let cap = (done.outcome == Outcome::Reverted && carried.len() > 1).then_some(half);
    let mut settled = Vec::with_capacity(carried.len());
    for item in carried {
        took(&item.intent, now);
        let Some(reason) = failure.or(item.skipped.as_deref()) else {
            settled.push(item.intent.id);
            continue;
        };
        tracing::warn!(
            rental.id = %item.intent.rental, tx.purpose = item.intent.call.purpose(), tx.id = %done.id,
            reason, "a call came to nothing"
        );
        intents::refuse_sent(tx, item.intent.id, reason, cap, now).await?;
        if let Call::Close { stopped_at, credit } = item.intent.call {
            let told = End { stopped_at, credit };
            // A close that reverts again and again though it is good whenever it is looked at: a wallet that changes its
            // mind about its signature in the block could have it so for ever.
            let turned = done.outcome == Outcome::Reverted
                && intents::count_failed(tx, item.intent.rental, "close", reason).await? > 1;
            if turned || item.skipped.as_deref() == Some("BadSignature") {
                ends::refuse_one(tx, item.intent.rental, told, None).await?;
            }
        }
    }
    intents::settle(tx, &settled).await?;
    Ok(())
}

/// Asks the state machine what follows from calls that came to nothing, each in a transaction of its own: one that
/// cannot be answered waits, and holds up nobody else.
///
/// # Errors
/// If the database is away or busy.
pub(crate) async fn ask_waiting(store: &Store) -> Result<(), EngineError> {
    let waiting = {
        let mut connection = store.read().await?;
        intents::to_ask_anew(&mut connection, store.now(), ASKED_PER_TICK).await?
    };
    for (intent, rental) in waiting {
        match ask_anew(store, intent, rental).await {
            Ok(()) => {}
            Err(error @ EngineError::Store(StoreError::Unavailable(_))) => return Err(error),
            Err(error) => {
                tracing::error!(
                    rental.id = %rental, intent.id = %intent, %error,
                    "what follows from a call that came to nothing cannot be said; its rental waits"
                );
                metrics::counter!("weir_timer_failures_total").increment(1);
                let until = UnixMillis(store.now().get().saturating_add(ASK_AGAIN_MS));
                let mut connection = store.read().await?;
                intents::ask_later(&mut connection, intent, until).await?;
            }
        }
    }
    Ok(())
}

async fn ask_anew(store: &Store, intent: Uuid, rental: RentalId) -> Result<(), EngineError> {
    let (policy, now) = (store.policy().clone(), store.now().seconds());
    store
        .write("ask anew", move |tx| {
            let policy = policy.clone();
            Box::pin(async move {
                // the rental's row first, as everybody does who changes it and its calls
                readings::lock_rental(tx, rental).await?;
                let Some((intent, reason)) = intents::take_anew(tx, intent).await? else {
                    return Ok(());
                };
                follow(tx, &policy, &intent, &reason, now).await
            })
        })
        .await?;
    Ok(())
}

async fn follow(
    tx: &mut Connection,
    policy: &Policy,
    intent: &Intent,
    reason: &str,
    now: UnixSeconds,
) -> Result<(), TxError<EngineError>> {
    let rental = rentals::get(tx, intent.rental).await?.ok_or(StoreError::Missing("the rental"))?;
    let quote = quotes::get(tx, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
    let event = match intent.call {
        Call::Start { .. } if now > quote.start_by => RentalEvent::StartExpired { now },
        Call::Start { .. } => RentalEvent::StartRefused { now },
        Call::Close { .. } | Call::Cancel => RentalEvent::CloseRefused { now },
        Call::Finalize => RentalEvent::FinalizeRefused { now },
        Call::Release { .. } if is_pointless(reason) => return Ok(()),
        Call::Release { .. } => RentalEvent::ReleaseRefused { now },
        Call::Lock { .. } => {
            return funding_refused(tx, policy, intent.rental, reason, now).await;
        }
    };
    lenient(advance::apply(tx, policy, intent.rental, &event, now).await)
}

/// The renter's authorization does not lock: says so. Who signed in can still lock by itself, and nothing is lost. A booking
/// that was to be paid for by it (x402) is over, so that its GPUs wait for nothing.
pub(crate) async fn funding_refused(
    tx: &mut Connection,
    policy: &Policy,
    rental: RentalId,
    reason: &str,
    now: UnixSeconds,
) -> Result<(), TxError<EngineError>> {
    let detail = serde_json::json!({ "reason": reason });
    timeline::append(tx, rental, now, "funding_refused", &detail).await?;
    if payments::is_paid(tx, rental).await? {
        let over = RentalEvent::FundingDeadline;
        lenient(advance::apply(tx, policy, rental, &over, now).await)?;
    }
    Ok(())
}

/// How long a call took from being wanted, which its id tells, to being final.
fn took(intent: &Intent, now: UnixMillis) {
    let (seconds, nanos) = intent.id.get_timestamp().map_or((0, 0), |at| at.to_unix());
    let wanted = Duration::new(seconds, nanos);
    let took = Duration::from_millis(now.get()).saturating_sub(wanted);
    metrics::histogram!("weir_intent_final_seconds", "purpose" => intent.call.purpose())
        .record(took.as_secs_f64());
}
