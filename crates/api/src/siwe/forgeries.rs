//! A hundred thousand sign-ins that were changed, swapped or sent again: none is accepted.
#![allow(clippy::arithmetic_side_effects)] // a test stops at the first surprise

use std::collections::BTreeSet;

use alloy::signers::{SignerSync as _, local::PrivateKeySigner};

use super::{
    forgery::{Random, Signed, forged},
    tests::{NOW, config, message},
    *,
};

const SEED: u64 = 4_361;
const TRIES: usize = 100_000;
/// Most of the time goes into finding who signed.
const PARTS: usize = 4;
/// Wallets whose nonce is open; as many others used theirs.
const WALLETS: usize = 24;

/// What the service keeps and decides by.
struct Desk {
    open: BTreeSet<String>,
    made: Vec<Signed>,
}

impl Desk {
    fn new() -> Self {
        let mut random = Random(SEED);
        let (mut open, mut made) = (BTreeSet::new(), Vec::new());
        for n in 0..WALLETS * 2 {
            let key = PrivateKeySigner::random();
            let nonce = format!("{:016x}", random.draw());
            let text =
                message(|text| {
                    let address = key.address().to_checksum(None);
                    text.replacen("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", &address, 1)
                        .replacen("0123456789abcdef", &nonce, 1)
                });
            let signature = key.sign_message_sync(text.as_bytes()).unwrap().as_bytes().to_vec();
            if n < WALLETS {
                open.insert(nonce);
            }
            made.push(Signed { message: text, signature });
        }
        Self { open, made }
    }

    /// As `POST /v1/auth/siwe/verify` decides for a wallet with a key.
    fn accepts(&self, tried: &Signed) -> bool {
        let Ok(claim) = check(&tried.message, &config(), NOW) else { return false };
        is_by_key(&claim, &tried.message, &tried.signature) && self.open.contains(&claim.nonce)
    }

    fn refuses_forgeries(&self, part: usize) {
        let mut random = Random(SEED + 1 + u64::try_from(part).unwrap());
        for n in 0..TRIES / PARTS {
            let good = &self.made[random.below(WALLETS)];
            let other = &self.made[random.below(self.made.len())];
            let forged = forged(good, other, &mut random);
            let made = self.made.contains(&forged);
            assert!(made || !self.accepts(&forged), "try {n} of part {part}: {forged:?}");
        }
    }
}

#[test]
fn nothing_that_was_changed_or_used_signs_in() {
    let desk = Desk::new();
    for (n, made) in desk.made.iter().enumerate() {
        assert_eq!(desk.accepts(made), n < WALLETS, "good once, and not when it was used");
    }
    std::thread::scope(|scope| {
        for part in 0..PARTS {
            let desk = &desk;
            scope.spawn(move || desk.refuses_forgeries(part));
        }
    });
}
