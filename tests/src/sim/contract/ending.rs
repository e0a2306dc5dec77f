//! How rentals end in the contract, with and without disputes.

use alloy::primitives::{Address, Uint};
use escrow::{
    Terms,
    bindings::Escrow::{self, EndSignatures},
};

use super::{
    CLOSE_WINDOW, Done, MAX_BATCH, MAX_SIGNED_BATCH, Phase, Refusal, Running, Slot, SolError as _,
    batch_of,
};
use crate::sim::money::{self, Shares};

const DISPUTE_WINDOW: u64 = 86_400;
const ARBITRATION: u64 = 14 * 86_400;

const STOPPED_BY_RENTER: u8 = 2;
const STOPPED_BY_PROVIDER: u8 = 3;
const EXHAUSTED: u8 = 4;
const CLOSED_BY_OPERATOR: u8 = 5;
const CONCEDED: u8 = 7;
const UNDISPUTED: u8 = 9;
const DEFAULTED: u8 = 10;

/// What an end comes to before anybody disputes.
#[derive(Clone, Copy)]
struct End {
    outcome: u8,
    clock: u32,
    billed: u32,
    claim: u32,
    is_contested: bool,
}

/// An active rental with its start and the seconds that were released.
struct Active {
    slot: Slot,
    since: u64,
    settled: u32,
}

impl Running<'_> {
    fn active(&self, terms: &Terms) -> Result<Active, Refusal> {
        let slot = self.slot(terms).ok_or(Escrow::NotActive::SELECTOR)?;
        match slot.phase {
            Phase::Active { since, settled } => Ok(Active { slot, since, settled }),
            Phase::Locked { .. } | Phase::Contested { .. } | Phase::Closed => {
                Err(Escrow::NotActive::SELECTOR)
            }
        }
    }

    fn side(&self, terms: &Terms) -> Option<Address> {
        if self.sender == terms.renter || self.sender == terms.provider {
            return Some(self.sender);
        }
        if self.speaks_for(self.sender, terms.renter) {
            return Some(terms.renter);
        }
        self.speaks_for(self.sender, terms.provider).then_some(terms.provider)
    }

    pub(super) fn stop(&mut self, terms: &Terms) -> Done {
        let active = self.active(terms)?;
        let funded_until = active.slot.funded_until();
        let side = self.side(terms);
        if side.is_none() && self.now <= funded_until + CLOSE_WINDOW {
            return Err(Escrow::NotRenterOrProvider::SELECTOR);
        }
        let is_renter = side == Some(terms.renter);
        let mut outcome = if is_renter { STOPPED_BY_RENTER } else { STOPPED_BY_PROVIDER };
        if self.now >= funded_until {
            outcome = EXHAUSTED;
        }
        let holdback = if is_renter { 0 } else { terms.holdback };
        self.stop_now(terms, &active, outcome, holdback, false)
    }

    pub(super) fn contest(&mut self, terms: &Terms, secs: u32) -> Done {
        let active = self.active(terms)?;
        if self.side(terms) != Some(terms.renter) {
            return Err(Escrow::NotRenter::SELECTOR);
        }
        if secs == 0 || secs > terms.holdback {
            return Err(Escrow::ContestOutOfRange::SELECTOR);
        }
        self.stop_now(terms, &active, STOPPED_BY_RENTER, secs, true)
    }

    fn stop_now(
        &mut self,
        terms: &Terms,
        active: &Active,
        outcome: u8,
        holdback: u32,
        is_contested: bool,
    ) -> Done {
        let clock = money::billed_secs(&active.slot, active.settled, self.now - active.since);
        let claim = money::claim_secs(active.settled, clock, holdback);
        if is_contested && claim == 0 {
            return Err(Escrow::ContestOutOfRange::SELECTOR);
        }
        if claim == 0 {
            self.settle(terms, active, clock, outcome);
        } else {
            self.hold(terms, active, End { outcome, clock, billed: clock, claim, is_contested });
        }
        Ok(())
    }

    pub(super) fn close(
        &mut self,
        terms: &Terms,
        stopped_at: u64,
        credit: u32,
        signatures: &EndSignatures,
    ) -> Done {
        let signers = self.signers(terms, stopped_at, credit, signatures);
        let active = self.active(terms)?;
        let (renter_signed, provider_signed) = signers?;
        if stopped_at < active.since || !self.is_recent(stopped_at, CLOSE_WINDOW) {
            return Err(Escrow::StopOutOfWindow::SELECTOR);
        }
        let mut clock = money::billed_secs(&active.slot, active.settled, stopped_at - active.since);
        let mut billed = clock;
        if credit != 0 {
            billed = money::credited_secs(active.settled, clock, credit);
            if provider_signed {
                clock = billed;
            }
        }
        let mut claim = 0;
        if !renter_signed && terms.holdback != 0 {
            claim = money::claim_secs(active.settled, billed, terms.holdback);
        }
        if claim == 0 && billed == clock {
            self.settle(terms, &active, billed, CLOSED_BY_OPERATOR);
        } else {
            let outcome = CLOSED_BY_OPERATOR;
            self.hold(terms, &active, End { outcome, clock, billed, claim, is_contested: false });
        }
        Ok(())
    }

    pub(super) fn close_batch(&mut self, c: &Escrow::closeBatchCall) -> Done {
        self.only_operator()?;
        batch_of(
            c.items.len(),
            if c.signatures.is_empty() { MAX_BATCH } else { MAX_SIGNED_BATCH },
        )?;
        if !c.signatures.is_empty() && c.signatures.len() != c.items.len() {
            return Err(Escrow::SignatureCountMismatch::SELECTOR);
        }
        let none = EndSignatures { renter: Default::default(), provider: Default::default() };
        for (at, item) in c.items.iter().enumerate() {
            let signatures = c.signatures.get(at).unwrap_or(&none);
            let done = self.close(&item.terms, item.stoppedAt.to(), item.creditSecs, signatures);
            self.skip_unless(&item.terms, done);
        }
        Ok(())
    }

    fn contested(&self, terms: &Terms) -> Result<Slot, Refusal> {
        let slot = self.slot(terms).ok_or(Escrow::NotContested::SELECTOR)?;
        match slot.phase {
            Phase::Contested { .. } => Ok(slot),
            Phase::Locked { .. } | Phase::Active { .. } | Phase::Closed => {
                Err(Escrow::NotContested::SELECTOR)
            }
        }
    }

    pub(super) fn dispute(&mut self, terms: &Terms) -> Done {
        let mut slot = self.contested(terms)?;
        let Phase::Contested {
            claim, credit, deadline, renter_disputes, provider_disputes, ..
        } = &mut slot.phase
        else {
            return Err(Escrow::NotContested::SELECTOR);
        };
        let disputed = *renter_disputes || *provider_disputes;
        let window = if disputed { *deadline - ARBITRATION } else { *deadline };
        if self.now > window {
            return Err(Escrow::DisputeWindowOver::SELECTOR);
        }
        let by = self.side(terms).ok_or(Escrow::NotRenterOrProvider::SELECTOR)?;
        let (flag, secs) = if by == terms.renter {
            (renter_disputes, *claim)
        } else {
            (provider_disputes, *credit)
        };
        if secs == 0 || *flag {
            return Err(Escrow::NothingToDispute::SELECTOR);
        }
        *flag = true;
        if !disputed {
            *deadline += ARBITRATION;
        }
        let deadline = Uint::from(*deadline);
        self.keep(terms, slot);
        let id = self.id(terms);
        self.emit(&Escrow::Disputed { id, by, deadline });
        Ok(())
    }

    pub(super) fn concede(&mut self, terms: &Terms) -> Done {
        let slot = self.contested(terms)?;
        let by = self.side(terms).ok_or(Escrow::NotRenterOrProvider::SELECTOR)?;
        let Phase::Contested { claim, credit, .. } = slot.phase else {
            return Err(Escrow::NotContested::SELECTOR);
        };
        let to_renter = if by == terms.provider { claim + credit } else { 0 };
        self.finish(terms, &slot, to_renter, CONCEDED);
        Ok(())
    }

    pub(super) fn finalize(&mut self, terms: &Terms) -> Done {
        let slot = self.contested(terms)?;
        let Phase::Contested { credit, deadline, renter_disputes, provider_disputes, .. } =
            slot.phase
        else {
            return Err(Escrow::NotContested::SELECTOR);
        };
        if self.now <= deadline {
            return Err(Escrow::FinalizeTooEarly::SELECTOR);
        }
        let disputed = renter_disputes || provider_disputes;
        let to_renter = if provider_disputes { 0 } else { credit };
        self.finish(terms, &slot, to_renter, if disputed { DEFAULTED } else { UNDISPUTED });
        Ok(())
    }

    fn settle(&mut self, terms: &Terms, active: &Active, billed: u32, outcome: u8) {
        let shares = money::shares(&active.slot, active.settled, billed);
        self.clear(terms, active.slot.clone());
        self.pay_last(terms, outcome, billed, shares);
    }

    /// Pays all but the held seconds.
    fn hold(&mut self, terms: &Terms, active: &Active, end: End) {
        let deadline = self.now + if end.is_contested { ARBITRATION } else { DISPUTE_WINDOW };
        let settled = end.billed - end.claim;
        let credit = end.clock - end.billed;
        let phase = Phase::Contested {
            settled,
            claim: end.claim,
            credit,
            deadline,
            renter_disputes: end.is_contested,
            provider_disputes: false,
        };
        self.keep(terms, Slot { phase, ..active.slot.clone() });
        let mut shares = money::shares(&active.slot, active.settled, settled);
        shares.refund = active.slot.deposit - money::gross(&active.slot, end.clock);
        let refund_pushed = self.pay(terms, shares);
        self.emit(&Escrow::Contested {
            id: self.id(terms),
            outcome: end.outcome,
            settledSecs: settled,
            contestedSecs: end.clock - settled,
            claimSecs: end.claim,
            deadline: Uint::from(deadline),
            renterDisputes: end.is_contested,
            net: Uint::from(shares.net),
            fee: Uint::from(shares.fee),
            refund: Uint::from(shares.refund),
            refundPushed: refund_pushed,
        });
    }

    /// Closes a contested rental: the last `to_renter` of the held seconds are the renter's.
    fn finish(&mut self, terms: &Terms, slot: &Slot, to_renter: u32, outcome: u8) {
        let Phase::Contested { settled, claim, credit, .. } = slot.phase else { return };
        let clock = settled + claim + credit;
        let billed = clock - to_renter;
        let mut shares = money::shares(slot, settled, billed);
        shares.refund -= slot.deposit - money::gross(slot, clock);
        self.clear(terms, slot.clone());
        self.pay_last(terms, outcome, billed, shares);
    }

    fn pay_last(&mut self, terms: &Terms, outcome: u8, billed: u32, shares: Shares) {
        let refund_pushed = self.pay(terms, shares);
        self.emit(&Escrow::Closed {
            id: self.id(terms),
            outcome,
            billedSecs: billed,
            net: Uint::from(shares.net),
            fee: Uint::from(shares.fee),
            refund: Uint::from(shares.refund),
            refundPushed: refund_pushed,
        });
    }
}
