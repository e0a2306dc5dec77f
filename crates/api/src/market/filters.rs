//! The filters and orders of a search.

use domain::{
    id::{AccountId, OfferId},
    money::UsdMicros,
    offer::GpuModelSlug,
    rate::UsdPerHour,
    time::Seconds,
};
use serde::{Deserialize, Serialize};
use store::offers::{OfferPosition, OfferSearch, OfferSort};
use utoipa::{IntoParams, ToSchema};

use crate::{
    AppState, Code, Problem, cursor, extract::Parameters, provider::is_region, views::page_limit,
};

/// The most models of one search.
const MAX_MODELS: usize = 16;

/// What to search for; what is left out does not matter.
#[derive(Deserialize, Serialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParams {
    /// One or more models of `/v1/gpu-models`, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(example = "rtx-4090")]
    gpu_model: Option<String>,
    /// Exactly so many GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu_count: Option<u16>,
    /// At least so much memory per GPU, in GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_vram_gb: Option<u32>,
    /// In this region or inside it: `de` finds `de-fra`.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// At most so many dollars per GPU and hour, such as `0.70`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "0.70")]
    #[schema(value_type = Option<String>)]
    price_lte: Option<UsdMicros>,
    /// With a shortest rental of at most so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_duration_lte: Option<u32>,
    /// That can be rented for so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_s: Option<u32>,
    /// Of this account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    provider: Option<AccountId>,
    /// `false` shows offers that are offline or taken, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<bool>,
    /// `price` (cheapest first, the default) or `-created` (newest first).
    #[serde(skip_serializing_if = "Option::is_none")]
    sort: Option<String>,
    /// 1 to 200; 50 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing)]
    cursor: Option<String>,
}

impl Parameters for SearchParams {
    const NAMES: &'static [&'static str] = &[
        "gpu_model",
        "gpu_count",
        "min_vram_gb",
        "region",
        "price_lte",
        "min_duration_lte",
        "duration_s",
        "provider",
        "available",
        "sort",
        "limit",
        "cursor",
    ];
}

fn refused(name: &str, detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    Problem::new(Code::InvalidRequest, detail.clone()).at(format!("?{name}"), detail)
}

impl SearchParams {
    /// The name of the list that a cursor belongs to: a cursor of one order is none of the other.
    pub(super) fn list(&self) -> String {
        format!("offers:{}", self.sort.as_deref().unwrap_or("price"))
    }

    /// The search in the store's words.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], [`Code::InvalidCursor`].
    pub(super) fn search(&self, app: &AppState) -> Result<OfferSearch, Problem> {
        let sort = match self.sort.as_deref() {
            None | Some("price") => OfferSort::Price,
            Some("-created") => OfferSort::Newest,
            Some(_) => return Err(refused("sort", "sort must be price or -created")),
        };
        if self.region.as_deref().is_some_and(|region| !is_region(region)) {
            return Err(refused("region", "region must be of the form de or de-fra"));
        }
        let now = app.now();
        let available = self.available.unwrap_or(true);
        Ok(OfferSearch {
            models: self.models()?,
            gpu_count: self.gpu_count,
            min_vram_gb: self.min_vram_gb,
            region: self.region.clone(),
            price_lte: self.price_lte.map(UsdPerHour),
            min_duration_lte: self.min_duration_lte.map(Seconds),
            duration: self.duration_s.map(Seconds),
            provider: self.provider,
            available_since: available.then(|| now.saturating_minus(app.config.offline_after)),
            sort,
            after: self.cursor.as_deref().map(|text| self.position(text)).transpose()?,
            limit: i64::from(page_limit(self.limit)?),
        })
    }

    fn models(&self) -> Result<Vec<String>, Problem> {
        let Some(list) = &self.gpu_model else {
            return Ok(Vec::new());
        };
        let models: Vec<String> = list.split(',').map(str::to_owned).collect();
        if models.len() > MAX_MODELS {
            return Err(refused("gpu_model", format!("at most {MAX_MODELS} models")));
        }
        for model in &models {
            GpuModelSlug::new(model.as_str())
                .map_err(|error| refused("gpu_model", error.to_string()))?;
        }
        Ok(models)
    }

    fn position(&self, text: &str) -> Result<OfferPosition, Problem> {
        let [price, id] = cursor::read::<2>(&self.list(), text)?;
        let price: u64 = price.parse().map_err(|_| cursor::invalid())?;
        let id: OfferId = id.parse().map_err(|_| cursor::invalid())?;
        Ok(OfferPosition { price: UsdPerHour(UsdMicros::new(price)), id })
    }
}
