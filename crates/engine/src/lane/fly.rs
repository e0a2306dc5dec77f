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
use store::{
    TxError,
    intents::{self, Call},
    txs,
};
use uuid::Uuid;

use super::{
    GAS_CAP, Lane, Scene,
    batch::{self, Item},
    refused::Verdict,
};
use crate::{EngineError, pause};

/// Nodes take no transaction above 128 KiB; so many bytes of calldata and access list leave room for the rest.
const MOST_BYTES: usize = 100_000;
/// A relayed lock needs about 120,000. What is above this goes to the renter's wallet, at our cost.
const LOCK_GAS: u64 = 600_000;

/// What the chain says of a call before it is sent.
enum Look {
    /// All items would be done.
    Good(Gas),
    /// These would be skipped, with these errors.
    Skips(BTreeMap<B256, Bytes>),
    /// Nothing would be done, with this reason.
    Reverts(Bytes),
    /// The node will not have the question: the key cannot pay, or the call needs more gas than it may.
    Refused(String),
}

/// What a call costs.
#[derive(Clone, Copy)]
struct Gas {
    /// At the most at any time, before refunds.
    needed: u64,
    /// In the end.
    used: u64,
}

impl Lane {
    /// Signs a group, in as many transactions as it needs. Returns how many.
    pub(super) async fn fly(
        &self,
        group: Vec<Item>,
        scene: &mut Scene,
    ) -> Result<u64, EngineError> {
        let mut signed = 0_u64;
        let mut waiting = vec![group];
        // Each round either ends a group or makes it smaller.
        while let Some(group) = waiting.pop() {
            let data = batch::encode(&group);
            if data.len() > MOST_BYTES && group.len() > 1 {
                waiting.extend(halves(group));
                continue;
            }
            match self.look(&group, &data, scene).await? {
                Look::Good(gas) => match batch::with_headroom(&group, gas.needed) {
                    Some(limit) => {
                        signed = signed.saturating_add(1);
                        self.sign(&group, data, gas, limit, scene).await?;
                    }
                    None if group.len() > 1 => waiting.extend(halves(group)),
                    None => {
                        let needed = gas.needed;
                        let reason = format!("it needs {needed} gas, above the cap of {GAS_CAP}");
                        self.put_all_off(&group, &Verdict::NeedsOperator(reason)).await?;
                    }
                },
                Look::Skips(reasons) => {
                    let rest = self.part_with(group, &reasons, scene).await?;
                    if !rest.is_empty() {
                        waiting.push(rest);
                    }
                }
                Look::Reverts(data) => match Refusal::decode(&data) {
                    // whatever the items: the contract refuses the caller
                    Refusal::NotAllowed(name) => return Err(self.park(name)),
                    Refusal::WrongState(_)
                    | Refusal::OutOfWindow(_)
                    | Refusal::TooEarly(_)
                    | Refusal::BadSignature(_)
                    | Refusal::Other(_) => match group.as_slice() {
                        [one] => self.refused(one, &data, scene).await?,
                        _ => waiting.extend(halves(group)),
                    },
                },
                Look::Refused(reason) => match group.as_slice() {
                    [one] if matches!(one.call(), Call::Lock { .. }) => {
                        self.refuse_lock(&one.claimed.intent, reason).await?;
                    }
                    [_] => return Err(self.park(reason)),
                    _ => waiting.extend(halves(group)),
                },
            }
        }
        Ok(signed)
    }

    /// A batch is simulated, so that what it would skip is seen. A single call is estimated, and a batch too where the
    /// node cannot simulate it: then what is skipped shows in the block.
    async fn look(&self, group: &[Item], data: &[u8], scene: &Scene) -> Result<Look, EngineError> {
        if group.len() > 1 {
            let at = scene.head.timestamp.saturating_plus(Seconds::ONE);
            let (from, to, price) = (self.address(), self.site.escrow, scene.fees.max_fee);
            match self.client.simulate(from, to, data, price, at).await {
                Ok(simulated) => {
                    if let Some(look) = self.judge_batch(group, &simulated) {
                        return Ok(look);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, items = group.len(), "no simulation; estimating");
                }
            }
        }
        self.estimate(group, data, scene).await
    }

    async fn estimate(
        &self,
        group: &[Item],
        data: &[u8],
        scene: &Scene,
    ) -> Result<Look, EngineError> {
        let lock = group.iter().any(|item| matches!(item.call(), Call::Lock { .. }));
        let most = lock.then_some(LOCK_GAS);
        let (from, to, price) = (self.address(), self.site.escrow, scene.fees.max_fee);
        match self.client.estimate_gas(from, to, data.to_vec(), price, most).await {
            Ok(gas) => Ok(Look::Good(Gas { needed: gas, used: gas })),
            Err(ChainError::Reverts { data }) => Ok(Look::Reverts(data)),
            Err(ChainError::Refused { code, message }) => {
                Ok(Look::Refused(format!("{message} ({code})")))
            }
            Err(error @ (ChainError::Unavailable(_) | ChainError::Nonsense(_))) => {
                Err(error.into())
            }
        }
    }

    /// `None` if the answer is not about these items.
    fn judge_batch(&self, group: &[Item], simulated: &Simulated) -> Option<Look> {
        if !simulated.succeeded {
            return Some(Look::Reverts(simulated.answer.clone()));
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
        if skips.is_empty() {
            let gas = Gas { needed: simulated.gas, used: simulated.gas_used };
            return Some(Look::Good(gas));
        }
        group.iter().any(|item| skips.contains_key(&self.id_of(item))).then_some(Look::Skips(skips))
    }

    fn id_of(&self, item: &Item) -> B256 {
        escrow::terms_hash(&item.terms(), &self.site.domain)
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
            match reasons.get(&self.id_of(&item)) {
                Some(reason) => self.refused(&item, reason, scene).await?,
                None => rest.push(item),
            }
        }
        Ok(rest)
    }

    pub(super) async fn put_all_off(
        &self,
        group: &[Item],
        verdict: &Verdict,
    ) -> Result<(), EngineError> {
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
        gas: Gas,
        limit: u64,
        scene: &mut Scene,
    ) -> Result<(), EngineError> {
        let price = scene.fees.max_fee.saturating_mul(u128::from(limit));
        if price > scene.purse {
            let purse = scene.purse;
            return Err(
                self.park(format!("insufficient funds: {purse} wei for {price} wei of gas"))
            );
        }
        let access_list = self.access_list(group, &data, gas, limit).await;
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
                    if !intents::sent(tx, &ids, new.id, now).await? {
                        // another lane took one, or its time is over: the number goes back with the transaction
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
                scene.purse = scene.purse.saturating_sub(price);
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

    /// The slots that a batch touches, if naming them beforehand is cheaper at this chain's prices. What a node says is
    /// taken only as far as it fits: a list costs gas before anything runs.
    async fn access_list(&self, group: &[Item], data: &[u8], gas: Gas, limit: u64) -> AccessList {
        if group.len() < 2 || !self.settings.access_lists {
            return AccessList::default();
        }
        match self.client.access_list(self.address(), self.site.escrow, data).await {
            Some((list, with)) if with < gas.used && fits(&list, data.len(), limit) => list,
            Some(_) | None => AccessList::default(),
        }
    }
}

/// Whether a list leaves the transaction its size and most of its gas (EIP-2930: 2,400 an address, 1,900 a slot).
fn fits(list: &AccessList, data: usize, limit: u64) -> bool {
    let (addresses, slots) = list.iter().fold((0_usize, 0_usize), |(addresses, slots), item| {
        (addresses.saturating_add(1), slots.saturating_add(item.storage_keys.len()))
    });
    let bytes = addresses.saturating_mul(24).saturating_add(slots.saturating_mul(33));
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let gas =
        count(addresses).saturating_mul(2_400).saturating_add(count(slots).saturating_mul(1_900));
    data.saturating_add(bytes) <= MOST_BYTES && gas <= limit / 2
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

fn halves(mut group: Vec<Item>) -> [Vec<Item>; 2] {
    let rest = group.split_off(group.len() / 2);
    // taken from the end: the older half first
    [rest, group]
}
