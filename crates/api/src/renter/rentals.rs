//! Reading rentals.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State, http::HeaderMap, response::Response};
use domain::{
    id::{AccountId, GpuId, MachineId, QuoteId, RentalId},
    rental::{AgentStatus, EndReason, LockStatus, RentalState},
};
use serde::{Deserialize, Serialize};
use store::{
    Connection, StoreError,
    api_keys::ApiKey,
    evictions, freezes, intents,
    quotes::{self, Quote},
    reach::{self, Reach},
    rentals::{self, HeldGpu, Party, Rental},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    cost::{CostView, cost},
    label::label_tag,
    quotes::unit_of,
};
use crate::{
    AppState, Code, Problem,
    access::{allows_offer, is_limited},
    agent::reach::AccessPort,
    cache, cursor,
    extract::{Id, Parameters, Params},
    identity::Wallet,
    views::{Time, TokenAmount, Unit, page_limit},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read))
}

/// On which side of a rental the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Pays.
    Renter,
    /// Earns.
    Provider,
}

/// A GPU of a rental.
#[derive(Serialize, ToSchema)]
pub(crate) struct RentedGpu {
    #[schema(value_type = String, example = "gpu_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: GpuId,
    /// The vendor's UUID, fixed at the booking.
    #[schema(example = "GPU-5f0c2a86-0f7d-4a1e-9c53-8f1d2b7a6e40")]
    uuid: String,
    model: String,
}

/// What a rental and its entry in a list share.
#[derive(Serialize, ToSchema)]
pub(crate) struct RentalSummary {
    #[schema(value_type = String, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: RentalId,
    #[schema(value_type = String, example = "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    quote_id: QuoteId,
    /// Its id on the chain.
    #[schema(value_type = String)]
    escrow_id: B256,
    /// On which side the caller is.
    role: Role,
    /// What its renter calls it; the provider is not told.
    #[schema(example = "nightly training")]
    label: Option<String>,
    /// See `docs/FLOW.md`.
    #[schema(value_type = String, example = "active")]
    state: RentalState,
    /// What the chain says of the lock: `none`, `included`, `final`.
    #[schema(value_type = String, example = "final")]
    lock: LockStatus,
    /// What the agent says: `idle`, `acked`, `ready`, `stopped`.
    #[schema(value_type = String, example = "ready")]
    agent: AgentStatus,
    /// Why it ended.
    #[schema(example = "renter_stop")]
    end_reason: Option<&'static str>,
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: MachineId,
    ready_at: Option<Time>,
    /// The start of billing.
    started_at: Option<Time>,
    interrupted_since: Option<Time>,
    /// The end of billing.
    stopped_at: Option<Time>,
    created_at: Time,
    updated_at: Time,
}

/// A rental.
#[derive(Serialize, ToSchema)]
pub(crate) struct RentalView {
    #[serde(flatten)]
    summary: RentalSummary,
    #[schema(value_type = String)]
    renter: Address,
    #[schema(value_type = String)]
    provider: Address,
    gpu_model: String,
    gpu_count: u16,
    gpus: Vec<RentedGpu>,
    /// What the renter locks.
    deposit: TokenAmount,
    /// What final events have locked.
    locked: TokenAmount,
    /// True while its money waits because a figure or a final block is not what it was: nothing is paid and no final
    /// event is posted meanwhile, and nothing is lost.
    frozen: bool,
    cost: CostView,
}

/// Where a rental is reached, as its machine says.
#[derive(Serialize, ToSchema)]
pub(crate) struct RentalAccess {
    /// A DNS name or an IP address.
    #[schema(example = "gpu1.example.com")]
    host: String,
    /// In the order of their names; none where the machine names none.
    ports: Vec<AccessPort>,
    /// What opens a shell, if one of the ports is called `ssh`; an image with a server of its own may want another user.
    #[schema(example = "ssh -p 41022 root@gpu1.example.com")]
    ssh: Option<String>,
}

impl From<Reach> for RentalAccess {
    fn from(Reach { host, ports, .. }: Reach) -> Self {
        let ssh = ports.iter().find(|open| open.name == "ssh");
        Self {
            ssh: ssh.map(|open| format!("ssh -p {} root@{host}", open.port)),
            host: host.to_string(),
            ports: ports.into_iter().map(AccessPort::from).collect(),
        }
    }
}

/// A rental, and the way in.
#[derive(Serialize, ToSchema)]
pub(crate) struct RentalWithAccess {
    #[serde(flatten)]
    rental: RentalView,
    /// Where it is reached: for its renter, from when the machine is ready until the rental ends; null otherwise, and where
    /// the machine does not say.
    access: Option<RentalAccess>,
    /// When it ends at the latest, if its provider has given the notice that the quote promised; null while it has not.
    evicted_at: Option<Time>,
    /// The newest transaction that the platform signed for it, by its hash, from the moment on that it is signed; null before
    /// the first. `txs` of the receipt and `/v1/settlements` tell of all.
    #[schema(value_type = Option<String>, example = "0xe670ec64341771606e55d6b4ca35a1a6b75ee3d5145a99d05921026d1527331e")]
    transaction: Option<B256>,
}

pub(super) fn summary(rental: &Rental, account: AccountId) -> RentalSummary {
    let progress = &rental.progress;
    RentalSummary {
        id: rental.id,
        quote_id: rental.quote_id,
        escrow_id: rental.escrow_id,
        role: if rental.renter == account { Role::Renter } else { Role::Provider },
        label: rental.label.clone().filter(|_| rental.renter == account),
        state: progress.state,
        lock: progress.lock,
        agent: progress.agent,
        end_reason: progress.end.map(EndReason::as_str),
        machine_id: rental.machine,
        ready_at: progress.ready_at.map(Time),
        started_at: progress.started_at.map(Time),
        interrupted_since: progress.interrupted_since.map(Time),
        stopped_at: progress.stopped_at.map(Time),
        created_at: Time(rental.created_at),
        updated_at: Time(rental.updated_at),
    }
}

/// A rental as one of its parties sees it.
///
/// # Errors
/// The store's.
pub(super) async fn rental_view(
    connection: &mut Connection,
    app: &AppState,
    rental: &Rental,
    quote: &Quote,
    account: AccountId,
) -> Result<RentalView, Problem> {
    let unit = unit_of(connection, quote.token, app.config.chain_id).await?;
    let gpus = rentals::gpus(connection, rental.id).await?;
    let cost = cost(connection, rental, quote, &unit, app.now()).await?;
    let frozen = freezes::is_frozen(connection, rental.id).await?;
    Ok(view(rental, quote, account, (gpus, &unit, cost, frozen)))
}

/// A rental as one of its parties sees it, of what is known of it already.
pub(super) fn view(
    rental: &Rental,
    quote: &Quote,
    account: AccountId,
    (gpus, unit, cost, frozen): (Vec<HeldGpu>, &Unit, CostView, bool),
) -> RentalView {
    let gpus = gpus
        .into_iter()
        .map(|held| RentedGpu { id: held.gpu, uuid: held.vendor_uuid, model: held.model })
        .collect();
    RentalView {
        summary: summary(rental, account),
        renter: quote.renter,
        provider: quote.provider,
        gpu_model: quote.model.clone(),
        gpu_count: quote.gpu_count,
        gpus,
        deposit: unit.amount(quote.deposit),
        locked: unit.amount(rental.locked),
        frozen,
        cost,
    }
}

/// The rental and its quote, for one of its parties. To anyone else it does not exist.
pub(super) async fn of_party(
    connection: &mut Connection,
    account: AccountId,
    id: RentalId,
) -> Result<(Rental, Quote), Problem> {
    let rental = rentals::get(connection, id)
        .await?
        .filter(|rental| rental.renter == account || rental.provider == account)
        .ok_or_else(|| Problem::not_found("rental"))?;
    let quote = quotes::get(connection, rental.quote_id)
        .await?
        .ok_or(StoreError::Missing("the rental's quote"))?;
    Ok((rental, quote))
}

/// Which rentals.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// `renter` (the default) or `provider`.
    #[param(inline)]
    role: Option<Role>,
    /// Only those in one of these states, with commas between them; see `docs/FLOW.md`.
    #[param(example = "active,interrupted")]
    state: Option<String>,
    /// 1 to 200; 50 if left out.
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Parameters for ListParams {
    const NAMES: &'static [&'static str] = &["role", "state", "limit", "cursor"];
}

/// A page of rentals.
#[derive(Serialize, ToSchema)]
pub(crate) struct RentalPage {
    data: Vec<RentalSummary>,
    next_cursor: Option<String>,
}

/// The caller's rentals, newest first.
#[utoipa::path(get, path = "/v1/rentals", tag = "renter", security(("bearer" = [])),
    params(ListParams), responses((status = 200, body = RentalPage)))]
async fn list(
    State(app): State<AppState>,
    wallet: Wallet,
    Params(params): Params<ListParams>,
) -> Result<Json<RentalPage>, Problem> {
    let account = wallet.account.id;
    let limit = page_limit(params.limit)?;
    let (party, name) = match params.role {
        None | Some(Role::Renter) => (Party::Renter(account), "rentals:renter"),
        Some(Role::Provider) => (Party::Provider(account), "rentals:provider"),
    };
    let after = match &params.cursor {
        Some(text) => {
            let [id] = cursor::read::<1>(name, text)?;
            Some(id.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let states = params.state.as_deref().map(states_of).transpose()?;
    let mut connection = app.store.read().await?;
    let found =
        rentals::list(&mut connection, party, states.as_deref(), after, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|rental| rental.id.to_string());
    let next_cursor = last.map(|id| cursor::write(name, &[id]));
    let mut data = Vec::with_capacity(found.len());
    for rental in &found {
        if seen_by(&mut connection, wallet.key(), rental).await? {
            data.push(summary(rental, account));
        }
    }
    Ok(Json(RentalPage { data, next_cursor }))
}

/// The states that are asked for.
fn states_of(text: &str) -> Result<Vec<RentalState>, Problem> {
    let known =
        || RentalState::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
    let all = text.split(',').take(RentalState::ALL.len().saturating_add(1));
    let found: Result<Vec<RentalState>, _> = all.map(|name| name.trim().parse()).collect();
    found.ok().filter(|states| states.len() <= RentalState::ALL.len()).ok_or_else(|| {
        let detail = format!("states with commas between them, of {}", known());
        Problem::new(Code::InvalidRequest, detail.clone()).at("?state", detail)
    })
}

/// Whether a rental is among the things that a key is limited to.
pub(super) async fn seen_by(
    connection: &mut Connection,
    key: Option<&ApiKey>,
    rental: &Rental,
) -> Result<bool, StoreError> {
    let Some(key) = key.filter(|key| is_limited(key)) else { return Ok(true) };
    let quote = quotes::get(connection, rental.quote_id).await?;
    let quote = quote.ok_or(StoreError::Missing("the rental's quote"))?;
    Ok(allows_offer(key, quote.offer, quote.machine))
}

/// Where a rental is reached, for its renter while the machine is ready.
async fn access_of(
    connection: &mut Connection,
    rental: &Rental,
    account: AccountId,
) -> Result<Option<RentalAccess>, StoreError> {
    let progress = &rental.progress;
    let ready = progress.agent == AgentStatus::Ready && progress.is_provisioned();
    if !ready || rental.renter != account {
        return Ok(None);
    }
    Ok(reach::of(connection, rental.id).await?.map(RentalAccess::from))
}

/// A rental, with what it has cost so far and where it is reached. Only its renter and its provider see it.
#[utoipa::path(get, path = "/v1/rentals/{id}", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = RentalWithAccess, headers(
                  ("ETag", description = "for If-None-Match, and for If-Match of PATCH"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut connection = app.store.read().await?;
    let account = wallet.account.id;
    let (rental, quote) = of_party(&mut connection, account, id).await?;
    let access = access_of(&mut connection, &rental, account).await?;
    let runs = matches!(rental.progress.state, RentalState::Active | RentalState::Interrupted);
    let evicted_at = if runs { evictions::get(&mut connection, id).await? } else { None };
    let evicted_at = evicted_at.map(|given| Time(given.ends_at));
    let transaction = intents::newest_transaction(&mut connection, id).await?;
    let tag = label_tag(&rental, account);
    let rental = rental_view(&mut connection, &app, &rental, &quote, account).await?;
    let view = RentalWithAccess { rental, access, evicted_at, transaction };
    cache::own(&headers, &tag, &view)
}
