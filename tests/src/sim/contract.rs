//! The escrow contract as the simulated chain runs it: the same rules as `contracts/src`, written a second time
//! over `escrow`'s bindings. `tests/sim_parity.rs` plays the same calls on both and compares.

use alloy::{
    primitives::{Address, B256, Bytes, Uint},
    sol_types::{Eip712Domain, SolError, SolEvent, SolInterface},
};
use domain::time::{Seconds, UnixSeconds};
use escrow::{
    Terms,
    bindings::{
        Escrow::{self, EndSignatures, EscrowCalls},
        TestUSDC,
    },
    signed, terms_hash,
};

use super::{
    money::{self, Shares},
    state::{Emitted, State},
};
use crate::booking::POL;

mod ending;
mod funding;
mod slot;

pub use slot::{Phase, Slot};

const START_WINDOW: u64 = 600;
const CLOSE_WINDOW: u64 = 600;
const MAX_BATCH: usize = 150;
const MAX_SIGNED_BATCH: usize = 40;

/// Why a call reverts: the selector of the error, which is all the data that the escrow's errors carry.
pub type Refusal = [u8; 4];
pub type Done = Result<(), Refusal>;

/// Where the contract stands and who may do what.
#[derive(Clone, Debug)]
pub struct Deployed {
    pub escrow: Address,
    pub token: Address,
    pub token_domain: Eip712Domain,
    pub domain: Eip712Domain,
    pub operators: Vec<Address>,
    pub treasury: Address,
}

/// One call, on its way through the contract.
pub struct Running<'a> {
    pub at: &'a Deployed,
    pub state: &'a mut State,
    pub sender: Address,
    pub value: u128,
    pub now: u64,
    pub logs: Vec<Emitted>,
}

/// Runs a call of the escrow or the token. On a revert the state is to be thrown away.
pub fn run(running: &mut Running<'_>, to: Address, input: &[u8]) -> Done {
    if to == running.at.token {
        return running.token_call(input);
    }
    if to != running.at.escrow {
        let moved = running.state.move_money(POL, running.sender, to, running.value);
        return if moved { Ok(()) } else { Err([0; 4]) };
    }
    if !running.state.move_money(POL, running.sender, to, running.value) {
        return Err([0; 4]);
    }
    let call = EscrowCalls::abi_decode(input).map_err(|_| [0; 4])?;
    running.escrow_call(call)
}

impl Running<'_> {
    // the bindings have a variant for every view and every call of the owner's, which nobody makes here
    #[allow(clippy::wildcard_enum_match_arm)]
    fn escrow_call(&mut self, call: EscrowCalls) -> Done {
        match call {
            EscrowCalls::lock(c) => {
                if self.sender != c.t.renter {
                    return Err(Escrow::NotRenter::SELECTOR);
                }
                self.open(&c.t, c.deposit.to())?;
                self.pull(c.t.token, c.deposit.to())
            }
            EscrowCalls::lockWithAuthorization(c) => self.lock_with_authorization(&c),
            EscrowCalls::topUp(c) => self.top_up(&c.t, c.amount.to()),
            EscrowCalls::start(c) => {
                self.only_operator()?;
                self.start(&c.t, c.startedAt.to())
            }
            EscrowCalls::startBatch(c) => {
                self.only_operator()?;
                batch_of(c.items.len(), MAX_BATCH)?;
                for item in &c.items {
                    let done = self.start(&item.terms, item.startedAt.to());
                    self.skip_unless(&item.terms, done);
                }
                Ok(())
            }
            EscrowCalls::cancel(c) => {
                if self.sender != c.t.provider && !self.at.operators.contains(&self.sender) {
                    return Err(Escrow::NotOperatorOrProvider::SELECTOR);
                }
                self.give_back(&c.t, 0)
            }
            EscrowCalls::reclaim(c) => {
                if self.now <= c.t.startBy.to::<u64>() + START_WINDOW {
                    return Err(Escrow::ReclaimTooEarly::SELECTOR);
                }
                self.give_back(&c.t, 1)
            }
            EscrowCalls::release(c) => self.release(&c.t),
            EscrowCalls::releaseBatch(c) => {
                batch_of(c.items.len(), MAX_BATCH)?;
                for terms in &c.items {
                    let done = self.release(terms);
                    self.skip_unless(terms, done);
                }
                Ok(())
            }
            EscrowCalls::stop(c) => self.stop(&c.t),
            EscrowCalls::contest(c) => self.contest(&c.t, c.secs),
            EscrowCalls::close(c) => {
                self.only_operator()?;
                self.close(&c.t, c.stoppedAt.to(), c.creditSecs, &c.signatures)
            }
            EscrowCalls::closeBatch(c) => self.close_batch(&c),
            EscrowCalls::dispute(c) => self.dispute(&c.t),
            EscrowCalls::concede(c) => self.concede(&c.t),
            EscrowCalls::finalize(c) => self.finalize(&c.t),
            EscrowCalls::finalizeBatch(c) => {
                batch_of(c.items.len(), MAX_BATCH)?;
                for terms in &c.items {
                    let done = self.finalize(terms);
                    self.skip_unless(terms, done);
                }
                Ok(())
            }
            EscrowCalls::withdraw(c) => self.withdraw(c.token, c.to, c.amount.to()),
            EscrowCalls::setAgent(c) => self.set_agent(c.agent, c.expiresAt.to()),
            _ => Err([0; 4]),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm)] // as above
    fn token_call(&mut self, input: &[u8]) -> Done {
        use TestUSDC::TestUSDCCalls as Calls;
        match Calls::abi_decode(input).map_err(|_| [0; 4])? {
            Calls::approve(c) => {
                self.state.allowances.insert((self.sender, c.spender), c.value.saturating_to());
                Ok(())
            }
            Calls::mint(c) => {
                *self.state.tokens.entry(c.to).or_default() += c.amount.saturating_to::<u128>();
                Ok(())
            }
            _ => Err([0; 4]),
        }
    }

    pub(super) fn emit(&mut self, event: &impl SolEvent) {
        self.logs.push(Emitted { address: self.at.escrow, data: event.encode_log_data() });
    }

    pub(super) fn id(&self, terms: &Terms) -> B256 {
        terms_hash(terms, &self.at.domain)
    }

    pub(super) fn slot(&self, terms: &Terms) -> Option<Slot> {
        self.state.rentals.get(&self.id(terms)).cloned()
    }

    pub(super) fn keep(&mut self, terms: &Terms, slot: Slot) {
        let id = self.id(terms);
        self.state.rentals.insert(id, slot);
    }

    fn only_operator(&self) -> Done {
        let is = self.at.operators.contains(&self.sender);
        if is { Ok(()) } else { Err(Escrow::NotOperator::SELECTOR) }
    }

    pub(super) fn skip_unless(&mut self, terms: &Terms, done: Done) {
        if let Err(reason) = done {
            let id = self.id(terms);
            self.emit(&Escrow::Skipped { id, reason: reason.into() });
        }
    }

    /// Sends money, or credits it to whom does not take it.
    pub(super) fn push(&mut self, token: Address, to: Address, sum: u128) -> bool {
        if sum == 0 {
            return true;
        }
        if !self.state.refusers.contains(&to) {
            assert!(self.state.move_money(token, self.at.escrow, to, sum), "the escrow is short");
            return true;
        }
        self.credit(to, token, sum);
        self.emit(&Escrow::Credited { account: to, token, amount: Uint::from(sum) });
        false
    }

    pub(super) fn credit(&mut self, account: Address, token: Address, sum: u128) {
        if sum > 0 {
            *self.state.balances.entry((account, token)).or_default() += sum;
        }
    }

    pub(super) fn pay(&mut self, terms: &Terms, shares: Shares) -> bool {
        self.credit(terms.provider, terms.token, shares.net);
        self.credit(self.at.treasury, terms.token, shares.fee);
        self.push(terms.token, terms.renter, shares.refund)
    }

    fn start(&mut self, terms: &Terms, started_at: u64) -> Done {
        let slot = self.slot(terms).ok_or(Escrow::NotLocked::SELECTOR)?;
        let Phase::Locked { since } = slot.phase else {
            return Err(Escrow::NotLocked::SELECTOR);
        };
        let in_window = started_at >= since
            && started_at <= terms.startBy.to::<u64>()
            && self.is_recent(started_at, START_WINDOW);
        if !in_window {
            return Err(Escrow::StartOutOfWindow::SELECTOR);
        }
        self.keep(terms, Slot { phase: Phase::Active { since: started_at, settled: 0 }, ..slot });
        let id = self.id(terms);
        self.emit(&Escrow::Started { id, startedAt: Uint::from(started_at) });
        Ok(())
    }

    pub(super) fn is_recent(&self, moment: u64, window: u64) -> bool {
        moment <= self.now && self.now - moment <= window
    }

    fn release(&mut self, terms: &Terms) -> Done {
        let slot = self.slot(terms).ok_or(Escrow::NotActive::SELECTOR)?;
        let Phase::Active { since, settled } = slot.phase else {
            return Err(Escrow::NotActive::SELECTOR);
        };
        let funded = (self.now - since).min(money::funded_secs(&slot).into());
        let secs = u32::try_from(funded).unwrap().saturating_sub(terms.holdback);
        if secs <= settled {
            return Err(Escrow::NothingToRelease::SELECTOR);
        }
        let shares = money::shares(&slot, settled, secs);
        self.keep(terms, Slot { phase: Phase::Active { since, settled: secs }, ..slot });
        self.credit(terms.provider, terms.token, shares.net);
        self.credit(self.at.treasury, terms.token, shares.fee);
        let (id, net, fee) = (self.id(terms), Uint::from(shares.net), Uint::from(shares.fee));
        self.emit(&Escrow::Released { id, settledSecs: secs, net, fee });
        Ok(())
    }

    /// Ends a rental that has not started.
    fn give_back(&mut self, terms: &Terms, outcome: u8) -> Done {
        let slot = self.slot(terms).ok_or(Escrow::NotLocked::SELECTOR)?;
        let Phase::Locked { .. } = slot.phase else { return Err(Escrow::NotLocked::SELECTOR) };
        let refund = slot.deposit;
        self.clear(terms, slot);
        let refund_pushed = self.push(terms.token, terms.renter, refund);
        self.emit(&Escrow::Closed {
            id: self.id(terms),
            outcome,
            billedSecs: 0,
            net: Uint::ZERO,
            fee: Uint::ZERO,
            refund: Uint::from(refund),
            refundPushed: refund_pushed,
        });
        Ok(())
    }

    /// Before `startBy` a tombstone stays; after it nobody can lock these terms again anyway.
    pub(super) fn clear(&mut self, terms: &Terms, slot: Slot) {
        if self.now > terms.startBy.to::<u64>() {
            let id = self.id(terms);
            self.state.rentals.remove(&id);
        } else {
            self.keep(terms, Slot { phase: Phase::Closed, ..slot });
        }
    }

    fn withdraw(&mut self, token: Address, to: Address, amount: u128) -> Done {
        if to.is_zero() {
            return Err(Escrow::ZeroAddress::SELECTOR);
        }
        let balance = self.state.balances.entry((self.sender, token)).or_default();
        let amount = if amount == 0 { *balance } else { amount };
        if amount == 0 || amount > *balance {
            return Err(Escrow::InsufficientBalance::SELECTOR);
        }
        *balance -= amount;
        let account = self.sender;
        self.emit(&Escrow::Withdrawn { account, token, to, amount: Uint::from(amount) });
        assert!(self.state.move_money(token, self.at.escrow, to, amount), "the escrow is short");
        Ok(())
    }

    fn set_agent(&mut self, agent: Address, expires_at: u64) -> Done {
        let is_past = if agent.is_zero() { expires_at != 0 } else { expires_at < self.now };
        if is_past {
            return Err(Escrow::AgentExpiryInPast::SELECTOR);
        }
        self.state.agents.insert(self.sender, (agent, expires_at));
        let account = self.sender;
        self.emit(&Escrow::AgentSet { account, agent, expiresAt: Uint::from(expires_at) });
        Ok(())
    }

    pub(super) fn speaks_for(&self, who: Address, account: Address) -> bool {
        let agent = self.state.agents.get(&account);
        who == account || agent.is_some_and(|(key, until)| *key == who && self.now <= *until)
    }

    /// Who signed an end: the renter, the provider; an error if a signature is there and is not good.
    pub(super) fn signers(
        &self,
        terms: &Terms,
        stopped_at: u64,
        credit: u32,
        signatures: &EndSignatures,
    ) -> Result<(bool, bool), Refusal> {
        let end = signed::end(self.id(terms), UnixSeconds(stopped_at), Seconds(credit));
        let signed_for = |account: Address, signature: &Bytes| {
            if signature.is_empty() {
                return Ok(false);
            }
            let signer = signed::recover(&end, signature, &self.at.domain);
            let good = signer.is_ok_and(|signer| self.speaks_for(signer, account));
            if good { Ok(true) } else { Err(Escrow::BadSignature::SELECTOR) }
        };
        Ok((
            signed_for(terms.renter, &signatures.renter)?,
            signed_for(terms.provider, &signatures.provider)?,
        ))
    }
}

pub(super) fn batch_of(items: usize, most: usize) -> Done {
    if items > most { Err(Escrow::BatchTooLarge::SELECTOR) } else { Ok(()) }
}
