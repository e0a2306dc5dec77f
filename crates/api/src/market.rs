//! What anyone may see: tokens, the contract, and the offers.

use alloy::{
    primitives::{Address, B256},
    signers::local::PrivateKeySigner,
};
use axum::{extract::State, http::HeaderMap, response::Response};
use escrow::terms::{NAME, VERSION};
use serde::Serialize;
use store::{deployment, tokens};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Problem, cache,
    views::{Time, Usd},
};

/// For how long the tokens, with their prices, may be kept, in seconds.
const KEEP_TOKENS_S: u32 = 5;
/// For how long the contract may be kept: once recorded it does not change.
const KEEP_DEPLOYMENT_S: u32 = 60;

mod offer;
pub(crate) use offer::{DiskPrice, NetworkPrice, OfferView, ReservedView};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(token_list)).routes(routes!(contract))
}

/// A token that deposits are made in.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenView {
    #[schema(example = "USDC")]
    symbol: String,
    /// Its contract; the zero address is the chain's native coin.
    #[schema(value_type = String, example = "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359")]
    address: Address,
    #[schema(example = 6)]
    decimals: u8,
    /// The price of one whole token, which quotes convert at.
    price: Usd,
    /// Who says so.
    #[schema(example = "fixed")]
    price_source: String,
    priced_at: Time,
    /// Whether the price is a definition, such as a dollar's. Any other is quoted only while its oracle vouches for it.
    price_fixed: bool,
    /// Whether a deposit can be approved by signature (EIP-2612).
    permit: bool,
}

/// All tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenList {
    data: Vec<TokenView>,
}

/// The tokens that deposits are made in.
#[utoipa::path(get, path = "/v1/tokens", tag = "market",
    params(("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = TokenList, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn token_list(State(app): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    let mut connection = app.store.read().await?;
    let data = tokens::list(&mut connection)
        .await?
        .into_iter()
        .map(|token| TokenView {
            symbol: token.symbol,
            address: token.address,
            decimals: token.decimals.get(),
            price: token.usd.into(),
            price_source: token.price_source,
            priced_at: Time(token.priced_at),
            price_fixed: token.fixed,
            permit: token.permit.is_some(),
        })
        .collect();
    cache::json(&headers, KEEP_TOKENS_S, &TokenList { data })
}

/// The contract that holds the money.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeploymentView {
    #[schema(example = 31337)]
    chain_id: u64,
    #[schema(value_type = String)]
    genesis_hash: B256,
    /// The escrow contract.
    #[schema(value_type = String, example = "0x5FbDB2315678afecb367f032d93F642f64180aa3")]
    escrow: Address,
    #[schema(value_type = String)]
    code_hash: B256,
    deployed_block: u64,
    /// The EIP-712 domain of terms and readings.
    domain: DomainView,
    /// Whose key signs quotes and receipts; null if they are not signed. `weir verify --platform` takes it: keep it from
    /// before, for whoever could show you another receipt could show you another key.
    #[schema(value_type = Option<String>, example = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")]
    quote_signer: Option<Address>,
}

/// An EIP-712 domain.
#[derive(Serialize, ToSchema)]
pub(crate) struct DomainView {
    #[schema(example = "Weir Escrow")]
    name: &'static str,
    #[schema(example = "1")]
    version: &'static str,
    #[serde(rename = "chainId")]
    #[schema(example = 31337)]
    chain_id: u64,
    #[serde(rename = "verifyingContract")]
    #[schema(value_type = String, example = "0x5FbDB2315678afecb367f032d93F642f64180aa3")]
    verifying_contract: Address,
}

/// The chain, the contract and its signing domain.
#[utoipa::path(get, path = "/v1/deployment", tag = "market",
    params(("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = DeploymentView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn contract(State(app): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    let mut connection = app.store.read().await?;
    let found = app.known(deployment::get(&mut connection).await?)?;
    let domain = DomainView {
        name: NAME,
        version: VERSION,
        chain_id: found.chain_id,
        verifying_contract: found.escrow,
    };
    let view = DeploymentView {
        chain_id: found.chain_id,
        genesis_hash: found.genesis_hash,
        escrow: found.escrow,
        code_hash: found.code_hash,
        deployed_block: found.deployed_block,
        domain,
        quote_signer: app.config.quoter.as_ref().map(PrivateKeySigner::address),
    };
    cache::json(&headers, KEEP_DEPLOYMENT_S, &view)
}
