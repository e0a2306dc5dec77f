//! Postings: one per final chain fact.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::{LedgerAccount, LedgerError};
use crate::money::Amount;
use crate::names::named_enum;

named_enum! {
    /// The chain fact that a posting records.
    pub enum PostingKind ("posting kind") {
        /// A deposit was locked.
        Lock => "lock",
        /// A deposit was raised.
        TopUp => "top_up",
        /// A part was paid while the rental runs on.
        Release => "release",
        /// The clock stopped: all of the deposit but what is held was divided.
        Contest => "contest",
        /// The rental was closed and its deposit divided.
        Close => "close",
        /// A balance was paid into.
        Prepay => "prepay",
        /// A balance left the escrow.
        Withdraw => "withdraw",
        /// A transaction of ours was paid for.
        Gas => "gas",
    }
}

/// A movement of `amount` from `debit` to `credit`. Never of nothing, and never between tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The account that gives.
    pub debit: LedgerAccount,
    /// The account that gets.
    pub credit: LedgerAccount,
    /// How much, above 0.
    pub amount: Amount,
}

/// The transfers of one chain fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// The fact.
    pub kind: PostingKind,
    /// The transfers; zero ones are left out.
    pub transfers: Vec<Transfer>,
}

impl Posting {
    /// A posting of those `moves` that move anything.
    fn new(
        kind: PostingKind,
        moves: impl IntoIterator<Item = (LedgerAccount, LedgerAccount, Amount)>,
    ) -> Self {
        let transfers = moves
            .into_iter()
            .filter(|(_, _, amount)| !amount.is_zero())
            .map(|(debit, credit, amount)| Transfer { debit, credit, amount })
            .collect();
        Self { kind, transfers }
    }
}

/// The rental whose money moves, and who may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parties {
    /// The rental's id on the chain.
    pub escrow_id: B256,
    /// The renter's wallet.
    pub renter: Address,
    /// The provider's wallet.
    pub provider: Address,
    /// The treasury at the time of the fact.
    pub treasury: Address,
    /// The token.
    pub token: Address,
}

impl Parties {
    const fn deposit(&self) -> LedgerAccount {
        LedgerAccount::renter_deposit(self.escrow_id, self.token)
    }

    const fn outside(&self) -> LedgerAccount {
        LedgerAccount::outside(self.token)
    }

    fn payout(&self, net: Amount, fee: Amount) -> [(LedgerAccount, LedgerAccount, Amount); 2] {
        [
            (self.deposit(), LedgerAccount::provider_earnings(self.provider, self.token), net),
            (self.deposit(), LedgerAccount::platform_fees(self.treasury, self.token), fee),
        ]
    }
}

/// A final `Locked`.
#[must_use]
pub fn lock_posting(parties: &Parties, deposit: Amount) -> Posting {
    Posting::new(PostingKind::Lock, [(parties.outside(), parties.deposit(), deposit)])
}

/// A final `ToppedUp` of `amount` more.
#[must_use]
pub fn top_up_posting(parties: &Parties, amount: Amount) -> Posting {
    Posting::new(PostingKind::TopUp, [(parties.outside(), parties.deposit(), amount)])
}

/// A final `Released`.
#[must_use]
pub fn release_posting(parties: &Parties, net: Amount, fee: Amount) -> Posting {
    Posting::new(PostingKind::Release, parties.payout(net, fee))
}

/// A final `Locked` that was paid from the renter's balance; `balances` as in [`withdraw_posting`].
///
/// # Errors
/// As [`withdraw_posting`].
pub fn prepaid_lock_posting(
    parties: &Parties,
    deposit: Amount,
    balances: &[(LedgerAccount, Amount)],
) -> Result<Posting, LedgerError> {
    let moves = taken_from(parties.renter, deposit, balances, parties.deposit())?;
    Ok(Posting::new(PostingKind::Lock, moves))
}

/// A final `Prepaid` of `amount` into `account`'s balance: the account may lock it or withdraw it.
#[must_use]
pub fn prepay_posting(account: Address, token: Address, amount: Amount) -> Posting {
    let credit = LedgerAccount::renter_credit(account, token);
    Posting::new(PostingKind::Prepay, [(LedgerAccount::outside(token), credit, amount)])
}

/// A final transaction of `signer` that used `gas_used` units of gas at `gas_price` wei each, whether or not it
/// succeeded.
///
/// # Errors
/// [`LedgerError::Overflow`] beyond 2^96-1 wei: more than there is.
pub fn gas_posting(
    signer: Address,
    gas_used: u64,
    gas_price: u128,
) -> Result<Posting, LedgerError> {
    let wei = u128::from(gas_used).checked_mul(gas_price).ok_or(LedgerError::Overflow)?;
    let paid = Amount::new(wei).map_err(|_| LedgerError::Overflow)?;
    let spent = LedgerAccount::gas_spent(signer);
    Ok(Posting::new(PostingKind::Gas, [(LedgerAccount::outside(spent.token), spent, paid)]))
}

/// What a final `Closed` or `Contested` says that it paid; what was paid before is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedFigures {
    /// To the provider.
    pub net: Amount,
    /// To the treasury.
    pub fee: Amount,
    /// To the renter.
    pub refund: Amount,
    /// Whether the refund reached the renter's wallet; if not, it waits as a credit.
    pub pushed: bool,
}

/// A final `Closed`.
#[must_use]
pub fn close_posting(parties: &Parties, closed: &ClosedFigures) -> Posting {
    division(PostingKind::Close, parties, closed)
}

/// A final `Contested`: what is held stays in the deposit.
#[must_use]
pub fn contest_posting(parties: &Parties, paid: &ClosedFigures) -> Posting {
    division(PostingKind::Contest, parties, paid)
}

fn division(kind: PostingKind, parties: &Parties, closed: &ClosedFigures) -> Posting {
    let refund_to = if closed.pushed {
        parties.outside()
    } else {
        LedgerAccount::renter_credit(parties.renter, parties.token)
    };
    let refund = (parties.deposit(), refund_to, closed.refund);
    Posting::new(kind, parties.payout(closed.net, closed.fee).into_iter().chain([refund]))
}

/// A final `Withdrawn` of `amount` by `owner`.
///
/// The contract keeps one balance for an owner and token, the ledger up to three; `balances` are those of
/// [`LedgerAccount::withdrawable`], and they are emptied in the order given.
///
/// # Errors
/// [`LedgerError::Insufficient`] when they hold less than `amount`: ledger and chain disagree.
/// [`LedgerError::ForeignAccount`] when one of them is not the owner's in this token.
pub fn withdraw_posting(
    owner: Address,
    token: Address,
    amount: Amount,
    balances: &[(LedgerAccount, Amount)],
) -> Result<Posting, LedgerError> {
    let moves = taken_from(owner, amount, balances, LedgerAccount::outside(token))?;
    Ok(Posting::new(PostingKind::Withdraw, moves))
}

/// `amount` out of the owner's accounts, in the order given.
fn taken_from(
    owner: Address,
    amount: Amount,
    balances: &[(LedgerAccount, Amount)],
    to: LedgerAccount,
) -> Result<Vec<(LedgerAccount, LedgerAccount, Amount)>, LedgerError> {
    let own = LedgerAccount::withdrawable(owner, to.token);
    let mut left = amount;
    let mut moves = Vec::with_capacity(balances.len());
    for &(account, balance) in balances {
        if !own.contains(&account) {
            return Err(LedgerError::ForeignAccount);
        }
        let part = left.min(balance);
        left = left.checked_sub(part).ok_or(LedgerError::Overflow)?;
        moves.push((account, to, part));
    }
    if !left.is_zero() {
        return Err(LedgerError::Insufficient { missing: left });
    }
    Ok(moves)
}
