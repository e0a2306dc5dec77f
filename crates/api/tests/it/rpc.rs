//! A node that knows just enough: a newest block in which no account has code, a permit nonce, and one token's signing
//! domain. Where contracts have to run, tests have anvil.

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use testkit::free_port;

use crate::fixture::{CHAIN_ID, USDC, key};

/// keccak256("DOMAIN_SEPARATOR()") and of "authorizationState(address,bytes32)", first four bytes.
const DOMAIN_SEPARATOR: &str = "0x3644e515";
const AUTHORIZATION_STATE: &str = "0xe94a0102";
/// keccak256("balanceOf(address)"), first four bytes.
const BALANCE_OF: &str = "0x70a08231";
/// The seed of a key whose wallet has next to nothing. All others are rich.
pub const POOR: u8 = 99;

/// Starts one and returns its URL.
pub async fn start() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let router = Router::new().route("/", post(answer));
        axum::serve(listener, router).await.unwrap();
    });
    url
}

/// The URL of a node that does not answer.
pub fn dead() -> String {
    format!("http://127.0.0.1:{}", free_port().unwrap())
}

async fn answer(Json(request): Json<Value>) -> Json<Value> {
    let result = match request["method"].as_str().unwrap() {
        "eth_chainId" => json!("0x7a69"),
        "eth_getCode" => json!("0x"),
        "eth_getBlockByNumber" => {
            serde_json::to_value(alloy::rpc::types::Block::<alloy::primitives::B256>::default())
                .unwrap()
        }
        "eth_call" => {
            let call = &request["params"][0];
            let data = call["input"].as_str().or_else(|| call["data"].as_str()).unwrap();
            if data.starts_with(DOMAIN_SEPARATOR) {
                let domain = escrow::signed::token_domain("USD Coin", "2", CHAIN_ID, USDC);
                json!(domain.separator())
            } else if data.starts_with(BALANCE_OF) {
                let poor = format!("{:x}", key(POOR).address());
                let balance: u64 = if data.ends_with(&poor) { 5 } else { 1_000_000_000 };
                json!(format!("0x{balance:064x}"))
            } else if data.starts_with(AUTHORIZATION_STATE) {
                json!(format!("0x{:064x}", 0))
            } else {
                json!(format!("0x{:064x}", 5))
            }
        }
        other => panic!("unexpected {other}"),
    };
    Json(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
}
