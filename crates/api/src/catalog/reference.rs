//! What others ask: published prices, dated and sourced.

use axum::{http::HeaderMap, response::Response};
use domain::{
    rate::UsdPerHour,
    reference::{self, PlatformTerms, PriceUnit, ReferencePrice},
    time::Seconds,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{KEEP_S, models_called};
use crate::{
    Problem, cache,
    extract::{Parameters, Params, distance},
    views::Usd,
};

/// What every answer with these prices says.
pub(crate) const NOTICE: &str = "Prices that others published, with their date and source, for comparing. They are no \
                                 offers: nothing here can be booked, and nothing is corrected where sources contradict \
                                 each other.";

/// From the lowest to the highest.
#[derive(Serialize, ToSchema)]
pub(crate) struct PriceSpanView {
    pub(crate) low: Usd,
    pub(crate) high: Usd,
}

impl PriceSpanView {
    fn of(low: Option<UsdPerHour>, high: Option<UsdPerHour>) -> Option<Self> {
        Some(Self { low: low?.usd().into(), high: high?.usd().into() })
    }
}

/// A price that somebody published.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReferencePriceView {
    #[schema(example = "RunPod")]
    provider: &'static str,
    /// The kind of service.
    #[schema(example = "secure_cloud")]
    kind: Option<&'static str>,
    /// The provider's name of the instance.
    instance: Option<&'static str>,
    /// The GPU, as the source writes it.
    #[schema(example = "RTX_4090")]
    gpu: Option<&'static str>,
    /// The models of `/v1/gpu-models` that this may mean; several where the source leaves form or memory open.
    #[schema(example = json!(["rtx-4090"]))]
    gpu_models: Vec<&'static str>,
    /// GPUs in what the price is for.
    #[schema(example = 1)]
    gpu_count: Option<u32>,
    /// Per hour; null where the source has another unit, whose amount is in the note.
    price: Option<PriceSpanView>,
    /// `gpu_hour`, `instance_hour`, `unstated_hour`, or one without an hourly price.
    #[schema(value_type = String, example = "gpu_hour")]
    unit: PriceUnit,
    /// Where, as the source says.
    region: Option<&'static str>,
    /// When it was seen; null where the source has no date.
    #[schema(example = "2026-02-11")]
    observed_on: Option<&'static str>,
    /// Where it was published.
    source: &'static str,
    /// Circumstances, and where sources contradict each other.
    note: Option<&'static str>,
    /// By the note this is the price of something else: nothing is ranked by it.
    #[schema(example = false)]
    contradicted: bool,
}

impl From<&'static ReferencePrice> for ReferencePriceView {
    fn from(price: &'static ReferencePrice) -> Self {
        Self {
            provider: &price.provider,
            kind: price.tier.as_deref(),
            instance: price.instance.as_deref(),
            gpu: price.gpu.as_deref(),
            gpu_models: price.models.iter().map(|model| model.slug.as_str()).collect(),
            gpu_count: price.gpu_count,
            price: PriceSpanView::of(price.low, price.high),
            unit: price.unit,
            region: price.region.as_deref(),
            observed_on: price.observed_on.as_deref(),
            source: &price.source,
            note: price.note.as_deref(),
            contradicted: price.contradicted,
        }
    }
}

/// How a platform does business, as its terms were described; null is "not stated".
#[derive(Serialize, ToSchema)]
pub(crate) struct PlatformView {
    #[schema(example = "RunPod")]
    provider: &'static str,
    /// The least that is billed, which is taken for the step that time is rounded to.
    #[schema(value_type = Option<u32>, example = 1)]
    minimum_billing_s: Option<Seconds>,
    /// From asking to having, at best.
    #[schema(value_type = Option<u32>, example = 120)]
    setup_s_low: Option<Seconds>,
    /// The same, at worst.
    #[schema(value_type = Option<u32>, example = 300)]
    setup_s_high: Option<Seconds>,
    /// The platform's part, at least.
    #[schema(example = 2000)]
    fee_bps_low: Option<u16>,
    /// The same, at most.
    #[schema(example = 2000)]
    fee_bps_high: Option<u16>,
    /// Whether renters must show who they are: `yes`, `no`, `optional`.
    kyc: Option<&'static str>,
    /// Whether coins are taken.
    crypto: Option<&'static str>,
    /// Promised uptime.
    sla_uptime_percent: Option<&'static str>,
    consumer_gpus: Option<&'static str>,
    /// Whether there are interruptible machines.
    spot: Option<&'static str>,
    /// Discounts for binding oneself.
    commitments: Option<&'static str>,
    source: &'static str,
    note: Option<&'static str>,
}

impl From<&'static PlatformTerms> for PlatformView {
    fn from(terms: &'static PlatformTerms) -> Self {
        Self {
            provider: &terms.provider,
            minimum_billing_s: terms.minimum_billing,
            setup_s_low: terms.setup_low,
            setup_s_high: terms.setup_high,
            fee_bps_low: terms.fee_bps_low,
            fee_bps_high: terms.fee_bps_high,
            kyc: terms.kyc.as_deref(),
            crypto: terms.crypto.as_deref(),
            sla_uptime_percent: terms.sla_uptime_percent.as_deref(),
            consumer_gpus: terms.consumer_gpus.as_deref(),
            spot: terms.spot.as_deref(),
            commitments: terms.commitments.as_deref(),
            source: &terms.source,
            note: terms.note.as_deref(),
        }
    }
}

/// Reference prices.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReferenceList {
    /// What these figures are, and what they are not.
    notice: &'static str,
    /// When the tables were collected.
    #[schema(example = "2026-02-11")]
    collected_on: &'static str,
    data: Vec<ReferencePriceView>,
    /// The platforms that the prices are of, as far as their terms are known.
    platforms: Vec<PlatformView>,
}

/// Which prices; what is left out does not matter.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReferenceParams {
    /// As the table writes it, in upper or lower case; a name that is not in it is refused with the nearest (422).
    #[param(example = "RunPod")]
    provider: Option<String>,
    /// A GPU model in any spelling; prices that leave open which form is meant are among the answer.
    #[param(example = "rtx-4090")]
    gpu_model: Option<String>,
    /// The kind of service, such as `on_demand`, `spot` or `marketplace`; refused as `provider` is.
    #[param(example = "on_demand")]
    kind: Option<String>,
    /// `gpu_hour`, `instance_hour` and others.
    #[param(value_type = Option<String>)]
    unit: Option<PriceUnit>,
}

impl Parameters for ReferenceParams {
    const NAMES: &'static [&'static str] = &["provider", "gpu_model", "kind", "unit"];
}

/// Refuses a name that the table does not have, in upper or lower case, with the one that has the fewest letters to change, if
/// those are few.
fn known(
    parameter: &str,
    wanted: Option<&str>,
    names: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), Problem> {
    let Some(wanted) = wanted else { return Ok(()) };
    if names.clone().any(|name| name.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    let short: String = wanted.chars().take(64).collect();
    let text = short.to_ascii_lowercase();
    let few = if text.len() > 3 { 2 } else { 1 };
    let by_distance = names
        .filter(|name| !name.is_empty())
        .map(|name| (distance(&text, &name.to_ascii_lowercase()), name));
    let nearest = by_distance.min_by_key(|(letters, _)| *letters);
    let nearest = nearest.filter(|(letters, _)| *letters <= few).map(|(_, name)| name);
    let hint = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    let detail = format!("{short:?} is no {parameter} that is known here{hint}");
    let problem = Problem::invalid(format!("?{parameter}"), detail);
    Err(match nearest {
        Some(name) => problem.with("nearest", name),
        None => problem,
    })
}

/// What others ask for GPUs, from published sources: for comparing, not for booking.
#[utoipa::path(get, path = "/v1/reference-prices", tag = "market", params(ReferenceParams),
    responses((status = 200, body = ReferenceList), (status = 304, description = "The caller has it already.")))]
pub(super) async fn list(
    headers: HeaderMap,
    Params(params): Params<ReferenceParams>,
) -> Result<Response, Problem> {
    let models =
        params.gpu_model.as_deref().map(|name| models_called(name, "?gpu_model")).transpose()?;
    let platforms = reference::platforms().iter().map(|terms| terms.provider.as_str());
    let providers = reference::prices().iter().map(|price| price.provider.as_str());
    known("provider", params.provider.as_deref(), providers.chain(platforms))?;
    let kinds = reference::prices().iter().map(|price| price.tier.as_deref().unwrap_or_default());
    known("kind", params.kind.as_deref(), kinds)?;
    let same = |wanted: &Option<String>, found: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(found))
    };
    let fits = |price: &&'static ReferencePrice| {
        same(&params.provider, &price.provider)
            && same(&params.kind, price.tier.as_deref().unwrap_or_default())
            && params.unit.is_none_or(|unit| unit == price.unit)
            && models
                .as_ref()
                .is_none_or(|wanted| price.models.iter().any(|model| wanted.contains(model)))
    };
    let found: Vec<&'static ReferencePrice> = reference::prices().iter().filter(fits).collect();
    let shown = |terms: &&'static PlatformTerms| {
        let all = params.gpu_model.is_none() && params.kind.is_none() && params.unit.is_none();
        same(&params.provider, &terms.provider)
            && (all || found.iter().any(|price| price.provider == terms.provider))
    };
    let platforms = reference::platforms().iter().filter(shown).map(PlatformView::from).collect();
    let data = found.into_iter().map(ReferencePriceView::from).collect();
    let list =
        ReferenceList { notice: NOTICE, collected_on: reference::COLLECTED_ON, data, platforms };
    cache::json(&headers, KEEP_S, &list)
}
