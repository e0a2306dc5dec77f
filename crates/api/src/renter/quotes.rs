//! Quotes: a price in dollars and in a token, fixed for a while, with the terms that the renter signs.

use alloy::primitives::{Address, B256, keccak256};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use domain::{
    id::{AccountId, OfferId, QuoteId},
    money::UsdMicros,
    offer::OfferState,
    quote::{QuoteLine, QuoteRequest as Ordered, usd_rate},
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};
use escrow::{Terms, terms_hash};
use serde::Deserialize;
use serde_json::json;
use store::{
    accounts::Account,
    deployment::{self, Deployment},
    offers::{self, Offer},
    quotes::{self, Asking, Extras, Fx, Ground, Outages, Quote, Sla},
    tokens::{self, Token},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::spending;
use crate::{
    AppState, Code, Problem,
    extract::Id,
    identity::Wallet,
    market::OfferView,
    problem::internal,
    provider::in_the_way,
    views::{Unit, Usd, json_of},
};

mod asked;
mod checks;
mod remembered;
mod seal;
mod together;
mod view;

use asked::Asked;
pub(crate) use asked::Quoting;
pub(super) use checks::ordered;
use checks::{
    check_offer, check_symbol, check_template, check_time, figures, fresh, no_such_token,
};
pub(super) use seal::promised;
use view::{QuoteView, view};
pub(super) use view::{RateView, rate_view};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(read))
}

/// What a price is asked for.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "offer_id": "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f", "offer_version": 1, "gpu_count": 2,
    "duration_s": 3600, "disk_gb": 100, "up_gb": 10, "token": "USDC",
    "max_price": {"amount": "0.70", "currency": "USD"},
}))]
pub(crate) struct QuoteRequest {
    #[schema(value_type = String)]
    offer_id: OfferId,
    /// The version that was read: if the offer has another one by now, there is no quote.
    offer_version: Option<u32>,
    /// How many GPUs: one of the offer's `chunks`; its `gpu_count` if left out.
    gpu_count: Option<u16>,
    /// How long the deposit is to last, in seconds; the rental can be stopped earlier at any time.
    #[schema(value_type = u32)]
    duration_s: Seconds,
    /// Disk, in GB; none beyond what the machine gives every rental if left out. The machine's program is told, and is what
    /// keeps to it.
    #[serde(default)]
    disk_gb: u32,
    /// GB to be sent from the machine in that time; what goes beyond it is not promised.
    #[serde(default)]
    up_gb: u32,
    /// GB to be received by the machine in that time; what goes beyond it is not promised.
    #[serde(default)]
    down_gb: u32,
    /// What is to run, as `slug@version` of `/v1/templates`: the machine is sent its image, ports and environment. Only for
    /// machines that run templates, else `runs-no-templates`. `disk_gb` must be what it needs. Left out, the provider's own
    /// program runs.
    template: Option<String>,
    /// One of the symbols of `/v1/tokens`.
    token: String,
    /// No quote above this price per GPU and hour, everything included.
    max_price: Option<Usd>,
    /// Who is let in, where this is paid for by x402 (`POST /v1/rentals`): at most 16 public keys, each the one line of a
    /// `.pub` file. A quote lets nobody in: name keys when you book it.
    #[serde(default)]
    pub(super) ssh_public_keys: Vec<String>,
    /// What you call the rental, where this is paid for by x402: 1 to 64 characters in one line. A quote has no name.
    #[serde(default)]
    pub(super) label: Option<String>,
}

/// The terms of a quote, as the contract hashes them.
pub(super) fn terms_of(quote: &Quote) -> Terms {
    Terms::from(&quote.terms())
}

/// The unit of a quote's token, which may have left the list meanwhile.
pub(crate) async fn unit_of(
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
    request: Request,
) -> Result<(StatusCode, Json<QuoteView>), Problem> {
    let asked = Asked::read(request, &app).await?;
    let given = match asked.recall(&app).await {
        Some(given) => given,
        None => asked.look(&app).await?,
    };
    let unit = Unit::new(given.token, given.contract.chain_id);
    let answer = view(&given.quote, &unit, &given.contract, app.store.policy())?;
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The last second of a rental as it is ordered, at the latest.
fn last_second(app: &AppState, request: &QuoteRequest) -> UnixSeconds {
    let start_by = app.now().saturating_plus(app.store.policy().start_window());
    start_by.saturating_plus(request.duration_s)
}

/// A price that is nobody's yet: the quote has no account, no renter, no id on the chain and no signature.
pub(super) struct Draft {
    pub(super) quote: Quote,
    pub(super) token: Token,
    pub(super) contract: Deployment,
}

/// Prices an order, for a wallet if it is known which.
pub(super) async fn draft(
    app: &AppState,
    connection: &mut store::Connection,
    wallet: Option<&Wallet>,
    request: QuoteRequest,
    ground: Option<Ground>,
) -> Result<Draft, Problem> {
    let now = app.now();
    let policy = app.store.policy();
    let start_by = now.saturating_plus(policy.start_window());
    check_symbol(&request.token)?;
    let contract = app.deployment(connection).await?;
    let ground = match ground {
        Some(ground) => Some(ground),
        None => {
            let to = last_second(app, &request);
            let (offer, token) = (request.offer_id, &request.token);
            let asking = Asking { offer, token, to, caller: None };
            quotes::ground(connection, asking, now, Seconds::ZERO).await?
        }
    };
    let no_offer = || Problem::invalid("/offer_id", "there is no such offer");
    let ground = ground.ok_or_else(no_offer)?;
    let offer = ground.offer;
    let token = fresh(ground.token.ok_or_else(no_such_token)?, now)?;
    let order = order(&request, &offer, &token);
    if request.offer_version.is_some_and(|version| version != offer.version) {
        let version = request.offer_version.unwrap_or_default();
        let read = offers::terms_at(connection, offer.id, version).await?;
        let before = read.and_then(|terms| usd_rate(&terms, &order).ok());
        return Err(changed(app, &offer, before.map(|rate| (rate.usd(), &order)))?);
    }
    if wallet.is_some_and(|wallet| wallet.account.id == offer.account) {
        return Err(Problem::invalid("/offer_id", "this is your own offer"));
    }
    check_offer(app, &offer, &order)?;
    let figures = figures(&offer, &order, policy.fee, request.max_price)?;
    let ordered = (offer.id, offer.machine, offer.model.as_str());
    spending::may_rent(wallet.and_then(Wallet::key), ordered, figures.rate_usd_per_hour)?;
    if let Some(obstacle) = ground.obstacle {
        return Err(in_the_way(obstacle, start_by));
    }
    check_time(&offer, start_by, request.duration_s)?;
    let template = request.template.as_deref();
    check_template(connection, template, ground.templates, (&offer.model, &order)).await?;
    let mut quote = Quote {
        id: QuoteId::from_uuid(Uuid::now_v7()),
        account: AccountId::from_uuid(Uuid::nil()),
        offer: offer.id,
        offer_version: offer.version,
        machine: offer.machine,
        model: offer.model.clone(),
        gpu_count: order.gpu_count,
        extras: Extras {
            disk_gb: order.disk_gb,
            up_gb: order.up_gb,
            down_gb: order.down_gb,
            template: request.template,
            isolation: Some(offer.terms.isolation),
        },
        duration: order.duration,
        usd_per_hour: figures.rate_usd_per_hour,
        lines: json_of(&figures.lines)?,
        renter: Address::ZERO,
        provider: ground.provider,
        token: token.address,
        rate: figures.token_rate,
        fee: policy.fee,
        start_by,
        holdback: policy.holdback,
        order_hash: B256::ZERO,
        escrow_id: B256::ZERO,
        deposit: figures.deposit,
        created_at: now,
        expires_at: now.saturating_plus(policy.quote_ttl),
        fx: Some(Fx {
            usd_per_token: token.usd,
            source: token.price_source.clone(),
            at: token.priced_at,
        }),
        sla: Some(Sla {
            ready: policy.ready_ttl,
            notice: offer.terms.notice,
            outages: Some(Outages { evidence: policy.evidence_timeout, most: policy.max_outage }),
        }),
        seal: None,
    };
    quote.order_hash = keccak256(order_text(&quote));
    Ok(Draft { quote, token, contract })
}

/// Makes a quote somebody's: its terms name the renter, and so it has an id on the chain, and is signed.
pub(super) fn give(
    app: &AppState,
    quote: &mut Quote,
    account: &Account,
    contract: &Deployment,
) -> Result<(), Problem> {
    quote.account = account.id;
    quote.renter = account.address;
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    quote.escrow_id = terms_hash(&terms_of(quote), &domain);
    let lines: Vec<QuoteLine> = serde_json::from_value(quote.lines.clone()).map_err(internal)?;
    quote.seal = seal::seal(app, quote, &lines, contract)?;
    Ok(())
}

/// What is ordered, at the token's price.
fn order(request: &QuoteRequest, offer: &Offer, token: &Token) -> Ordered {
    Ordered {
        duration: request.duration_s,
        gpu_count: request.gpu_count.unwrap_or(offer.terms.gpu_count),
        disk_gb: request.disk_gb,
        up_gb: request.up_gb,
        down_gb: request.down_gb,
        token: checks::spec(token),
    }
}

/// The order as JSON with sorted keys and no spaces, whose keccak256 is the terms' `orderHash`. It ties the hardware to the
/// money, and, by the quote's id, makes every quote's terms unlike any other's.
fn order_text(quote: &Quote) -> String {
    let extras = &quote.extras;
    let mut order = json!({
        "disk_gb": extras.disk_gb,
        "down_gb": extras.down_gb,
        "duration_s": quote.duration,
        "gpu_count": quote.gpu_count,
        "gpu_model": quote.model,
        "isolation": extras.isolation,
        "machine_id": quote.machine,
        "notice_s": quote.sla.map(|sla| sla.notice),
        "offer_id": quote.offer,
        "offer_version": quote.offer_version,
        "quote_id": quote.id,
        "ready_s": quote.sla.map(|sla| sla.ready),
        "template": extras.template,
        "up_gb": extras.up_gb,
    });
    // not part of orders from before it was kept
    let outages = quote.sla.and_then(|sla| sla.outages);
    if let (Some(outages), Some(order)) = (outages, order.as_object_mut()) {
        order.insert("evidence_s".to_owned(), json!(outages.evidence));
        order.insert("max_outage_s".to_owned(), json!(outages.most));
    }
    order.to_string()
}

/// The refusal of an offer that is not as the caller believes, with what it is now and how its price per hour for this
/// order differs from what it was before.
pub(super) fn changed(
    app: &AppState,
    offer: &Offer,
    before: Option<(UsdMicros, &Ordered)>,
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
    let Some((before, order)) = before else {
        return Ok(problem);
    };
    // an order that was never checked may come to more than can be said
    let Ok(now) = usd_rate(&offer.terms, order).map(UsdPerHour::usd) else {
        return Ok(problem);
    };
    let (direction, by) = match now.checked_sub(before) {
        Some(UsdMicros::ZERO) => ("same", UsdMicros::ZERO),
        Some(more) => ("higher", more),
        None => ("lower", before.checked_sub(now).unwrap_or(before)),
    };
    let difference = json!({"direction": direction, "usd_per_hour": Usd::from(by)});
    Ok(problem.with("price_difference", difference))
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
    let contract = app.known(deployment::get(&mut connection).await?)?;
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
