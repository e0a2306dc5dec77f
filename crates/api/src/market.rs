//! What anyone may see: models, tokens, the contract, and the offers.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State};
use domain::{
    id::{AccountId, MachineId, OfferId},
    offer::OfferState,
    time::Seconds,
};
use escrow::terms::{NAME, VERSION};
use serde::Serialize;
use store::{
    deployment::{self, Deployment},
    gpu_models,
    offers::Offer,
    tokens,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Code, Problem,
    views::{Time, Usd},
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(models))
        .routes(routes!(token_list))
        .routes(routes!(contract))
}

/// A GPU model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelView {
    #[schema(example = "rtx-4090")]
    slug: String,
    #[schema(example = "NVIDIA GeForce RTX 4090")]
    name: String,
    #[schema(example = "nvidia")]
    vendor: String,
    #[schema(example = 24)]
    vram_gb: u32,
    #[schema(example = "pcie")]
    form: String,
    #[schema(example = "8.9")]
    compute_capability: String,
    aliases: Vec<String>,
}

/// All GPU models.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    data: Vec<ModelView>,
}

/// The GPU models that can be offered.
#[utoipa::path(get, path = "/v1/gpu-models", tag = "market",
    responses((status = 200, body = ModelList)))]
async fn models(State(app): State<AppState>) -> Result<Json<ModelList>, Problem> {
    let mut connection = app.store.read().await?;
    let data = gpu_models::list(&mut connection)
        .await?
        .into_iter()
        .map(|model| ModelView {
            slug: model.slug,
            name: model.name,
            vendor: model.vendor,
            vram_gb: model.vram_gb,
            form: model.form,
            compute_capability: model.compute_capability,
            aliases: model.aliases,
        })
        .collect();
    Ok(Json(ModelList { data }))
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
    responses((status = 200, body = TokenList)))]
async fn token_list(State(app): State<AppState>) -> Result<Json<TokenList>, Problem> {
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
            permit: token.permit.is_some(),
        })
        .collect();
    Ok(Json(TokenList { data }))
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

/// The deployment, which a service that is ready has.
///
/// # Errors
/// [`Code::NotReady`] without one.
pub(crate) fn deployed(deployment: Option<Deployment>) -> Result<Deployment, Problem> {
    deployment.ok_or_else(|| Problem::new(Code::NotReady, "no escrow contract is recorded yet"))
}

/// The chain, the contract and its signing domain.
#[utoipa::path(get, path = "/v1/deployment", tag = "market",
    responses((status = 200, body = DeploymentView)))]
async fn contract(State(app): State<AppState>) -> Result<Json<DeploymentView>, Problem> {
    let mut connection = app.store.read().await?;
    let found = deployed(deployment::get(&mut connection).await?)?;
    let domain = DomainView {
        name: NAME,
        version: VERSION,
        chain_id: found.chain_id,
        verifying_contract: found.escrow,
    };
    Ok(Json(DeploymentView {
        chain_id: found.chain_id,
        genesis_hash: found.genesis_hash,
        escrow: found.escrow,
        code_hash: found.code_hash,
        deployed_block: found.deployed_block,
        domain,
    }))
}

/// An offer.
#[derive(Serialize, ToSchema)]
pub(crate) struct OfferView {
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: OfferId,
    /// Grows with every change of its terms.
    #[schema(example = 1)]
    version: u32,
    /// `listed`, `paused` or `withdrawn`.
    #[schema(value_type = String, example = "listed")]
    state: OfferState,
    /// The account that earns.
    #[schema(value_type = String, example = "acc_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    provider: AccountId,
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: MachineId,
    #[schema(example = "de-fra")]
    region: String,
    #[schema(example = "rtx-4090")]
    gpu_model: String,
    /// Rented together.
    #[schema(example = 2)]
    gpu_count: u16,
    /// Memory of one GPU.
    #[schema(example = 24)]
    vram_gb: u32,
    /// Per GPU and hour, gross: the renter pays this and nothing on top.
    price: Usd,
    #[schema(value_type = u32, example = 60)]
    min_duration_s: Seconds,
    #[schema(value_type = u32, example = 86400)]
    max_duration_s: Seconds,
    /// Time is billed by the second.
    #[schema(example = 1)]
    granularity_s: u32,
    /// Whether the machine was heard of lately.
    online: bool,
    /// Whether it can be booked now: listed, online, all its GPUs free.
    available: bool,
    created_at: Time,
    updated_at: Time,
}

impl OfferView {
    pub(crate) fn new(offer: &Offer, app: &AppState) -> Self {
        let online = crate::provider::is_online(offer.last_heartbeat_at, &app.config, app.now());
        let free = offer.gpus_free >= u32::from(offer.terms.gpu_count);
        Self {
            id: offer.id,
            version: offer.version,
            state: offer.state,
            provider: offer.account,
            machine_id: offer.machine,
            region: offer.region.clone(),
            gpu_model: offer.model.clone(),
            gpu_count: offer.terms.gpu_count,
            vram_gb: offer.vram_gb,
            price: offer.terms.price.usd().into(),
            min_duration_s: offer.terms.min_duration,
            max_duration_s: offer.terms.max_duration,
            granularity_s: 1,
            online,
            available: online && free && offer.state == OfferState::Listed,
            created_at: Time(offer.created_at),
            updated_at: Time(offer.updated_at),
        }
    }
}
