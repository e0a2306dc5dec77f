//! What the events say, read again from the first one.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, I256};
use domain::money::Amount;
use escrow::EscrowEvent;
use store::{StoreError, blocks, rentals};

use super::books::{Books, Sums};
use crate::EngineError;

const PAGE: i64 = 1_000;

/// What the contract's final events add up to, without a look at the ledger.
pub(super) struct Replay {
    /// Block and position of the last event that is in it.
    after: (u64, i64),
    pub(super) held: Sums,
    token_of: BTreeMap<B256, Address>,
    /// Open deposits of locks that are none of ours.
    foreign: Sums,
}

impl Replay {
    pub(super) const fn new() -> Self {
        Self { after: (0, -1), held: Sums::new(), token_of: BTreeMap::new(), foreign: Sums::new() }
    }

    pub(super) fn held(&self, token: Address) -> I256 {
        Books::of(&self.held, token)
    }

    pub(super) fn foreign(&self, token: Address) -> I256 {
        Books::of(&self.foreign, token)
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
            EscrowEvent::Locked { id, token, deposit, prepaid, .. } => {
                self.token_of.insert(*id, *token);
                if !*prepaid {
                    self.come_in(*token, *deposit);
                }
                self.lock(*token, *deposit, ours);
            }
            EscrowEvent::Prepaid { token, amount, .. } => self.come_in(*token, *amount),
            EscrowEvent::ToppedUp { id, amount, .. } => {
                let token = self.token(id)?;
                self.come_in(token, *amount);
                self.lock(token, *amount, ours);
            }
            EscrowEvent::Released { id, net, fee, .. } => {
                let token = self.token(id)?;
                self.divide(token, &[*net, *fee], ours);
            }
            EscrowEvent::Contested { id, net, fee, refund, pushed, .. }
            | EscrowEvent::Closed { id, net, fee, refund, pushed, .. } => {
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

    fn lock(&mut self, token: Address, amount: Amount, ours: bool) {
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
