//! How money gets into a rental in the contract.

use alloy::{
    primitives::{Address, Uint},
    sol_types::SolError as _,
};
use domain::{money::Amount, time::UnixSeconds};
use escrow::{Terms, bindings::Escrow, signed};

use super::{Done, Phase, Running, START_WINDOW, Slot};
use crate::booking::POL;

const MAX_START_BY: u64 = 86_400;
const MAX_FEE_BPS: u16 = 1_500;

impl Running<'_> {
    /// The sender pays the escrow exactly so much.
    pub(super) fn pull(&mut self, token: Address, sum: u128) -> Done {
        if token == POL {
            return if self.value == sum { Ok(()) } else { Err(Escrow::WrongValue::SELECTOR) };
        }
        if self.value != 0 {
            return Err(Escrow::WrongValue::SELECTOR);
        }
        let allowed = self.state.allowances.entry((self.sender, self.at.escrow)).or_default();
        if *allowed < sum {
            return Err([0; 4]);
        }
        *allowed -= sum;
        let moved = self.state.move_money(token, self.sender, self.at.escrow, sum);
        if moved { Ok(()) } else { Err([0; 4]) }
    }

    pub(super) fn open(&mut self, terms: &Terms, deposit: u128) -> Done {
        let start_by = terms.startBy.to::<u64>();
        if terms.renter.is_zero() || terms.provider.is_zero() {
            return Err(Escrow::ZeroAddress::SELECTOR);
        } else if terms.provider == terms.renter {
            return Err(Escrow::SelfRental::SELECTOR);
        } else if terms.provider == self.at.escrow {
            return Err(Escrow::PayeeIsEscrow::SELECTOR);
        } else if terms.pricePerHour.is_zero() {
            return Err(Escrow::ZeroPrice::SELECTOR);
        } else if terms.feeBps > MAX_FEE_BPS {
            return Err(Escrow::FeeTooHigh::SELECTOR);
        } else if start_by < self.now || start_by > self.now + MAX_START_BY {
            return Err(Escrow::StartByOutOfRange::SELECTOR);
        } else if deposit == 0 {
            return Err(Escrow::ZeroAmount::SELECTOR);
        }
        self.listed(terms.token)?;
        if self.slot(terms).is_some() {
            return Err(Escrow::IdUsed::SELECTOR);
        }
        let phase = Phase::Locked { since: self.now };
        self.keep(terms, Slot { terms: terms.clone(), deposit, phase });
        self.emit(&Escrow::Locked {
            id: self.id(terms),
            renter: terms.renter,
            provider: terms.provider,
            terms: terms.clone(),
            deposit: Uint::from(deposit),
            prepaid: false,
        });
        Ok(())
    }

    fn listed(&self, token: Address) -> Done {
        let is = token == POL || token == self.at.token;
        if is { Ok(()) } else { Err(Escrow::TokenNotListed::SELECTOR) }
    }

    pub(super) fn lock_with_authorization(
        &mut self,
        c: &Escrow::lockWithAuthorizationCall,
    ) -> Done {
        if c.t.token == POL {
            return Err(Escrow::NativeToken::SELECTOR);
        }
        let deposit = c.deposit.to::<u128>();
        self.open(&c.t, deposit)?;
        let (after, before) = (c.validAfter.saturating_to(), c.validBefore.saturating_to());
        if self.now <= after || self.now >= before {
            return Err([0; 4]);
        }
        let id = self.id(&c.t);
        let amount = Amount::new(deposit).unwrap();
        let valid = (UnixSeconds(after), UnixSeconds(before));
        let message = signed::authorization(&c.t, id, self.at.escrow, amount, valid);
        let signer = signed::recover(&message, &c.signature, &self.at.token_domain);
        let fresh = self.state.authorized.insert((c.t.renter, id));
        if signer != Ok(c.t.renter) || !fresh {
            return Err([0; 4]);
        }
        let paid = self.state.move_money(c.t.token, c.t.renter, self.at.escrow, deposit);
        if paid { Ok(()) } else { Err([0; 4]) }
    }

    pub(super) fn top_up(&mut self, terms: &Terms, amount: u128) -> Done {
        if amount == 0 {
            return Err(Escrow::ZeroAmount::SELECTOR);
        }
        self.listed(terms.token)?;
        let mut slot = self.slot(terms).ok_or(Escrow::NotActive::SELECTOR)?;
        match slot.phase {
            Phase::Locked { .. } if self.now > terms.startBy.to::<u64>() + START_WINDOW => {
                return Err(Escrow::StartWindowOver::SELECTOR);
            }
            Phase::Locked { .. } => {}
            Phase::Active { .. } if self.now >= slot.funded_until() => {
                return Err(Escrow::FundedTimeOver::SELECTOR);
            }
            Phase::Active { .. } => {}
            Phase::Contested { .. } | Phase::Closed => return Err(Escrow::NotActive::SELECTOR),
        }
        slot.deposit += amount;
        let (id, deposit) = (self.id(terms), Uint::from(slot.deposit));
        self.keep(terms, slot);
        self.emit(&Escrow::ToppedUp { id, from: self.sender, amount: Uint::from(amount), deposit });
        self.pull(terms.token, amount)
    }
}
