//! Balances as the sum of postings.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use thiserror::Error;

use super::{AccountKind, LedgerAccount, Posting, Transfer};
use crate::money::Amount;

/// Why a posting cannot be made or applied. Each one means that ledger and chain disagree.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// More is withdrawn than the owner's accounts hold.
    #[error("the owner's accounts hold {missing} base units too few")]
    Insufficient {
        /// How much is missing.
        missing: Amount,
    },
    /// A claim on the escrow would fall below zero.
    #[error("the balance of a {kind} account would fall below zero")]
    Overdrawn {
        /// The kind of account.
        kind: AccountKind,
    },
    /// An account that is not the owner's, or of another token.
    #[error("an account is not the owner's in this token")]
    ForeignAccount,
    /// A transfer of nothing, or between tokens.
    #[error("a transfer moves nothing, or between two tokens")]
    Unbalanced,
    /// A sum out of range.
    #[error("a balance is out of range")]
    Overflow,
}

/// The balances that a sequence of postings leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    accounts: BTreeMap<LedgerAccount, i128>,
}

impl Balances {
    /// The balance of `account` in base units: credits less debits, 0 if it was never touched.
    #[must_use]
    pub fn of(&self, account: &LedgerAccount) -> i128 {
        self.accounts.get(account).copied().unwrap_or(0)
    }

    /// Every account that was touched, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&LedgerAccount, i128)> {
        self.accounts.iter().map(|(account, balance)| (account, *balance))
    }

    /// The sum of all balances in `token`; 0 unless something is broken. `None` out of range.
    #[must_use]
    pub fn sum(&self, token: Address) -> Option<i128> {
        self.iter()
            .filter(|(account, _)| account.token == token)
            .try_fold(0_i128, |sum, (_, balance)| sum.checked_add(balance))
    }

    /// Applies all transfers of `posting`, or none.
    ///
    /// # Errors
    /// [`LedgerError::Overdrawn`] when a claim on the escrow would fall below zero, [`LedgerError::Unbalanced`] for
    /// a transfer of nothing or between tokens, [`LedgerError::Overflow`].
    pub fn apply(&mut self, posting: &Posting) -> Result<(), LedgerError> {
        let mut next = self.clone();
        for transfer in &posting.transfers {
            next.transfer(transfer)?;
        }
        *self = next;
        Ok(())
    }

    fn transfer(&mut self, transfer: &Transfer) -> Result<(), LedgerError> {
        let Transfer { debit, credit, amount } = *transfer;
        if amount.is_zero() || debit.token != credit.token {
            return Err(LedgerError::Unbalanced);
        }
        let amount = i128::try_from(amount.get()).map_err(|_| LedgerError::Overflow)?;
        let given = self.of(&debit).checked_sub(amount).ok_or(LedgerError::Overflow)?;
        if given < 0 && debit.kind != AccountKind::Outside {
            return Err(LedgerError::Overdrawn { kind: debit.kind });
        }
        self.accounts.insert(debit, given);
        let got = self.of(&credit).checked_add(amount).ok_or(LedgerError::Overflow)?;
        self.accounts.insert(credit, got);
        Ok(())
    }
}
