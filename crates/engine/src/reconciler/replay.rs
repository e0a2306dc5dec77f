//! What the events say, read again from the first one.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, I256};
use domain::money::Amount;
use escrow::EscrowEvent;
use store::{
    StoreError,
    blocks::{self, SeenEvent},
    rentals,
};

use super::books::{Books, Sums};
use crate::EngineError;

const PAGE: i64 = 1_000;

/// A deposit that is not divided yet.
#[derive(Clone, Copy)]
struct Open {
    token: Address,
    amount: I256,
    /// Whether a rental of ours belongs to it.
    ours: bool,
}

/// What the contract's final events add up to, without a look at the ledger.
pub(super) struct Replay {
    /// Block and position of the last event that is in it.
    after: (u64, i64),
    pub(super) held: Sums,
    token_of: BTreeMap<B256, Address>,
    /// Deposits with anything left.
    open: BTreeMap<B256, Open>,
}

impl Replay {
    pub(super) const fn new() -> Self {
        Self { after: (0, -1), held: Sums::new(), token_of: BTreeMap::new(), open: BTreeMap::new() }
    }

    pub(super) fn held(&self, token: Address) -> I256 {
        Books::of(&self.held, token)
    }

    /// What is left of one deposit.
    pub(super) fn open_of(&self, id: &B256) -> I256 {
        self.open.get(id).map_or(I256::ZERO, |open| open.amount)
    }

    /// What is left of all deposits in a token.
    pub(super) fn open_in(&self, token: Address) -> I256 {
        let in_token = self.open.values().filter(|open| open.token == token);
        in_token.fold(I256::ZERO, |sum, open| sum.saturating_add(open.amount))
    }

    /// Deposits with anything left that a rental of ours belongs to.
    pub(super) fn ours(&self) -> impl Iterator<Item = &B256> {
        self.open.iter().filter(|(_, open)| open.ours).map(|(id, _)| id)
    }

    pub(super) fn token_of(&self, id: &B256) -> Option<Address> {
        self.token_of.get(id).copied()
    }

    /// Some deposits with anything left, after the given one.
    pub(super) fn page_of_open(&self, after: Option<B256>, limit: usize) -> Vec<B256> {
        let ids = self.open.keys().copied();
        ids.filter(|id| after.is_none_or(|after| *id > after)).take(limit).collect()
    }

    /// Adds the events that became final since the last time.
    pub(super) async fn go_on(
        &mut self,
        connection: &mut store::Connection,
    ) -> Result<(), EngineError> {
        loop {
            let page = blocks::final_events(connection, self.after, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for seen in &page {
                self.read(connection, seen).await?;
                self.after = (seen.block_number, i64::from(seen.log_index));
            }
        }
    }

    /// What these events alone add up to; their tokens are known from all that came before.
    pub(super) async fn of(
        &self,
        connection: &mut store::Connection,
        events: &[SeenEvent],
    ) -> Result<Self, EngineError> {
        if events.is_empty() {
            return Ok(Self::new());
        }
        let mut part = Self { token_of: self.token_of.clone(), ..Self::new() };
        for seen in events {
            part.read(connection, seen).await?;
        }
        Ok(part)
    }

    async fn read(
        &mut self,
        connection: &mut store::Connection,
        seen: &SeenEvent,
    ) -> Result<(), EngineError> {
        let event: EscrowEvent =
            serde_json::from_value(seen.body.clone()).map_err(StoreError::corrupt)?;
        let ours = match event {
            EscrowEvent::Locked { id, .. } => rentals::id_of(connection, id).await?.is_some(),
            EscrowEvent::Prepaid { .. }
            | EscrowEvent::ToppedUp { .. }
            | EscrowEvent::Released { .. }
            | EscrowEvent::Contested { .. }
            | EscrowEvent::Closed { .. }
            | EscrowEvent::Withdrawn { .. }
            | EscrowEvent::Started { .. }
            | EscrowEvent::Credited { .. }
            | EscrowEvent::Skipped { .. }
            | EscrowEvent::TreasurySet { .. }
            | EscrowEvent::Disputed { .. }
            | EscrowEvent::AgentSet { .. }
            | EscrowEvent::Config { .. } => false,
        };
        self.add(&event, ours)
    }

    fn add(&mut self, event: &EscrowEvent, ours: bool) -> Result<(), EngineError> {
        match event {
            EscrowEvent::Locked { id, token, deposit, prepaid, .. } => {
                self.token_of.insert(*id, *token);
                if !*prepaid {
                    self.come_in(*token, *deposit);
                }
                self.lock(*id, *token, *deposit, ours);
            }
            EscrowEvent::Prepaid { token, amount, .. } => self.come_in(*token, *amount),
            EscrowEvent::ToppedUp { id, amount, .. } => {
                let token = self.token(id)?;
                self.come_in(token, *amount);
                self.lock(*id, token, *amount, false);
            }
            EscrowEvent::Released { id, net, fee, .. } => {
                let token = self.token(id)?;
                self.divide(*id, token, &[*net, *fee]);
            }
            EscrowEvent::Contested { id, net, fee, refund, pushed, .. }
            | EscrowEvent::Closed { id, net, fee, refund, pushed, .. } => {
                let token = self.token(id)?;
                self.divide(*id, token, &[*net, *fee, *refund]);
                if *pushed {
                    self.move_out(token, *refund);
                }
            }
            EscrowEvent::Withdrawn { token, amount, .. } => self.move_out(*token, *amount),
            EscrowEvent::Started { .. }
            | EscrowEvent::Credited { .. }
            | EscrowEvent::Skipped { .. }
            | EscrowEvent::TreasurySet { .. }
            | EscrowEvent::Disputed { .. }
            | EscrowEvent::AgentSet { .. }
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

    fn come_in(&mut self, token: Address, amount: Amount) {
        let held = self.held.entry(token).or_default();
        *held = held.saturating_add(units(amount));
    }

    fn lock(&mut self, id: B256, token: Address, amount: Amount, ours: bool) {
        self.change(id, token, units(amount), ours);
    }

    fn move_out(&mut self, token: Address, amount: Amount) {
        let held = self.held.entry(token).or_default();
        *held = held.saturating_sub(units(amount));
    }

    fn divide(&mut self, id: B256, token: Address, parts: &[Amount]) {
        for part in parts {
            self.change(id, token, I256::ZERO.saturating_sub(units(*part)), false);
        }
    }

    fn change(&mut self, id: B256, token: Address, by: I256, ours: bool) {
        let open = self.open.entry(id).or_insert(Open { token, amount: I256::ZERO, ours });
        open.amount = open.amount.saturating_add(by);
        if open.amount.is_zero() {
            self.open.remove(&id);
        }
    }
}

fn units(amount: Amount) -> I256 {
    I256::try_from(amount.get()).unwrap_or(I256::MAX)
}
