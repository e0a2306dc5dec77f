//! The reconciler: three independent ways to the same figure, compared to the base unit at one final
//! block: what the contract holds, what its events add up to, and what the ledger says is owed.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use alloy::{
    eips::BlockId,
    primitives::{Address, I256, U256},
};
use chain::ReadClient;
use store::{Store, StoreError, TxError, blocks, ledger};

use crate::{EngineError, Site};

mod books;
mod replay;
use books::Books;
use replay::Replay;

/// Transfers that must have come before they are folded, and how many are folded at once.
const FOLD_LEAST: i64 = 1_000;
const FOLD_MOST: i64 = 20_000;
/// Folded balances that one tick checks.
const AUDITED_PER_TICK: i64 = 100;

/// The checker.
pub struct Reconciler {
    store: Store,
    client: ReadClient,
    site: Site,
    /// What the events have added up to so far. Final events never change, so each is read once.
    replayed: tokio::sync::Mutex<Replay>,
    /// The figures that were last said, so that each is said once.
    said: Mutex<Vec<TokenReport>>,
    /// When a comparison was last completed.
    completed: Mutex<Instant>,
    /// The last account whose folded balance was checked.
    audited: AtomicI64,
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
    /// What the ledger says is owed.
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
        self.events == self.ledger && self.surplus().is_some_and(|surplus| surplus >= self.given)
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
    /// Deposits in the ledger equal those of the rentals and of foreign locks together, no claim is below
    /// zero, and no folded balance that was looked at this time differs from its transfers.
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
            replayed: tokio::sync::Mutex::const_new(Replay::new()),
            said: Mutex::new(Vec::new()),
            completed: Mutex::new(Instant::now()),
            audited: AtomicI64::new(0),
        }
    }

    /// Compares everything at the newest final block whose events are all applied. `None` while events
    /// wait to be applied: there is nothing whole to compare.
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
        let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(compared, Ok(Compared::Whole(_))) {
            *completed = Instant::now();
        }
        let age = u32::try_from(completed.elapsed().as_secs()).unwrap_or(u32::MAX);
        metrics::gauge!("weir_reconciled_age_seconds").set(age);
        Ok(match compared? {
            Compared::Whole(report) => Some(report),
            Compared::Moving | Compared::Stuck => None,
        })
    }

    async fn compare(&self) -> Result<Compared, EngineError> {
        self.fold().await?;
        let mut connection = self.store.read().await?;
        let Some(block) = blocks::final_tip(&mut connection).await? else {
            return Ok(Compared::Moving);
        };
        let waiting = blocks::waiting(&mut connection).await?;
        metrics::gauge!("weir_final_events_failed")
            .set(u32::try_from(waiting.failed).unwrap_or(u32::MAX));
        if waiting.failed > 0 {
            return Ok(Compared::Stuck);
        }
        if waiting.any {
            return Ok(Compared::Moving);
        }
        let mut replay = self.replayed.lock().await;
        replay.go_on(&mut connection).await?;
        let books = Books::read(&mut connection).await?;
        // Figures of one moment: money moves only when finality does.
        let tip = blocks::final_tip(&mut connection).await?;
        if tip.map(|tip| tip.number) != Some(block.number) {
            return Ok(Compared::Moving);
        }
        let audited = self.audit(&mut connection).await?;
        let mut report = Report {
            block: block.number,
            tokens: Vec::new(),
            deposits_agree: books.is_sound() && audited,
        };
        for token in books.tokens(&replay) {
            let at = BlockId::number(block.number);
            let contract = self.client.token_balance(token, self.site.escrow, at).await?;
            let (events, ledger) = (replay.held(token), Books::of(&books.claims, token));
            let given = Books::of(&books.given, token);
            let figures = TokenReport { token, contract, events, ledger, given };
            if let Some(surplus) = figures.surplus().filter(|surplus| *surplus > given) {
                ledger::raise_surplus(&mut connection, token, surplus).await?;
            }
            report.tokens.push(figures);
            let known = Books::of(&books.rentals, token).saturating_add(replay.foreign(token));
            report.deposits_agree &= Books::of(&books.deposits, token) == known;
        }
        Ok(Compared::Whole(report))
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

    /// Checks some more folded balances against their transfers. False if one of them is wrong.
    async fn audit(&self, connection: &mut store::Connection) -> Result<bool, EngineError> {
        let after = self.audited.load(Ordering::Relaxed);
        let mut page = ledger::audit(connection, after, AUDITED_PER_TICK).await?;
        if page.last == 0 && after > 0 {
            // all were looked at: begin anew
            page = ledger::audit(connection, 0, AUDITED_PER_TICK).await?;
        }
        if page.wrong > 0 {
            tracing::error!(
                after,
                page.last,
                page.wrong,
                "folded balances are not their transfers' sums"
            );
            return Ok(false);
        }
        self.audited.store(page.last, Ordering::Relaxed);
        Ok(true)
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
    /// Events are being applied.
    Moving,
    /// An event cannot be applied.
    Stuck,
}
