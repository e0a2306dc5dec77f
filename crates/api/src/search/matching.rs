//! Matching: needs in, the cheapest ways to satisfy them out, and why the rest was not taken.

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
};
use domain::{id::OfferId, money::UsdMicros};
use market::plan::{
    Explained, MAX_EXPLAINED, MAX_GPUS, MAX_JUDGED, MAX_PROPOSALS, Match, Matching, Need, Part,
    Proposal, Refusal,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    SearchParams,
    index::Market,
    text::{Id, Micros},
    turns::{self, AT_ONCE},
    view::TotalView,
};
use crate::{AppState, Problem, extract::Body, views::Usd};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(matching))
}

/// What is needed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchRequest {
    /// GPUs in all, 1 to 512.
    #[schema(example = 8)]
    gpus: u16,
    /// For how many hours, as a decimal.
    #[schema(example = "24")]
    hours: String,
    /// Models by any of their names; left out for any.
    #[serde(default)]
    #[schema(example = json!(["h100-sxm", "a100-80gb-sxm"]))]
    gpu_models: Vec<String>,
    /// At least so much memory per GPU, in GB.
    #[schema(example = 80)]
    min_vram_gb: Option<u32>,
    /// Disk on each machine, in GB.
    #[schema(example = 200)]
    disk_gb: Option<u32>,
    /// GB that each machine sends.
    #[schema(example = 100)]
    egress_gb: Option<u32>,
    /// GB that each machine receives.
    #[schema(example = 100)]
    ingress_gb: Option<u32>,
    /// Regions or countries; left out for any.
    #[serde(default)]
    #[schema(example = json!(["de", "us-lax"]))]
    regions: Vec<String>,
    /// Tiers; left out for any.
    #[serde(default)]
    #[schema(example = json!(["verified", "datacenter"]))]
    tiers: Vec<String>,
    /// At least this reliability, 0 to 1.
    #[schema(example = "0.95")]
    reliability_gte: Option<String>,
    /// Ready within so many seconds for 95 of 100 rentals.
    #[schema(example = "60")]
    ready_p95_lte: Option<String>,
    /// Dollars in all.
    budget: Option<Usd>,
    /// `on_demand` (the default), or `reserved`: only offers with a discount for this duration.
    #[schema(example = "on_demand")]
    kind: Option<String>,
    /// Further conditions in the language of the search.
    #[schema(example = "static_ip=true inet_up>=500")]
    q: Option<String>,
    /// Whether several machines of one provider in one region will do; true if left out.
    split: Option<bool>,
    /// How many proposals, 1 to 20; 5 if left out.
    limit: Option<u8>,
    /// Of how many refused offers, the cheapest first, all reasons are told: 0 to 50; none if left out.
    #[schema(example = 10)]
    explain: Option<u8>,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub(super) struct MatchView {
    /// The cheapest first; the others are alternatives. None if nothing satisfies everything.
    proposals: Vec<ProposalView>,
    /// Offers of the right models that were looked at one by one.
    #[schema(example = 1234)]
    looked_at: u64,
    /// True if there were more. Nothing is missing from the proposals; but of each model only the cheapest 100,000 are
    /// looked at in any case, and of the others only those that may do, so `refusals` do not count all.
    cut: bool,
    /// Why offers were not taken, the most frequent reason first.
    refusals: Vec<RefusalView>,
    /// The cheapest offers that were not taken, by price per GPU and hour, each with everything that stands against it; as
    /// many as `explain` says, if there are.
    explained: Vec<ExplainedView>,
}

/// All of these together: quote every part and book the quotes at once (`/v1/rentals/group`), or none. There are at most
/// eight, of one provider in one region.
#[derive(Serialize, ToSchema)]
struct ProposalView {
    parts: Vec<PartView>,
    #[schema(value_type = Usd)]
    total: Micros,
}

/// A rental of a proposal.
#[derive(Serialize, ToSchema)]
struct PartView {
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    offer_id: Id,
    /// The version that was looked at; a quote of another has another price.
    #[schema(example = 1)]
    version: u32,
    #[schema(value_type = String, example = "acc_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    provider: Id,
    #[schema(example = "h100-sxm")]
    gpu_model: String,
    #[schema(example = "de-fra")]
    region: String,
    #[schema(example = "datacenter")]
    tier: &'static str,
    #[schema(example = 4)]
    gpus: u16,
    #[schema(value_type = Usd)]
    price: Micros,
    cost: TotalView,
}

/// How many offers a reason kept out.
#[derive(Serialize, ToSchema)]
struct RefusalView {
    /// The condition that was not met: the name of a fact, or `region`, `offline`, `draining`, `gpus_taken`,
    /// `gpu_count`, `duration`, `available_until`, `disk_gb`, `reserved`, `budget`.
    #[schema(example = "reliability")]
    reason: &'static str,
    /// Offers that do not meet it.
    #[schema(example = 120)]
    offers: u64,
    /// Offers that meet everything else: what giving this condition up would bring.
    #[schema(example = 7)]
    alone: u64,
    /// The cheapest of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<NearestView>,
}

/// An offer that was not taken.
#[derive(Serialize, ToSchema)]
struct ExplainedView {
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    offer_id: Id,
    #[schema(example = "h100-sxm")]
    gpu_model: String,
    #[schema(example = "de-fra")]
    region: String,
    #[schema(value_type = Usd)]
    price: Micros,
    /// Everything that stands against it, in the words of `refusals`.
    #[schema(value_type = Vec<String>, example = json!(["reliability", "duration"]))]
    reasons: Vec<&'static str>,
}

/// An offer that one condition kept out.
#[derive(Serialize, ToSchema)]
struct NearestView {
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    offer_id: OfferId,
    #[schema(value_type = Usd)]
    price: Micros,
}

/// Finds the cheapest ways to get so many GPUs for so long: one offer, or several machines of one provider in one region.
/// Puts together from a provider's cheapest 64 machines in a region; those beyond are refused as `gpu_count` where the others
/// do not do. Nothing is held: quote and book what you choose.
#[utoipa::path(post, path = "/v1/match", tag = "market", request_body = MatchRequest,
    responses((status = 200, body = MatchView),
              (status = 503, description = "Others are thought about already, or four from the same network: come again after `Retry-After`.")))]
async fn matching(
    State(app): State<AppState>,
    request: Request,
) -> Result<Json<MatchView>, Problem> {
    let network = app.limits.network(&request);
    let Body(request) = Body::<MatchRequest>::from_request(request, &app).await?;
    let need = request.need(&app)?;
    let found = turns::think(&app, network, move |market| thought(market, &need)).await?;
    Ok(Json(MatchView::new(found)))
}

/// What comes of a need. The index is let go of between two looks, so that whoever changes it, and all searches that wait
/// for that, need not wait for the whole.
fn thought(market: &Market, need: &Need) -> Result<Match, Problem> {
    let mut matching = Matching::new(need);
    while !market.read(|index| matching.look(index, AT_ONCE))? {}
    matching.put_together();
    market.read(|index| matching.told(index))
}

impl MatchRequest {
    fn need(self, app: &AppState) -> Result<Need, Problem> {
        if self.gpus == 0 || self.gpus > MAX_GPUS {
            return Err(Problem::invalid("/gpus", format!("1 to {MAX_GPUS} GPUs can be matched")));
        }
        let proposals = usize::from(self.limit.unwrap_or(5));
        if proposals == 0 || proposals > MAX_PROPOSALS {
            return Err(Problem::invalid("/limit", format!("limit must be 1 to {MAX_PROPOSALS}")));
        }
        let explain = usize::from(self.explain.unwrap_or(0));
        if explain > MAX_EXPLAINED {
            let detail = format!("explain must be 0 to {MAX_EXPLAINED}");
            return Err(Problem::invalid("/explain", detail));
        }
        let joined = |names: Vec<String>| (!names.is_empty()).then(|| names.join(","));
        let params = SearchParams {
            hours: Some(self.hours),
            gpu_model: joined(self.gpu_models),
            min_vram_gb: self.min_vram_gb,
            disk_gb: self.disk_gb,
            egress_gb: self.egress_gb,
            ingress_gb: self.ingress_gb,
            region: joined(self.regions),
            tier: joined(self.tiers),
            reliability_gte: self.reliability_gte,
            ready_p95_lte: self.ready_p95_lte,
            kind: self.kind,
            q: self.q,
            ..SearchParams::default()
        };
        Ok(Need {
            query: params.asked(app).map_err(Problem::in_body)?,
            gpus: self.gpus,
            budget: self.budget.map(|usd| UsdMicros::get(usd.amount)),
            split: self.split.unwrap_or(true),
            proposals,
            explain,
            judged: MAX_JUDGED,
        })
    }
}

impl MatchView {
    fn new(found: Match) -> Self {
        Self {
            proposals: found.proposals.into_iter().map(ProposalView::new).collect(),
            looked_at: found.looked_at,
            cut: found.cut,
            refusals: found.refusals.into_iter().map(RefusalView::new).collect(),
            explained: found.explained.into_iter().map(ExplainedView::new).collect(),
        }
    }
}

impl ProposalView {
    fn new(proposal: Proposal) -> Self {
        let parts = proposal.parts.into_iter().map(PartView::new).collect();
        Self { parts, total: Micros(proposal.total) }
    }
}

impl PartView {
    fn new(part: Part) -> Self {
        let Part { listing, gpus, total } = part;
        Self {
            offer_id: Id { prefix: "ofr", id: listing.id },
            version: listing.version,
            provider: Id { prefix: "acc", id: listing.provider },
            tier: listing.tier().as_str(),
            gpu_model: listing.model,
            region: listing.region,
            gpus,
            price: Micros(listing.price_micros.into()),
            cost: TotalView::from(total),
        }
    }
}

impl ExplainedView {
    fn new(explained: Explained) -> Self {
        let Explained { listing, reasons } = explained;
        Self {
            offer_id: Id { prefix: "ofr", id: listing.id },
            gpu_model: listing.model,
            region: listing.region,
            price: Micros(listing.price_micros.into()),
            reasons: reasons.into_iter().map(|reason| reason.as_str()).collect(),
        }
    }
}

impl RefusalView {
    fn new(refusal: Refusal) -> Self {
        let nearest = |(id, price): (uuid::Uuid, u32)| NearestView {
            offer_id: OfferId::from_uuid(id),
            price: Micros(price.into()),
        };
        Self {
            reason: refusal.reason.as_str(),
            offers: refusal.offers,
            alone: refusal.alone,
            nearest: refusal.nearest.map(nearest),
        }
    }
}
