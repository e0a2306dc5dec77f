//! Whatever is signed here, changed or signed by somebody else: a hundred thousand readings and ends, and as many
//! authorizations and agreed ends each, and ten thousand quotes. None is its signer's.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)] // a test stops at the first surprise

use alloy::{
    primitives::{Address, B256, U256},
    signers::local::PrivateKeySigner,
    sol_types::{Eip712Domain, SolStruct},
};
use domain::time::{Seconds, UnixSeconds};
use escrow::{
    domain,
    reading::{self, Reading},
    signed::{self, AgreedEnd, End, ReceiveWithAuthorization},
};

#[path = "forgeries/quotes.rs"]
mod quotes;

const SEED: u64 = 6_492;
/// Of each kind, and of each half of them.
const TRIES: u64 = 25_000;
/// The same of authorizations and agreed ends.
const HALF: u64 = 50_000;
/// What somebody else signed; each is offered often, as signing takes its time.
const BY_OTHERS: usize = 64;

/// The same numbers in every run (splitmix64).
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    fn word(&mut self) -> B256 {
        B256::from(U256::from_limbs([self.draw(), self.draw(), self.draw(), self.draw()]))
    }
}

/// The group's order.
fn order() -> U256 {
    let text = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    U256::from_str_radix(text, 16).unwrap()
}

/// Another signature than the one given, often close to it.
fn changed(signature: &[u8; 65], random: &mut Random) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    match random.below(9) {
        0 => bytes[random.below(64) as usize] ^= 1 << random.below(8),
        1 => {
            let at = random.below(64) as usize;
            bytes[at] = bytes[at].wrapping_add(1 + random.below(255) as u8);
        }
        // its second form: n - s, and the other parity
        2 => {
            let s = order() - U256::from_be_slice(&bytes[32..64]);
            bytes[32..64].copy_from_slice(&s.to_be_bytes::<32>());
            bytes[64] = if bytes[64] == 27 { 28 } else { 27 };
        }
        3 => bytes[64] = if bytes[64] == 27 { 28 } else { 27 },
        // what EIP-155 transactions have there, and whatever else fits into a byte
        4 => bytes[64] = 29 + random.below(227) as u8,
        5 => bytes.truncate(random.below(65) as usize),
        6 => bytes.extend((0..=random.below(40)).map(|_| 0)),
        7 => bytes.rotate_left(32),
        _ => bytes = (0..65).map(|_| random.draw() as u8).collect(),
    }
    bytes
}

fn other_domain(random: &mut Random) -> Eip712Domain {
    match random.below(2) {
        0 => domain(31_337 + 1 + random.below(1_000), Address::repeat_byte(1)),
        _ => domain(31_337, Address::from_word(random.word())),
    }
}

fn other_reading(good: &Reading, random: &mut Random) -> Reading {
    let mut reading = good.clone();
    let more = 1 + random.below(1_000_000);
    match random.below(6) {
        0 => reading.rental = random.word(),
        1 => reading.seq += more,
        2 => reading.from -= 1 + random.below(1_000),
        3 => reading.to += more,
        4 => reading.detailHash = random.word(),
        _ => reading.prevHash = random.word(),
    }
    reading
}

fn other_end(id: B256, random: &mut Random) -> End {
    let (at, credit) = (1_800_000_000, 60);
    match random.below(3) {
        0 => signed::end(random.word(), UnixSeconds(at), Seconds(credit)),
        1 => signed::end(id, UnixSeconds(at + 1 + random.below(1_000)), Seconds(credit)),
        _ => {
            let credit = credit + 1 + random.below(1_000) as u32;
            signed::end(id, UnixSeconds(at), Seconds(credit))
        }
    }
}

fn try_readings(seed: u64) {
    let mut random = Random(seed);
    let (key, other) = (PrivateKeySigner::random(), PrivateKeySigner::random());
    let place = domain(31_337, Address::repeat_byte(1));
    let good = Reading {
        rental: B256::repeat_byte(7),
        seq: 9,
        from: 1_800_000_000,
        to: 1_800_000_010,
        detailHash: B256::repeat_byte(2),
        prevHash: B256::repeat_byte(3),
    };
    let signature = reading::sign(&good, &key, &place).unwrap();
    assert_eq!(reading::recover(&good, &signature, &place), Ok(key.address()));
    let by_others: Vec<_> = (0..BY_OTHERS)
        .map(|_| {
            let reading = other_reading(&good, &mut random);
            let signature = reading::sign(&reading, &other, &place).unwrap();
            (reading, signature)
        })
        .collect();
    for n in 0..TRIES {
        let who = match random.below(4) {
            0 => reading::recover(&good, &changed(&signature, &mut random), &place),
            1 => reading::recover(&other_reading(&good, &mut random), &signature, &place),
            2 => reading::recover(&good, &signature, &other_domain(&mut random)),
            _ => {
                let (reading, by_other) = &by_others[random.below(BY_OTHERS as u64) as usize];
                reading::recover(reading, by_other, &place)
            }
        };
        assert_ne!(who, Ok(key.address()), "try {n} of seed {seed}");
    }
}

/// Offers a message with other signatures, its signature with other messages and places, and what somebody else or the
/// same key signed as something else: `takes` never takes it as the key's.
fn try_all<T: SolStruct + Clone>(
    (seed, tries): (u64, u64),
    good: &T,
    place: &Eip712Domain,
    elsewhere: impl Fn(&mut Random) -> Eip712Domain,
    change: impl Fn(&mut Random) -> T,
    takes: impl Fn(&T, &[u8], &Eip712Domain, Address) -> bool,
) {
    let mut random = Random(seed);
    let (key, other) = (PrivateKeySigner::random(), PrivateKeySigner::random());
    let signature = signed::sign(good, &key, place).unwrap();
    let taken = |message: &T, signature: &[u8], place: &Eip712Domain| {
        takes(message, signature, place, key.address())
    };
    assert!(taken(good, &signature, place));
    let by_others: Vec<_> = (0..BY_OTHERS)
        .map(|n| {
            let message = if n == 0 { good.clone() } else { change(&mut random) };
            let signature = signed::sign(&message, &other, place).unwrap();
            (message, signature)
        })
        .collect();
    // by the right key, under another kind of message in the same domain
    let kinds: Vec<_> = (0..BY_OTHERS)
        .map(|_| signed::sign(&other_end(random.word(), &mut random), &key, place).unwrap())
        .collect();
    for n in 0..tries {
        let taken = match random.below(5) {
            0 => taken(good, &changed(&signature, &mut random), place),
            1 => taken(&change(&mut random), &signature, place),
            2 => taken(good, &signature, &elsewhere(&mut random)),
            3 => taken(good, &kinds[random.below(BY_OTHERS as u64) as usize], place),
            _ => {
                let (message, by_other) = &by_others[random.below(BY_OTHERS as u64) as usize];
                taken(message, by_other, place)
            }
        };
        assert!(!taken, "try {n} of seed {seed}");
    }
}

/// Whether that key signed it.
fn is_by<T: SolStruct>(message: &T, signature: &[u8], place: &Eip712Domain, by: Address) -> bool {
    signed::recover(message, signature, place) == Ok(by)
}

fn try_ends(seed: u64) {
    let id = B256::repeat_byte(7);
    let good = signed::end(id, UnixSeconds(1_800_000_000), Seconds(60));
    let place = domain(31_337, Address::repeat_byte(1));
    let change = |random: &mut Random| other_end(id, random);
    try_all((seed, TRIES), &good, &place, other_domain, change, is_by);
}

fn try_agreed_ends(seed: u64) {
    let (id, billed, until) = (B256::repeat_byte(7), 600, 1_800_000_000);
    let good = signed::agreed_end(id, Seconds(billed), UnixSeconds(until));
    let place = domain(31_337, Address::repeat_byte(1));
    let change = |random: &mut Random| -> AgreedEnd {
        match random.below(3) {
            0 => signed::agreed_end(random.word(), Seconds(billed), UnixSeconds(until)),
            1 => {
                let billed = Seconds(billed + 1 + random.below(1_000_000) as u32);
                signed::agreed_end(id, billed, UnixSeconds(until))
            }
            _ => {
                let until = UnixSeconds(until + 1 + random.below(1_000_000));
                signed::agreed_end(id, Seconds(billed), until)
            }
        }
    };
    try_all((seed, HALF), &good, &place, other_domain, change, is_by);
}

fn try_authorizations(seed: u64) {
    let token = Address::repeat_byte(0xc0);
    let good = ReceiveWithAuthorization {
        from: Address::repeat_byte(1),
        to: Address::repeat_byte(0xe5),
        value: U256::from(650_000),
        validAfter: U256::ZERO,
        validBefore: U256::from(1_800_000_300),
        nonce: B256::repeat_byte(7),
    };
    let elsewhere = |random: &mut Random| {
        let (name, version) = ("USD Coin", "2");
        match random.below(4) {
            0 => signed::token_domain("USDC", version, 137, token),
            1 => signed::token_domain(name, &random.below(2).to_string(), 137, token),
            2 => signed::token_domain(name, version, 138 + random.below(10_000), token),
            _ => signed::token_domain(name, version, 137, Address::from_word(random.word())),
        }
    };
    let change = |random: &mut Random| {
        let more = U256::from(1 + random.below(1_000_000));
        let mut told = good.clone();
        match random.below(6) {
            0 => told.from = Address::from_word(random.word()),
            1 => told.to = Address::from_word(random.word()),
            2 => told.value += more,
            3 => told.validAfter += more,
            4 => told.validBefore += more,
            _ => told.nonce = random.word(),
        }
        told
    };
    let place = signed::token_domain("USD Coin", "2", 137, token);
    try_all((seed, HALF), &good, &place, elsewhere, change, is_by);
}

// in halves, so that a busy machine runs them side by side
#[test]
fn no_changed_reading_is_its_agents() {
    try_readings(SEED);
}

#[test]
fn nor_is_any_of_the_other_half() {
    try_readings(SEED + 1);
}

#[test]
fn no_changed_end_is_its_partys() {
    try_ends(SEED + 2);
}

#[test]
fn nor_is_any_end_of_the_other_half() {
    try_ends(SEED + 3);
}

#[test]
fn no_changed_agreement_is_its_partys() {
    try_agreed_ends(SEED + 4);
}

#[test]
fn nor_is_any_agreement_of_the_other_half() {
    try_agreed_ends(SEED + 5);
}

#[test]
fn no_changed_authorization_is_its_payers() {
    try_authorizations(SEED + 6);
}

#[test]
fn nor_is_any_authorization_of_the_other_half() {
    try_authorizations(SEED + 7);
}
