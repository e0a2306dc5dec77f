//! What a provider's machines have shown: each, and all of them together.

use axum::{Json, extract::State};
use domain::{id::MachineId, reliability::ENOUGH_STARTS};
use serde::Serialize;
use store::reliability::{self, Fleet};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::PageParams;
use crate::{
    AppState, Problem, cursor,
    extract::Params,
    identity::Wallet,
    public::{WindowView, shown_view},
    views::{Time, page_limit},
};

const LIST: &str = "reliability";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(all))
}

/// What all machines have shown in a window, theirs added up.
#[derive(Serialize, ToSchema)]
pub(crate) struct FleetView {
    /// 7, 30 or 90.
    #[schema(example = 30)]
    days: u16,
    /// Machines that have figures for it.
    #[schema(example = 12)]
    machines: u32,
    /// Where the oldest of their windows ends, and the newest: they are computed one after the other.
    oldest_to: Time,
    newest_to: Time,
    /// The formula of a machine on the sums: Wilson's lower bound at 95 % of the good hours among the promised ones, in
    /// basis points.
    #[schema(example = 9_912)]
    score_bps: u32,
    /// False with fewer than 20 starts: then it says little.
    enough: bool,
    /// `idle_s` and twice `rented_s`.
    promised_s: u64,
    /// `idle_good_s` and twice `rented_good_s`.
    good_s: u64,
    idle_s: u64,
    idle_good_s: u64,
    rented_s: u64,
    rented_good_s: u64,
    starts: u32,
    /// Starts that got ready.
    starts_ok: u32,
    interruptions: u32,
    disputes_lost: u32,
}

/// What one machine has shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnReliability {
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: MachineId,
    /// Empty until it was computed for the first time.
    windows: Vec<WindowView>,
}

/// A page of machines, and what all of them have shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct FleetReliability {
    /// All machines together, whichever page this is.
    summary: Vec<FleetView>,
    /// By id.
    data: Vec<OwnReliability>,
    next_cursor: Option<String>,
}

fn fleet_view(fleet: Fleet) -> FleetView {
    let f = fleet.figures;
    FleetView {
        days: fleet.days,
        machines: fleet.machines,
        oldest_to: Time(fleet.oldest_as_of),
        newest_to: Time(fleet.as_of),
        score_bps: f.score_bps,
        enough: f.starts >= ENOUGH_STARTS,
        promised_s: f.promised_s,
        good_s: f.good_s,
        idle_s: f.idle_s,
        idle_good_s: f.idle_good_s,
        rented_s: f.rented_s,
        rented_good_s: f.rented_good_s,
        starts: f.starts,
        starts_ok: f.starts_ok,
        interruptions: f.interruptions,
        disputes_lost: f.disputes_lost,
    }
}

/// What the caller's machines have shown in the last 7, 30 and 90 days: each of them as everybody sees it, and all
/// together by the same formula on the sums (docs/MARKET.md). A key that is limited to machines sees those.
#[utoipa::path(get, path = "/v1/provider/reliability", tag = "provider", security(("bearer" = [])),
    params(PageParams), responses((status = 200, body = FleetReliability)))]
async fn all(
    State(app): State<AppState>,
    wallet: Wallet,
    Params(page): Params<PageParams>,
) -> Result<Json<FleetReliability>, Problem> {
    let limit = page_limit(page.limit)?;
    let after = match &page.cursor {
        Some(text) => {
            let [id] = cursor::read::<1>(LIST, text)?;
            Some(id.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let account = wallet.account.id;
    let only = wallet.key().and_then(|key| key.limits.machines.as_deref());
    let mut connection = app.store.read().await?;
    let summary = reliability::of_account(&mut connection, account, only).await?;
    let limit_of_page = i64::from(limit);
    let found =
        reliability::by_machine(&mut connection, account, only, after, limit_of_page).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|(id, _)| id.to_string());
    let next_cursor = last.map(|id| cursor::write(LIST, &[id]));
    let data = found.into_iter().map(|(machine_id, shown)| OwnReliability {
        machine_id,
        windows: shown.into_iter().map(shown_view).collect(),
    });
    Ok(Json(FleetReliability {
        summary: summary.into_iter().map(fleet_view).collect(),
        data: data.collect(),
        next_cursor,
    }))
}
