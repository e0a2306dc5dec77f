//! The reconciler: three independent ways to the same figure, compared to the base unit at one final
//! block: what the contract holds, what its events add up to, and what the ledger says is owed. What differs is
//! frozen, and nothing else.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64},
    time::Instant,
};

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, I256, U256},
};
use chain::ReadClient;
use store::{
    Store, StoreError, TxError, blocks,
    freezes::{self, Freeze},
    ledger,
};

use crate::{EngineError, Site, freezing};

mod books;
mod findings;
mod look;
mod replay;
use findings::PAGE;
use look::{Looked, Whole};
use replay::Replay;

/// Transfers that must have come before they are folded, and how many are folded at once.
const FOLD_LEAST: i64 = 1_000;
const FOLD_MOST: i64 = 20_000;
/// Open freezes that are looked at.
const FREEZES: i64 = 1_000;

/// The checker.
pub struct Reconciler {
    store: Store,
    client: ReadClient,
    site: Site,
    /// What the events have added up to so far. Final events never change, so each is read once.
    replayed: Arc<tokio::sync::Mutex<Replay>>,
    /// The figures that were last said, so that each is said once.
    said: Mutex<Vec<TokenReport>>,
    /// When a comparison was last completed.
    completed: Mutex<Instant>,
    /// The last account whose folded balance was checked.
    audited: AtomicI64,
    /// The last open deposit that was compared by itself.
    compared: Mutex<Option<B256>>,
}

/// One token's figures, in base units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenReport {
    /// The token.
    pub token: Address,
    /// What the contract holds.
    pub contract: U256,
    /// What its final events add up to.
    pub events: I256,
    /// What the ledger says is owed, with the final events that wait to be posted: behind a freeze they may wait
    /// long.
    pub ledger: I256,
    /// The most that the contract was ever seen to hold above its events. Anybody can give it something,
    /// and nobody can take it out again.
    pub given: I256,
}

impl TokenReport {
    /// True if nothing is missing: events and ledger are the same, and the contract holds that and all that
    /// it was ever given.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.events == self.ledger && self.is_covered()
    }

    /// True if the contract holds all that its events say, and all that it was ever given.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.surplus().is_some_and(|surplus| surplus >= self.given)
    }

    /// What the contract holds above what its events say; below zero if something is missing.
    #[must_use]
    pub fn surplus(&self) -> Option<I256> {
        I256::try_from(self.contract).ok()?.checked_sub(self.events)
    }
}

/// The outcome of one reconciliation.
#[derive(Clone, Debug)]
pub struct Report {
    /// The final block it holds for.
    pub block: u64,
    /// Every token that was ever locked.
    pub tokens: Vec<TokenReport>,
    /// Every rental's deposit and figures are what its events add up to, no claim is below zero, and no folded
    /// balance that was looked at this time differs from its transfers.
    pub deposits_agree: bool,
}

impl Report {
    /// True if nothing differs by a single base unit.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.deposits_agree && self.tokens.iter().all(TokenReport::agrees)
    }
}

impl Reconciler {
    /// A reconciler of the site's contract.
    #[must_use]
    pub fn new(store: Store, client: ReadClient, site: Site) -> Self {
        Self {
            store,
            client,
            site,
            replayed: Arc::new(tokio::sync::Mutex::const_new(Replay::new())),
            said: Mutex::new(Vec::new()),
            completed: Mutex::new(Instant::now()),
            audited: AtomicI64::new(0),
            compared: Mutex::new(None),
        }
    }

    /// Compares everything at the newest final block, freezes what differs, and lifts what only waited for figures
    /// that agree. `None` while nothing is final, or an event cannot be applied: then there is nothing whole to
    /// compare.
    ///
    /// # Errors
    /// The database's or the chain's. A difference is no error but a report.
    pub async fn tick(&self) -> Result<Option<Report>, EngineError> {
        let compared = self.compare().await;
        match &compared {
            Ok(Compared::Whole(report)) => self.publish(report),
            Ok(Compared::Moving) => {}
            // what could not be compared is not known to agree
            Ok(Compared::Stuck) | Err(_) => metrics::gauge!("weir_reconciled").set(0),
        }
        {
            let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(compared, Ok(Compared::Whole(_))) {
                *completed = Instant::now();
            }
            let age = u32::try_from(completed.elapsed().as_secs()).unwrap_or(u32::MAX);
            metrics::gauge!("weir_reconciled_age_seconds").set(age);
        }
        Ok(match compared? {
            Compared::Whole(report) => Some(report),
            Compared::Moving | Compared::Stuck => None,
        })
    }

    async fn compare(&self) -> Result<Compared, EngineError> {
        self.fold().await?;
        let (frozen, tip) = {
            let mut connection = self.store.read().await?;
            let frozen = freezes::open(&mut connection, FREEZES).await?;
            (frozen, blocks::final_tip(&mut connection).await?)
        };
        let newer = |freeze: &Freeze| tip.as_ref().is_some_and(|tip| tip.number > freeze.block);
        if frozen.iter().any(|freeze| freeze.reason.lifts_itself() && newer(freeze)) {
            // whether all is well again is asked of every event, from the first
            *self.replayed.lock().await = Replay::new();
        }
        let whole = match self.look().await? {
            Looked::Whole(whole) => *whole,
            Looked::Moving => return Ok(Compared::Moving),
            Looked::Stuck => return Ok(Compared::Stuck),
        };
        let report = self.report(&whole).await?;
        let differing = whole.findings.freezes(&report);
        if !differing.is_empty() {
            freezing::freeze(&self.store, differing).await?;
        }
        if report.agrees() {
            self.lift(frozen, report.block).await?;
        }
        Ok(Compared::Whole(report))
    }

    /// What the contract holds, beside what the database says.
    async fn report(&self, whole: &Whole) -> Result<Report, EngineError> {
        let mut report = Report {
            block: whole.block.number,
            tokens: Vec::new(),
            deposits_agree: whole.findings.is_empty(),
        };
        // by its hash: a node that follows another block there says nothing
        let at = BlockId::hash(whole.block.hash);
        for sums in &whole.tokens {
            let contract = self.client.token_balance(sums.token, self.site.escrow, at).await?;
            let figures = TokenReport {
                token: sums.token,
                contract,
                events: sums.events,
                ledger: sums.ledger,
                given: sums.given,
            };
            if let Some(surplus) = figures.surplus().filter(|surplus| *surplus > sums.given) {
                let mut connection = self.store.read().await?;
                ledger::raise_surplus(&mut connection, sums.token, surplus).await?;
            }
            report.tokens.push(figures);
        }
        Ok(report)
    }

    /// Lifts what waited for finality: more is final than then, and every figure agrees.
    async fn lift(&self, frozen: Vec<Freeze>, block: u64) -> Result<(), EngineError> {
        let now = self.store.now().seconds();
        for freeze in frozen {
            if !freeze.reason.lifts_itself() || freeze.block >= block {
                continue;
            }
            let note = format!("the reconciler: all figures agree at final block {block}");
            let lifted = self.store.write("lift freeze", move |tx| {
                let note = note.clone();
                Box::pin(async move {
                    freezes::lift(tx, freeze.id, &note, now).await?;
                    Ok::<_, TxError<EngineError>>(())
                })
            });
            lifted.await?;
            tracing::warn!(freeze.id = freeze.id, block.number = block, "money is thawed");
        }
        Ok(())
    }

    /// Keeps what has to be added up for a balance short.
    async fn fold(&self) -> Result<(), EngineError> {
        let folded = self.store.write("fold ledger", |tx| {
            Box::pin(async move {
                ledger::fold(tx, FOLD_LEAST, FOLD_MOST).await?;
                Ok::<_, TxError<EngineError>>(())
            })
        });
        match folded.await.map_err(EngineError::from) {
            // postings are under way: another time
            Err(EngineError::Store(StoreError::Unavailable(reason))) => {
                tracing::debug!(reason, "the ledger is not folded now");
                Ok(())
            }
            done => done,
        }
    }

    /// One metric always; one line when a figure changed or something differs.
    fn publish(&self, report: &Report) {
        let agrees = report.agrees();
        metrics::gauge!("weir_reconciled").set(if agrees { 1 } else { 0 });
        for figures in &report.tokens {
            // a gauge is a float anyway: this figure is for a look, not for a comparison
            let surplus: f64 = figures
                .surplus()
                .map_or(f64::NAN, |surplus| surplus.to_string().parse().unwrap_or(f64::NAN));
            metrics::gauge!("weir_surplus_base_units", "token" => figures.token.to_string())
                .set(surplus);
        }
        metrics::gauge!("weir_reconciled_block")
            .set(u32::try_from(report.block).unwrap_or(u32::MAX));
        if !agrees {
            tracing::error!(
                block.number = report.block,
                ?report,
                "RECONCILIATION FAILED; see the runbook"
            );
            metrics::counter!("weir_reconciliation_failures_total").increment(1);
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != report.tokens {
            let figures: Vec<String> = report
                .tokens
                .iter()
                .map(|token| format!("{} of {}", token.contract, token.token))
                .collect();
            tracing::info!(
                block.number = report.block,
                "reconciled: contract = events = ledger: {}",
                figures.join(", ")
            );
            said.clone_from(&report.tokens);
        }
    }
}

/// What a look at all figures came to.
enum Compared {
    /// They are of one moment.
    Whole(Report),
    /// Nothing is final yet, or too much waits to be posted.
    Moving,
    /// An event cannot be applied.
    Stuck,
}
