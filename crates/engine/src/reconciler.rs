//! The reconciler: three independent ways to the same figure, compared to the base unit at one final
//! block: what the contract holds, what its events add up to, and what the ledger says is owed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use alloy::{
    eips::BlockId,
    primitives::{Address, I256, U256},
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
        let Some(block) = blocks::final_tip(&mut connection).await? else {
            return Ok(None);
        };
        // one snapshot: all figures are of the same moment
        let (events, ledger_totals, rentals_open) = {
            if !blocks::unapplied(&mut connection, 1).await?.is_empty() {
                return Ok(None);
            }
            let events = self.replay(&mut connection).await?;
            let totals = ledger::totals(&mut connection).await?;
            let open = rentals::open_deposits(&mut connection).await?;
            (events, totals, open)
        };
        if blocks::final_tip(&mut connection)
            .await?
            .map(|tip| tip.number)
            != Some(block.number)
        {
            return Ok(None);
        }
        let mut listed: Vec<Address> = tokens::list(&mut connection)
            .await?
            .into_iter()
            .map(|token| token.address)
            .collect();
        listed.extend(events.held.keys());
        listed.sort_unstable();
        listed.dedup();
        let mut reports = Vec::with_capacity(listed.len());
        let mut deposits_agree = true;
        for token in listed {
            let at = BlockId::number(block.number);
            let contract = self
                .client
                .token_balance(token, self.site.escrow, at)
                .await?;
            let total = ledger_totals.iter().find(|total| total.token == token);
            let owed = total
                .map(|total| signed(&total.claims))
                .transpose()?
                .unwrap_or_default();
            let events_sum = events.held.get(&token).copied().unwrap_or_default();
            reports.push(TokenReport {
                token,
                contract,
                events: events_sum,
                ledger: owed,
            });
            let deposits = total
                .map(|total| signed(&total.deposits))
                .transpose()?
                .unwrap_or_default();
            let ours = rentals_open
                .iter()
                .find(|(open, _)| *open == token)
                .map(|(_, sum)| signed(sum))
                .transpose()?
                .unwrap_or_default();
            let foreign = events.foreign.get(&token).copied().unwrap_or_default();
            deposits_agree &= deposits == ours.saturating_add(foreign)
                && total.is_none_or(|total| total.overdrawn == 0);
        }
        let report = Report {
            block: block.number,
            tokens: reports,
            deposits_agree,
        };
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

    /// Adds up the contract's final events, without looking at the ledger.
    async fn replay(&self, connection: &mut store::Connection) -> Result<Replay, EngineError> {
        let mut replay = Replay::default();
        let mut after = (0_u64, -1_i64);
        loop {
            let page = blocks::final_events(connection, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(replay);
            };
            after = (last.block_number, i64::from(last.log_index));
            for seen in &page {
                let event: EscrowEvent =
                    serde_json::from_value(seen.body.clone()).map_err(StoreError::corrupt)?;
                let ours = match event.rental() {
                    Some(id) => rentals::id_of(connection, id).await?.is_some(),
                    None => false,
                };
                replay.add(&event, ours)?;
            }
        }
    }
}

/// What the contract holds according to its events.
#[derive(Default)]
struct Replay {
    held: BTreeMap<Address, I256>,
    token_of: BTreeMap<alloy::primitives::B256, Address>,
    /// Open deposits of locks that are none of ours.
    foreign: BTreeMap<Address, I256>,
}

impl Replay {
    fn add(&mut self, event: &EscrowEvent, ours: bool) -> Result<(), EngineError> {
        match event {
            EscrowEvent::Locked {
                id, token, deposit, ..
            } => {
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
            EscrowEvent::Closed {
                id,
                net,
                fee,
                refund,
                pushed,
                ..
            } => {
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

    fn token(&self, id: &alloy::primitives::B256) -> Result<Address, EngineError> {
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
