//! From calls that go together to signed bytes: looked at first, parted where they do not fit, then numbered, signed
//! and stored in one commit.

use std::collections::BTreeMap;

use alloy::{
    eips::eip2930::AccessList,
    primitives::{B256, Bytes},
};
use chain::{ChainError, Fees, SignedTx, Signer, Simulated, TxFields};
use domain::{id::TxId, time::Seconds};
use escrow::{EscrowEvent, Refusal};
use store::{TxError, intents, txs};
use uuid::Uuid;

use super::{
    GAS_CAP, Lane, Scene,
    batch::{self, Item},
    refused::Verdict,
};
use crate::{EngineError, pause};

/// What the chain says of a batch before it is sent.
enum Look {
    /// All items would be done, with so much gas.
    Good(u64),
    /// These would be skipped, with these errors.
    Skips(BTreeMap<B256, Bytes>),
    /// Nothing would be done, with this reason.
    Reverts(Bytes),
    /// The node will not have the question.
    Refused(String),
}

impl Lane {
    /// Signs a group, in as many transactions as it needs. Returns how many.
    pub(super) async fn fly(&self, group: Vec<Item>, scene: &Scene) -> Result<u64, EngineError> {
        let mut signed = 0_u64;
        let mut waiting = vec![group];
        // Each round either ends a group or makes it smaller.
        while let Some(group) = waiting.pop() {
            let data = batch::encode(&group);
            match self.look(&group, &data, scene).await? {
                Look::Good(gas) => match batch::with_headroom(&group, gas) {
                    Some(limit) => {
                        signed = signed.saturating_add(1);
                        self.sign(&group, data, gas, limit, scene).await?;
                    }
                    None if group.len() > 1 => waiting.extend(halves(group)),
                    None => {
                        let reason = format!("it needs {gas} gas, above the cap of {GAS_CAP}");
                        self.put_all_off(&group, &Verdict::NeedsOperator(reason)).await?;
                    }
                },
                Look::Skips(reasons) => {
                    let rest = self.part_with(group, &reasons, scene).await?;
                    if !rest.is_empty() {
                        waiting.push(rest);
                    }
                }
                Look::Reverts(data) => match group.as_slice() {
                    [one] => self.refuse(one, &data, scene).await?,
                    _ if is_about_us(&data) => {
                        let verdict = Verdict::NeedsOperator(Refusal::decode(&data).to_string());
                        self.put_all_off(&group, &verdict).await?;
                    }
                    _ => waiting.extend(halves(group)),
                },
                Look::Refused(reason) => {
                    self.put_all_off(&group, &Verdict::NeedsOperator(reason)).await?;
                }
            }
        }
        Ok(signed)
    }

    async fn look(&self, group: &[Item], data: &[u8], scene: &Scene) -> Result<Look, EngineError> {
        let (from, to) = (self.address(), self.site.escrow);
        if group.len() > 1 {
            let at = scene.head.timestamp.saturating_plus(Seconds::ONE);
            if let Some(simulated) = self.client.simulate(from, to, data, at).await? {
                return Ok(self.judge_batch(&simulated));
            }
            // A node without simulations: what is skipped shows in the block.
        }
        match self.client.estimate_gas(from, to, data.to_vec(), scene.fees.max_fee).await {
            Ok(gas) => Ok(Look::Good(gas)),
            Err(ChainError::Reverts { data }) => Ok(Look::Reverts(data)),
            Err(ChainError::Refused { code, message }) => {
                Ok(Look::Refused(format!("{message} ({code})")))
            }
            Err(error @ (ChainError::Unavailable(_) | ChainError::Nonsense(_))) => {
                Err(error.into())
            }
        }
    }

    fn judge_batch(&self, simulated: &Simulated) -> Look {
        if !simulated.succeeded {
            return Look::Reverts(simulated.answer.clone());
        }
        let skips: BTreeMap<B256, Bytes> = simulated
            .logs
            .iter()
            .filter(|(address, _)| *address == self.site.escrow)
            .filter_map(|(_, log)| match escrow::decode_event(log) {
                Ok(EscrowEvent::Skipped { id, .. }) => {
                    Some((id, Bytes::copy_from_slice(log.data.get(..4).unwrap_or_default())))
                }
                Ok(_) | Err(_) => None,
            })
            .collect();
        if skips.is_empty() { Look::Good(simulated.gas) } else { Look::Skips(skips) }
    }

    /// Deals with the items that would be skipped, and returns the others.
    async fn part_with(
        &self,
        group: Vec<Item>,
        reasons: &BTreeMap<B256, Bytes>,
        scene: &Scene,
    ) -> Result<Vec<Item>, EngineError> {
        let mut rest = Vec::with_capacity(group.len());
        for item in group {
            let id = escrow::terms_hash(&item.terms(), &self.site.domain);
            match reasons.get(&id) {
                Some(reason) => self.refuse(&item, reason, scene).await?,
                None => rest.push(item),
            }
        }
        Ok(rest)
    }

    async fn refuse(&self, item: &Item, data: &Bytes, scene: &Scene) -> Result<(), EngineError> {
        let start_by = item.claimed.terms.start_by;
        self.refused(&item.claimed.intent, data, start_by, scene.head.timestamp).await
    }

    async fn put_all_off(&self, group: &[Item], verdict: &Verdict) -> Result<(), EngineError> {
        for item in group {
            self.put_off(&item.claimed.intent, verdict).await?;
        }
        Ok(())
    }

    /// Number, row, signed bytes and the intents' new state: one commit.
    async fn sign(
        &self,
        group: &[Item],
        data: Vec<u8>,
        gas: u64,
        limit: u64,
        scene: &Scene,
    ) -> Result<(), EngineError> {
        let access_list = self.access_list(group, &data, gas).await?;
        let new = txs::NewTx {
            id: TxId::from_uuid(Uuid::now_v7()),
            signer: self.address(),
            to: self.site.escrow,
            calldata: data,
            gas_limit: limit,
        };
        let ids: Vec<Uuid> = group.iter().map(|item| item.claimed.intent.id).collect();
        let purpose = group.first().map_or("nothing", |item| item.call().purpose());
        let (now, lease, fees) = (self.store.now(), scene.lease, scene.fees);
        let (signer, chain_id) = (self.signer.clone(), self.site.chain_id);
        let signed = self
            .store
            .write("sign transaction", move |tx| {
                let (new, signer, ids) = (new.clone(), signer.clone(), ids.clone());
                let access_list = access_list.clone();
                Box::pin(async move {
                    let Some(nonce) = txs::number(tx, lease, &new, now).await? else {
                        // another process is the sender by now
                        return Err(TxError::Refused(None));
                    };
                    if !intents::sent(tx, &ids, new.id).await? {
                        // another lane took one: the number goes back with the transaction
                        return Err(TxError::Refused(None));
                    }
                    let signed = sign(&signer, chain_id, nonce, &new, fees, access_list)
                        .map_err(|error| TxError::Refused(Some(error)))?;
                    let attempt = attempt(&signed, fees, false);
                    txs::store_attempt(tx, new.id, &attempt, now).await?;
                    Ok((signed.hash, nonce))
                })
            })
            .await;
        match signed {
            Ok((hash, nonce)) => {
                let rental = group.first().map(|item| item.claimed.intent.rental);
                tracing::info!(
                    tx.hash = %hash, tx.nonce = nonce, tx.purpose = purpose, tx.items = group.len(),
                    rental.id = ?rental, "transaction signed and stored"
                );
                pause::at(&format!("{purpose}.signed")).await;
                Ok(())
            }
            Err(TxError::Refused(None)) => Ok(()),
            Err(TxError::Refused(Some(error))) => Err(error),
            Err(TxError::Store(error)) => Err(error.into()),
        }
    }

    /// The slots that a batch touches, if naming them beforehand is cheaper at this chain's prices.
    async fn access_list(
        &self,
        group: &[Item],
        data: &[u8],
        gas: u64,
    ) -> Result<AccessList, EngineError> {
        if group.len() < 2 || !self.settings.access_lists {
            return Ok(AccessList::default());
        }
        let listed = self.client.access_list(self.address(), self.site.escrow, data).await?;
        Ok(match listed {
            Some((list, with)) if with < gas => list,
            Some(_) | None => AccessList::default(),
        })
    }
}

/// What is stored of signed bytes.
pub(super) fn attempt(signed: &SignedTx, fees: Fees, noop: bool) -> txs::NewAttempt {
    txs::NewAttempt {
        hash: signed.hash,
        raw: signed.raw.to_vec(),
        max_fee: fees.max_fee,
        tip: fees.tip,
        noop,
    }
}

fn sign(
    signer: &Signer,
    chain_id: u64,
    nonce: u64,
    new: &txs::NewTx,
    fees: Fees,
    access_list: AccessList,
) -> Result<SignedTx, EngineError> {
    let fields = TxFields {
        chain_id,
        nonce,
        to: new.to,
        calldata: new.calldata.clone().into(),
        gas_limit: new.gas_limit,
        fees,
        access_list,
    };
    Ok(signer.sign(&fields)?)
}

/// Whether the contract refuses the caller, whatever the items.
fn is_about_us(data: &Bytes) -> bool {
    matches!(Refusal::decode(data), Refusal::NotAllowed(_))
}

fn halves(mut group: Vec<Item>) -> [Vec<Item>; 2] {
    let rest = group.split_off(group.len() / 2);
    // taken from the end: the older half first
    [rest, group]
}
