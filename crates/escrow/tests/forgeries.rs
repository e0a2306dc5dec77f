//! A hundred thousand readings and ends that were changed, or signed with something that was: none is its agent's.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)] // a test stops at the first surprise

use alloy::{
    primitives::{Address, B256, U256},
    signers::local::PrivateKeySigner,
    sol_types::Eip712Domain,
};
use domain::time::{Seconds, UnixSeconds};
use escrow::{
    domain,
    reading::{self, Reading},
    signed::{self, End},
};

const SEED: u64 = 6_492;
/// Of each kind.
const TRIES: u64 = 50_000;

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

#[test]
fn no_changed_reading_is_its_agents() {
    let mut random = Random(SEED);
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
    for n in 0..TRIES {
        let who = match random.below(4) {
            0 => reading::recover(&good, &changed(&signature, &mut random), &place),
            1 => reading::recover(&other_reading(&good, &mut random), &signature, &place),
            2 => reading::recover(&good, &signature, &other_domain(&mut random)),
            _ => {
                let reading = other_reading(&good, &mut random);
                let by_other = reading::sign(&reading, &other, &place).unwrap();
                reading::recover(&reading, &by_other, &place)
            }
        };
        assert_ne!(who, Ok(key.address()), "try {n} of seed {SEED}");
    }
}

#[test]
fn no_changed_end_is_its_partys() {
    let mut random = Random(SEED + 1);
    let (key, other) = (PrivateKeySigner::random(), PrivateKeySigner::random());
    let place = domain(31_337, Address::repeat_byte(1));
    let id = B256::repeat_byte(7);
    let good = signed::end(id, UnixSeconds(1_800_000_000), Seconds(60));
    let signature = signed::sign(&good, &key, &place).unwrap();
    assert_eq!(signed::recover(&good, &signature, &place), Ok(key.address()));
    for n in 0..TRIES {
        let who = match random.below(4) {
            0 => signed::recover(&good, &changed(&signature, &mut random), &place),
            1 => signed::recover(&other_end(id, &mut random), &signature, &place),
            2 => signed::recover(&good, &signature, &other_domain(&mut random)),
            _ => {
                let end = other_end(id, &mut random);
                let by_other = signed::sign(&end, &other, &place).unwrap();
                signed::recover(&end, &by_other, &place)
            }
        };
        assert_ne!(who, Ok(key.address()), "try {n} of seed {}", SEED + 1);
    }
}
