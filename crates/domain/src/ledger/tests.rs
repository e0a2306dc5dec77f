#![allow(clippy::arithmetic_side_effects)]

use proptest::prelude::*;

use super::*;
use crate::billing::{closing_between, held_between, payout_between};
use crate::money::{Amount, FeeBps};
use crate::rate::TokenRate;
use crate::time::Seconds;

fn amount(base_units: u128) -> Amount {
    Amount::new(base_units).unwrap()
}

fn parties() -> Parties {
    Parties {
        escrow_id: B256::repeat_byte(5),
        renter: Address::repeat_byte(1),
        provider: Address::repeat_byte(2),
        treasury: Address::repeat_byte(3),
        token: Address::repeat_byte(4),
    }
}

fn balances_of(postings: &[Posting]) -> Balances {
    let mut balances = Balances::default();
    for posting in postings {
        balances.apply(posting).unwrap();
    }
    balances
}

#[test]
fn zero_transfers_are_left_out() {
    let closed =
        ClosedFigures { net: Amount::ZERO, fee: Amount::ZERO, refund: amount(5), pushed: true };
    let posting = close_posting(&parties(), &closed);
    assert_eq!(posting.transfers.len(), 1);
    assert!(release_posting(&parties(), Amount::ZERO, Amount::ZERO).transfers.is_empty());
}

#[test]
fn a_refund_that_was_not_pushed_waits_for_the_renter() {
    let p = parties();
    let closed =
        ClosedFigures { net: amount(60), fee: amount(10), refund: amount(30), pushed: false };
    let mut balances = balances_of(&[lock_posting(&p, amount(100)), close_posting(&p, &closed)]);
    let credit = LedgerAccount::renter_credit(p.renter, p.token);
    assert_eq!(balances.of(&credit), 30);
    assert_eq!(balances.of(&LedgerAccount::outside(p.token)), -100);
    let held = [(credit, amount(30))];
    let posting = withdraw_posting(p.renter, p.token, amount(30), &held).unwrap();
    balances.apply(&posting).unwrap();
    assert_eq!((balances.of(&credit), balances.sum(p.token)), (0, Some(0)));
}

#[test]
fn one_withdrawal_empties_the_owners_accounts_in_order() {
    let (owner, token) = (Address::repeat_byte(9), Address::repeat_byte(4));
    let [credit, earnings, fees] = LedgerAccount::withdrawable(owner, token);
    let held = [(credit, amount(5)), (earnings, amount(10)), (fees, amount(10))];
    let posting = withdraw_posting(owner, token, amount(12), &held).unwrap();
    let taken: Vec<_> = posting.transfers.iter().map(|t| (t.debit, t.amount.get())).collect();
    assert_eq!(taken, [(credit, 5), (earnings, 7)]);
    let refusal = withdraw_posting(owner, token, amount(26), &held).unwrap_err();
    assert_eq!(refusal, LedgerError::Insufficient { missing: amount(1) });
    let refusal = withdraw_posting(Address::ZERO, token, amount(1), &held).unwrap_err();
    assert_eq!(refusal, LedgerError::ForeignAccount);
}

#[test]
fn a_claim_cannot_fall_below_zero_and_a_refused_posting_leaves_no_trace() {
    let p = parties();
    let mut balances = balances_of(&[lock_posting(&p, amount(10))]);
    let before = balances.clone();
    let refusal = balances.apply(&release_posting(&p, amount(8), amount(3))).unwrap_err();
    assert_eq!(refusal, LedgerError::Overdrawn { kind: AccountKind::RenterDeposit });
    assert_eq!(balances, before);
    let mut forged = lock_posting(&p, amount(1));
    forged.transfers[0].credit.token = Address::ZERO;
    assert_eq!(balances.apply(&forged), Err(LedgerError::Unbalanced));
}

#[test]
fn a_prepaid_lock_takes_from_the_renters_balance() {
    let p = parties();
    let credit = LedgerAccount::renter_credit(p.renter, p.token);
    let mut balances = balances_of(&[prepay_posting(p.renter, p.token, amount(100))]);
    let held = [(credit, amount(100))];
    balances.apply(&prepaid_lock_posting(&p, amount(60), &held).unwrap()).unwrap();
    assert_eq!(balances.of(&credit), 40);
    assert_eq!(balances.of(&LedgerAccount::renter_deposit(p.escrow_id, p.token)), 60);
    assert_eq!(balances.of(&LedgerAccount::outside(p.token)), -100);
    let refusal = prepaid_lock_posting(&p, amount(101), &held).unwrap_err();
    assert_eq!(refusal, LedgerError::Insufficient { missing: amount(1) });
}

proptest! {
    #[test]
    fn gas_is_no_claim_and_leaves_every_claim_as_it_is(
        deposit in 1..=Amount::MAX.get(),
        spent in prop::collection::vec((0..=16_777_216_u64, 0..=1_u128 << 60), 0..20),
    ) {
        let p = Parties { token: Address::ZERO, ..parties() };
        let signer = Address::repeat_byte(7);
        let mut balances = balances_of(&[lock_posting(&p, amount(deposit))]);
        let mut wei = 0;
        for (used, price) in spent {
            balances.apply(&gas_posting(signer, used, price).unwrap()).unwrap();
            wei += i128::from(used) * i128::try_from(price).unwrap();
        }
        prop_assert_eq!(balances.of(&LedgerAccount::gas_spent(signer)), wei);
        let held = balances.of(&LedgerAccount::renter_deposit(p.escrow_id, p.token));
        prop_assert_eq!(held, i128::try_from(deposit).unwrap());
        prop_assert_eq!(balances.of(&LedgerAccount::outside(p.token)), -held - wei);
        prop_assert_eq!(balances.sum(p.token), Some(0));
        // what was spent can be taken by nobody
        prop_assert!(!LedgerAccount::withdrawable(signer, p.token).contains(&LedgerAccount::gas_spent(signer)));
    }

    #[test]
    fn gas_beyond_the_coins_that_exist_is_refused(used in 1..=u64::MAX, price in any::<u128>()) {
        let wei = u128::from(used).checked_mul(price).and_then(|wei| Amount::new(wei).ok());
        match gas_posting(Address::ZERO, used, price) {
            Ok(posting) => prop_assert_eq!(posting.transfers.first().map_or(Amount::ZERO, |t| t.amount), wei.unwrap()),
            Err(error) => prop_assert!(error == LedgerError::Overflow && wei.is_none()),
        }
    }

    #[test]
    fn holding_seconds_changes_nothing_in_the_end(
        deposit in 1..=Amount::MAX.get(),
        per_hour in 1..=Amount::MAX.get() >> 16,
        bps in 1_000_u16..=1_500,
        (released, settled, claim, credit) in (0_u32..9_000, 1_u32..9_000, 0_u32..9_000, 0_u32..9_000),
        to_renter in 0_u32..18_000,
        pushed in any::<bool>(),
    ) {
        let p = parties();
        let rate = TokenRate::new(amount(per_hour)).unwrap();
        let bps = FeeBps::new(bps).unwrap();
        let all = amount(deposit);
        let settled = released + settled;
        let (clock, held) = (settled + claim + credit, claim + credit);
        let billed = clock - to_renter.min(held);
        let between = |from: u32, to: u32| payout_between(rate, bps, all, Seconds(from), Seconds(to)).unwrap();
        let (part, first) = (between(0, released), between(released, settled));
        let rest = closing_between(rate, bps, all, Seconds(settled), Seconds(clock)).unwrap();
        let last = held_between(rate, bps, all, Seconds(settled), Seconds(billed), Seconds(clock)).unwrap();
        let contest =
            ClosedFigures { net: first.net, fee: first.fee, refund: rest.refund, pushed };
        let close = ClosedFigures { net: last.net, fee: last.fee, refund: last.refund, pushed };
        let in_parts = balances_of(&[
            lock_posting(&p, all),
            release_posting(&p, part.net, part.fee),
            contest_posting(&p, &contest),
            close_posting(&p, &close),
        ]);
        let whole = closing_between(rate, bps, all, Seconds::ZERO, Seconds(billed)).unwrap();
        let whole = ClosedFigures { net: whole.net, fee: whole.fee, refund: whole.refund, pushed };
        let at_once = balances_of(&[lock_posting(&p, all), close_posting(&p, &whole)]);
        for (account, balance) in at_once.iter() {
            prop_assert_eq!(in_parts.of(account), balance);
        }
        prop_assert_eq!(in_parts.sum(p.token), Some(0));
    }

    #[test]
    fn a_rentals_postings_sum_to_zero_and_empty_its_deposit(
        deposit in 1..=Amount::MAX.get() >> 1,
        top_up in 0..=Amount::MAX.get() >> 1,
        per_hour in 1..=Amount::MAX.get() >> 16,
        bps in 1_000_u16..=1_500,
        (settled, more) in (0_u32..100_000, 0_u32..100_000),
        pushed in any::<bool>(),
    ) {
        let p = parties();
        let rate = TokenRate::new(amount(per_hour)).unwrap();
        let bps = FeeBps::new(bps).unwrap();
        let all = amount(deposit + top_up);
        let (settled, billed) = (Seconds(settled), Seconds(settled + more));
        let part = payout_between(rate, bps, all, Seconds::ZERO, settled).unwrap();
        let last = closing_between(rate, bps, all, settled, billed).unwrap();
        let closed = ClosedFigures { net: last.net, fee: last.fee, refund: last.refund, pushed };
        let balances = balances_of(&[
            lock_posting(&p, amount(deposit)),
            top_up_posting(&p, amount(top_up)),
            release_posting(&p, part.net, part.fee),
            close_posting(&p, &closed),
        ]);
        prop_assert_eq!(balances.sum(p.token), Some(0));
        prop_assert_eq!(balances.of(&LedgerAccount::renter_deposit(p.escrow_id, p.token)), 0);
        for (account, balance) in balances.iter() {
            prop_assert!(balance >= 0 || account.kind == AccountKind::Outside);
        }
    }
}
