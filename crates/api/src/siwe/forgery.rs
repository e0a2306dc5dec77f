//! Sign-ins that nobody made: messages and signatures that were changed or swapped. Shared by the tests of the rule and
//! those over HTTP.
#![allow(clippy::arithmetic_side_effects)] // a test stops at the first surprise

use alloy::primitives::U256;

/// The same numbers in every run (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.draw() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.draw().to_le_bytes()[0]
    }
}

/// A message with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub message: String,
    pub signature: Vec<u8>,
}

/// A sign-in that its wallet did not make, of some that were. `other` is another one of them.
pub fn forged(good: &Signed, other: &Signed, random: &mut Random) -> Signed {
    loop {
        let forged = match random.below(8) {
            0..3 => Signed { signature: other_signature(&good.signature, random), ..good.clone() },
            3 => Signed { signature: other.signature.clone(), ..good.clone() },
            4 => Signed { message: other_text(&good.message, random), ..good.clone() },
            5 => Signed { message: other_line(good, other, random), ..good.clone() },
            6 => Signed {
                message: other_text(&good.message, random),
                signature: other_signature(&good.signature, random),
            },
            _ => Signed { signature: noise(random), ..good.clone() },
        };
        // a change that changed nothing is none
        if forged != *good && forged != *other {
            return forged;
        }
    }
}

pub fn noise(random: &mut Random) -> Vec<u8> {
    let length = if random.below(4) == 0 { random.below(200) } else { 65 };
    (0..length).map(|_| random.byte()).collect()
}

/// Another signature, often close to the one given, never the same.
pub fn other_signature(signature: &[u8], random: &mut Random) -> Vec<u8> {
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let order = U256::from_str_radix(order, 16).unwrap();
    let mut bytes = signature.to_vec();
    match random.below(11) {
        0 => bytes[random.below(64)] ^= 1 << random.below(8),
        // never the byte that was there
        1 => bytes[random.below(64)] ^= random.byte().max(1),
        // its second form: n - s, and the other parity
        2 => {
            let s = order.wrapping_sub(U256::from_be_slice(&bytes[32..64]));
            bytes[32..64].copy_from_slice(&s.to_be_bytes::<32>());
            bytes[64] = if bytes[64] == 27 { 28 } else { 27 };
        }
        3 => bytes[64] = if bytes[64] == 27 { 28 } else { 27 },
        // what EIP-155 transactions have there, and whatever else fits into a byte
        4 => bytes[64] = random.byte().max(29),
        5 => bytes.truncate(random.below(65)),
        6 => bytes.resize(66 + random.below(40), 0),
        7 => bytes.rotate_left(32),
        // its short form (ERC-2098)
        8 => {
            bytes[32] |= if bytes[64] == 28 { 0x80 } else { 0 };
            bytes.truncate(64);
        }
        9 => bytes[..32].fill(0),
        _ => bytes[32..64].copy_from_slice(&order.to_be_bytes::<32>()),
    }
    bytes
}

/// Another text, often close to the one given.
fn other_text(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let (at, to) = (random.below(chars.len()), random.below(chars.len()));
    let letters = ['a', 'Z', '0', '9', '\n', '\r', ' ', '\t', ':', '-', '\u{0}', 'é', '\u{202e}'];
    let letter = letters[random.below(letters.len())];
    match random.below(6) {
        0 => chars[at] = letter,
        1 => chars.insert(at, letter),
        2 => {
            chars.remove(at);
        }
        3 => chars.swap(at, to),
        4 => chars.truncate(at),
        _ => {
            let c = chars[at];
            chars[at] =
                if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        }
    }
    chars.into_iter().collect()
}

/// A line that says something else, is another's, is missing or there twice.
fn other_line(good: &Signed, other: &Signed, random: &mut Random) -> String {
    let mut lines: Vec<String> = good.message.lines().map(str::to_owned).collect();
    let others: Vec<&str> = other.message.lines().collect();
    let at = random.below(lines.len());
    match random.below(5) {
        0 => lines[at] = (*others.get(at).unwrap_or(&"")).to_owned(),
        1 => {
            lines.remove(at);
        }
        2 => lines.insert(at, lines[at].clone()),
        3 => {
            let more = [
                "Resources:",
                "- https://evil.example",
                "Request ID: 1",
                "Not Before: 2020-01-01T00:00:00Z",
                "Expiration Time: 2099-01-01T00:00:00Z",
            ];
            lines.insert(at, more[random.below(more.len())].to_owned());
        }
        _ => {
            let edits = [
                ("localhost:8080 wants", "localhost:8081 wants"),
                ("localhost:8080 wants", "https://localhost:8080 wants"),
                ("URI: http://localhost:8080", "URI: http://localhost:8080/"),
                ("URI: http://localhost:8080", "URI: https://localhost:8080"),
                ("Chain ID: 31337", "Chain ID: 137"),
                ("Chain ID: 31337", "Chain ID: 031337"),
                ("Version: 1", "Version: 01"),
                ("Sign in to Weir.", "Sign in to weir."),
            ];
            let (from, to) = edits[random.below(edits.len())];
            return good.message.replacen(from, to, 1);
        }
    }
    lines.join("\n")
}
