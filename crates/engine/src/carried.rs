//! What becomes of intents when the transaction that carried them is final: done, or asked for anew.

use std::time::Duration;

use alloy::primitives::B256;
use domain::{
    id::TxId,
    rental::RentalEvent,
    time::{UnixMillis, UnixSeconds},
};
use store::{
    Connection, Policy, StoreError, TxError, advance,
    ends::{self, End},
    intents::{self, Call, Intent},
    quotes, rentals, timeline,
    txs::{Finalised, Outcome},
};

use crate::{EngineError, watcher::seen::lenient};

/// Ends the intents of a final transaction. Of a batch that the contract did, those that it skipped are asked for
/// anew by the state machine; of one that reverted, all are, and never again in a batch of that size.
pub(crate) async fn finish(
    tx: &mut Connection,
    policy: &Policy,
    done: &Finalised,
    now: UnixMillis,
) -> Result<(), TxError<EngineError>> {
    let failure = match done.outcome {
        Outcome::Succeeded => None,
        Outcome::Reverted => Some("the transaction reverted"),
        Outcome::Voided => Some("the transaction was given up"),
    };
    end(tx, policy, done, failure, now).await
}

/// Ends the intents of a transaction that can never be mined: something else spent its number.
pub(crate) async fn lose(
    tx: &mut Connection,
    policy: &Policy,
    id: TxId,
    now: UnixMillis,
) -> Result<(), TxError<EngineError>> {
    tracing::error!(tx.id = %id, "a transaction that is none of ours spent the number of this one; see the runbook");
    metrics::counter!("weir_lost_nonces_total").increment(1);
    let done = Finalised { id, attempt: B256::ZERO, outcome: Outcome::Voided };
    end(tx, policy, &done, Some("another transaction spent the number of this one"), now).await
}

async fn end(
    tx: &mut Connection,
    policy: &Policy,
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
        intents::refuse_sent(tx, item.intent.id, reason, cap).await?;
        if let (Some("BadSignature"), Call::Close { stopped_at, credit }) =
            (item.skipped.as_deref(), &item.intent.call)
        {
            let told = End { stopped_at: *stopped_at, credit: *credit };
            ends::refuse_one(tx, item.intent.rental, told).await?;
        }
        ask_anew(tx, policy, &item.intent, reason, now.seconds()).await?;
    }
    intents::settle(tx, &settled).await?;
    Ok(())
}

async fn ask_anew(
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
        Call::Lock { .. } => {
            let detail = serde_json::json!({ "reason": reason });
            timeline::append(tx, intent.rental, now, "funding_refused", &detail).await?;
            return Ok(());
        }
    };
    lenient(advance::apply(tx, policy, intent.rental, &event, now).await)
}

/// How long a call took from being wanted, which its id tells, to being final.
fn took(intent: &Intent, now: UnixMillis) {
    let (seconds, nanos) = intent.id.get_timestamp().map_or((0, 0), |at| at.to_unix());
    let wanted = Duration::new(seconds, nanos);
    let took = Duration::from_millis(now.get()).saturating_sub(wanted);
    metrics::histogram!("weir_intent_final_seconds", "purpose" => intent.call.purpose())
        .record(took.as_secs_f64());
}
