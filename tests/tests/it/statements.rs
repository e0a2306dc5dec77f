//! Statements against the plain sum of what was posted.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, I256};
use domain::{
    ledger::{
        Balances, ClosedFigures, LedgerAccount, Parties, Posting, close_posting, gas_posting,
        lock_posting, prepay_posting, release_posting,
    },
    money::Amount,
    time::{Seconds, UnixSeconds},
};
use store::{
    StoreError, TxError, accounts,
    ledger::{self, Holder, Part, Sourced, Statement},
};
use tests::{booking::POL, house::House, random::Random};
use uuid::Uuid;

const FACTS: u64 = 120;
const CASES: u64 = 40;

fn amount(units: u64) -> Amount {
    Amount::new(u128::from(units)).unwrap()
}

/// Facts of a few people who are each other's renter, provider and treasury, some at one second.
fn facts(random: &mut Random, house: &House) -> Vec<Sourced> {
    let people: Vec<Address> = (1..=3).map(Address::repeat_byte).collect();
    let mut facts = Vec::new();
    let mut at = house.order.now;
    for number in 0..FACTS {
        at = at.saturating_plus(Seconds(u32::try_from(random.below(3)).unwrap()));
        let mut one = || people[usize::try_from(random.below(3)).unwrap()];
        let (renter, provider, treasury) = (one(), one(), one());
        // the booked rental's deposit is the renter's own too
        let own = renter == house.order.renter && random.below(2) == 0;
        let escrow_id = if own { house.rental.escrow_id } else { B256::from(random.bytes::<32>()) };
        let parties = Parties { escrow_id, renter, provider, treasury, token: POL };
        let mut figure = || amount(random.below(1_000));
        let posting: Vec<Posting> = match number % 5 {
            0 => vec![prepay_posting(renter, POL, figure())],
            1 => vec![gas_posting(renter, 21_000, 30).unwrap()],
            2 => vec![
                lock_posting(&parties, amount(5_000)),
                release_posting(&parties, figure(), figure()),
            ],
            _ => {
                let (net, fee, refund) = (figure(), figure(), figure());
                let figures = ClosedFigures { net, fee, refund, pushed: number % 2 == 0 };
                vec![lock_posting(&parties, amount(5_000)), close_posting(&parties, &figures)]
            }
        };
        for (part, posting) in posting.into_iter().enumerate() {
            facts.push(Sourced { source: format!("fact {number}.{part}"), at, posting });
        }
    }
    facts
}

async fn post(house: &House, facts: Vec<Sourced>) -> u64 {
    house
        .store
        .write("post", move |tx| {
            let facts = facts.clone();
            Box::pin(async move { Ok::<_, TxError<StoreError>>(ledger::post(tx, &facts).await?) })
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn opening_and_entries_make_closing_and_pages_join_to_the_whole() {
    let house = House::new().await;
    let mut random = Random(7);
    let facts = facts(&mut random, &house);
    let fresh = u64::try_from(facts.len()).unwrap();
    assert_eq!(post(&house, facts.clone()).await, fresh);
    // posted once, also if a batch names a fact twice
    assert_eq!(post(&house, [facts.clone(), facts.clone()].concat()).await, 0);
    let first = house.order.now;
    let span = facts.last().unwrap().at.get() - first.get() + 2;
    let mut connection = house.store.read().await.unwrap();
    for case in 0..CASES {
        let byte = u8::try_from(1 + case % 3).unwrap();
        let owner = Address::repeat_byte(byte);
        let fresh = domain::id::AccountId::from_uuid(Uuid::now_v7());
        let account =
            accounts::find_or_create(&mut connection, fresh, owner, first).await.unwrap().id;
        let holder = Holder { owner, account: Some(account) };
        let (from, to) = (random.below(span), random.below(span));
        let part = Part {
            token: POL,
            from: UnixSeconds(first.get() + from.min(to)),
            to: UnixSeconds(first.get() + from.max(to)),
            after: None,
            limit: 100_000,
        };
        let whole = ledger::statement(&mut connection, &holder, &part).await.unwrap();
        assert_adds_up(&whole, true);
        let own = |account: &LedgerAccount| {
            account.owner == Some(owner)
                || (owner == house.order.renter
                    && account.escrow_id == Some(house.rental.escrow_id))
        };
        let by_hand = |before: UnixSeconds| -> I256 {
            let mut sum = house_lock(&house, owner, before);
            for transfer in
                facts.iter().filter(|f| f.at < before).flat_map(|f| &f.posting.transfers)
            {
                let moved = I256::try_from(transfer.amount.get()).unwrap();
                sum += if own(&transfer.credit) { moved } else { I256::ZERO };
                sum -= if own(&transfer.debit) { moved } else { I256::ZERO };
            }
            sum
        };
        assert_eq!((whole.opening, whole.closing), (by_hand(part.from), by_hand(part.to)));

        let mut pages = Vec::new();
        let mut part = Part { limit: i64::try_from(1 + random.below(9)).unwrap(), ..part };
        loop {
            let page = ledger::statement(&mut connection, &holder, &part).await.unwrap();
            assert_eq!((page.opening, page.closing), (whole.opening, whole.closing));
            let Some(last) = page.entries.last() else { break };
            part.after = Some(last.place);
            pages.extend(page.entries);
        }
        assert_eq!(pages, whole.entries);
        let places: BTreeSet<_> = pages.iter().map(|entry| entry.place).collect();
        assert_eq!(places.len(), pages.len());
    }
}

/// The fixture's own lock of 1,000, which is the renter's.
fn house_lock(house: &House, owner: Address, before: UnixSeconds) -> I256 {
    let counts = owner == house.order.renter && house.order.now < before;
    if counts { I256::try_from(1_000).unwrap() } else { I256::ZERO }
}

fn assert_adds_up(statement: &Statement, whole: bool) {
    let mut balance = statement.opening;
    for entry in &statement.entries {
        balance += entry.amount;
        assert_eq!(entry.balance, balance, "{entry:?}");
    }
    if whole {
        assert_eq!(balance, statement.closing);
    }
}

#[tokio::test]
async fn the_database_sums_as_the_domain_does() {
    let house = House::new().await;
    let facts = facts(&mut Random(11), &house);
    post(&house, facts.clone()).await;
    let mut connection = house.store.read().await.unwrap();
    let mut touched = BTreeSet::new();
    let mut sums = std::collections::BTreeMap::<LedgerAccount, i128>::new();
    for transfer in facts.iter().flat_map(|fact| &fact.posting.transfers) {
        let moved = i128::try_from(transfer.amount.get()).unwrap();
        *sums.entry(transfer.debit).or_default() -= moved;
        *sums.entry(transfer.credit).or_default() += moved;
        touched.extend([transfer.debit, transfer.credit]);
    }
    assert_eq!(sums.values().sum::<i128>(), 0);
    for account in touched {
        let fixture = i128::from(account.escrow_id == Some(house.rental.escrow_id)) * 1_000;
        let expected = sums[&account] + fixture;
        if expected >= 0 {
            let stored = ledger::balance_of(&mut connection, &account).await.unwrap();
            assert_eq!(i128::try_from(stored.get()).unwrap(), expected, "{account:?}");
        }
    }
    assert_eq!(Balances::default().sum(POL), Some(0));
}
