//! The lane: turns queued intents into numbered, signed and stored transactions, and sends what is
//! stored until it is mined. One lane per key; the nonce belongs to its row for ever.

mod refused;

use std::time::Duration;

use chain::{
    BlockHeader, ChainError, FeePolicy, Fees, ReadClient, Refused, SendOutcome, SignedTx, Signer,
    TxFields, Wire,
};
use domain::id::TxId;
use escrow::{
    Terms,
    calldata::{self, EndSignatures},
};
use store::{
    Store, TxError,
    ends::{self, End},
    intents::{self, Call, Intent},
    quotes, rentals, txs,
};
use uuid::Uuid;

use crate::{EngineError, Site, pause};
use refused::Verdict;

/// A transaction may not use more (EIP-7825).
const GAS_CAP: u64 = 16_777_216;
/// What a failed push can use beyond one that succeeds: an ERC-20's 150,000 or the native coin's 20,000, and the
/// credit with its event, on cold slots by Polygon's prices.
const FAILED_PUSH: u64 = 250_000;
/// Bytes that may or may not have arrived are sent again after this.
const UNKNOWN: Duration = Duration::from_secs(1);

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
            let signatures = self.signatures(&intent).await?;
            let data = encode(&intent.call, &Terms::from(&terms), signatures);
            let (from, to) = (self.signer.address(), self.site.escrow);
            match self.client.estimate_gas(from, to, data.clone(), fees.max_fee).await {
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

    /// What the two sides signed about the end that a close tells.
    async fn signatures(&self, intent: &Intent) -> Result<EndSignatures, EngineError> {
        let mut signatures = ends::Signatures::default();
        if let Call::Close { stopped_at, credit } = intent.call {
            let end = End { stopped_at, credit };
            let mut connection = self.store.read().await?;
            signatures = ends::signatures(&mut connection, intent.rental, end).await?;
        }
        let ends::Signatures { renter, provider } = signatures;
        Ok(EndSignatures { renter: renter.into(), provider: provider.into() })
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
            gas_limit: with_headroom(&intent.call, gas),
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
                UNKNOWN
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

fn encode(call: &Call, terms: &Terms, signatures: EndSignatures) -> Vec<u8> {
    match call {
        Call::Start { started_at } => calldata::start(terms, *started_at),
        Call::Close { stopped_at, credit } => {
            calldata::close(terms, *stopped_at, *credit, &signatures)
        }
        Call::Cancel => calldata::cancel(terms),
        Call::Finalize => calldata::finalize(terms),
        Call::Lock { deposit, valid_after, valid_before, signature } => {
            let valid = (*valid_after, *valid_before);
            calldata::lock_with_authorization(terms, *deposit, valid, signature)
        }
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

/// A quarter more than estimated: slots can turn cold between the estimate and the block. A call that pushes money
/// to the renter gets as much more as a push needs that burns all it may and fails, so that what was pushed is
/// credited: the renter's wallet can take the money in the estimate and refuse it in the block. Gas that is not used
/// costs nothing.
fn with_headroom(call: &Call, gas: u64) -> u64 {
    let push = match call {
        Call::Close { .. } | Call::Cancel | Call::Finalize => FAILED_PUSH,
        Call::Start { .. } | Call::Lock { .. } => 0,
    };
    gas.saturating_add(gas / 4).saturating_add(10_000).saturating_add(push).min(GAS_CAP)
}
