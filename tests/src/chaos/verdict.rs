//! Who has what: read from the chain by raw JSON-RPC, and held against the ledger, the rentals and what the
//! parties saw. Every unit of every rental, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, LogData, U256},
    sol_types::{SolCall as _, SolEventInterface as _},
};
use escrow::bindings::{
    Escrow::{self, EscrowEvents},
    TestUSDC,
};
use serde_json::json;
use sqlx::Row as _;

use super::{
    record::{Note, Record},
    rpc::{Rpc, number},
    world::World,
};
use crate::{booking::POL, market::people, references::REFERENCES};

/// What the chain says of one rental.
#[derive(Clone, Debug, Default)]
struct Fate {
    locked: u128,
    locks: u32,
    net: u128,
    fee: u128,
    refund: u128,
    started: Vec<u64>,
    contests: u32,
    closes: u32,
    billed: u64,
}

/// How many ended how, and all that is wrong.
#[derive(Debug, Default)]
pub struct Verdict {
    pub states: BTreeMap<String, u64>,
    pub failures: Vec<String>,
}

/// Waits until everything is final and applied, then judges.
pub async fn judge(world: &World, record: &Record) -> Verdict {
    let mut verdict = Verdict::default();
    if let Err(why) = rest(world).await {
        verdict.failures.push(why);
    }
    let fates = read(world).await;
    let notes = seen(record, &mut verdict);
    for (id, note) in &notes {
        *verdict.states.entry(note.state.clone()).or_default() += 1;
        let fate = fates.get(&note.escrow_id).cloned().unwrap_or_default();
        money(id, note, &fate, &mut verdict.failures);
        evidence(id, note, &fate, &mut verdict.failures);
    }
    let known: BTreeSet<B256> = notes.values().map(|note| note.escrow_id).collect();
    for id in fates.keys().filter(|id| !known.contains(*id)) {
        verdict.failures.push(format!("{id} is on the chain and nobody booked it"));
    }
    alone(&notes, &fates, &mut verdict.failures);
    rows(world, &notes, &fates, &mut verdict.failures).await;
    ledger(world, &notes, &mut verdict.failures).await;
    transactions(world, &mut verdict.failures).await;
    for (wrong, query) in REFERENCES {
        let found = world.number(query).await;
        if found != 0 {
            verdict.failures.push(format!("{wrong}: {found} times"));
        }
    }
    verdict
}

/// Everything on the chain is final, and the service has applied it all.
async fn rest(world: &World) -> Result<(), String> {
    let target = world.rpc.head().await;
    for _ in 0..1_200 {
        let applied = world.number("SELECT count(*) FROM chain_events WHERE NOT applied").await;
        let read =
            world.number("SELECT coalesce(max(number), 0) FROM chain_blocks WHERE final").await;
        let open = world
            .number(
                "SELECT count(*) FROM chain_txs WHERE state NOT IN ('final_ok', 'final_reverted', 'voided')",
            )
            .await;
        if applied == 0 && open == 0 && read >= i64::try_from(target).unwrap() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let open = world.number("SELECT count(*) FROM chain_txs WHERE state NOT IN ('final_ok', 'final_reverted', 'voided')").await;
    let waiting = world.number("SELECT count(*) FROM chain_events WHERE NOT applied").await;
    Err(format!("not at rest: {open} transactions open, {waiting} events not applied"))
}

async fn read(world: &World) -> BTreeMap<B256, Fate> {
    let filter = json!([{ "address": world.escrow, "fromBlock": "0x0", "toBlock": "latest" }]);
    let logs = world.rpc.call("eth_getLogs", filter).await;
    let mut fates: BTreeMap<B256, Fate> = BTreeMap::new();
    for log in logs.as_array().unwrap() {
        let topics: Vec<B256> = serde_json::from_value(log["topics"].clone()).unwrap();
        let data = serde_json::from_value(log["data"].clone()).unwrap();
        let data = LogData::new(topics, data).unwrap();
        match EscrowEvents::decode_raw_log(data.topics(), &data.data).unwrap() {
            EscrowEvents::Locked(event) => {
                let fate = fates.entry(event.id).or_default();
                fate.locked += event.deposit.to::<u128>();
                fate.locks += 1;
            }
            EscrowEvents::Started(event) => {
                fates.entry(event.id).or_default().started.push(event.startedAt.to());
            }
            EscrowEvents::Contested(event) => {
                let fate = fates.entry(event.id).or_default();
                fate.contests += 1;
                fate.net += event.net.to::<u128>();
                fate.fee += event.fee.to::<u128>();
                fate.refund += event.refund.to::<u128>();
            }
            EscrowEvents::Closed(event) => {
                let fate = fates.entry(event.id).or_default();
                fate.closes += 1;
                fate.billed += u64::from(event.billedSecs);
                fate.net += event.net.to::<u128>();
                fate.fee += event.fee.to::<u128>();
                fate.refund += event.refund.to::<u128>();
            }
            EscrowEvents::ToppedUp(event) => {
                fates.entry(event.id).or_default().locked += event.amount.to::<u128>();
            }
            EscrowEvents::Released(event) => {
                let fate = fates.entry(event.id).or_default();
                fate.net += event.net.to::<u128>();
                fate.fee += event.fee.to::<u128>();
            }
            EscrowEvents::AgentSet(_)
            | EscrowEvents::ArbiterSet(_)
            | EscrowEvents::ChangeCancelled(_)
            | EscrowEvents::ChangeScheduled(_)
            | EscrowEvents::Credited(_)
            | EscrowEvents::Disputed(_)
            | EscrowEvents::EIP712DomainChanged(_)
            | EscrowEvents::GuardianSet(_)
            | EscrowEvents::NonceUsed(_)
            | EscrowEvents::OperatorSet(_)
            | EscrowEvents::OwnershipTransferStarted(_)
            | EscrowEvents::OwnershipTransferred(_)
            | EscrowEvents::Prepaid(_)
            | EscrowEvents::Skipped(_)
            | EscrowEvents::TokenListed(_)
            | EscrowEvents::TokenPaused(_)
            | EscrowEvents::TreasurySet(_)
            | EscrowEvents::Withdrawn(_) => {}
        }
    }
    fates
}

/// Ended, once, and the parts are the whole; the parts are those of the seconds billed.
fn money(id: &str, note: &Note, fate: &Fate, failures: &mut Vec<String>) {
    let mut fail = |what: String| failures.push(format!("{id} ({}): {what}", note.state));
    if fate.locks == 0 {
        if !matches!(note.state.as_str(), "expired" | "cancelled" | "start_failed") {
            fail("it has no lock on the chain".to_owned());
        }
        return;
    }
    if !matches!(note.state.as_str(), "settled" | "resolved" | "refunded") {
        fail("it did not end".to_owned());
    }
    if (fate.locks, fate.closes) != (1, 1) {
        fail(format!("{} locks and {} closes", fate.locks, fate.closes));
    }
    if fate.locked != note.deposit {
        fail(format!("{} are locked, {} were agreed", fate.locked, note.deposit));
    }
    if fate.net + fate.fee + fate.refund != note.deposit {
        fail(format!("{fate:?} does not add up to {}", note.deposit));
    }
    // worked out here, by the rule in the contract's own words
    let gross = (u128::from(fate.billed) * note.rate / 3_600).min(note.deposit);
    let fee = gross * note.fee_bps / 10_000;
    if (fate.net, fate.fee) != (gross - fee, fee) {
        fail(format!("{fate:?} is not the price of {} s", fate.billed));
    }
}

/// Nothing is billed before the machine was ready, or beyond what it claimed.
fn evidence(id: &str, note: &Note, fate: &Fate, failures: &mut Vec<String>) {
    if fate.billed == 0 {
        return;
    }
    let Some(ready) = note.ready_at else {
        failures.push(format!("{id}: billed, and its machine was never ready"));
        return;
    };
    if fate.started.iter().any(|started| *started < ready) {
        failures.push(format!("{id}: started {:?}, ready {ready}", fate.started));
    }
    // what was started is billed a second at least
    let claimed = union(&note.claimed).max(1);
    if fate.billed > claimed {
        failures.push(format!("{id}: {} s billed, {claimed} s claimed", fate.billed));
    }
}

/// How many seconds the spans cover together.
fn union(spans: &[(u64, u64)]) -> u64 {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    let (mut covered, mut end) = (0, 0);
    for (from, to) in spans {
        covered += to.saturating_sub(from.max(end));
        end = end.max(to);
    }
    covered
}

/// No GPU is billed to two renters at once.
fn alone(notes: &BTreeMap<String, Note>, fates: &BTreeMap<B256, Fate>, failures: &mut Vec<String>) {
    let mut uses: BTreeMap<&str, Vec<(u64, u64, &str)>> = BTreeMap::new();
    for (id, note) in notes {
        let Some(fate) = fates.get(&note.escrow_id) else { continue };
        if let (Some(started), true) = (fate.started.last(), fate.billed > 0) {
            uses.entry(&note.machine).or_default().push((*started, started + fate.billed, id));
        }
    }
    for (machine, mut spans) in uses {
        spans.sort_unstable();
        for pair in spans.windows(2) {
            if pair[1].0 < pair[0].1 {
                failures.push(format!("{machine} was rented twice at once: {pair:?}"));
            }
        }
    }
}

/// The parties' record, and what they complained of.
fn seen(record: &Record, verdict: &mut Verdict) -> BTreeMap<String, Note> {
    let pages = record.pages();
    verdict.failures.extend(pages.complaints.iter().cloned());
    pages.rentals.clone()
}

/// The rentals' own figures are the chain's, and there is no rental that nobody knows of.
async fn rows(
    world: &World,
    notes: &BTreeMap<String, Note>,
    fates: &BTreeMap<B256, Fate>,
    failures: &mut Vec<String>,
) {
    let query = "SELECT escrow_id, state, locked::text, paid_provider::text, paid_fee::text, paid_refund::text, \
                 coalesce(billed_s, 0) FROM rentals";
    let rows = sqlx::query(query).fetch_all(&world.db).await.unwrap();
    let known: BTreeMap<B256, &String> =
        notes.iter().map(|(id, note)| (note.escrow_id, id)).collect();
    if rows.len() != notes.len() {
        failures.push(format!("{} rentals are kept, {} were booked", rows.len(), notes.len()));
    }
    for row in rows {
        let id = B256::from_slice(row.get::<&[u8], _>(0));
        let state: String = row.get(1);
        let money = |at: usize| -> u128 { row.get::<String, _>(at).parse().unwrap() };
        let Some(name) = known.get(&id) else {
            failures.push(format!("{id} is kept and nobody booked it"));
            continue;
        };
        let terminal =
            ["settled", "resolved", "refunded", "expired", "cancelled"].contains(&&*state);
        if !terminal {
            failures.push(format!("{name} is still {state}"));
        }
        let fate = fates.get(&id).cloned().unwrap_or_default();
        let billed: i64 = row.get(6);
        let kept = (money(2), money(3), money(4), money(5), u64::try_from(billed).unwrap());
        if kept != (fate.locked, fate.net, fate.fee, fate.refund, fate.billed) {
            failures.push(format!("{name}: kept {kept:?}, on the chain {fate:?}"));
        }
    }
}

async fn kept(rpc: &Rpc, escrow: Address, account: Address, token: Address) -> U256 {
    let data = Escrow::balanceOfCall { account, token }.abi_encode();
    let call = json!([{ "to": escrow, "data": alloy::primitives::Bytes::from(data) }, "latest"]);
    serde_json::from_value(rpc.call("eth_call", call).await).unwrap()
}

async fn held(rpc: &Rpc, escrow: Address, token: Address) -> U256 {
    if token == POL {
        return serde_json::from_value(rpc.call("eth_getBalance", json!([escrow, "latest"])).await)
            .unwrap();
    }
    let data = TestUSDC::balanceOfCall { account: escrow }.abi_encode();
    let call = json!([{ "to": token, "data": alloy::primitives::Bytes::from(data) }, "latest"]);
    serde_json::from_value(rpc.call("eth_call", call).await).unwrap()
}

/// Every balance of the ledger is the contract's, no deposit is left, and the contract holds their sum.
async fn ledger(world: &World, notes: &BTreeMap<String, Note>, failures: &mut Vec<String>) {
    let query = "SELECT coalesce(owner, ''), token, sum(balance)::text FROM ledger_account_balances \
                 WHERE kind <> 'outside' GROUP BY 1, 2";
    let rows = sqlx::query(query).fetch_all(&world.db).await.unwrap();
    let mut books: BTreeMap<(Address, Address), U256> = BTreeMap::new();
    for row in rows {
        let owner: &[u8] = row.get(0);
        let token = Address::from_slice(row.get::<&[u8], _>(1));
        let balance: U256 = row.get::<String, _>(2).parse().unwrap();
        if owner.is_empty() {
            if !balance.is_zero() {
                failures.push(format!("the ledger still has {balance} of {token} in deposits"));
            }
        } else {
            books.insert((Address::from_slice(owner), token), balance);
        }
    }
    let mut owners: BTreeSet<Address> = notes.values().map(|note| note.provider).collect();
    owners.extend(notes.values().map(|note| note.renter));
    owners.extend([people::treasury()]);
    for token in [POL, world.usdc] {
        let mut sum = U256::ZERO;
        for owner in &owners {
            let on_chain = kept(&world.rpc, world.escrow, *owner, token).await;
            let in_books = books.get(&(*owner, token)).copied().unwrap_or_default();
            if on_chain != in_books {
                failures.push(format!("{owner}: {on_chain} on the chain, {in_books} in the books"));
            }
            sum += on_chain;
        }
        let all = held(&world.rpc, world.escrow, token).await;
        if all != sum {
            failures.push(format!("the contract holds {all} of {token}, its balances are {sum}"));
        }
    }
}

/// Every number of the operator's keys has its row, and no number was used for two things.
async fn transactions(world: &World, failures: &mut Vec<String>) {
    let query = "SELECT s.address, s.first_nonce, count(t.nonce), count(DISTINCT t.nonce) FROM chain_signers s \
                 LEFT JOIN chain_txs t ON t.signer = s.address GROUP BY s.address";
    for row in sqlx::query(query).fetch_all(&world.db).await.unwrap() {
        let signer = Address::from_slice(row.get::<&[u8], _>(0));
        let count = world.rpc.call("eth_getTransactionCount", json!([signer, "latest"])).await;
        let used = i64::try_from(number(&count)).unwrap() - row.get::<i64, _>(1);
        let (rows, distinct): (i64, i64) = (row.get(2), row.get(3));
        if (rows, distinct) != (used, used) {
            failures.push(format!("{signer} used {used} numbers, {rows} rows have {distinct}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_overlap_count_once() {
        assert_eq!(union(&[]), 0);
        assert_eq!(union(&[(5, 9), (0, 3), (2, 6)]), 9);
        assert_eq!(union(&[(0, 10), (2, 3), (10, 11)]), 11);
    }

    fn note(state: &str) -> Note {
        Note {
            escrow_id: B256::ZERO,
            renter: Address::ZERO,
            provider: Address::ZERO,
            machine: "m".to_owned(),
            token: POL,
            deposit: 3_600,
            rate: 3_600,
            fee_bps: 1_000,
            state: state.to_owned(),
            ready_at: Some(100),
            claimed: vec![(100, 120)],
        }
    }

    fn fair() -> Fate {
        Fate {
            locked: 3_600,
            locks: 1,
            net: 9,
            fee: 1,
            refund: 3_590,
            started: vec![100],
            closes: 1,
            billed: 10,
            ..Fate::default()
        }
    }

    fn failures(note: &Note, fate: &Fate) -> usize {
        let mut failures = Vec::new();
        money("r", note, fate, &mut failures);
        evidence("r", note, fate, &mut failures);
        failures.len()
    }

    #[test]
    fn a_unit_too_many_or_a_second_too_early_is_seen() {
        assert_eq!(failures(&note("settled"), &fair()), 0);
        let wrong: [fn(&mut Fate); 7] = [
            |fate| fate.refund += 1,
            |fate| fate.closes = 2,
            |fate| fate.locks = 2,
            |fate| fate.started[0] = 99,
            |fate| fate.billed = 21,
            |fate| (fate.net, fate.fee) = (10, 0),
            |fate| fate.locks = 0,
        ];
        for change in wrong {
            let mut fate = fair();
            change(&mut fate);
            assert!(failures(&note("settled"), &fate) > 0, "{fate:?}");
        }
        assert!(failures(&note("settling"), &fair()) > 0);
        let mut silent = note("settled");
        silent.claimed.clear();
        assert!(failures(&silent, &fair()) > 0);
        let second = Fate { net: 1, fee: 0, refund: 3_599, billed: 1, ..fair() };
        assert_eq!(failures(&silent, &second), 0);
        assert_eq!(failures(&note("expired"), &Fate::default()), 0);
    }

    #[test]
    fn one_gpu_for_two_is_seen() {
        let (mut one, mut two) = (note("settled"), note("settled"));
        one.escrow_id = B256::repeat_byte(1);
        two.escrow_id = B256::repeat_byte(2);
        let notes = BTreeMap::from([("a".to_owned(), one.clone()), ("b".to_owned(), two.clone())]);
        let at = |started| Fate { started: vec![started], ..fair() };
        let mut failures = Vec::new();
        let fates = BTreeMap::from([(one.escrow_id, at(100)), (two.escrow_id, at(110))]);
        alone(&notes, &fates, &mut failures);
        assert!(failures.is_empty(), "{failures:?}");
        let fates = BTreeMap::from([(one.escrow_id, at(100)), (two.escrow_id, at(109))]);
        alone(&notes, &fates, &mut failures);
        assert_eq!(failures.len(), 1);
    }
}
