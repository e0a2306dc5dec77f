//! Which calls go together, and the bytes of a call.

use std::collections::BTreeSet;

use alloy::primitives::Bytes;
use domain::time::{UnixMillis, UnixSeconds};
use escrow::{
    Terms,
    calldata::{self, EndSignatures, MAX_BATCH, MAX_SIGNED_BATCH},
};
use store::intents::{Call, Claimed};

use super::{GAS_CAP, LaneSettings, later};

/// What a failed push can use beyond one that succeeds: an ERC-20's 150,000 or the native coin's 20,000, and the
/// credit with its event, on cold slots by Polygon's prices.
const FAILED_PUSH: u64 = 250_000;
/// So many renters of one batch may refuse in the block what they took in the estimate. If there are more, the batch
/// reverts and goes in halves.
const FAILED_PUSHES: u64 = 8;

/// Gas that the contract gives a wallet to check a signature with.
const WALLET_CHECK: u64 = 100_000;

/// A call that waits to be sent.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) claimed: Claimed,
    pub(super) signatures: EndSignatures,
}

/// What can go in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Start,
    Close,
    SignedClose,
    Finalize,
    Release,
    /// Goes alone.
    Single,
}

impl Item {
    fn kind(&self) -> Kind {
        match &self.claimed.intent.call {
            Call::Start { .. } => Kind::Start,
            Call::Close { .. } if self.is_signed() => Kind::SignedClose,
            Call::Close { .. } => Kind::Close,
            Call::Finalize => Kind::Finalize,
            Call::Release { .. } => Kind::Release,
            Call::Cancel | Call::Lock { .. } => Kind::Single,
        }
    }

    fn is_signed(&self) -> bool {
        !(self.signatures.renter.is_empty() && self.signatures.provider.is_empty())
    }

    pub(super) fn terms(&self) -> Terms {
        Terms::from(&self.claimed.terms)
    }

    pub(super) const fn call(&self) -> &Call {
        &self.claimed.intent.call
    }
}

/// The items in batches, the batch with the oldest first. Left out are batches that wait for company, and a second call
/// for the same rental, which goes by what becomes of the first.
pub(super) fn groups(items: Vec<Item>, settings: &LaneSettings, now: UnixMillis) -> Vec<Vec<Item>> {
    let mut open: Vec<(Kind, usize, Vec<Item>)> = Vec::new();
    let mut full = Vec::new();
    let mut seen = BTreeSet::new();
    for item in items {
        if !seen.insert(item.claimed.intent.rental) {
            continue;
        }
        let kind = item.kind();
        let own = item
            .claimed
            .batch_cap
            .map_or(usize::MAX, |cap| usize::try_from(cap).unwrap_or(usize::MAX));
        let most = limit(kind, settings).min(own).max(1);
        let at = open.iter().position(|(k, cap, group)| *k == kind && group.len() < most.min(*cap));
        match at.and_then(|at| open.get_mut(at)) {
            Some((_, cap, group)) => {
                *cap = most.min(*cap);
                group.push(item);
            }
            None => open.push((kind, most, vec![item])),
        }
        if let Some(at) = open.iter().position(|(_, cap, group)| group.len() >= *cap) {
            full.push(open.swap_remove(at).2);
        }
    }
    let is_ripe = |group: &Vec<Item>| {
        group.iter().any(|item| later(item.claimed.since.millis(), settings.gather) <= now)
    };
    full.extend(open.into_iter().map(|(.., group)| group).filter(is_ripe));
    full.sort_by_key(|group| group.iter().map(|item| item.claimed.since).min());
    full
}

fn limit(kind: Kind, settings: &LaneSettings) -> usize {
    match kind {
        Kind::Start | Kind::Close | Kind::Finalize | Kind::Release => settings.batch.min(MAX_BATCH),
        Kind::SignedClose => settings.batch.min(MAX_SIGNED_BATCH),
        Kind::Single => 1,
    }
}

/// The call of a group: the single call for one item, the batch for more.
pub(super) fn encode(group: &[Item]) -> Vec<u8> {
    match group {
        [one] => encode_one(one),
        [first, ..] => match first.call() {
            Call::Start { .. } => calldata::start_batch(
                &group
                    .iter()
                    .filter_map(|item| Some((item.terms(), started_at(item.call())?)))
                    .collect::<Vec<_>>(),
            ),
            Call::Close { .. } => {
                calldata::close_batch(&group.iter().filter_map(close_item).collect::<Vec<_>>())
            }
            Call::Finalize => {
                calldata::finalize_batch(&group.iter().map(Item::terms).collect::<Vec<_>>())
            }
            Call::Release { .. } => {
                calldata::release_batch(&group.iter().map(Item::terms).collect::<Vec<_>>())
            }
            // these go alone: see `Item::kind`
            Call::Cancel | Call::Lock { .. } => encode_one(first),
        },
        [] => Vec::new(),
    }
}

fn encode_one(item: &Item) -> Vec<u8> {
    let terms = item.terms();
    match item.call() {
        Call::Start { started_at } => calldata::start(&terms, *started_at),
        Call::Close { stopped_at, credit } => {
            calldata::close(&terms, *stopped_at, *credit, &item.signatures)
        }
        Call::Cancel => calldata::cancel(&terms),
        Call::Finalize => calldata::finalize(&terms),
        Call::Release { .. } => calldata::release(&terms),
        Call::Lock { deposit, valid_after, valid_before, signature } => {
            let valid = (*valid_after, *valid_before);
            calldata::lock_with_authorization(&terms, *deposit, valid, &Bytes::clone(signature))
        }
    }
}

const fn started_at(call: &Call) -> Option<UnixSeconds> {
    match call {
        Call::Start { started_at } => Some(*started_at),
        Call::Close { .. }
        | Call::Cancel
        | Call::Finalize
        | Call::Release { .. }
        | Call::Lock { .. } => None,
    }
}

fn close_item(item: &Item) -> Option<(Terms, UnixSeconds, domain::time::Seconds, EndSignatures)> {
    match item.call() {
        Call::Close { stopped_at, credit } => {
            Some((item.terms(), *stopped_at, *credit, item.signatures.clone()))
        }
        Call::Start { .. }
        | Call::Cancel
        | Call::Finalize
        | Call::Release { .. }
        | Call::Lock { .. } => None,
    }
}

/// A quarter more than estimated: slots can turn cold between the estimate and the block. A call that pushes money
/// to the renter gets as much more as a push needs that burns all it may and fails, so that what was pushed is
/// credited: the renter's wallet can take the money in the estimate and refuse it in the block. Gas that is not used
/// costs nothing. `None` above what a transaction may use.
pub(super) fn with_headroom(group: &[Item], gas: u64) -> Option<u64> {
    let pushes = group
        .iter()
        .filter(|item| match item.call() {
            Call::Close { .. } | Call::Cancel | Call::Finalize => true,
            Call::Start { .. } | Call::Release { .. } | Call::Lock { .. } => false,
        })
        .count();
    let pushes = u64::try_from(pushes).unwrap_or(u64::MAX).min(FAILED_PUSHES);
    // A wallet that is asked for its signature can be cheap in the estimate and dear in the block.
    let checks = group
        .iter()
        .flat_map(|item| [&item.signatures.renter, &item.signatures.provider])
        .filter(|signature| !signature.is_empty())
        .count();
    let checks = u64::try_from(checks).unwrap_or(u64::MAX).saturating_mul(WALLET_CHECK);
    let needed = gas.saturating_add(gas / 4).saturating_add(10_000);
    let spare = pushes.saturating_mul(FAILED_PUSH).saturating_add(checks);
    (needed <= GAS_CAP).then(|| needed.saturating_add(spare).min(GAS_CAP))
}

#[cfg(test)]
mod tests;
