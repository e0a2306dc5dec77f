//! Calls that the contract would refuse: put off, measured again, or given up, each with more patience the next time.

use std::time::Duration;

use alloy::primitives::Bytes;
use domain::{rental::RentalEvent, time::UnixSeconds};
use escrow::Refusal;
use store::{
    StoreError, TxError, advance,
    ends::{self, End},
    intents::{self, Call, Intent},
    timeline,
};

use super::{Lane, later};
use crate::EngineError;

/// A call whose state may still come is asked again after this, then after twice as long each time.
const NOT_YET: Duration = Duration::from_secs(1);
const NOT_YET_LONGEST: Duration = Duration::from_secs(32);
/// A call that needs the operator is asked again after this, then after twice as long each time.
const NEEDS_OPERATOR: Duration = Duration::from_secs(30);
const NEEDS_OPERATOR_LONGEST: Duration = Duration::from_secs(600);

/// What to do with an intent that the contract would refuse now.
pub(super) enum Verdict {
    NotYet(String),
    NeedsOperator(String),
    Remeasure(String),
    DropSignature(String),
}

impl Lane {
    /// What the contract says to a call that it would not do now.
    pub(super) async fn refused(
        &self,
        intent: &Intent,
        data: &Bytes,
        start_by: UnixSeconds,
        chain_time: UnixSeconds,
    ) -> Result<(), EngineError> {
        let refusal = Refusal::decode(data);
        if let Call::Lock { .. } = intent.call {
            return self.refuse_lock(intent, refusal.to_string()).await;
        }
        match judge(refusal) {
            Verdict::DropSignature(reason) => self.drop_signature(intent, reason).await,
            // Blocks are older than our clock. A new measurement is never earlier than this one, so it
            // would be ahead as well: let the chain come to this one.
            Verdict::Remeasure(reason) if is_after(&intent.call, chain_time) => {
                self.put_off(intent, &Verdict::NotYet(reason)).await
            }
            Verdict::Remeasure(reason) => {
                self.remeasure(intent, reason, start_by, chain_time).await
            }
            verdict @ (Verdict::NotYet(_) | Verdict::NeedsOperator(_)) => {
                self.put_off(intent, &verdict).await
            }
        }
    }

    pub(super) async fn put_off(
        &self,
        intent: &Intent,
        verdict: &Verdict,
    ) -> Result<(), EngineError> {
        let (first, longest, reason) = match verdict {
            Verdict::NotYet(reason)
            | Verdict::Remeasure(reason)
            | Verdict::DropSignature(reason) => (NOT_YET, NOT_YET_LONGEST, reason.clone()),
            Verdict::NeedsOperator(reason) => {
                tracing::error!(
                    rental.id = %intent.rental, tx.purpose = intent.call.purpose(), reason,
                    "the contract refuses us; see the runbook"
                );
                metrics::counter!("weir_lane_refusals_total").increment(1);
                (NEEDS_OPERATOR, NEEDS_OPERATOR_LONGEST, reason.clone())
            }
        };
        let doubled = first.saturating_mul(1_u32 << intent.deferrals.min(16));
        let until = later(self.store.now(), doubled.min(longest));
        let mut connection = self.store.read().await?;
        intents::defer(&mut connection, intent.id, until, &reason).await?;
        Ok(())
    }

    /// The contract does not take a signature that we attached, as when the chain names another agent: go on
    /// without it. With none left, the refusal is about something else, and a matter for the operator.
    async fn drop_signature(&self, intent: &Intent, reason: String) -> Result<(), EngineError> {
        let Call::Close { stopped_at, credit } = intent.call else {
            return self.put_off(intent, &Verdict::NeedsOperator(reason)).await;
        };
        let (rental, end) = (intent.rental, End { stopped_at, credit });
        let dropped = self
            .store
            .write("drop signature", move |tx| {
                Box::pin(async move {
                    Ok::<_, TxError<EngineError>>(ends::refuse_one(tx, rental, end).await?)
                })
            })
            .await?;
        if dropped {
            tracing::warn!(rental.id = %rental, "a signature under the end is not taken; closing without it");
            return Ok(());
        }
        self.put_off(intent, &Verdict::NeedsOperator(reason)).await
    }

    /// The renter's authorization does not lock: say so. Nothing is lost, the renter can still lock by itself.
    async fn refuse_lock(&self, intent: &Intent, reason: String) -> Result<(), EngineError> {
        let (id, rental, now) = (intent.id, intent.rental, self.store.now().seconds());
        self.store
            .write("refuse lock", move |tx| {
                let reason = reason.clone();
                Box::pin(async move {
                    if intents::refuse(tx, id, &reason).await? {
                        let detail = serde_json::json!({ "reason": reason });
                        timeline::append(tx, rental, now, "funding_refused", &detail).await?;
                    }
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        Ok(())
    }

    /// The measured second fell out of the contract's window: give the intent up and let the state
    /// machine measure again.
    async fn remeasure(
        &self,
        intent: &Intent,
        reason: String,
        start_by: UnixSeconds,
        chain_time: UnixSeconds,
    ) -> Result<(), EngineError> {
        // by the chain's clock where ours is behind it: the contract goes by its own
        let now = self.store.now().seconds().max(chain_time);
        let event = match intent.call {
            Call::Start { .. } if now > start_by => RentalEvent::StartExpired { now },
            Call::Start { .. } => RentalEvent::StartRefused { now },
            Call::Close { .. } | Call::Cancel => RentalEvent::CloseRefused { now },
            Call::Finalize | Call::Lock { .. } => RentalEvent::FinalizeRefused { now },
        };
        let (id, rental) = (intent.id, intent.rental);
        let policy = self.store.policy().clone();
        self.store
            .write("remeasure intent", move |tx| {
                let (policy, reason) = (policy.clone(), reason.clone());
                Box::pin(async move {
                    if intents::refuse(tx, id, &reason).await? {
                        advance::apply(tx, &policy, rental, &event, now).await.map_err(broken)?;
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }
}

/// True if the call names a second after `moment`.
const fn is_after(call: &Call, moment: UnixSeconds) -> bool {
    match call {
        Call::Start { started_at } => started_at.get() > moment.get(),
        Call::Close { stopped_at, .. } => stopped_at.get() > moment.get(),
        Call::Cancel | Call::Finalize | Call::Lock { .. } => false,
    }
}

fn judge(refusal: Refusal) -> Verdict {
    let name = refusal.to_string();
    match refusal {
        Refusal::WrongState(_) | Refusal::TooEarly(_) => Verdict::NotYet(name),
        Refusal::OutOfWindow(_) => Verdict::Remeasure(name),
        Refusal::BadSignature(_) => Verdict::DropSignature(name),
        Refusal::NotAllowed(_) | Refusal::Other(_) => Verdict::NeedsOperator(name),
    }
}

fn broken(error: advance::AdvanceError) -> TxError<EngineError> {
    match error {
        advance::AdvanceError::Store(error) => TxError::Store(error),
        advance::AdvanceError::Missing => TxError::Store(StoreError::Missing("the rental")),
        advance::AdvanceError::Illegal(step) => {
            TxError::Refused(EngineError::Broken(step.to_string()))
        }
    }
}
