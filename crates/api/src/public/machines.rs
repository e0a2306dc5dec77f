//! A machine for everybody: its facts, what it has shown, its self-tests.

use alloy::primitives::{Address, B256, Bytes};
use axum::{extract::State, http::HeaderMap, response::Response};
use domain::{
    id::{AccountId, MachineId, TestId},
    machine::{Check, Service},
    metering::Interval,
};
use serde::Serialize;
use store::{machines, reliability, reviews};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    cacheable,
    history::{WindowView, shown_view},
};
use crate::{
    AppState, Problem, cursor,
    extract::{Id, Params},
    provider::{FactsView, PageParams, StandingView, facts_view, is_online, standing_view},
    views::{Time, page_limit},
};

const CHECKS: &str = "checks";
/// For how long an answer may be kept, in seconds.
const KEEP_S: u32 = 5;
/// Windows ahead that a page shows.
const SHOWN_WINDOWS: i64 = 100;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(page)).routes(routes!(checks))
}

/// A machine as everybody sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct PublicMachine {
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: MachineId,
    /// The account that earns.
    #[schema(value_type = String, example = "acc_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    provider: AccountId,
    #[schema(example = "de-fra")]
    region: String,
    #[schema(example = "rtx-4090")]
    gpu_model: Option<String>,
    #[schema(example = 2)]
    gpu_count: usize,
    cpu_cores: u32,
    ram_gb: u32,
    disk_gb: u32,
    facts: FactsView,
    standing: StandingView,
    /// `open`, `draining` or `retired`.
    #[schema(value_type = String, example = "open")]
    service: Service,
    /// Whether its agent was heard of lately.
    online: bool,
    /// Times without service, under way or ahead.
    maintenance: Vec<Outage>,
    /// What it has shown in the last 7, 30 and 90 days, as far as it is computed.
    reliability: Vec<WindowView>,
    reviews: ReviewSum,
    /// The key that signs its self-tests and readings.
    #[schema(value_type = Option<String>)]
    agent: Option<Address>,
    created_at: Time,
}

/// A time without service.
#[derive(Serialize, ToSchema)]
pub(crate) struct Outage {
    from: Time,
    to: Time,
    reason: String,
}

/// Reviews of a machine together.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReviewSum {
    /// How many.
    #[schema(example = 4)]
    n: u64,
    /// Their stars together: the mean is `stars / n`.
    #[schema(example = 18)]
    stars: u64,
}

/// A machine, for everybody.
#[utoipa::path(get, path = "/v1/machines/{id}/public", tag = "market",
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = PublicMachine, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn page(
    State(app): State<AppState>,
    Id(id): Id<MachineId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let now = app.now();
    let mut connection = app.store.read().await?;
    let machine =
        machines::get(&mut connection, id).await?.ok_or_else(|| Problem::not_found("machine"))?;
    let windows = machines::windows_ahead(&mut connection, id, now, SHOWN_WINDOWS).await?;
    let shown = reliability::of(&mut connection, id).await?;
    let (n, stars) = reviews::sum(&mut connection, id).await?;
    drop(connection);
    let (facts, standing) = (facts_view(&machine), standing_view(&machine.standing));
    let body = PublicMachine {
        id,
        provider: machine.account,
        gpu_model: machine.gpus.first().map(|gpu| gpu.model.clone()),
        gpu_count: machine.gpus.len(),
        region: machine.spec.region,
        cpu_cores: machine.sold.cpu_cores,
        ram_gb: machine.sold.ram_gb,
        disk_gb: machine.sold.disk_gb,
        facts,
        standing,
        service: machine.service,
        online: is_online(machine.last_heartbeat_at, &app.config, now),
        maintenance: windows
            .into_iter()
            .map(|window| {
                let Interval { from, to } = window.during;
                Outage { from: Time(from), to: Time(to), reason: window.reason }
            })
            .collect(),
        reliability: shown.into_iter().map(shown_view).collect(),
        reviews: ReviewSum { n, stars },
        agent: machine.agent,
        created_at: Time(machine.created_at),
    };
    cacheable(&body, KEEP_S, &headers)
}

/// A self-test as the agent signed it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChecksView {
    #[schema(value_type = String, example = "tst_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    test_id: TestId,
    /// Whether everything was shown.
    passed: bool,
    /// Each with `id`, `actual`, `op`, `required`, `pass` and `remediation`.
    #[schema(value_type = Vec<Object>)]
    checks: Vec<Check>,
    /// keccak256 of the checks as JSON with sorted keys and no spaces.
    #[schema(value_type = String)]
    digest: B256,
    /// Whose signature it is.
    #[schema(value_type = String)]
    signer: Address,
    /// EIP-191, over `weir-checks:<chain_id>:<machine_id>:<test_id>:<digest>`.
    #[schema(value_type = String)]
    signature: Bytes,
    at: Time,
}

/// A page of self-tests.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChecksPage {
    data: Vec<ChecksView>,
    next_cursor: Option<String>,
}

/// What a machine showed in its self-tests, newest first.
#[utoipa::path(get, path = "/v1/machines/{id}/checks", tag = "market",
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"), PageParams,
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = ChecksPage, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn checks(
    State(app): State<AppState>,
    Id(id): Id<MachineId>,
    Params(page): Params<PageParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let limit = page_limit(page.limit)?;
    let list = format!("{CHECKS}:{id}");
    let before = match &page.cursor {
        Some(cursor) => {
            let [test] = cursor::read::<1>(&list, cursor)?;
            Some(test.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    if machines::get(&mut connection, id).await?.is_none() {
        return Err(Problem::not_found("machine"));
    }
    let found = machines::checks(&mut connection, id, before, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|kept| kept.id.to_string());
    let next_cursor = last.map(|id| cursor::write(&list, &[id]));
    let data = found
        .into_iter()
        .map(|kept| ChecksView {
            test_id: kept.id,
            passed: kept.said.passed,
            checks: kept.said.checks,
            digest: kept.said.digest,
            signer: kept.said.signer,
            signature: kept.said.signature.to_vec().into(),
            at: Time(kept.at),
        })
        .collect();
    cacheable(&ChecksPage { data, next_cursor }, KEEP_S, &headers)
}
