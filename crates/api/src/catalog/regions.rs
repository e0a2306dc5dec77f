//! Regions.

use axum::{http::HeaderMap, response::Response};
use domain::catalog::{self, Continent};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::KEEP_S;
use crate::{
    Problem, cache,
    extract::{Parameters, Params},
};

/// A place where machines stand.
#[derive(Serialize, ToSchema)]
pub(crate) struct RegionView {
    /// ISO 3166 country code and a code of the place; a filter of `de` finds all of `de-`.
    #[schema(example = "de-fra")]
    code: &'static str,
    #[schema(example = "Frankfurt am Main")]
    name: &'static str,
    #[schema(example = "Germany")]
    country: &'static str,
    /// `africa`, `asia`, `europe`, `north-america`, `oceania` or `south-america`.
    #[schema(value_type = String, example = "europe")]
    continent: Continent,
}

/// Regions.
#[derive(Serialize, ToSchema)]
pub(crate) struct RegionList {
    data: Vec<RegionView>,
}

/// Which regions; what is left out does not matter.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RegionParams {
    #[param(value_type = Option<String>, example = "europe")]
    continent: Option<Continent>,
}

impl Parameters for RegionParams {
    const NAMES: &'static [&'static str] = &["continent"];
}

/// The regions that machines can be registered in.
#[utoipa::path(get, path = "/v1/regions", tag = "market", params(RegionParams),
    responses((status = 200, body = RegionList), (status = 304, description = "The caller has it already.")))]
pub(super) async fn list(
    headers: HeaderMap,
    Params(params): Params<RegionParams>,
) -> Result<Response, Problem> {
    let data = catalog::regions()
        .iter()
        .filter(|region| params.continent.is_none_or(|continent| continent == region.continent))
        .map(|region| RegionView {
            code: &region.code,
            name: &region.name,
            country: &region.country,
            continent: region.continent,
        })
        .collect();
    cache::json(&headers, KEEP_S, &RegionList { data })
}
