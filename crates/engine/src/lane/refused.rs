//! Calls that the contract would refuse: put off, measured again, or given up, each with more patience the next time.

use std::time::Duration;

use alloy::primitives::Bytes;
use chain::ChainError;
use domain::{rental::RentalEvent, time::UnixSeconds};
use escrow::{Refusal, calldata::EndSignatures};
use store::{
    StoreError, TxError, advance,
    ends::{self, Side},
    intents::{self, Call, Intent},
    readings,
};

use super::{
    Lane, Scene,
    batch::{self, Item},
    later, told_by,
};
use crate::{EngineError, carried::funding_refused};

/// A call whose state may still come is asked again after this, then after twice as long each time.
const NOT_YET: Duration = Duration::from_secs(1);
const NOT_YET_LONGEST: Duration = Duration::from_secs(32);
/// A call about which the chain could not be asked is tried again after this, then after twice as long each time.
const UNASKED: Duration = Duration::from_millis(250);
const UNASKED_LONGEST: Duration = Duration::from_secs(4);
/// A call that needs the operator is asked again after this, then after twice as long each time.
const NEEDS_OPERATOR: Duration = Duration::from_secs(30);
const NEEDS_OPERATOR_LONGEST: Duration = Duration::from_secs(600);

/// What to do with an intent that the contract would refuse now.
pub(super) enum Verdict {
    Unasked(String),
    NotYet(String),
    NeedsOperator(String),
    Remeasure(String),
    DropSignature(String),
}

impl Lane {
    /// What the contract says to a call that it would not do now.
    pub(super) async fn refused(
        &self,
        item: &Item,
        data: &Bytes,
        scene: &Scene,
    ) -> Result<(), EngineError> {
        let intent = &item.claimed.intent;
        let (start_by, chain_time) = (item.claimed.terms.start_by, scene.head.timestamp);
        let refusal = Refusal::decode(data);
        if let Call::Lock { .. } = intent.call {
            return self.refuse_lock(intent, refusal.to_string()).await;
        }
        if let Call::Release { .. } = intent.call {
            return self.refuse_release(intent, &refusal, scene).await;
        }
        match judge(refusal) {
            Verdict::DropSignature(reason) => self.drop_signature(item, reason, scene).await,
            // Blocks are older than our clock. A new measurement is never earlier than this one, so it
            // would be ahead as well: let the chain come to this one.
            Verdict::Remeasure(reason) if is_after(&intent.call, chain_time) => {
                self.put_off(intent, &Verdict::NotYet(reason)).await
            }
            Verdict::Remeasure(reason) => {
                self.remeasure(intent, reason, start_by, chain_time).await
            }
            verdict @ (Verdict::Unasked(_) | Verdict::NotYet(_) | Verdict::NeedsOperator(_)) => {
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
            Verdict::Unasked(reason) => (UNASKED, UNASKED_LONGEST, reason.clone()),
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
    async fn drop_signature(
        &self,
        item: &Item,
        reason: String,
        scene: &Scene,
    ) -> Result<(), EngineError> {
        let intent = &item.claimed.intent;
        let Some((rental, end)) = told_by(&item.claimed) else {
            return self.put_off(intent, &Verdict::NeedsOperator(reason)).await;
        };
        let side = self.bad_side(item, scene).await?;
        let dropped = self
            .store
            .write("drop signature", move |tx| {
                Box::pin(async move {
                    Ok::<_, TxError<EngineError>>(ends::refuse_one(tx, rental, end, side).await?)
                })
            })
            .await?;
        if dropped {
            tracing::warn!(rental.id = %rental, ?side, "a signature under the end is not taken; closing without it");
            return Ok(());
        }
        self.put_off(intent, &Verdict::NeedsOperator(reason)).await
    }

    /// Whose signature the contract does not take, where both signed: each is tried alone.
    async fn bad_side(&self, item: &Item, scene: &Scene) -> Result<Option<Side>, EngineError> {
        let EndSignatures { renter, provider } = &item.signatures;
        let alone = [
            (Side::Provider, EndSignatures { renter: Bytes::new(), provider: provider.clone() }),
            (Side::Renter, EndSignatures { renter: renter.clone(), provider: Bytes::new() }),
        ];
        for (side, signatures) in alone {
            if signatures.renter.is_empty() && signatures.provider.is_empty() {
                continue;
            }
            let one = Item { claimed: item.claimed.clone(), signatures };
            let data = batch::encode(std::slice::from_ref(&one));
            let (from, to, price) = (self.address(), self.site.escrow, scene.fees.max_fee);
            if let Err(ChainError::Reverts { data }) =
                self.client.estimate_gas(from, to, data, price, None).await
                && matches!(Refusal::decode(&data), Refusal::BadSignature(_))
            {
                return Ok(Some(side));
            }
        }
        Ok(None)
    }

    /// The renter's authorization does not lock: gives the call up.
    pub(super) async fn refuse_lock(
        &self,
        intent: &Intent,
        reason: String,
    ) -> Result<(), EngineError> {
        let (id, rental, now) = (intent.id, intent.rental, self.store.now().seconds());
        let policy = self.store.policy().clone();
        self.store
            .write("refuse lock", move |tx| {
                let (policy, reason) = (policy.clone(), reason.clone());
                Box::pin(async move {
                    // the rental's row first, as everybody does who changes it and its calls
                    readings::lock_rental(tx, rental).await?;
                    if intents::refuse(tx, id, &reason).await? {
                        funding_refused(tx, &policy, rental, &reason, now).await?;
                    }
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        Ok(())
    }

    /// A release is no use again as it is: it was for the evidence of its time. Where somebody else released before us, or
    /// the rental has ended, there is nothing to be asked for anew either.
    async fn refuse_release(
        &self,
        intent: &Intent,
        refusal: &Refusal,
        scene: &Scene,
    ) -> Result<(), EngineError> {
        let reason = refusal.to_string();
        if !is_pointless(&reason) {
            // the last second of a start, which this is none of
            let never = UnixSeconds(u64::MAX);
            return self.remeasure(intent, reason, never, scene.head.timestamp).await;
        }
        let id = intent.id;
        self.store
            .write("refuse release", move |tx| {
                let reason = reason.clone();
                Box::pin(async move {
                    intents::refuse(tx, id, &reason).await?;
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        Ok(())
    }

    /// Refuses the releases that would be signed after their time, and returns all else. What they would pay was covered by
    /// evidence only up to then.
    pub(super) async fn part_with_late(
        &self,
        items: Vec<Item>,
        scene: &Scene,
    ) -> Result<Vec<Item>, EngineError> {
        let now = self.store.now().seconds().max(scene.head.timestamp);
        let (late, rest) = items.into_iter().partition::<Vec<_>, _>(
            |item| matches!(item.call(), Call::Release { until } if *until <= now),
        );
        for item in late {
            let intent = &item.claimed.intent;
            let start_by = item.claimed.terms.start_by;
            let reason = "it was not sent in time".to_owned();
            match self.remeasure(intent, reason, start_by, scene.head.timestamp).await {
                Ok(()) => {}
                Err(error @ EngineError::Store(_)) => return Err(error),
                // no matter of the others
                Err(error) => self.put_off(intent, &Verdict::NotYet(error.to_string())).await?,
            }
        }
        Ok(rest)
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
        // What is measured goes by the chain's clock where ours is behind it, as the contract does; when to send it goes
        // by ours, or it would wait until ours gets there.
        let ours = self.store.now().seconds();
        let now = ours.max(chain_time);
        let event = match intent.call {
            Call::Start { .. } if now > start_by => RentalEvent::StartExpired { now },
            Call::Start { .. } => RentalEvent::StartRefused { now },
            Call::Close { .. } | Call::Cancel => RentalEvent::CloseRefused { now },
            Call::Release { .. } => RentalEvent::ReleaseRefused { now },
            Call::Finalize | Call::Lock { .. } => RentalEvent::FinalizeRefused { now },
        };
        let (id, rental) = (intent.id, intent.rental);
        let policy = self.store.policy().clone();
        self.store
            .write("remeasure intent", move |tx| {
                let (policy, reason) = (policy.clone(), reason.clone());
                Box::pin(async move {
                    // the rental's row first, as everybody does who changes it and its calls
                    readings::lock_rental(tx, rental).await?;
                    if intents::refuse(tx, id, &reason).await? {
                        advance::apply(tx, &policy, rental, &event, ours).await.map_err(broken)?;
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }
}

/// Whether a release that was refused with this error is not to be tried again: somebody else released, or the rental is
/// over.
pub(crate) fn is_pointless(reason: &str) -> bool {
    matches!(reason, "NothingToRelease" | "NotActive")
}

/// True if the call names a second after `moment`.
const fn is_after(call: &Call, moment: UnixSeconds) -> bool {
    match call {
        Call::Start { started_at } => started_at.get() > moment.get(),
        Call::Close { stopped_at, .. } => stopped_at.get() > moment.get(),
        Call::Cancel | Call::Finalize | Call::Release { .. } | Call::Lock { .. } => false,
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
