//! A rental in the contract: for its parties with the ways out that need nobody's word, and for everybody as the chain
//! shows it.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State, http::HeaderMap, response::Response};
use domain::{
    id::RentalId,
    money::Amount,
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, Outcome, calldata, terms::Terms, typed_data};
use serde::Serialize;
use store::{
    Connection, StoreError,
    blocks::{self, SeenEvent},
    deployment::Deployment,
    freezes, quotes, rentals, tokens,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    quotes::terms_of,
    receipt::{ChainEventView, events_of},
    rentals::of_party,
};
use crate::{
    AppState, Code, Problem, cache, extract::Id, identity::Wallet, problem::refuse,
    provider::CallView, views::Time,
};

/// For how long the public answer may be kept, in seconds.
const KEEP_S: u32 = 5;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read_escrow)).routes(routes!(read_public))
}

/// Terms in the form that is hashed.
fn typed(terms: &Terms, contract: &Deployment) -> typed_data::TypedData {
    typed_data::terms(terms, &escrow::domain(contract.chain_id, contract.escrow))
}

/// A call of the contract that needs nobody's word.
#[derive(Serialize, ToSchema)]
pub(crate) struct WayOut {
    #[schema(example = "stop")]
    name: &'static str,
    /// Who may send it: `renter`, `provider`, `either` or `anyone`.
    #[schema(example = "renter")]
    who: &'static str,
    /// When the contract takes it, and what it does.
    when: &'static str,
    call: CallView,
}

/// A rental in the contract.
#[derive(Serialize, ToSchema)]
pub(crate) struct EscrowView {
    /// Its id on the chain: the hash of its terms.
    #[schema(value_type = String)]
    escrow_id: B256,
    #[schema(value_type = String)]
    contract: Address,
    #[schema(example = 31337)]
    chain_id: u64,
    /// The terms as typed data: all that the contract goes by. Keep them; they are in the `Locked` event as well.
    #[schema(value_type = Value)]
    terms: escrow::typed_data::TypedData,
    /// The calls that work without the platform, should it be gone or say no.
    ways_out: Vec<WayOut>,
}

/// A rental as the contract has it, and the ways out of it that need no word of the platform's.
#[utoipa::path(get, path = "/v1/rentals/{id}/escrow", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = EscrowView)))]
async fn read_escrow(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
) -> Result<Json<EscrowView>, Problem> {
    let mut connection = app.store.read().await?;
    let (_, quote) = of_party(&mut connection, wallet.account.id, id).await?;
    let contract = app.deployment(&mut connection).await?;
    let terms = terms_of(&quote);
    let way = |name, who, when, data: Vec<u8>| {
        let call = CallView { to: contract.escrow, calldata: data.into() };
        WayOut { name, who, when, call }
    };
    let ways_out = vec![
        way(
            "stop",
            "either",
            "while it runs: the clock stops now. By the renter all is divided at once; by the provider the last \
             `holdback` seconds are held for a day, in which the renter may dispute them",
            calldata::stop(&terms),
        ),
        way(
            "reclaim",
            "anyone",
            "if it was locked and never started, ten minutes after `start_by`: the whole deposit goes back to the renter",
            calldata::reclaim(&terms),
        ),
        way(
            "release",
            "anyone",
            "while it runs: the provider is paid up to now, but for the last `holdback` seconds",
            calldata::release(&terms),
        ),
        way(
            "finalize",
            "anyone",
            "once what is held has been held for its day and nobody disputed it: it is paid",
            calldata::finalize(&terms),
        ),
    ];
    Ok(Json(EscrowView {
        escrow_id: quote.escrow_id,
        contract: contract.escrow,
        chain_id: contract.chain_id,
        terms: typed(&terms, &contract),
        ways_out,
    }))
}

/// What an escrow has paid, by all of its events up to now.
#[derive(Serialize, ToSchema)]
pub(crate) struct PaidView {
    /// To the provider's balance, in base units.
    #[schema(value_type = String, example = "4767")]
    provider: Amount,
    /// To the treasury's.
    #[schema(value_type = String, example = "649")]
    fee: Amount,
    /// Back to the renter.
    #[schema(value_type = String, example = "644584")]
    refund: Amount,
}

/// How an escrow ended.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClosedView {
    /// By whom and why, as the contract says.
    #[schema(value_type = String, example = "closed_by_operator")]
    outcome: Outcome,
    #[schema(value_type = u32, example = 30)]
    seconds_billed: Seconds,
    at: Time,
}

/// An escrow as the chain shows it to everybody.
#[derive(Serialize, ToSchema)]
pub(crate) struct PublicEscrow {
    /// The hash of its terms.
    #[schema(value_type = String)]
    escrow_id: B256,
    #[schema(value_type = String)]
    contract: Address,
    #[schema(example = 31337)]
    chain_id: u64,
    /// `locked`, `running`, `held` or `closed`.
    #[schema(example = "closed")]
    state: &'static str,
    /// Whether all that is told here lies in final blocks.
    is_final: bool,
    /// The terms that were locked, as typed data; null if the deposit was locked without this service: they are then in
    /// the transaction of the `locked` event.
    #[schema(value_type = Option<Value>)]
    terms: Option<typed_data::TypedData>,
    /// What the deposit is in; the zero address is the chain's native coin.
    #[schema(value_type = String)]
    token: Address,
    /// Null for a token that this service does not list.
    #[schema(example = "USDC")]
    symbol: Option<String>,
    #[schema(example = 6)]
    decimals: Option<u8>,
    /// All that was locked, top-ups included, in base units.
    #[schema(value_type = String, example = "650000")]
    deposit: Amount,
    /// The start of billing.
    started_at: Option<Time>,
    /// Null until it is closed.
    closed: Option<ClosedView>,
    /// What it has paid; once it is closed, together the deposit.
    paid: PaidView,
    /// The lock and the newest 200 events after it.
    events: Vec<ChainEventView>,
    /// How to check all of it.
    verify: &'static str,
}

const VERIFY: &str = "1. Hash `terms` by EIP-712 with the domain of /v1/deployment: it is `escrow_id`. 2. Ask any node \
    for the logs of `contract` in the blocks of `events`: transaction, position and fields are the same. 3. billed = \
    `closed.seconds_billed`; gross = min(deposit, floor(billed * pricePerHour / 3600)); fee = floor(gross * feeBps / \
    10000); provider = gross - fee; refund = deposit - gross: it is `paid`. An escrow that ended before billing gives all \
    back.";

/// An escrow's id as the contract's events write it.
fn escrow_id(text: &str) -> Result<B256, Problem> {
    let id = text.strip_prefix("0x").filter(|digits| digits.len() == 64);
    id.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        let detail = "an escrow's id is 0x and 64 hex digits, as `id` of the contract's events";
        Problem::new(Code::InvalidRequest, detail)
    })
}

/// What anybody needs to recompute the split of a rental from the chain: terms, deposit, what was paid to whom, and the
/// events with their transactions. It tells nothing that is not on the chain. An escrow is found here once the service
/// has seen its lock in a block, whoever locked it.
#[utoipa::path(get, path = "/v1/escrow/{id}", tag = "market",
    params(("id" = String, Path, example = "0x0f3c6f2b7d1e4a5c8b9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"),
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = PublicEscrow, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn read_public(
    State(app): State<AppState>,
    Id(id): Id<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = escrow_id(&id)?;
    let reader = app.clone();
    let seen = app.store.write("escrow.read", move |tx| {
        let app = reader.clone();
        Box::pin(async move {
            // its parts are read one after the other, and blocks come and go meanwhile
            freezes::see_one_moment(tx).await?;
            as_seen(tx, &app, id).await.or_else(refuse)
        })
    });
    let body = seen.await.map_err(Problem::from)?;
    cache::json(&headers, KEEP_S, &body.ok_or_else(|| Problem::not_found("escrow"))?)
}

/// An escrow, if its lock was seen.
///
/// # Errors
/// The store's.
async fn as_seen(
    connection: &mut Connection,
    app: &AppState,
    id: B256,
) -> Result<Option<PublicEscrow>, Problem> {
    let contract = app.deployment(connection).await?;
    let Some(lock) = blocks::lock_of(connection, id).await? else { return Ok(None) };
    let EscrowEvent::Locked { token, .. } = event_of(&lock)? else {
        return Err(StoreError::corrupt("a lock that is none").into());
    };
    let deposited = blocks::newest_named(connection, id, &["locked", "topped_up"]).await?;
    let (EscrowEvent::Locked { deposit, .. } | EscrowEvent::ToppedUp { deposit, .. }) =
        event_of(deposited.as_ref().unwrap_or(&lock))?
    else {
        return Err(StoreError::corrupt("a deposit that is none").into());
    };
    let started = blocks::newest_named(connection, id, &["started"]).await?;
    let paid = blocks::paid(connection, id).await?;
    let contested = blocks::newest_named(connection, id, &["contested"]).await?;
    let closed = blocks::newest_named(connection, id, &["closed"]).await?;
    let token_known = tokens::at(connection, token).await?;
    let events = events_of(connection, id).await?;
    let state = match (&closed, &contested, &started) {
        (Some(_), _, _) => "closed",
        (None, Some(_), _) => "held",
        (None, None, Some(_)) => "running",
        (None, None, None) => "locked",
    };
    Ok(Some(PublicEscrow {
        escrow_id: id,
        contract: contract.escrow,
        chain_id: contract.chain_id,
        state,
        is_final: events.iter().all(ChainEventView::is_final),
        terms: terms_locked(connection, id, &contract).await?,
        token,
        symbol: token_known.as_ref().map(|token| token.symbol.clone()),
        decimals: token_known.map(|token| token.decimals.get()),
        deposit,
        started_at: started.as_ref().map(event_of).transpose()?.and_then(started_at).map(Time),
        closed: closed.as_ref().map(closed_view).transpose()?.flatten(),
        paid: PaidView { provider: paid.provider, fee: paid.fee, refund: paid.refund },
        events,
        verify: VERIFY,
    }))
}

/// The terms of a rental that was booked here. Their hash is the id that was locked, so that they are what was.
async fn terms_locked(
    connection: &mut Connection,
    id: B256,
    contract: &Deployment,
) -> Result<Option<typed_data::TypedData>, Problem> {
    let Some(rental) = rentals::id_of(connection, id).await? else { return Ok(None) };
    let rental = rentals::get(connection, rental).await?;
    let rental = rental.ok_or(StoreError::Missing("the rental"))?;
    let quote = quotes::get(connection, rental.quote_id).await?;
    let quote = quote.ok_or(StoreError::Missing("the rental's quote"))?;
    Ok(Some(typed(&terms_of(&quote), contract)))
}

fn event_of(seen: &SeenEvent) -> Result<EscrowEvent, StoreError> {
    serde_json::from_value(seen.body.clone()).map_err(StoreError::corrupt)
}

fn started_at(event: EscrowEvent) -> Option<UnixSeconds> {
    if let EscrowEvent::Started { started_at, .. } = event { Some(started_at) } else { None }
}

fn closed_view(seen: &SeenEvent) -> Result<Option<ClosedView>, StoreError> {
    let EscrowEvent::Closed { outcome, billed, .. } = event_of(seen)? else { return Ok(None) };
    Ok(Some(ClosedView { outcome, seconds_billed: billed, at: Time(seen.at) }))
}
