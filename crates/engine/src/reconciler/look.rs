//! What the database says at one moment.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use alloy::primitives::{Address, B256, I256};
use store::{
    TxError,
    blocks::{self, FollowedBlock},
    freezes, ledger,
};

use super::{PAGE, Reconciler, books::Books, findings::Findings, replay::Replay};
use crate::EngineError;

/// Folded balances that one look checks.
const AUDITED: i64 = 100;
/// Final events that wait to be posted, at most, for a look to be taken.
const PENDING: i64 = 10_000;

/// A token's sums in base units, all of one moment.
pub(super) struct TokenSums {
    pub(super) token: Address,
    pub(super) events: I256,
    pub(super) ledger: I256,
    pub(super) given: I256,
}

/// All sums of one moment.
pub(super) struct Whole {
    pub(super) block: FollowedBlock,
    pub(super) tokens: Vec<TokenSums>,
    pub(super) findings: Findings,
    /// How far the check of folded balances is, and that of open deposits.
    audited: i64,
    compared: Option<B256>,
}

pub(super) enum Looked {
    Whole(Box<Whole>),
    Moving,
    Stuck,
}

impl Reconciler {
    /// Reads everything as it is at one moment, while others go on posting.
    pub(super) async fn look(&self) -> Result<Looked, EngineError> {
        {
            // a long history is read beforehand: the moment itself is to be short
            let mut connection = self.store.read().await?;
            if blocks::waiting(&mut connection).await?.failed == 0 {
                self.replayed.lock().await.go_on(&mut connection).await?;
            }
        }
        let replayed = Arc::clone(&self.replayed);
        let audited = self.audited.load(Ordering::Relaxed);
        let compared = *self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = self.store.write("reconcile", move |tx| {
            let replayed = Arc::clone(&replayed);
            Box::pin(async move {
                freezes::see_one_moment(tx).await?;
                let mut replay = replayed.lock().await;
                look(tx, &mut replay, audited, compared).await.map_err(TxError::Refused)
            })
        });
        let looked = looked.await.map_err(EngineError::from)?;
        if let Looked::Whole(whole) = &looked {
            self.audited.store(whole.audited, Ordering::Relaxed);
            *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = whole.compared;
        }
        Ok(looked)
    }
}

async fn look(
    tx: &mut store::Connection,
    replay: &mut Replay,
    audited: i64,
    compared: Option<B256>,
) -> Result<Looked, EngineError> {
    let Some(block) = blocks::final_tip(tx).await? else {
        return Ok(Looked::Moving);
    };
    let waiting = blocks::waiting(tx).await?;
    metrics::gauge!("weir_final_events_failed")
        .set(u32::try_from(waiting.failed).unwrap_or(u32::MAX));
    if waiting.failed > 0 {
        return Ok(Looked::Stuck);
    }
    let pending = blocks::pending(tx, PENDING).await?;
    if i64::try_from(pending.len()).unwrap_or(i64::MAX) >= PENDING {
        return Ok(Looked::Moving);
    }
    replay.go_on(tx).await?;
    let pending = replay.of(tx, &pending).await?;
    let books = Books::read(tx).await?;
    let (audited, misfolded) = audit(tx, audited).await?;
    let findings = Findings::look(tx, replay, &pending, &books, &misfolded, compared).await?;
    let page = replay.page_of_open(compared, PAGE);
    let tokens = books
        .tokens(replay)
        .into_iter()
        .map(|token| TokenSums {
            token,
            events: replay.held(token),
            ledger: Books::of(&books.claims, token).saturating_add(pending.held(token)),
            given: Books::of(&books.given, token),
        })
        .collect();
    // after the last page, from the first again
    let compared = page.last().copied().filter(|_| page.len() >= PAGE);
    Ok(Looked::Whole(Box::new(Whole { block, tokens, findings, audited, compared })))
}

/// Checks some more folded balances against their transfers: how far it is, and the tokens of those that are wrong.
async fn audit(tx: &mut store::Connection, after: i64) -> Result<(i64, Vec<Address>), EngineError> {
    let mut from = after;
    let mut page = ledger::audit(tx, from, AUDITED).await?;
    if page.last == 0 && from > 0 {
        // all were looked at: begin anew
        from = 0;
        page = ledger::audit(tx, from, AUDITED).await?;
    }
    if page.wrong == 0 {
        return Ok((page.last, Vec::new()));
    }
    tracing::error!(
        after = from,
        page.last,
        page.wrong,
        "folded balances are not their transfers' sums"
    );
    // looked at again until they are right
    Ok((from, ledger::misfolded_tokens(tx, from, AUDITED).await?))
}
