//! The terms that a renter signs are hashed alike by Rust, by the contract, by a general EIP-712 encoder
//! that knows them as JSON only, and by plain keccak; and a wallet's signatures over that JSON work.

use alloy::{
    dyn_abi::TypedData,
    primitives::{Address, B256, Bytes, Signature, U256, Uint, keccak256},
    sol_types::{SolCall, SolValue},
};
use chain::ReadClient;
use domain::{money::Amount, rental::RentalState, time::Seconds};
use escrow::{
    Terms,
    bindings::{Escrow, TestUSDC},
    reading, terms_hash, typed_data,
};
use serde_json::{Value, json};
use tests::{
    market::{Market, people},
    random::Random,
};

const TERMS: usize = 300;
const TERMS_TYPE: &str = "Terms(address renter,address provider,address token,uint96 pricePerHour,\
    uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash)";
const PERMIT_TYPE: &str =
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)";
const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

async fn ask<C: SolCall>(client: &ReadClient, to: Address, call: C) -> C::Return {
    let answer = client.call(to, call.abi_encode()).await.unwrap();
    C::abi_decode_returns(&answer).unwrap()
}

fn some_terms(random: &mut Random) -> Terms {
    Terms {
        renter: random.bytes::<20>().into(),
        provider: random.bytes::<20>().into(),
        token: if random.below(4) == 0 { Address::ZERO } else { random.bytes::<20>().into() },
        pricePerHour: Uint::<96, 2>::from(random.amount()),
        feeBps: u16::try_from(random.below(1 << 16)).unwrap(),
        startBy: Uint::<40, 1>::from(random.below(1 << 40)),
        holdback: u32::try_from(random.below(1 << 32)).unwrap(),
        orderHash: random.bytes::<32>().into(),
    }
}

/// Every field at its smallest and at its largest.
fn extremes() -> [Terms; 2] {
    let least = Terms {
        renter: Address::ZERO,
        provider: Address::ZERO,
        token: Address::ZERO,
        pricePerHour: Uint::ZERO,
        feeBps: 0,
        startBy: Uint::ZERO,
        holdback: 0,
        orderHash: B256::ZERO,
    };
    let most = Terms {
        renter: Address::repeat_byte(0xff),
        provider: Address::repeat_byte(0xff),
        token: Address::repeat_byte(0xff),
        pricePerHour: Uint::MAX,
        feeBps: u16::MAX,
        startBy: Uint::MAX,
        holdback: u32::MAX,
        orderHash: B256::repeat_byte(0xff),
    };
    [least, most]
}

/// EIP-712 as its text says it, for a struct whose words are given.
fn by_hand(separator: B256, of_type: &str, words: &[B256]) -> B256 {
    let mut data = keccak256(of_type).to_vec();
    data.extend(words.iter().flat_map(|word| word.0));
    keccak256([b"\x19\x01".as_slice(), separator.as_slice(), keccak256(data).as_slice()].concat())
}

fn separator(name: &str, version: &str, chain_id: u64, contract: Address) -> B256 {
    let words = (
        keccak256(DOMAIN_TYPE),
        keccak256(name),
        keccak256(version),
        U256::from(chain_id),
        contract,
    );
    keccak256(words.abi_encode())
}

fn words(t: &Terms) -> Vec<B256> {
    vec![
        t.renter.into_word(),
        t.provider.into_word(),
        t.token.into_word(),
        U256::from(t.pricePerHour).into(),
        U256::from(t.feeBps).into(),
        U256::from(t.startBy).into(),
        U256::from(t.holdback).into(),
        t.orderHash,
    ]
}

fn as_a_wallet_hashes(typed: &Value) -> B256 {
    let typed: TypedData = serde_json::from_value(typed.clone()).unwrap();
    typed.eip712_signing_hash().unwrap()
}

#[tokio::test]
async fn terms_have_one_hash() {
    let market = Market::new().await;
    let (domain, escrow) = (&market.site.domain, market.site.escrow);
    let told = ask(&market.client, escrow, Escrow::domainSeparatorCall {}).await;
    assert_eq!(told, domain.separator());
    assert_eq!(told, separator("Weir Escrow", "1", market.chain.chain_id(), escrow));

    let mut random = Random(712);
    let many = (0..TERMS).map(|_| some_terms(&mut random));
    for terms in extremes().into_iter().chain(many) {
        let hash = terms_hash(&terms, domain);
        let call = Escrow::hashTermsCall { t: terms.clone() };
        assert_eq!(ask(&market.client, escrow, call).await, hash, "the contract: {terms:?}");
        let typed = serde_json::to_value(typed_data::terms(&terms, domain)).unwrap();
        assert_eq!(as_a_wallet_hashes(&typed), hash, "typed data: {terms:?}");
        assert_eq!(by_hand(told, TERMS_TYPE, &words(&terms)), hash, "by hand: {terms:?}");
    }
}

#[tokio::test]
async fn every_field_counts() {
    let mut random = Random(713);
    let domain = escrow::domain(31_337, Address::repeat_byte(7));
    let terms = some_terms(&mut random);
    let hash = terms_hash(&terms, &domain);
    let one = Address::repeat_byte(1);
    let changed = [
        Terms { renter: one, ..terms.clone() },
        Terms { provider: one, ..terms.clone() },
        Terms { token: one, ..terms.clone() },
        Terms { pricePerHour: terms.pricePerHour ^ Uint::ONE, ..terms.clone() },
        Terms { feeBps: terms.feeBps ^ 1, ..terms.clone() },
        Terms { startBy: terms.startBy ^ Uint::ONE, ..terms.clone() },
        Terms { holdback: terms.holdback ^ 1, ..terms.clone() },
        Terms { orderHash: B256::repeat_byte(1), ..terms.clone() },
    ];
    for other in changed {
        assert_ne!(terms_hash(&other, &domain), hash, "{other:?}");
    }
    for elsewhere in [(137, Address::repeat_byte(7)), (31_337, Address::repeat_byte(8))] {
        assert_ne!(terms_hash(&terms, &escrow::domain(elsewhere.0, elsewhere.1)), hash);
    }
}

/// What the renter's wallet answers to `eth_signTypedData_v4`.
async fn wallet_signs(market: &Market, typed: Value) -> Bytes {
    let asked = json!([people::renter(), typed]);
    let signed = market.chain.anvil().call("eth_signTypedData_v4", asked).await.unwrap();
    serde_json::from_value(signed).unwrap()
}

#[tokio::test]
async fn a_wallet_signs_the_terms_that_the_contract_knows() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    let typed = typed_data::terms(&rental.terms, &market.site.domain);
    let typed = serde_json::to_value(typed).unwrap();
    let signature = wallet_signs(&market, typed).await;
    assert_eq!(reading::recover_hash(&rental.escrow_id, &signature), Ok(people::renter()));
}

#[tokio::test]
async fn a_lock_with_a_permit_needs_no_approval() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    let token = market.usdc;
    let told = ask(&market.client, token, TestUSDC::eip712DomainCall {}).await;
    let nonce = market.client.erc20_permit_nonce(token, people::renter()).await.unwrap();
    let deadline = market.now().saturating_plus(Seconds(600));
    let permit = typed_data::Permit {
        token,
        name: &told.name,
        version: &told.version,
        chain_id: market.chain.chain_id(),
        owner: people::renter(),
        spender: market.site.escrow,
        value: rental.deposit,
        nonce,
        deadline,
    };
    let typed = serde_json::to_value(typed_data::permit(&permit)).unwrap();
    let separator = ask(&market.client, token, TestUSDC::DOMAIN_SEPARATORCall {}).await;
    let words = [
        permit.owner.into_word(),
        permit.spender.into_word(),
        U256::from(permit.value.get()).into(),
        nonce.into(),
        U256::from(deadline.get()).into(),
    ];
    assert_eq!(as_a_wallet_hashes(&typed), by_hand(separator, PERMIT_TYPE, &words));

    let signature = Signature::from_raw(&wallet_signs(&market, typed).await).unwrap();
    let lock = Escrow::lockWithPermitCall {
        t: rental.terms.clone(),
        deposit: Uint::<96, 2>::from(rental.deposit.get()),
        permitDeadline: U256::from(deadline.get()),
        v: 27 + u8::from(signature.v()),
        r: signature.r().into(),
        s: signature.s().into(),
    };
    market.call(people::renter(), lock.abi_encode()).await;
    market.until(&rental, RentalState::Funded).await;
    assert_eq!(market.rental(&rental).await.locked, rental.deposit);
    let spender = market.site.escrow;
    let left = TestUSDC::allowanceCall { owner: people::renter(), spender };
    assert_eq!(ask(&market.client, token, left).await, U256::ZERO);

    // the same signature is worth nothing a second time
    let again = market.book_in(token).await;
    let lock = Escrow::lockWithPermitCall { t: again.terms.clone(), ..lock };
    market.call_refused(people::renter(), lock.abi_encode(), 0).await;
    market.settle_in().await;
    assert_eq!(market.rental(&again).await.locked, Amount::ZERO);
    market.assert_at_rest().await;
}
