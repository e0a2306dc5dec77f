//! Contract, token and money on a fresh local chain.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    signers::local::PrivateKeySigner,
    sol_types::{SolCall as _, SolConstructor as _},
};
use domain::{
    money::{Decimals, UsdMicros},
    time::UnixSeconds,
};
use escrow::bindings::{Escrow, TestUSDC};
use serde_json::json;
use store::{
    Store, StoreError, TxError,
    deployment::{self, Deployment},
    tokens::{self, Token},
};
use testkit::{DEV_ADDRESSES, DEV_KEYS};

use super::rpc::{Rpc, number};
use crate::{booking::POL, market::people};

const DEPLOYMENT_GAS: &str = "0x989680";
/// What a renter has of the token.
const TOKENS: u64 = 1_000_000_000_000;
/// 10^24 wei.
const COIN: &str = "0xd3c21bcecceda1000000";

/// The key that the operator's is changed for, one of anvil's well-known ones.
pub const NEXT_OPERATOR: &str = DEV_KEYS[8];

fn next_operator() -> Address {
    DEV_ADDRESSES[8].parse().unwrap()
}

/// Deploys escrow and token, and records both.
pub async fn deploy(rpc: &Rpc, store: &Store) -> (Address, Address) {
    let (usdc, _) = create(rpc, TestUSDC::BYTECODE.to_vec()).await;
    let config = Escrow::Config {
        owner: people::owner(),
        guardian: people::guardian(),
        treasury: people::treasury(),
        arbiter: people::arbiter(),
        operators: vec![people::operator(), next_operator()],
        tokens: vec![POL, usdc],
    };
    let mut code = Escrow::BYTECODE.to_vec();
    code.extend(Escrow::constructorCall { config }.abi_encode());
    let (escrow, block) = create(rpc, code).await;
    let genesis = rpc.call("eth_getBlockByNumber", json!(["0x0", false])).await;
    let code = rpc.call("eth_getCode", json!([escrow, "latest"])).await;
    let code: Bytes = serde_json::from_value(code).unwrap();
    let deployment = Deployment {
        chain_id: rpc.chain_id,
        genesis_hash: serde_json::from_value::<B256>(genesis["hash"].clone()).unwrap(),
        escrow,
        code_hash: alloy::primitives::keccak256(&code),
        deployed_block: block,
    };
    record(store, deployment, usdc, UnixSeconds(rpc.time().await)).await;
    (escrow, usdc)
}

async fn create(rpc: &Rpc, code: Vec<u8>) -> (Address, u64) {
    let request =
        json!([{ "from": people::owner(), "data": Bytes::from(code), "gas": DEPLOYMENT_GAS }]);
    let hash = rpc.call("eth_sendTransaction", request).await;
    rpc.call("anvil_mine", json!(["0x1"])).await;
    let receipt = rpc.mined(serde_json::from_value(hash).unwrap()).await;
    let address = serde_json::from_value(receipt["contractAddress"].clone()).unwrap();
    (address, number(&receipt["blockNumber"]))
}

async fn record(store: &Store, deployment: Deployment, usdc: Address, at: UnixSeconds) {
    let token = |address, symbol: &str, decimals, usd, permit| Token {
        address,
        symbol: symbol.to_owned(),
        decimals: Decimals::new(decimals).unwrap(),
        usd: UsdMicros::new(usd),
        price_source: "fixed for the test".to_owned(),
        priced_at: at,
        fixed: true,
        permit,
    };
    let domain = ("USD Coin".to_owned(), "1".to_owned());
    let listed =
        [token(POL, "POL", 18, 250_000, None), token(usdc, "USDC", 6, 1_000_000, Some(domain))];
    store
        .write("record", move |tx| {
            let (deployment, listed) = (deployment.clone(), listed.clone());
            Box::pin(async move {
                deployment::record(tx, &deployment).await?;
                for token in &listed {
                    tokens::upsert(tx, token).await?;
                }
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
}

/// Coins for every wallet.
pub async fn give_coins(rpc: &Rpc, wallets: &[PrivateKeySigner]) {
    for wallet in wallets {
        rpc.call("anvil_setBalance", json!([wallet.address(), COIN])).await;
    }
}

/// Tokens for every renter, all of which the escrow may take.
pub async fn give_tokens(rpc: &Rpc, usdc: Address, escrow: Address, renters: &[PrivateKeySigner]) {
    let mut last = Vec::new();
    for renter in renters {
        let mint = TestUSDC::mintCall { to: renter.address(), amount: U256::from(TOKENS) };
        let request = json!([{ "from": DEV_ADDRESSES[0], "to": usdc, "data": Bytes::from(mint.abi_encode()), "gas": "0x30d40" }]);
        let minted = rpc.call("eth_sendTransaction", request).await;
        last.push(serde_json::from_value(minted).unwrap());
        let approve = TestUSDC::approveCall { spender: escrow, value: U256::MAX };
        last.push(rpc.send(renter, usdc, approve.abi_encode(), 0).await.hash);
    }
    rpc.call("anvil_mine", json!(["0x1"])).await;
    for hash in last {
        rpc.mined(hash).await;
    }
}
