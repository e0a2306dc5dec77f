//! A rental's course: what it has cost, what happened, and how to go on for longer.

use alloy::primitives::{Address, Bytes};
use axum::{Json, extract::State};
use domain::{
    billing::{auto_stop_second, deposit_ceil},
    id::RentalId,
    money::Amount,
    rental::RentalState,
    time::Seconds,
};
use escrow::calldata;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{
    quotes::Quote,
    rentals::Rental,
    timeline::{self, TimelineEntry},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    cost::{CostView, cost},
    quotes::{terms_of, unit_of},
    rentals::of_party,
};
use crate::{
    AppState, Code, Problem, cursor,
    extract::{Body, Id, Parameters, Params},
    identity::Wallet,
    provider::{CallView, free_of_obstacles},
    views::{Time, TokenAmount, page_limit},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(read_cost))
        .routes(routes!(read_timeline))
        .routes(routes!(top_up))
}

/// What a rental has cost up to now.
#[utoipa::path(get, path = "/v1/rentals/{id}/cost", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = CostView)))]
async fn read_cost(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
) -> Result<Json<CostView>, Problem> {
    let mut connection = app.store.read().await?;
    let (rental, quote) = of_party(&mut connection, wallet.account.id, id).await?;
    let unit = unit_of(&mut connection, quote.token, app.config.chain_id).await?;
    Ok(Json(cost(&mut connection, &rental, &quote, &unit, app.now()).await?))
}

/// From where on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TimelineParams {
    /// The id of the last entry that is known; 0, the default, begins at the start. Event streams use the same ids.
    #[param(minimum = 0)]
    after: Option<u32>,
    /// 1 to 200; 50 if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before, instead of `after`.
    cursor: Option<String>,
}

impl Parameters for TimelineParams {
    const NAMES: &'static [&'static str] = &["after", "limit", "cursor"];
}

/// Something that happened.
#[derive(Serialize, ToSchema)]
pub(crate) struct TimelineEntryView {
    #[schema(example = 7)]
    id: i64,
    at: Time,
    /// `state` and `progress` are of the rental, `tx` of the chain; others say what they are.
    #[schema(example = "state")]
    kind: String,
    /// The rest of it.
    detail: Value,
}

/// What happened, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Timeline {
    data: Vec<TimelineEntryView>,
    /// For the next page as `after`, if there may be one.
    next: Option<i64>,
    /// The same as `cursor`, as other lists have it.
    next_cursor: Option<String>,
}

/// What happened to a rental, oldest first.
#[utoipa::path(get, path = "/v1/rentals/{id}/timeline", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"), TimelineParams),
    responses((status = 200, body = Timeline)))]
async fn read_timeline(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    Params(params): Params<TimelineParams>,
) -> Result<Json<Timeline>, Problem> {
    let limit = page_limit(params.limit)?;
    let list = format!("timeline:{id}");
    let after = match (params.after, &params.cursor) {
        (after, None) => after.unwrap_or_default().into(),
        (None, Some(text)) => {
            let [last] = cursor::read::<1>(&list, text)?;
            last.parse().ok().filter(|last| *last > 0).ok_or_else(cursor::invalid)?
        }
        (Some(_), Some(_)) => {
            let detail = "`after` or `cursor`, not both";
            return Err(Problem::new(Code::InvalidRequest, detail).at("?cursor", detail));
        }
    };
    let mut connection = app.store.read().await?;
    of_party(&mut connection, wallet.account.id, id).await?;
    let entries = timeline::after(&mut connection, id, after, limit.into()).await?;
    let full = entries.len() >= usize::from(limit);
    let next = entries.last().filter(|_| full).map(|entry| entry.id);
    let next_cursor = next.map(|last| cursor::write(&list, &[last.to_string()]));
    let data = entries.into_iter().map(entry_view).collect();
    Ok(Json(Timeline { data, next, next_cursor }))
}

fn entry_view(entry: TimelineEntry) -> TimelineEntryView {
    TimelineEntryView { id: entry.id, at: Time(entry.at), kind: entry.kind, detail: entry.detail }
}

/// How much longer.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopUpRequest {
    /// So many seconds more, at the rate that was signed; 1 to 31,536,000.
    #[schema(value_type = u32, example = 3600, minimum = 1, maximum = 31_536_000)]
    duration_s: Seconds,
}

/// How a deposit is added to.
#[derive(Serialize, ToSchema)]
pub(crate) struct TopUpView {
    /// What is added; rounded up to a base unit.
    amount: TokenAmount,
    /// The contract.
    #[schema(value_type = String)]
    to: Address,
    /// `topUp(terms, amount)`, encoded. Anybody may send it; what is not used goes to the renter.
    #[schema(value_type = String, example = "0x")]
    calldata: Bytes,
    /// Native coin to send with it, in wei.
    #[schema(value_type = String, example = "0")]
    value: Amount,
    /// To be sent before; null for the native coin.
    approve: Option<CallView>,
    /// When the deposit is used up then, if the rental has started.
    exhausts_at: Option<Time>,
}

/// Tells how to go on for longer, at the same rate: a call for the wallet to send. Nothing is changed by asking. The
/// contract takes it while the deposit lasts.
#[utoipa::path(post, path = "/v1/rentals/{id}/top-up", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = TopUpRequest,
    responses((status = 200, body = TopUpView)))]
async fn top_up(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    Body(request): Body<TopUpRequest>,
) -> Result<Json<TopUpView>, Problem> {
    if !(1..=31_536_000).contains(&request.duration_s.get()) {
        return Err(Problem::invalid("/duration_s", "1 to 31,536,000 seconds"));
    }
    let mut connection = app.store.read().await?;
    let (rental, quote) = of_party(&mut connection, wallet.account.id, id).await?;
    goes_on(&rental)?;
    let amount = deposit_ceil(quote.rate, request.duration_s)
        .map_err(|error| Problem::invalid("/duration_s", error.to_string()))?;
    let whole = rental
        .locked
        .checked_add(amount)
        .ok_or_else(|| Problem::invalid("/duration_s", "more than a deposit can be"))?;
    let funded = auto_stop_second(whole, quote.rate);
    let from = rental.progress.started_at.unwrap_or(quote.start_by);
    free_of_obstacles(&mut connection, quote.machine, (app.now(), from, funded)).await??;
    let contract = app.deployment(&mut connection).await?;
    let unit = unit_of(&mut connection, quote.token, contract.chain_id).await?;
    Ok(Json(view(&quote, contract.escrow, (amount, unit.amount(amount)), {
        rental.progress.started_at.map(|at| Time(at.saturating_plus(funded)))
    })))
}

/// Whether the contract may still take more for it.
fn goes_on(rental: &Rental) -> Result<(), Problem> {
    let open = matches!(
        rental.progress.state,
        RentalState::Funded | RentalState::Active | RentalState::Interrupted
    );
    if open {
        return Ok(());
    }
    let detail = format!(
        "the rental is {}: a deposit is added to once it is locked and until the rental ends",
        rental.progress.state
    );
    Err(Problem::new(Code::StateConflict, detail).with("state", json!(rental.progress.state)))
}

fn view(
    quote: &Quote,
    escrow: Address,
    (amount, shown): (Amount, TokenAmount),
    exhausts_at: Option<Time>,
) -> TopUpView {
    let native = quote.token.is_zero();
    let approve = (!native)
        .then(|| CallView { to: quote.token, calldata: calldata::approve(escrow, amount).into() });
    TopUpView {
        amount: shown,
        to: escrow,
        calldata: calldata::top_up(&terms_of(quote), amount).into(),
        value: if native { amount } else { Amount::ZERO },
        approve,
        exhausts_at,
    }
}
