//! Regions.

use axum::{http::HeaderMap, response::Response};
use domain::catalog::{self, Continent};
use market::language::NoName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::KEEP_S;
use crate::{
    Problem, cache,
    extract::{Parameters, Params, distance},
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

fn country_of(code: &str) -> &str {
    code.split('-').next().unwrap_or(code)
}

/// The three regions that are spelled most alike, those of the same country first.
pub(crate) fn nearest_regions(text: &str) -> Vec<&'static str> {
    let wanted = country_of(text);
    let mut near: Vec<&'static str> =
        catalog::regions().iter().map(|region| region.code.as_str()).collect();
    near.sort_by_key(|code| (country_of(code) != wanted, distance(text, code)));
    near.truncate(3);
    near
}

/// Why a name is no place's, and the one that may have been meant.
pub(crate) fn no_place(name: &str) -> NoName {
    let short: String = name.chars().take(64).collect();
    let nearest = nearest_place(&short.replace('_', " ").to_ascii_lowercase());
    let hint = match nearest {
        Some(code) => format!("did you mean {code}?"),
        None => "see /v1/regions".to_owned(),
    };
    let reason = format!("{short:?} is no region or country that is known here; {hint}");
    NoName { reason, nearest }
}

/// The country or the region whose code or name has the fewest letters to change, if those are few; else the region of the
/// same country that is spelled most alike.
fn nearest_place(text: &str) -> Option<&'static str> {
    if text == "uk" {
        return Some("gb");
    }
    let spellings = catalog::regions().iter().flat_map(|region| {
        let country = country_of(&region.code);
        [
            (country, country),
            (region.code.as_str(), region.code.as_str()),
            (region.country.as_str(), country),
            (region.name.as_str(), region.code.as_str()),
        ]
    });
    let by_distance = spellings.map(|(name, code)| {
        let name = name.to_ascii_lowercase();
        // of `usa` rather `us` than `ua`
        ((distance(text, &name), !text.starts_with(&name)), code)
    });
    let ((letters, _), code) = by_distance.min_by_key(|(key, _)| *key)?;
    // of two letters two are all
    let few = if text.len() > 2 { 2 } else { 1 };
    let near = (letters <= few).then_some(code);
    near.or_else(|| {
        let alike = nearest_regions(text).first().copied();
        alike.filter(|code| text.contains('-') && country_of(code) == country_of(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_that_may_have_been_meant_is_named() {
        for (name, nearest) in [
            ("Germany", Some("de")),
            ("germny", Some("de")),
            ("united_states", Some("us")),
            ("Vienna", Some("at-vie")),
            ("uk", Some("gb")),
            ("usa", Some("us")),
            ("de-fr", Some("de-fra")),
            ("us-ny", Some("us-nyc")),
            ("moonbase", None),
            ("zz-old-place", None),
        ] {
            let said = no_place(name);
            assert_eq!(said.nearest, nearest, "{said:?}");
            assert_eq!(said.reason.contains("did you mean"), nearest.is_some(), "{said:?}");
        }
        let far = no_place("us-far-away").nearest;
        assert!(far.is_some_and(|code| code.starts_with("us-")), "{far:?}");
        assert!(no_place("zz").nearest.is_some_and(|code| code.len() == 2));
    }
}
