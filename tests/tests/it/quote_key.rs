//! The quoting key: what it signs is what a wallet would show and hash, and it moves nobody's money.

use std::{collections::BTreeSet, path::Path};

use alloy::{
    dyn_abi::TypedData,
    primitives::{Address, B256, Bytes, U256, Uint},
    signers::local::PrivateKeySigner,
    sol_types::SolCall,
};
use domain::{
    money::Amount,
    rental::RentalState,
    time::{Seconds, UnixSeconds},
};
use escrow::{
    bindings::{Escrow, Escrow::EndSignatures},
    calldata,
    quote::{self, Fx, Line, Order, Quote},
    signed, terms_hash, typed_data,
};
use serde_json::{Value, json};
use tests::{
    market::{Booked, Market, people},
    random::Random,
};

fn some_text(random: &mut Random) -> String {
    // what JSON and UTF-8 make hard, too
    let letters = ['a', '\u{e9}', '"', '\\', '@', ' ', '\n', '\u{1f680}'];
    (0..random.below(12)).map(|_| letters[usize::try_from(random.below(8)).unwrap()]).collect()
}

fn some_line(random: &mut Random) -> Line {
    Line {
        kind: some_text(random),
        unit: some_text(random),
        unitPrice: i64::from_ne_bytes(random.draw().to_ne_bytes()),
        quantity: random.draw(),
        max: i64::from_ne_bytes(random.draw().to_ne_bytes()),
    }
}

fn word(random: &mut Random) -> u32 {
    u32::try_from(random.below(1 << 32)).unwrap()
}

fn some_quote(random: &mut Random) -> Quote {
    Quote {
        id: some_text(random),
        order: Order {
            offer: some_text(random),
            offerVersion: word(random),
            machine: some_text(random),
            gpuModel: some_text(random),
            gpuCount: u16::try_from(random.below(1 << 16)).unwrap(),
            durationSecs: word(random),
            diskGb: word(random),
            upGb: word(random),
            downGb: word(random),
            template: some_text(random),
        },
        lines: (0..random.below(5)).map(|_| some_line(random)).collect(),
        usdPerHour: random.draw(),
        usdMax: random.draw(),
        rental: random.bytes::<32>().into(),
        terms: quote::Terms {
            renter: random.bytes::<20>().into(),
            provider: random.bytes::<20>().into(),
            token: random.bytes::<20>().into(),
            pricePerHour: Uint::from(random.amount()),
            feeBps: u16::try_from(random.below(1 << 16)).unwrap(),
            startBy: Uint::from(random.below(1 << 40)),
            holdback: word(random),
            orderHash: random.bytes::<32>().into(),
        },
        deposit: Uint::from(random.amount()),
        fx: Fx {
            usdPerToken: random.draw(),
            source: some_text(random),
            pricedAt: Uint::from(random.below(1 << 40)),
        },
        createdAt: Uint::from(random.below(1 << 40)),
        expiresAt: Uint::from(random.below(1 << 40)),
        readySecs: word(random),
        noticeSecs: word(random),
        refundRule: random.bytes::<32>().into(),
    }
}

/// By a general encoder that knows the quote as JSON only.
#[test]
fn a_wallet_hashes_a_quote_as_we_do() {
    let mut random = Random(14);
    for _ in 0..300 {
        let one = some_quote(&mut random);
        let domain = quote::domain(random.below(1 << 40), random.bytes::<20>().into());
        let json = typed_data::quote(&one, &domain);
        let typed: TypedData = serde_json::from_value(serde_json::to_value(json).unwrap()).unwrap();
        assert_eq!(typed.eip712_signing_hash().unwrap(), quote::hash(&one, &domain), "{one:?}");
    }
}

/// Functions that anybody may call, as they pay nobody but those that terms and contract name, or the caller alone.
const ANYBODYS: [&str; 8] = [
    "finalize",
    "finalizeBatch",
    "prepay",
    "reclaim",
    "release",
    "releaseBatch",
    "setAgent", // of the caller's own account
    "topUp",
];

/// Whatever the key could send or sign, with the signatures that it has: over quotes, and over what others sign.
struct Thief {
    key: PrivateKeySigner,
    /// A rental that runs, and one that has not begun.
    running: Booked,
    waiting: Booked,
    /// A signature as it makes every day.
    quote: Bytes,
}

impl Thief {
    /// Terms that nobody has locked.
    fn unused(&self) -> escrow::Terms {
        let mut terms = self.waiting.terms.clone();
        terms.orderHash = B256::repeat_byte(9);
        terms
    }

    /// Signatures for a lock from the renter's balance that are not the renter's.
    fn forged_locks(&self, market: &Market) -> [Bytes; 2] {
        let prepaid = signed::prepaid_lock(&self.unused(), self.waiting.deposit);
        let prepaid = signed::sign(&prepaid, &self.key, &market.site.domain).unwrap();
        [Bytes::from(prepaid.to_vec()), self.quote.clone()]
    }

    fn calls(&self, market: &Market) -> Vec<(&'static str, Vec<u8>)> {
        let (key, me) = (&self.key, self.key.address());
        let (running, waiting) = (&self.running.terms, &self.waiting.terms);
        let (on, usdc, now) = (&market.site.domain, market.usdc, market.now());
        let later = now.saturating_plus(Seconds(3_600));
        let token = signed::token_domain("USD Coin", "1", market.site.chain_id, usdc);
        let by = |bytes: [u8; 65]| Bytes::from(bytes.to_vec());
        let end = signed::end(self.running.escrow_id, now, Seconds(60));
        let end = by(signed::sign(&end, key, on).unwrap());
        let agreed = signed::agreed_end(self.running.escrow_id, Seconds(1), later);
        let agreed = by(signed::sign(&agreed, key, on).unwrap());
        let unused = self.unused();
        let id = terms_hash(&unused, on);
        let deposit = self.waiting.deposit;
        let valid = (UnixSeconds(0), later);
        let authorization = signed::authorization(&unused, id, market.site.escrow, deposit, valid);
        let authorization = by(signed::sign(&authorization, key, &token).unwrap());
        let permit2 = signed::permit2(&unused, market.site.escrow, deposit, U256::ZERO, later);
        let domain = signed::permit2_domain(market.site.chain_id);
        let permit2 = by(signed::sign(&permit2, key, &domain).unwrap());
        let withdrawal = |account: Address| {
            let withdrawal = signed::Withdrawal {
                account,
                token: usdc,
                to: me,
                amount: Uint::ZERO,
                nonce: U256::ZERO,
                deadline: U256::from(later.get()),
            };
            by(signed::sign(&withdrawal, key, on).unwrap())
        };
        let mut calls = vec![
            ("acceptOwnership", Escrow::acceptOwnershipCall {}.abi_encode()),
            ("cancel", calldata::cancel(waiting)),
            ("cancelChange", Escrow::cancelChangeCall { change: 1, subject: me }.abi_encode()),
            ("concede", calldata::concede(running)),
            ("contest", calldata::contest(running, Seconds(1))),
            ("dispute", calldata::dispute(running)),
            ("executeChange", Escrow::executeChangeCall { change: 1, subject: me }.abi_encode()),
            ("lock", calldata::lock(&unused, deposit)),
            ("pauseToken", Escrow::pauseTokenCall { token: usdc }.abi_encode()),
            ("removeArbiter", Escrow::removeArbiterCall {}.abi_encode()),
            (
                "removeOperator",
                Escrow::removeOperatorCall { operator: people::operator() }.abi_encode(),
            ),
            ("resolve", calldata::resolve(running, Seconds(1))),
            ("scheduleChange", Escrow::scheduleChangeCall { change: 1, subject: me }.abi_encode()),
            ("start", calldata::start(waiting, now)),
            ("startBatch", calldata::start_batch(&[(waiting.clone(), now)])),
            ("stop", calldata::stop(running)),
            ("transferOwnership", Escrow::transferOwnershipCall { newOwner: me }.abi_encode()),
            ("unpauseToken", Escrow::unpauseTokenCall { token: usdc }.abi_encode()),
            ("withdraw", calldata::withdraw(usdc, me, Amount::new(1).unwrap())),
            (
                "lockWithPermit",
                Escrow::lockWithPermitCall {
                    t: unused.clone(),
                    deposit: escrow::terms::uint96(deposit),
                    permitDeadline: U256::from(later.get()),
                    v: 27,
                    r: B256::repeat_byte(1),
                    s: B256::repeat_byte(1),
                }
                .abi_encode(),
            ),
        ];
        for signature in [&end, &self.quote] {
            let both = EndSignatures { renter: signature.clone(), provider: signature.clone() };
            calls.push(("close", calldata::close(running, now, Seconds(60), &both)));
            let items = [(running.clone(), now, Seconds(60), both)];
            calls.push(("closeBatch", calldata::close_batch(&items)));
        }
        for signature in [&agreed, &self.quote] {
            let both = EndSignatures { renter: signature.clone(), provider: signature.clone() };
            calls.push(("closeAgreed", calldata::close_agreed(running, Seconds(1), later, &both)));
        }
        for signature in self.forged_locks(market) {
            let call = Escrow::lockPrepaidCall {
                t: unused.clone(),
                deposit: escrow::terms::uint96(deposit),
                signature,
            };
            calls.push(("lockPrepaid", call.abi_encode()));
        }
        for signature in [&authorization, &self.quote] {
            let call = calldata::lock_with_authorization(&unused, deposit, valid, signature);
            calls.push(("lockWithAuthorization", call));
        }
        for signature in [&permit2, &self.quote] {
            let call = Escrow::lockWithPermit2Call {
                t: unused.clone(),
                deposit: escrow::terms::uint96(deposit),
                nonce: U256::ZERO,
                deadline: U256::from(later.get()),
                signature: signature.clone(),
            };
            calls.push(("lockWithPermit2", call.abi_encode()));
        }
        for account in [people::renter(), people::provider(), people::treasury()] {
            for signature in [withdrawal(account), self.quote.clone()] {
                let call = Escrow::withdrawBySigCall {
                    account,
                    token: usdc,
                    to: me,
                    amount: Uint::ZERO,
                    deadline: U256::from(later.get()),
                    signature,
                };
                calls.push(("withdrawBySig", call.abi_encode()));
            }
        }
        calls
    }
}

/// The names of all functions that change anything.
fn changing() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/escrow/abi/Escrow.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let functions = file["abi"].as_array().unwrap().iter().filter(|entry| {
        entry["type"] == "function"
            && ["payable", "nonpayable"].map(Value::from).contains(&entry["stateMutability"])
    });
    functions.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn no_call_that_moves_money_takes_the_quoting_key() {
    let market = Market::new().await;
    let running = market.running(market.usdc).await;
    let waiting = market.book_in(market.usdc).await;
    market.lock(&waiting, waiting.deposit).await;
    market.settle_in().await;
    // something to be had: a balance of the renter's
    let amount = Uint::from(5_000_000);
    let approve = calldata::approve(market.site.escrow, Amount::new(5_000_000).unwrap());
    market.send(people::renter(), market.usdc, approve).await;
    let prepay = Escrow::prepayCall { account: people::renter(), token: market.usdc, amount };
    market.call(people::renter(), prepay.abi_encode()).await;
    let key = PrivateKeySigner::random();
    let me = key.address();
    let mut random = Random(15);
    let domain = quote::domain(market.site.chain_id, market.site.escrow);
    let signature = quote::sign(&some_quote(&mut random), &key, &domain).unwrap();
    let quote = Bytes::from(signature.to_vec());
    let thief = Thief { key, running, waiting, quote };

    market.chain.anvil().call("anvil_impersonateAccount", json!([me])).await.unwrap();
    let coins = json!([me, "0xde0b6b3a7640000"]);
    market.chain.anvil().call("anvil_setBalance", coins).await.unwrap();
    let before = market.purse(market.usdc, market.site.escrow).await;
    let mut tried = BTreeSet::new();
    for (name, data) in thief.calls(&market) {
        let receipt = market.mined(me, market.site.escrow, data, 0).await;
        assert!(!receipt.status(), "{name} was done for the quoting key");
        tried.insert(name.to_owned());
    }
    // what of a batch is not signed by its renter is skipped
    for signature in thief.forged_locks(&market) {
        let (terms, deposit) = (thief.unused(), escrow::terms::uint96(thief.waiting.deposit));
        let item = Escrow::PrepaidItem { terms, deposit, signature };
        let batch = Escrow::lockBatchCall { items: vec![item] };
        market.mined(me, market.site.escrow, batch.abi_encode(), 0).await;
    }
    tried.insert("lockBatch".to_owned());
    let left = Escrow::balanceOfCall { account: people::renter(), token: market.usdc };
    let left = market.client.call(market.site.escrow, left.abi_encode()).await.unwrap();
    assert_eq!(Escrow::balanceOfCall::abi_decode_returns(&left).unwrap(), U256::from(amount));
    // every function was tried, or is anybody's
    tried.extend(ANYBODYS.map(str::to_owned));
    assert_eq!(tried, changing());
    assert_eq!(market.purse(market.usdc, market.site.escrow).await, before);
    assert_eq!(market.purse(market.usdc, me).await, 0);
    market.settle_in().await;
    assert_eq!(market.state(&thief.running).await, RentalState::Active);
    market.assert_reconciled().await;
}
