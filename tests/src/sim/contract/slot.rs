//! One rental in the contract's storage.

use alloy::primitives::Address;
use escrow::Terms;

use crate::sim::money;

/// How far a rental has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Locked {
        since: u64,
    },
    Active {
        since: u64,
        settled: u32,
    },
    Contested {
        settled: u32,
        claim: u32,
        credit: u32,
        deadline: u64,
        renter_disputes: bool,
        provider_disputes: bool,
    },
    Closed,
}

#[derive(Clone, Debug)]
pub struct Slot {
    pub terms: Terms,
    pub deposit: u128,
    pub phase: Phase,
}

impl Slot {
    /// The first second that the deposit does not pay for.
    pub fn funded_until(&self) -> u64 {
        match self.phase {
            Phase::Active { since, .. } => since + u64::from(money::funded_secs(self)),
            Phase::Locked { .. } | Phase::Contested { .. } | Phase::Closed => u64::MAX,
        }
    }

    /// What of the deposit still lies in the escrow undivided.
    pub fn undivided(&self, token: Address) -> u128 {
        if self.terms.token != token {
            return 0;
        }
        match self.phase {
            Phase::Locked { .. } => self.deposit,
            Phase::Active { settled, .. } => self.deposit - money::gross(self, settled),
            Phase::Contested { settled, claim, credit, .. } => {
                money::gross(self, settled + claim + credit) - money::gross(self, settled)
            }
            Phase::Closed => 0,
        }
    }
}
