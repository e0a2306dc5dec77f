//! The lane: turns queued intents into numbered, signed and stored transactions, and sends what is
//! stored until it is mined. One lane per key; the nonce belongs to its row for ever.

use std::time::Duration;

use alloy::primitives::Bytes;
use chain::{
    BlockHeader, ChainError, FeePolicy, Fees, ReadClient, Refused, SendOutcome, SignedTx, Signer,
    TxFields, Wire,
};
use domain::{
    id::TxId,
    rental::RentalEvent,
    time::{UnixMillis, UnixSeconds},
};
use escrow::{Refusal, Terms, calldata};
use store::{
    Store, StoreError, TxError, advance,
    intents::{self, Call, Intent},
    quotes, rentals, txs,
};
use uuid::Uuid;

use crate::{EngineError, Site, pause};

/// A transaction may not use more (EIP-7825).
const GAS_CAP: u64 = 16_777_216;
/// A call whose state may still come is asked again after this.
const NOT_YET: Duration = Duration::from_secs(1);
/// A call that needs the operator is asked again after this.
const NEEDS_OPERATOR: Duration = Duration::from_secs(30);

/// How the lane sends.
#[derive(Clone, Copy, Debug)]
pub struct LaneSettings {
    /// Bounds on fees.
    pub fees: FeePolicy,
    /// Bytes that are not mined by then are sent again.
    pub resend_after: Duration,
    /// How many intents and sends one tick handles.
    pub batch: i64,
}

/// The sender of one key.
pub struct Lane {
    store: Store,
    client: ReadClient,
    wire: Wire,
    signer: Signer,
    settings: LaneSettings,
    site: Site,
}

/// What to do with an intent that the contract would refuse now.
enum Verdict {
    NotYet(String),
    NeedsOperator(String),
    Remeasure(String),
}

impl Lane {
    /// A lane for `signer` on the site's chain.
    #[must_use]
    pub fn new(
        store: Store,
        client: ReadClient,
        signer: Signer,
        settings: LaneSettings,
        site: Site,
    ) -> Self {
        let wire = Wire::new(client.clone());
        Self { store, client, wire, signer, settings, site }
    }

    /// Takes the key's account over: its nonces are ours from the chain's present one on.
    ///
    /// # Errors
    /// The database's or the chain's.
    pub async fn take_over(&self) -> Result<(), EngineError> {
        let address = self.signer.address();
        let nonce = self.client.nonce(address).await?;
        self.store
            .write("register signer", move |tx| {
                Box::pin(async move {
                    txs::register_signer(tx, address, nonce).await?;
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        Ok(())
    }

    /// Signs what is queued and sends what is due. Returns how many sends were tried.
    ///
    /// # Errors
    /// The database's or the chain's; whatever was stored by then stays and is picked up next time.
    pub async fn tick(&self) -> Result<usize, EngineError> {
        let signed = self.sign_queued().await;
        // what is stored is sent even if nothing new could be signed
        let sent = self.send_due().await?;
        signed.map(|()| sent)
    }

    /// Numbers, signs and stores what is queued: the first half of a tick. Nothing leaves the house.
    ///
    /// # Errors
    /// As [`Lane::tick`].
    pub async fn sign_queued(&self) -> Result<(), EngineError> {
        let queued = {
            let mut connection = self.store.read().await?;
            intents::due(&mut connection, self.store.now(), self.settings.batch).await?
        };
        if queued.is_empty() {
            return Ok(());
        }
        // Before the estimates: if a block comes in between, what was ahead still counts as ahead.
        let head = self.client.head().await?;
        let fees = self.fees(&head).await?;
        for intent in queued {
            let Some(terms) = self.terms(&intent).await? else {
                continue;
            };
            let data = encode(&intent.call, &Terms::from(&terms));
            let from = self.signer.address();
            match self.client.estimate_gas(from, self.site.escrow, data.clone()).await {
                Ok(gas) => self.sign(&intent, data, gas, fees).await?,
                Err(ChainError::Reverts { data }) => {
                    self.refused(&intent, &data, terms.start_by, head.timestamp).await?;
                }
                Err(ChainError::Refused { code, message }) => {
                    let verdict = Verdict::NeedsOperator(format!("{message} ({code})"));
                    self.put_off(&intent, &verdict).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn fees(&self, head: &BlockHeader) -> Result<Fees, EngineError> {
        let tip = self.client.suggested_tip().await?;
        Ok(self.settings.fees.fees(head.base_fee, tip))
    }

    async fn terms(
        &self,
        intent: &Intent,
    ) -> Result<Option<domain::terms::RentalTerms>, EngineError> {
        let mut connection = self.store.read().await?;
        let Some(rental) = rentals::get(&mut connection, intent.rental).await? else {
            return Ok(None);
        };
        Ok(quotes::get(&mut connection, rental.quote_id).await?.map(|quote| quote.terms()))
    }

    /// Number, row, signed bytes and the intent's new state: one commit.
    async fn sign(
        &self,
        intent: &Intent,
        data: Vec<u8>,
        gas: u64,
        fees: Fees,
    ) -> Result<(), EngineError> {
        let new = txs::NewTx {
            id: TxId::from_uuid(Uuid::now_v7()),
            signer: self.signer.address(),
            to: self.site.escrow,
            calldata: data,
            gas_limit: with_headroom(gas),
        };
        let (now, intent_id) = (self.store.now(), intent.id);
        let (signer, chain_id) = (self.signer.clone(), self.site.chain_id);
        let purpose = intent.call.purpose();
        let signed = self
            .store
            .write("sign transaction", move |tx| {
                let (new, signer) = (new.clone(), signer.clone());
                Box::pin(async move {
                    let nonce = txs::number(tx, &new, now).await?;
                    if !intents::sent(tx, intent_id, new.id).await? {
                        // another worker took it: the number goes back with the transaction
                        return Err(TxError::Refused(None));
                    }
                    let signed = sign(&signer, chain_id, nonce, &new, fees)
                        .map_err(|error| TxError::Refused(Some(error)))?;
                    let attempt = txs::NewAttempt {
                        hash: signed.hash,
                        raw: signed.raw.to_vec(),
                        max_fee: fees.max_fee,
                        tip: fees.tip,
                    };
                    txs::store_attempt(tx, new.id, &attempt, now).await?;
                    Ok((signed.hash, nonce))
                })
            })
            .await;
        match signed {
            Ok((hash, nonce)) => {
                tracing::info!(
                    tx.hash = %hash, tx.nonce = nonce, tx.purpose = purpose,
                    rental.id = %intent.rental, "transaction signed and stored"
                );
                pause::at(&format!("{purpose}.signed")).await;
                Ok(())
            }
            Err(TxError::Refused(None)) => Ok(()),
            Err(TxError::Refused(Some(error))) => Err(error),
            Err(TxError::Store(error)) => Err(error.into()),
        }
    }

    async fn refused(
        &self,
        intent: &Intent,
        data: &Bytes,
        start_by: UnixSeconds,
        chain_time: UnixSeconds,
    ) -> Result<(), EngineError> {
        match judge(Refusal::decode(data)) {
            // Blocks are older than our clock. A new measurement is never earlier than this one, so it
            // would be ahead as well: let the chain come to this one.
            Verdict::Remeasure(reason) if is_after(&intent.call, chain_time) => {
                self.put_off(intent, &Verdict::NotYet(reason)).await
            }
            Verdict::Remeasure(reason) => self.remeasure(intent, reason, start_by).await,
            verdict @ (Verdict::NotYet(_) | Verdict::NeedsOperator(_)) => {
                self.put_off(intent, &verdict).await
            }
        }
    }

    async fn put_off(&self, intent: &Intent, verdict: &Verdict) -> Result<(), EngineError> {
        let (wait, reason) = match verdict {
            Verdict::NotYet(reason) | Verdict::Remeasure(reason) => (NOT_YET, reason.clone()),
            Verdict::NeedsOperator(reason) => {
                tracing::error!(
                    rental.id = %intent.rental, tx.purpose = intent.call.purpose(), reason,
                    "the contract refuses us; see the runbook"
                );
                metrics::counter!("weir_lane_refusals_total").increment(1);
                (NEEDS_OPERATOR, reason.clone())
            }
        };
        let until = later(self.store.now(), wait);
        let mut connection = self.store.read().await?;
        intents::defer(&mut connection, intent.id, until, &reason).await?;
        Ok(())
    }

    /// The measured second fell out of the contract's window: give the intent up and let the state
    /// machine measure again.
    async fn remeasure(
        &self,
        intent: &Intent,
        reason: String,
        start_by: UnixSeconds,
    ) -> Result<(), EngineError> {
        let now = self.store.now().seconds();
        let event = match intent.call {
            Call::Start { .. } if now > start_by => RentalEvent::StartExpired { now },
            Call::Start { .. } => RentalEvent::StartRefused { now },
            Call::Close { .. } | Call::Cancel => RentalEvent::CloseRefused { now },
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

    /// Sends what is stored and due: the second half of a tick. Returns how many sends were tried.
    ///
    /// # Errors
    /// As [`Lane::tick`].
    pub async fn send_due(&self) -> Result<usize, EngineError> {
        let due = {
            let mut connection = self.store.read().await?;
            let signer = self.signer.address();
            txs::due_to_send(&mut connection, signer, self.store.now(), self.settings.batch).await?
        };
        for outgoing in &due {
            let outcome = self.wire.send(&outgoing.raw).await;
            let again = self.after_send(outgoing, &outcome);
            let (id, now) = (outgoing.id, self.store.now());
            self.store
                .write("note broadcast", move |tx| {
                    Box::pin(async move {
                        txs::broadcast(tx, id, now, again).await?;
                        Ok::<_, TxError<EngineError>>(())
                    })
                })
                .await?;
        }
        Ok(due.len())
    }

    /// When to send the same bytes again. Whether they are mined is for the watcher to find.
    fn after_send(&self, outgoing: &txs::Outgoing, outcome: &SendOutcome) -> Duration {
        let (hash, nonce) = (outgoing.hash, outgoing.nonce);
        match outcome {
            SendOutcome::Accepted => {
                tracing::debug!(tx.hash = %hash, tx.nonce = nonce, "sent");
                self.settings.resend_after
            }
            SendOutcome::Unknown(reason) => {
                tracing::warn!(tx.hash = %hash, tx.nonce = nonce, reason, "sent, outcome unknown");
                NOT_YET
            }
            SendOutcome::Refused(Refused::NonceTooLow) => {
                tracing::debug!(tx.hash = %hash, tx.nonce = nonce, "nonce used: mined, it seems");
                self.settings.resend_after
            }
            SendOutcome::Refused(why) => {
                tracing::error!(tx.hash = %hash, tx.nonce = nonce, ?why, "the node refuses our bytes");
                metrics::counter!("weir_lane_refusals_total").increment(1);
                self.settings.resend_after
            }
        }
    }
}

fn encode(call: &Call, terms: &Terms) -> Vec<u8> {
    match call {
        Call::Start { started_at } => calldata::start(terms, *started_at),
        Call::Close { stopped_at, credit } => calldata::close(terms, *stopped_at, *credit),
        Call::Cancel => calldata::cancel(terms),
    }
}

/// True if the call names a second after `moment`.
const fn is_after(call: &Call, moment: UnixSeconds) -> bool {
    match call {
        Call::Start { started_at } => started_at.get() > moment.get(),
        Call::Close { stopped_at, .. } => stopped_at.get() > moment.get(),
        Call::Cancel => false,
    }
}

fn judge(refusal: Refusal) -> Verdict {
    let name = refusal.to_string();
    match refusal {
        Refusal::WrongState(_) => Verdict::NotYet(name),
        Refusal::OutOfWindow(_) => Verdict::Remeasure(name),
        Refusal::NotAllowed(_) | Refusal::Other(_) => Verdict::NeedsOperator(name),
    }
}

fn sign(
    signer: &Signer,
    chain_id: u64,
    nonce: u64,
    new: &txs::NewTx,
    fees: Fees,
) -> Result<SignedTx, EngineError> {
    let fields = TxFields {
        chain_id,
        nonce,
        to: new.to,
        calldata: new.calldata.clone().into(),
        gas_limit: new.gas_limit,
        fees,
    };
    Ok(signer.sign(&fields)?)
}

/// A quarter more than estimated: slots can turn cold between the estimate and the block.
fn with_headroom(gas: u64) -> u64 {
    gas.saturating_add(gas / 4).saturating_add(10_000).min(GAS_CAP)
}

fn later(now: UnixMillis, wait: Duration) -> UnixMillis {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    UnixMillis(now.get().saturating_add(wait))
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
