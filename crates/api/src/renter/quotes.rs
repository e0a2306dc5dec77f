//! Quotes: a price in dollars and in a token, fixed for a while, with the terms that the renter signs.

use alloy::primitives::{Address, B256, keccak256};
use axum::{Json, extract::State, http::StatusCode};
use domain::{
    id::{OfferId, QuoteId},
    money::UsdMicros,
    offer::{OfferState, OfferTerms},
    quote::{QuoteError, QuoteFigures, QuoteRequest as Ordered, TokenSpec, price_quote},
    time::Seconds,
};
use escrow::{Terms, terms_hash};
use serde::Deserialize;
use serde_json::json;
use store::{
    Policy, StoreError, accounts, deployment,
    offers::{self, Offer},
    quotes::{self, Quote},
    tokens::{self, Token},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    AppState, Code, Problem,
    extract::{Body, Id},
    identity::Wallet,
    market::{OfferView, deployed},
    problem::internal,
    provider::free_of_obstacles,
    views::{Unit, Usd, json_of},
};

mod view;
use view::{QuoteView, view};
pub(super) use view::{RateView, rate_view};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(read))
}

/// What a price is asked for.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "offer_id": "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f", "offer_version": 1,
    "duration_s": 3600, "token": "USDC", "max_price": {"amount": "0.70", "currency": "USD"},
}))]
pub(crate) struct QuoteRequest {
    #[schema(value_type = String)]
    offer_id: OfferId,
    /// The version that was read: if the offer has another one by now, there is no quote.
    offer_version: Option<u32>,
    /// How long the deposit is to last, in seconds; the rental can be stopped earlier at any time.
    #[schema(value_type = u32)]
    duration_s: Seconds,
    /// One of the symbols of `/v1/tokens`.
    token: String,
    /// No quote above this price per GPU and hour.
    max_price: Option<Usd>,
}

/// The terms of a quote, as the contract hashes them.
pub(super) fn terms_of(quote: &Quote) -> Terms {
    Terms::from(&quote.terms())
}

/// The unit of a quote's token, which may have left the list meanwhile.
pub(super) async fn unit_of(
    connection: &mut store::Connection,
    token: Address,
    chain_id: u64,
) -> Result<Unit, Problem> {
    let found = tokens::at(connection, token).await?;
    let found = found.ok_or_else(|| internal(format!("token {token} is not known")))?;
    Ok(Unit::new(found, chain_id))
}

/// Prices an offer for a time, in a token, and holds the price for a while. GPUs are not held yet.
#[utoipa::path(post, path = "/v1/quotes", tag = "renter", security(("bearer" = [])),
    request_body = QuoteRequest, responses((status = 201, body = QuoteView)))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<QuoteRequest>,
) -> Result<(StatusCode, Json<QuoteView>), Problem> {
    let now = app.now();
    let mut connection = app.store.read().await?;
    let contract = deployed(deployment::get(&mut connection).await?)?;
    let offer = offers::get(&mut connection, request.offer_id, now)
        .await?
        .ok_or_else(|| Problem::invalid("/offer_id", "there is no such offer"))?;
    if request.offer_version.is_some_and(|version| version != offer.version) {
        let version = request.offer_version.unwrap_or_default();
        let read = offers::terms_at(&mut connection, offer.id, version).await?;
        let before = read.map(|terms| hourly(&terms)).transpose()?;
        return Err(changed(&app, &offer, before)?);
    }
    check_offer(&app, &wallet, &offer, &request)?;
    let policy = app.store.policy();
    let slack =
        policy.quote_ttl.saturating_add(policy.funding_ttl).saturating_add(policy.ready_ttl);
    free_of_obstacles(&mut connection, offer.machine, (now, slack, request.duration_s)).await??;
    let token = tokens::find(&mut connection, &request.token)
        .await?
        .ok_or_else(|| Problem::invalid("/token", "none of the symbols of /v1/tokens"))?;
    let provider = accounts::get(&mut connection, offer.account)
        .await?
        .ok_or(StoreError::Missing("the provider's account"))?;
    drop(connection);
    let figures = figures(&offer, &token, &request, policy)?;
    let mut quote = Quote {
        id: QuoteId::from_uuid(Uuid::now_v7()),
        account: wallet.account.id,
        offer: offer.id,
        offer_version: offer.version,
        machine: offer.machine,
        model: offer.model.clone(),
        gpu_count: offer.terms.gpu_count,
        duration: request.duration_s,
        usd_per_hour: figures.rate_usd_per_hour,
        lines: json_of(&figures.lines)?,
        renter: wallet.account.address,
        provider: provider.address,
        token: token.address,
        rate: figures.token_rate,
        fee: policy.fee,
        start_by: now.saturating_plus(policy.start_window()),
        holdback: policy.holdback,
        order_hash: B256::ZERO,
        escrow_id: B256::ZERO,
        deposit: figures.deposit,
        created_at: now,
        expires_at: now.saturating_plus(policy.quote_ttl),
    };
    quote.order_hash = order_hash(&quote);
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    quote.escrow_id = terms_hash(&terms_of(&quote), &domain);
    let stored = quote.clone();
    app.store
        .write::<(), Problem, _>("quotes.create", move |tx| {
            let quote = stored.clone();
            Box::pin(async move { Ok(quotes::insert(tx, &quote).await?) })
        })
        .await?;
    let unit = Unit::new(token, contract.chain_id);
    let answer = view(&quote, &unit, &contract, policy)?;
    Ok((StatusCode::CREATED, Json(answer)))
}

/// keccak256 of the order as JSON with sorted keys and no spaces. It ties the hardware to the money,
/// and, by the quote's id, makes every quote's terms unlike any other's.
fn order_hash(quote: &Quote) -> B256 {
    let order = json!({
        "gpu_count": quote.gpu_count,
        "gpu_model": quote.model,
        "machine_id": quote.machine,
        "offer_id": quote.offer,
        "offer_version": quote.offer_version,
        "quote_id": quote.id,
    });
    keccak256(order.to_string())
}

fn check_offer(
    app: &AppState,
    wallet: &Wallet,
    offer: &Offer,
    request: &QuoteRequest,
) -> Result<(), Problem> {
    if offer.account == wallet.account.id {
        return Err(Problem::invalid("/offer_id", "this is your own offer"));
    }
    if offer.state != OfferState::Listed {
        return Err(changed(app, offer, None)?);
    }
    if let Some(max) = request.max_price
        && offer.terms.price.usd() > max.amount
    {
        let detail = format!("the price is {} USD per GPU and hour", offer.terms.price);
        return Err(Problem::new(Code::PriceAboveMax, detail.clone()).at("/max_price", detail));
    }
    if !crate::provider::is_online(offer.last_heartbeat_at, &app.config, app.now()) {
        let detail = "the machine's agent has not been heard of lately";
        return Err(Problem::new(Code::MachineOffline, detail));
    }
    if offer.gpus_free < u32::from(offer.terms.gpu_count) {
        return Err(Problem::new(Code::OfferTaken, "the offer's GPUs are rented at present"));
    }
    Ok(())
}

/// The refusal of an offer that is not as the caller believes, with what it is now and how its price
/// per hour differs from `before`.
pub(super) fn changed(
    app: &AppState,
    offer: &Offer,
    before: Option<UsdMicros>,
) -> Result<Problem, Problem> {
    let detail = match offer.state {
        OfferState::Listed => format!(
            "the offer is at version {} and {} USD per GPU and hour now",
            offer.version, offer.terms.price
        ),
        OfferState::Paused => "the offer is paused".to_owned(),
        OfferState::Withdrawn => "the offer is withdrawn".to_owned(),
    };
    let problem = Problem::new(Code::OfferChanged, detail)
        .with("offer", json_of(&OfferView::new(offer, app))?);
    let Some(before) = before else {
        return Ok(problem);
    };
    let now = hourly(&offer.terms)?;
    let (direction, by) = match now.checked_sub(before) {
        Some(UsdMicros::ZERO) => ("same", UsdMicros::ZERO),
        Some(more) => ("higher", more),
        None => ("lower", before.checked_sub(now).unwrap_or(before)),
    };
    let difference = json!({"direction": direction, "usd_per_hour": Usd::from(by)});
    Ok(problem.with("price_difference", difference))
}

/// Dollars per hour for all GPUs together.
fn hourly(terms: &OfferTerms) -> Result<UsdMicros, Problem> {
    let all = terms.price.usd().checked_mul(u64::from(terms.gpu_count));
    all.ok_or_else(|| internal("a price out of range"))
}

fn figures(
    offer: &Offer,
    token: &Token,
    request: &QuoteRequest,
    policy: &Policy,
) -> Result<QuoteFigures, Problem> {
    let ordered = Ordered {
        duration: request.duration_s,
        gpu_count: offer.terms.gpu_count,
        token: TokenSpec {
            address: token.address,
            decimals: token.decimals,
            usd_per_token: token.usd,
        },
    };
    price_quote(&offer.terms, &ordered, policy.fee).map_err(|error| match error {
        QuoteError::DurationOutOfRange { .. } => Problem::invalid("/duration_s", error.to_string()),
        QuoteError::TokenWithoutPrice | QuoteError::Money(_) => {
            Problem::invalid("/token", error.to_string())
        }
        QuoteError::Offer(_)
        | QuoteError::GpuCountOutOfRange { .. }
        | QuoteError::FeeNotQuotable(_) => internal(error),
    })
}

/// One of the caller's quotes.
#[utoipa::path(get, path = "/v1/quotes/{id}", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = QuoteView)))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<QuoteId>,
) -> Result<Json<QuoteView>, Problem> {
    let mut connection = app.store.read().await?;
    let contract = deployed(deployment::get(&mut connection).await?)?;
    let quote = owned(&mut connection, &wallet, id).await?;
    let unit = unit_of(&mut connection, quote.token, contract.chain_id).await?;
    Ok(Json(view(&quote, &unit, &contract, app.store.policy())?))
}

/// The caller's quote with this id.
pub(super) async fn owned(
    connection: &mut store::Connection,
    wallet: &Wallet,
    id: QuoteId,
) -> Result<Quote, Problem> {
    quotes::get(connection, id)
        .await?
        .filter(|quote| quote.account == wallet.account.id)
        .ok_or_else(|| Problem::not_found("quote"))
}
