#![allow(clippy::arithmetic_side_effects)] // a test stops at the first surprise

use alloy::primitives::Uint;
use serde_json::json;

use super::*;
use crate::{
    Outcome, Terms,
    quote::{self, Fx, Line, Order},
    reading, terms_hash,
};

const CHAIN: u64 = 31_337;
const ESCROW: Address = Address::repeat_byte(0xe5);
const START: u64 = 1_800_000_060;

/// A platform and a machine, and a receipt between them.
struct Sample {
    platform: PrivateKeySigner,
    agent: PrivateKeySigner,
    receipt: Receipt,
}

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

fn at(second: u64) -> UnixSeconds {
    UnixSeconds(START + second)
}

fn terms() -> Terms {
    Terms {
        renter: Address::repeat_byte(1),
        provider: Address::repeat_byte(2),
        token: Address::repeat_byte(3),
        pricePerHour: Uint::from(650_000),
        feeBps: 1_200,
        startBy: Uint::from(START + 600),
        holdback: 10,
        orderHash: B256::repeat_byte(7),
    }
}

fn id() -> B256 {
    terms_hash(&terms(), &crate::domain(CHAIN, ESCROW))
}

fn promise() -> Quote {
    let line = |kind: &str, max| Line {
        kind: kind.to_owned(),
        unit: "gpu_hour".to_owned(),
        unitPrice: max,
        quantity: 3_600,
        max,
    };
    Quote {
        id: "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
        order: Order {
            offer: "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
            offerVersion: 3,
            machine: "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
            gpuModel: "rtx-4090".to_owned(),
            gpuCount: 1,
            durationSecs: 3_600,
            diskGb: 0,
            upGb: 0,
            downGb: 0,
            template: String::new(),
        },
        lines: vec![line("compute", 700_000), line("reserved_discount", -50_000)],
        usdPerHour: 650_000,
        usdMax: 650_000,
        rental: id(),
        terms: (&terms()).into(),
        deposit: Uint::from(650_000),
        fx: Fx {
            usdPerToken: 1_000_000,
            source: "fixed".to_owned(),
            pricedAt: Uint::from(START - 100),
        },
        createdAt: Uint::from(START - 90),
        expiresAt: Uint::from(START + 30),
        readySecs: 300,
        noticeSecs: 120,
        refundRule: quote::refund_rule(),
    }
}

fn event(block: u64, second: u64, said: EscrowEvent) -> ChainEvent {
    let tx = B256::repeat_byte(u8::try_from(block).unwrap());
    ChainEvent { tx, block, at: at(second), log: 3, said }
}

fn locked() -> ChainEvent {
    let said = EscrowEvent::Locked {
        id: id(),
        renter: terms().renter,
        provider: terms().provider,
        token: terms().token,
        deposit: units(650_000),
        prepaid: false,
    };
    ChainEvent { at: UnixSeconds(START - 20), ..event(10, 0, said) }
}

fn started() -> ChainEvent {
    event(12, 5, EscrowEvent::Started { id: id(), started_at: at(0) })
}

fn closed(outcome: Outcome, billed: u32, paid: [u128; 3]) -> EscrowEvent {
    let [net, fee, refund] = paid.map(units);
    EscrowEvent::Closed {
        id: id(),
        outcome,
        billed: Seconds(billed),
        net,
        fee,
        refund,
        pushed: true,
    }
}

impl Sample {
    fn new() -> Self {
        let (platform, agent) = (PrivateKeySigner::random(), PrivateKeySigner::random());
        let domain = quote::domain(CHAIN, ESCROW);
        let signature = quote::sign(&promise(), &platform, &domain).unwrap();
        let receipt = Receipt {
            format: FORMAT.to_owned(),
            chain_id: CHAIN,
            escrow: ESCROW,
            rental: "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f".to_owned(),
            quote: SignedQuote {
                message: (&promise()).into(),
                signer: platform.address(),
                signature: signature.to_vec().into(),
            },
            readings: Readings { agent: None, count: 0, root: B256::ZERO, items: Vec::new() },
            metered: Some(Metered {
                window: Interval::new(at(0), at(40)),
                elapsed: Seconds(40),
                covered: Seconds(30),
                outages: vec![Interval::new(at(20), at(30))],
                left_out: None,
            }),
            // floor(30 * 650,000 / 3,600) = 5,416; 12 % of it = 649
            events: vec![
                locked(),
                started(),
                event(20, 45, closed(Outcome::ClosedByOperator, 30, [4_767, 649, 644_584])),
            ],
            totals: totals(30, [4_767, 649, 644_584]),
            seal: Seal::default(),
        };
        let mut sample = Self { platform, agent, receipt };
        sample.read(0, 20);
        sample.read(30, 40);
        sample.seal();
        sample
    }

    /// Appends a reading of the agent's.
    fn read(&mut self, from: u64, to: u64) {
        let readings = &mut self.receipt.readings;
        readings.count += 1;
        readings.agent = Some(self.agent.address());
        let mut item = Item {
            seq: readings.count,
            from: at(from),
            to: at(to),
            detail: json!({"gpus": [{"util": 97, "mem_mb": 20_480}]}),
            prev_hash: readings.root,
            signature: Bytes::new(),
        };
        let domain = crate::domain(CHAIN, ESCROW);
        let signed = reading::Reading {
            rental: id(),
            seq: item.seq,
            from: item.from.get(),
            to: item.to.get(),
            detailHash: reading::detail_hash(&item.detail),
            prevHash: item.prev_hash,
        };
        item.signature = reading::sign(&signed, &self.agent, &domain).unwrap().to_vec().into();
        readings.root = hash_of(&item, id(), CHAIN, ESCROW);
        readings.items.push(item);
    }

    fn seal(&mut self) {
        self.receipt.seal(&self.platform).unwrap();
    }

    /// What a stranger finds in what the platform sealed.
    fn judged(&mut self) -> Result<Proven, Vec<Fault>> {
        self.seal();
        let read = read(self.receipt.text().as_bytes()).map_err(|fault| vec![fault])?;
        verify(&read, None, &[self.platform.address()])
    }

    /// The same rental with another end.
    fn ending(events: Vec<ChainEvent>, totals: Totals) -> Self {
        let mut sample = Self::new();
        sample.receipt.events.truncate(2);
        sample.receipt.events.extend(events);
        sample.receipt.totals = totals;
        sample
    }

    fn pointer(&mut self) -> String {
        let faults = self.judged().unwrap_err();
        faults.first().unwrap().pointer.clone()
    }
}

fn totals(billed: u32, paid: [u128; 3]) -> Totals {
    let [provider, fee, refund] = paid.map(units);
    Totals { deposit: units(650_000), billed: Seconds(billed), provider, fee, refund }
}

#[test]
fn a_true_receipt_is_proven() {
    let mut sample = Sample::new();
    let proven = sample.judged().unwrap();
    assert_eq!((proven.id, proven.readings), (id(), 2));
    assert_eq!(proven.platform, [sample.platform.address()]);
    assert_eq!(proven.terms, terms());
    // whoever knows another key as the platform's is not satisfied
    let other = verify(&sample.receipt, None, &[Address::repeat_byte(9)]).unwrap_err();
    let pointers: Vec<&str> = other.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(pointers, ["/quote/signer", "/seal/signer"]);
}

#[test]
fn no_byte_can_be_changed_added_or_left_out() {
    let sample = Sample::new();
    let good = sample.receipt.text().into_bytes();
    assert!(verify(&read(&good).unwrap(), None, &[]).is_ok());
    let holds = |bytes: &[u8]| read(bytes).is_ok_and(|read| verify(&read, None, &[]).is_ok());
    for place in 0..good.len() {
        let byte = good[place];
        let mut bad = good.clone();
        for other in [byte ^ 0x01, byte ^ 0x20, b'7'] {
            if other != byte {
                bad[place] = other;
                let text = String::from_utf8_lossy(&bad[..=place]).into_owned();
                assert!(!holds(&bad), "byte {place} as {other:#x} is not noticed: {text}");
            }
        }
        let mut shorter = good.clone();
        shorter.remove(place);
        assert!(!holds(&shorter), "byte {place} can be left out");
        let mut longer = good.clone();
        longer.insert(place, b' ');
        assert!(!holds(&longer), "a space before byte {place} is not noticed");
    }
    assert!(!holds(&[&good[..], b"\n"].concat()), "a byte after the end is not noticed");
}

/// Another value in the place of one that stands for itself.
fn another(value: &Value) -> Option<Value> {
    match value {
        Value::Number(number) => Some(json!(number.as_u64()? + 1)),
        Value::Bool(flag) => Some(json!(!flag)),
        Value::String(text) => {
            if let Ok(number) = text.parse::<i64>() {
                return Some(json!((number + 1).to_string()));
            }
            if let (true, Some(last)) = (text.starts_with("0x"), text.chars().last()) {
                let other = if last == '5' { '6' } else { '5' };
                return Some(json!(format!("{}{other}", &text[..text.len() - 1])));
            }
            Some(json!(format!("{text}x")))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), found));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(n, value)| leaves(value, &format!("{at}/{n}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.push(at.to_owned());
        }
    }
}

/// What only the platform says, as long as the chain is not asked.
const THE_PLATFORMS_WORD: [&str; 17] = [
    "/events/0/at",
    "/events/0/block",
    "/events/0/log",
    "/events/0/said/prepaid",
    "/events/0/tx",
    "/events/1/at",
    "/events/1/block",
    "/events/1/log",
    "/events/1/tx",
    "/events/2/at",
    "/events/2/block",
    "/events/2/log",
    "/events/2/said/pushed",
    "/events/2/tx",
    "/rental",
    // what it says about itself when it seals
    "/seal/signature",
    "/seal/signer",
];

#[test]
fn a_platform_that_lies_is_found_out_wherever_it_is_not_alone_in_knowing() {
    let sample = Sample::new();
    let good = serde_json::to_value(&sample.receipt).unwrap();
    let mut all = Vec::new();
    leaves(&good, "", &mut all);
    assert!(all.len() > 90, "{}", all.len());
    let mut unnoticed = Vec::new();
    for pointer in all {
        let mut bad = good.clone();
        let place = bad.pointer_mut(&pointer).unwrap();
        let Some(other) = another(place) else { continue };
        *place = other;
        let Ok(receipt) = serde_json::from_value::<Receipt>(bad) else { continue };
        let mut liar = Sample { receipt, ..Sample::new() };
        liar.platform = sample.platform.clone();
        if liar.judged().is_ok() {
            unnoticed.push(pointer);
        }
    }
    assert_eq!(unnoticed, THE_PLATFORMS_WORD);
}

#[test]
fn evidence_is_a_chain_of_the_machines_own() {
    let mut sample = Sample::new();
    sample.receipt.readings.items.remove(0);
    assert_eq!(sample.pointer(), "/readings/items/0/seq");

    let mut sample = Sample::new();
    let stranger = PrivateKeySigner::random();
    sample.receipt.readings.agent = Some(stranger.address());
    assert_eq!(sample.pointer(), "/readings/items/0/signature");

    let mut sample = Sample::new();
    sample.receipt.readings.items.pop();
    assert_eq!(sample.pointer(), "/readings/count");

    // a long chain is given apart
    let mut sample = Sample::new();
    let items = std::mem::take(&mut sample.receipt.readings.items);
    assert_eq!(sample.pointer(), "/readings/count");
    verify(&sample.receipt, Some(&items), &[]).unwrap();
    verify(&sample.receipt, Some(&items[..1]), &[]).unwrap_err();
}

#[test]
fn more_is_not_billed_than_the_evidence_and_the_clock_allow() {
    // 40 s by the chain, though readings cover 30
    let paid = [6_356, 866, 642_778];
    let close = |outcome| event(20, 45, closed(outcome, 40, paid));
    let mut sample = Sample::ending(vec![close(Outcome::ClosedByOperator)], totals(40, paid));
    assert_eq!(sample.pointer(), "/events/2/said/billed");
    // what both sides agreed on is theirs to say
    let mut sample = Sample::ending(vec![close(Outcome::Agreed)], totals(40, paid));
    sample.judged().unwrap();
    // a stop is billed by the clock of its block
    let mut sample = Sample::ending(vec![close(Outcome::StoppedByRenter)], totals(40, paid));
    assert_eq!(sample.pointer(), "/events/2/said/billed");
    sample.receipt.events[2].at = at(40);
    sample.judged().unwrap();
    // a unit to the wrong side
    let paid = [4_768, 648, 644_584];
    let close = event(20, 45, closed(Outcome::ClosedByOperator, 30, paid));
    let mut sample = Sample::ending(vec![close], totals(30, paid));
    assert_eq!(sample.pointer(), "/events/2/said/net");
}

/// Contested by the operator: of 40 s the last 10 are an outage's, and the 10 before may be disputed.
fn held() -> ChainEvent {
    // 20 s are paid: gross 3,611, fee 433; 40 s are on the clock: gross 7,222
    let said = EscrowEvent::Contested {
        id: id(),
        outcome: Outcome::ClosedByOperator,
        settled: Seconds(20),
        held: Seconds(20),
        claim: Seconds(10),
        deadline: at(86_500),
        renter_disputes: false,
        net: units(3_178),
        fee: units(433),
        refund: units(642_778),
        pushed: true,
    };
    event(20, 45, said)
}

#[test]
fn held_seconds_go_where_their_rule_says() {
    let last = |outcome, billed, paid| event(30, 90_000, closed(outcome, billed, paid));
    let disputed = |by| {
        let deadline = at(1_000_000);
        event(25, 60, EscrowEvent::Disputed { id: id(), by, deadline })
    };
    // undisputed: the claim is the provider's, the credit the renter's
    let undisputed = last(Outcome::Undisputed, 30, [1_589, 216, 1_806]);
    let whole = totals(30, [4_767, 649, 644_584]);
    Sample::ending(vec![held(), undisputed.clone()], whole).judged().unwrap();
    // disputed, it cannot be undisputed
    let events = vec![held(), disputed(terms().provider), undisputed];
    assert_eq!(Sample::ending(events, whole).pointer(), "/events/4/said/billed");
    // the arbiter said nothing to the provider's dispute: the clock
    let clock = last(Outcome::Defaulted, 40, [3_178, 433, 0]);
    let events = vec![held(), disputed(terms().provider), clock.clone()];
    Sample::ending(events, totals(40, [6_356, 866, 642_778])).judged().unwrap();
    // to the renter's: as if nobody had
    let events = vec![held(), disputed(terms().renter), clock];
    let mut wrong = Sample::ending(events, totals(40, [6_356, 866, 642_778]));
    assert_eq!(wrong.pointer(), "/events/4/said/billed");
    // the arbiter decided
    let resolved = last(Outcome::Resolved, 25, [794, 108, 2_709]);
    let events = vec![held(), disputed(terms().renter), resolved.clone()];
    let whole = totals(25, [3_972, 541, 645_487]);
    Sample::ending(events, whole).judged().unwrap();
    // but not of what the renter left to the provider
    let events = vec![held(), disputed(terms().provider), resolved];
    assert_eq!(Sample::ending(events, whole).pointer(), "/events/4/said/billed");
    // nor of what the provider left to the renter
    let resolved = last(Outcome::Resolved, 35, [2_383, 325, 903]);
    let whole = totals(35, [5_561, 758, 643_681]);
    let events = vec![held(), disputed(terms().renter), resolved.clone()];
    assert_eq!(Sample::ending(events, whole).pointer(), "/events/4/said/billed");
    let events = vec![held(), disputed(terms().provider), resolved];
    Sample::ending(events, whole).judged().unwrap();
    // a stranger is no side
    let events = vec![held(), disputed(Address::repeat_byte(9))];
    assert_eq!(Sample::ending(events, whole).pointer(), "/events/3/said/by");
}

#[test]
fn an_operators_end_lies_within_its_block() {
    // the readings speak of 20 s after the block that ended it
    let mut sample = Sample::new();
    sample.receipt.events[2].at = at(20);
    assert_eq!(sample.pointer(), "/events/2/said/billed");
    sample.receipt.events[2].at = at(39);
    assert_eq!(sample.pointer(), "/metered/window/to");
    sample.receipt.events[2].at = at(40);
    sample.judged().unwrap();
}

/// Readings of a second with a second after each, and what they come to.
fn stuttering(count: u64) -> (Vec<Item>, Metered) {
    let item = |n: u64| Item {
        seq: n + 1,
        from: at(2 * n),
        to: at(2 * n + 1),
        detail: json!({}),
        prev_hash: B256::ZERO,
        signature: Bytes::new(),
    };
    let gap = |n: u64| Interval::new(at(2 * n + 1), at(2 * n + 2));
    let seconds = u32::try_from(count).unwrap();
    let metered = Metered {
        window: Interval::new(at(0), at(2 * count)),
        elapsed: Seconds(2 * seconds),
        covered: Seconds(seconds),
        outages: (0..count).map(gap).collect(),
        left_out: None,
    };
    ((0..count).map(item).collect(), metered)
}

#[test]
fn outages_without_end_are_counted_and_not_listed() {
    let rate = domain::rate::TokenRate::new(units(650_000)).unwrap();
    let judged = |metered: &Metered, items: &[Item]| {
        let funded = (units(65_000_000), rate);
        check::time(metered, items, Some(at(0)), funded).map_err(|fault| fault.pointer)
    };
    let (items, listed) = stuttering(10_002);
    // a receipt from before that lists them is as good as it was
    assert_eq!(judged(&listed, &items), Ok(()));
    let left_out = |count| Metered { outages: Vec::new(), left_out: Some(count), ..listed.clone() };
    assert_eq!(judged(&left_out(10_002), &items), Ok(()));
    assert_eq!(judged(&left_out(10_003), &items), Err("/metered/left_out".to_owned()));
    let silent = Metered { left_out: None, ..left_out(0) };
    assert_eq!(judged(&silent, &items), Err("/metered/outages".to_owned()));
    let both = Metered { left_out: Some(10_002), ..listed.clone() };
    assert_eq!(judged(&both, &items), Err("/metered/outages".to_owned()));
    // what can be listed is
    let (items, listed) = stuttering(u64::from(MAX_OUTAGES));
    let silent = Metered { outages: Vec::new(), left_out: Some(10_001), ..listed.clone() };
    assert_eq!(judged(&silent, &items), Err("/metered/left_out".to_owned()));
    assert_eq!(judged(&listed, &items), Ok(()));
}

#[test]
fn a_receipt_says_what_it_leaves_out_and_nothing_where_it_lists_them() {
    let mut sample = Sample::new();
    assert!(!sample.receipt.text().contains("left_out"));
    if let Some(metered) = &mut sample.receipt.metered {
        metered.left_out = Some(1);
    }
    assert_eq!(sample.pointer(), "/metered/left_out");
    let text = sample.receipt.text();
    assert_eq!(read(text.as_bytes()), Ok(sample.receipt.clone()));
    let fault = read(text.replace("\"left_out\":1", "\"left_out\":null").as_bytes()).unwrap_err();
    assert!(fault.to_string().contains("one form"), "{fault}");
}

#[test]
fn what_never_started_goes_back_whole() {
    let paid = [0, 0, 650_000];
    let mut sample = Sample::new();
    sample.receipt.events.truncate(1);
    sample.receipt.events.push(event(20, 45, closed(Outcome::Cancelled, 0, paid)));
    sample.receipt.totals = totals(0, paid);
    sample.receipt.metered = None;
    sample.receipt.readings =
        Readings { agent: None, count: 0, root: B256::ZERO, items: Vec::new() };
    sample.judged().unwrap();
    sample.receipt.events.pop();
    assert_eq!(sample.pointer(), "/events");
}

#[test]
fn releases_and_top_ups_are_part_of_the_sum() {
    let more = EscrowEvent::ToppedUp {
        id: id(),
        from: Address::repeat_byte(9),
        amount: units(50_000),
        deposit: units(700_000),
    };
    // 10 s: gross 1,805, fee 216
    let released = EscrowEvent::Released {
        id: id(),
        settled: Seconds(10),
        net: units(1_589),
        fee: units(216),
    };
    let end = closed(Outcome::ClosedByOperator, 30, [3_178, 433, 694_584]);
    let events = vec![event(14, 10, more), event(15, 20, released), event(20, 45, end)];
    let sum = Totals { deposit: units(700_000), ..totals(30, [4_767, 649, 694_584]) };
    Sample::ending(events, sum).judged().unwrap();
}

#[test]
fn one_form_only() {
    let sample = Sample::new();
    let text = sample.receipt.text();
    let fault = read(text.replacen(':', ": ", 1).as_bytes()).unwrap_err();
    assert!(fault.to_string().contains("one form"), "{fault}");
    let fault = read(text.replace("weir-receipt-1", "weir-receipt-2").as_bytes()).unwrap_err();
    assert_eq!(fault.pointer, "/format");
    let fault = read(text.replace("\"count\":2", "\"count\":\"2\"").as_bytes()).unwrap_err();
    assert_eq!(fault.pointer, "/readings/count");
    // the quote's message is what wallets are shown
    let shown = crate::typed_data::quote(&promise(), &quote::domain(CHAIN, ESCROW));
    let shown = serde_json::to_value(shown).unwrap();
    assert_eq!(serde_json::to_value(&sample.receipt.quote.message).unwrap(), shown["message"]);
}
