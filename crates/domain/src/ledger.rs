//! The ledger: double entry over what the escrow contract holds, written from final chain facts only.
//!
//! Every transfer takes an amount from one account (`debit`) and gives it to another (`credit`) of the same token, so
//! it balances by construction. An account's balance is its credits less its debits. All accounts but `Outside` and
//! `GasSpent` are claims on the escrow and never negative; `GasSpent` is what our signers paid for gas; `Outside` is
//! minus the others; together they sum to zero.

mod balances;
mod posting;

pub use balances::{Balances, LedgerError};
pub use posting::{
    ClosedFigures, Parties, Posting, PostingKind, Transfer, close_posting, contest_posting,
    gas_posting, lock_posting, prepaid_lock_posting, prepay_posting, release_posting,
    top_up_posting, withdraw_posting,
};

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::names::named_enum;

named_enum! {
    /// Whose claim an account is.
    pub enum AccountKind ("account kind") {
        /// A rental's deposit, before it is paid out.
        RenterDeposit => "renter_deposit",
        /// A refund that could not be pushed and waits for the renter to fetch it.
        RenterCredit => "renter_credit",
        /// What a provider has earned and not fetched.
        ProviderEarnings => "provider_earnings",
        /// What the treasury has earned and not fetched.
        PlatformFees => "platform_fees",
        /// What a signer of ours has paid for gas, in the chain's own coin. No claim on the escrow.
        GasSpent => "gas_spent",
        /// Everything outside the escrow.
        Outside => "outside",
    }
}

/// One account, of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LedgerAccount {
    /// Whose claim it is.
    pub kind: AccountKind,
    /// The wallet that it belongs to; none for `RenterDeposit` and `Outside`.
    pub owner: Option<Address>,
    /// The rental's id on the chain, for `RenterDeposit` only. Not our own id: a lock that is none of ours is
    /// money in the escrow too, and has to be mirrored.
    pub escrow_id: Option<B256>,
    /// The token; the zero address is the chain's own coin.
    pub token: Address,
}

impl LedgerAccount {
    /// The deposit locked under `escrow_id`.
    #[must_use]
    pub const fn renter_deposit(escrow_id: B256, token: Address) -> Self {
        Self { kind: AccountKind::RenterDeposit, owner: None, escrow_id: Some(escrow_id), token }
    }

    /// Refunds that wait for `renter`.
    #[must_use]
    pub const fn renter_credit(renter: Address, token: Address) -> Self {
        Self::owned(AccountKind::RenterCredit, renter, token)
    }

    /// What `provider` has earned.
    #[must_use]
    pub const fn provider_earnings(provider: Address, token: Address) -> Self {
        Self::owned(AccountKind::ProviderEarnings, provider, token)
    }

    /// What `treasury` has earned.
    #[must_use]
    pub const fn platform_fees(treasury: Address, token: Address) -> Self {
        Self::owned(AccountKind::PlatformFees, treasury, token)
    }

    /// What `signer` has paid for gas.
    #[must_use]
    pub const fn gas_spent(signer: Address) -> Self {
        Self::owned(AccountKind::GasSpent, signer, Address::ZERO)
    }

    /// Everything outside.
    #[must_use]
    pub const fn outside(token: Address) -> Self {
        Self { kind: AccountKind::Outside, owner: None, escrow_id: None, token }
    }

    const fn owned(kind: AccountKind, owner: Address, token: Address) -> Self {
        Self { kind, owner: Some(owner), escrow_id: None, token }
    }

    /// The accounts that the contract's one balance of `owner` in `token` is made of, in the order in which a
    /// withdrawal empties them.
    #[must_use]
    pub const fn withdrawable(owner: Address, token: Address) -> [Self; 3] {
        [
            Self::renter_credit(owner, token),
            Self::provider_earnings(owner, token),
            Self::platform_fees(owner, token),
        ]
    }
}

#[cfg(test)]
mod tests;
