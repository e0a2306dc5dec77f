//! The reconciler: three independent ways to the same figure, compared to the base unit at one final
//! block: what the contract holds, what its events add up to, and what the ledger says is owed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, I256, U256},
};
use chain::ReadClient;
use domain::money::Amount;
use escrow::EscrowEvent;
use store::{Store, StoreError, blocks, ledger, rentals, tokens};

use crate::{EngineError, Site};

const PAGE: i64 = 1_000;

/// The checker.
pub struct Reconciler {
    store: Store,
    client: ReadClient,
    site: Site,
    /// What the events have added up to so far. Final events never change, so each is read once.
    replayed: tokio::sync::Mutex<Replay>,
    /// The figures that were last said, so that each is said once.
    said: Mutex<Vec<TokenReport>>,
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
}

impl TokenReport {
    /// True if all three agree.
    #[must_use]
    pub fn agrees(&self) -> bool {
        I256::try_from(self.contract) == Ok(self.events) && self.events == self.ledger
    }
}

/// The outcome of one reconciliation.
#[derive(Clone, Debug)]
pub struct Report {
    /// The final block it holds for.
    pub block: u64,
    /// Every token that was ever locked.
    pub tokens: Vec<TokenReport>,
    /// Deposits in the ledger equal those of the rentals and of foreign locks together, and no claim is
    /// below zero.
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
    pub const fn new(store: Store, client: ReadClient, site: Site) -> Self {
        Self {
            store,
            client,
            site,
            replayed: tokio::sync::Mutex::const_new(Replay::new()),
            said: Mutex::new(Vec::new()),
        }
    }

    /// Compares everything at the newest final block whose events are all applied. `None` while events
    /// wait to be applied: there is nothing whole to compare.
    ///
    /// # Errors
    /// The database's or the chain's. A difference is no error but a report.
    pub async fn tick(&self) -> Result<Option<Report>, EngineError> {
        let mut connection = self.store.read().await?;
        let Some(block) = blocks::final_tip(&mut connection).await? else { return Ok(None) };
        if !blocks::unapplied(&mut connection, 1).await?.is_empty() {
            return Ok(None);
        }
        let mut replay = self.replayed.lock().await;
        replay.go_on(&mut connection).await?;
        let books = Books::read(&mut connection).await?;
        // Figures of one moment: money moves only when finality does.
        let tip = blocks::final_tip(&mut connection).await?;
        if tip.map(|tip| tip.number) != Some(block.number) {
            return Ok(None);
        }
        let mut report =
            Report { block: block.number, tokens: Vec::new(), deposits_agree: books.is_sound() };
        for token in books.tokens(&replay) {
            let at = BlockId::number(block.number);
            let contract = self.client.token_balance(token, self.site.escrow, at).await?;
            let ledger = Books::of(&books.claims, token);
            report.tokens.push(TokenReport { token, contract, events: replay.held(token), ledger });
            let known = Books::of(&books.rentals, token).saturating_add(replay.foreign(token));
            report.deposits_agree &= Books::of(&books.deposits, token) == known;
        }
        self.publish(&report);
        Ok(Some(report))
    }

    /// One metric always; one line when a figure changed or something differs.
    fn publish(&self, report: &Report) {
        let agrees = report.agrees();
        metrics::gauge!("weir_reconciled").set(if agrees { 1 } else { 0 });
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

type Sums = BTreeMap<Address, I256>;

/// What the database says is owed.
struct Books {
    /// All claims on the escrow.
    claims: Sums,
    /// Of them, deposits that are not divided yet.
    deposits: Sums,
    /// The same deposits by the rentals' own figures.
    rentals: Sums,
    /// Tokens that a deposit may be made in.
    listed: Vec<Address>,
    overdrawn: i64,
}

impl Books {
    async fn read(connection: &mut store::Connection) -> Result<Self, StoreError> {
        let mut books = Self {
            claims: Sums::new(),
            deposits: Sums::new(),
            rentals: Sums::new(),
            listed: tokens::list(connection)
                .await?
                .into_iter()
                .map(|token| token.address)
                .collect(),
            overdrawn: 0,
        };
        for total in ledger::totals(connection).await? {
            books.claims.insert(total.token, signed(&total.claims)?);
            books.deposits.insert(total.token, signed(&total.deposits)?);
            books.overdrawn = books.overdrawn.saturating_add(total.overdrawn);
        }
        for (token, open) in rentals::open_deposits(connection).await? {
            books.rentals.insert(token, signed(&open)?);
        }
        Ok(books)
    }

    fn of(sums: &Sums, token: Address) -> I256 {
        sums.get(&token).copied().unwrap_or_default()
    }

    const fn is_sound(&self) -> bool {
        self.overdrawn == 0
    }

    /// Every token that anybody knows of.
    fn tokens(&self, replay: &Replay) -> BTreeSet<Address> {
        self.listed.iter().chain(self.claims.keys()).chain(replay.held.keys()).copied().collect()
    }
}

/// What the contract's final events add up to, without a look at the ledger.
struct Replay {
    /// Block and position of the last event that is in it.
    after: (u64, i64),
    held: Sums,
    token_of: BTreeMap<B256, Address>,
    /// Open deposits of locks that are none of ours.
    foreign: Sums,
}

impl Replay {
    const fn new() -> Self {
        Self { after: (0, -1), held: Sums::new(), token_of: BTreeMap::new(), foreign: Sums::new() }
    }

    fn held(&self, token: Address) -> I256 {
        Books::of(&self.held, token)
    }

    fn foreign(&self, token: Address) -> I256 {
        Books::of(&self.foreign, token)
    }

    /// Adds the events that became final since the last time.
    async fn go_on(&mut self, connection: &mut store::Connection) -> Result<(), EngineError> {
        loop {
            let page = blocks::final_events(connection, self.after, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for seen in page {
                let event: EscrowEvent =
                    serde_json::from_value(seen.body).map_err(StoreError::corrupt)?;
                let ours = match event.rental() {
                    Some(id) => rentals::id_of(connection, id).await?.is_some(),
                    None => false,
                };
                self.add(&event, ours)?;
                self.after = (seen.block_number, i64::from(seen.log_index));
            }
        }
    }

    fn add(&mut self, event: &EscrowEvent, ours: bool) -> Result<(), EngineError> {
        match event {
            EscrowEvent::Locked { id, token, deposit, .. } => {
                self.token_of.insert(*id, *token);
                self.move_in(*token, *deposit, ours);
            }
            EscrowEvent::ToppedUp { id, amount, .. } => {
                let token = self.token(id)?;
                self.move_in(token, *amount, ours);
            }
            EscrowEvent::Released { id, net, fee, .. } => {
                let token = self.token(id)?;
                self.divide(token, &[*net, *fee], ours);
            }
            EscrowEvent::Closed { id, net, fee, refund, pushed, .. } => {
                let token = self.token(id)?;
                self.divide(token, &[*net, *fee, *refund], ours);
                if *pushed {
                    self.move_out(token, *refund);
                }
            }
            EscrowEvent::Withdrawn { token, amount, .. } => self.move_out(*token, *amount),
            EscrowEvent::Started { .. }
            | EscrowEvent::Credited { .. }
            | EscrowEvent::Skipped { .. }
            | EscrowEvent::TreasurySet { .. }
            | EscrowEvent::Config { .. } => {}
        }
        Ok(())
    }

    fn token(&self, id: &B256) -> Result<Address, EngineError> {
        self.token_of
            .get(id)
            .copied()
            .ok_or_else(|| EngineError::Broken(format!("escrow {id} moved money without a lock")))
    }

    fn move_in(&mut self, token: Address, amount: Amount, ours: bool) {
        let held = self.held.entry(token).or_default();
        *held = held.saturating_add(units(amount));
        if !ours {
            let open = self.foreign.entry(token).or_default();
            *open = open.saturating_add(units(amount));
        }
    }

    fn move_out(&mut self, token: Address, amount: Amount) {
        let held = self.held.entry(token).or_default();
        *held = held.saturating_sub(units(amount));
    }

    fn divide(&mut self, token: Address, parts: &[Amount], ours: bool) {
        if ours {
            return;
        }
        let open = self.foreign.entry(token).or_default();
        for part in parts {
            *open = open.saturating_sub(units(*part));
        }
    }
}

fn units(amount: Amount) -> I256 {
    I256::try_from(amount.get()).unwrap_or(I256::MAX)
}

fn signed(value: &impl std::fmt::Display) -> Result<I256, StoreError> {
    value.to_string().parse().map_err(StoreError::corrupt)
}
