//! The search over what can be rented.

use domain::{
    id::{AccountId, OfferId},
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};

use super::{Offer, Row};
use crate::{Connection, StoreError, convert::ts};

/// The order of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferSort {
    /// Cheapest per GPU and hour first, then by id.
    Price,
    /// Newest first.
    Newest,
}

/// Where a page of a search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferPosition {
    /// Price per GPU and hour of the last offer seen; not looked at when sorting by age.
    pub price: UsdPerHour,
    /// Id of the last offer seen.
    pub id: OfferId,
}

/// What is looked for; `None` leaves a condition out.
#[derive(Clone, Debug)]
pub struct OfferSearch {
    /// One of these models; empty for any.
    pub models: Vec<String>,
    /// Exactly so many GPUs: an offer is rented whole.
    pub gpu_count: Option<u16>,
    /// At least so much memory per GPU, in GB.
    pub min_vram_gb: Option<u32>,
    /// In this region, or one inside it: `de` finds `de-fra`.
    pub region: Option<String>,
    /// At most this price per GPU and hour.
    pub price_lte: Option<UsdPerHour>,
    /// With a shortest rental of at most this.
    pub min_duration_lte: Option<Seconds>,
    /// That can be rented for exactly so long.
    pub duration: Option<Seconds>,
    /// Of this provider.
    pub provider: Option<AccountId>,
    /// Only offers whose machine was heard of at or after this time and has all its GPUs free.
    pub available_since: Option<UnixSeconds>,
    /// In which order.
    pub sort: OfferSort,
    /// After which offer.
    pub after: Option<OfferPosition>,
    /// At most so many.
    pub limit: i64,
}

/// The listed offers that a search finds.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn search(
    connection: &mut Connection,
    search: &OfferSearch,
    now: UnixSeconds,
) -> Result<Vec<Offer>, StoreError> {
    let now = ts(now)?;
    // a number too large for its column finds what the largest would find
    let gpu_count = search.gpu_count.map(|count| i16::try_from(count).unwrap_or(i16::MAX));
    let min_vram = search.min_vram_gb.map(|vram| i32::try_from(vram).unwrap_or(i32::MAX));
    let micros = |rate: UsdPerHour| i64::try_from(rate.usd().get()).unwrap_or(i64::MAX);
    let price_lte = search.price_lte.map(micros);
    let min_duration = search.min_duration_lte.map(|span| i64::from(span.get()));
    let duration = search.duration.map(|span| i64::from(span.get()));
    let provider = search.provider.map(AccountId::uuid);
    let since = search.available_since.map(ts).transpose()?;
    let after_price = search.after.map(|after| micros(after.price));
    let after_id = search.after.map(|after| after.id.uuid());
    macro_rules! page {
        ($tail:literal) => {
            offers!(
                [
                    "WHERE o.state = 'listed'
                       AND (cardinality($2::text[]) = 0 OR v.model = ANY($2))
                       AND ($3::smallint IS NULL OR v.gpu_count = $3)
                       AND ($4::int IS NULL OR g.vram_gb >= $4)
                       AND ($5::text IS NULL OR m.region = $5 OR starts_with(m.region, $5 || '-'))
                       AND ($6::bigint IS NULL OR v.usd_micros_per_hour <= $6)
                       AND ($7::bigint IS NULL OR v.min_duration_s <= $7)
                       AND ($8::bigint IS NULL OR $8 BETWEEN v.min_duration_s AND v.max_duration_s)
                       AND ($9::uuid IS NULL OR o.account_id = $9)
                       AND ($10::timestamptz IS NULL
                            OR (m.last_heartbeat_at >= $10
                                AND free.gpus >= coalesce(v.chunks[1], v.gpu_count)))",
                    $tail
                ],
                now, &search.models, gpu_count, min_vram, search.region, price_lte, min_duration,
                duration, provider, since, after_price, after_id, search.limit,
            )
            .fetch_all(connection)
            .await?
        };
    }
    // one text per order, so that each can walk its index
    let rows = match search.sort {
        OfferSort::Price => page!(
            " AND ($11::bigint IS NULL OR (v.usd_micros_per_hour, v.offer_id) > ($11, $12::uuid))
              ORDER BY v.usd_micros_per_hour, v.offer_id LIMIT $13"
        ),
        OfferSort::Newest => {
            page!(" AND ($11::bigint IS NULL OR o.id < $12::uuid) ORDER BY o.id DESC LIMIT $13")
        }
    };
    rows.into_iter().map(Offer::try_from).collect()
}
