//! An offer as anyone sees it.

use domain::{
    id::{AccountId, MachineId, OfferId},
    offer::{Isolation, OfferState, Reserved},
    time::Seconds,
};
use serde::{Deserialize, Serialize};
use store::offers::Offer;
use utoipa::ToSchema;

use crate::{
    AppState,
    views::{Time, Usd},
};

/// What disk costs, and how much there is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskPrice {
    /// A GB for a month of 720 hours, billed by the second with the GPUs; at most 100 dollars.
    pub(crate) per_gb_month: Usd,
    /// The most that can be rented with all of the machine's GPUs, in GB; with fewer of them, their share, rounded
    /// down.
    #[schema(example = 1000)]
    pub(crate) max_gb: u32,
}

/// What the network costs. It is sold as an allowance over the quoted duration: see the quote's lines.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkPrice {
    /// A GB sent from the machine; at most 100 dollars.
    pub(crate) up_per_gb: Usd,
    /// A GB received by the machine; at most 100 dollars.
    pub(crate) down_per_gb: Usd,
}

/// A discount for a long reservation.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReservedView {
    /// Quotes for at least so many seconds get it.
    #[schema(example = 604_800)]
    pub(crate) min_duration_s: u32,
    /// Off the price of the GPUs, in hundredths of a percent, 1 to 9000.
    #[schema(example = 1500)]
    pub(crate) discount_bps: u16,
}

impl From<&Reserved> for ReservedView {
    fn from(step: &Reserved) -> Self {
        Self { min_duration_s: step.min_duration.get(), discount_bps: step.discount_bps.get() }
    }
}

/// An offer.
#[derive(Serialize, ToSchema)]
pub(crate) struct OfferView {
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: OfferId,
    /// Grows with every change of its terms.
    #[schema(example = 1)]
    version: u32,
    /// `listed`, `paused` or `withdrawn`.
    #[schema(value_type = String, example = "listed")]
    state: OfferState,
    /// The account that earns.
    #[schema(value_type = String, example = "acc_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    provider: AccountId,
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: MachineId,
    #[schema(example = "de-fra")]
    region: String,
    #[schema(example = "rtx-4090")]
    gpu_model: String,
    /// The most GPUs of one rental.
    #[schema(example = 4)]
    gpu_count: u16,
    /// How many GPUs a rental can take; the last is `gpu_count`.
    #[schema(example = json!([1, 2, 4]))]
    chunks: Vec<u16>,
    /// The machine's GPUs that nobody rents now.
    #[schema(example = 3)]
    gpus_free: u32,
    /// Memory of one GPU.
    #[schema(example = 24)]
    vram_gb: u32,
    /// Per GPU and hour, gross: the renter pays this and nothing on top.
    price: Usd,
    /// Longer is cheaper; empty without discounts.
    reserved: Vec<ReservedView>,
    disk: DiskPrice,
    network: NetworkPrice,
    #[schema(value_type = u32, example = 60)]
    min_duration_s: Seconds,
    #[schema(value_type = u32, example = 86400)]
    max_duration_s: Seconds,
    /// Time is billed by the second: the escrow's rule, the same for all offers.
    #[schema(example = 1)]
    granularity_s: u32,
    /// What is billed at least once a rental has begun.
    #[schema(example = 1)]
    min_charge_s: u32,
    /// How long before the provider ends a rental the renter is told.
    #[schema(value_type = u32, example = 120)]
    notice_s: Seconds,
    /// `machine` (nobody else is on it), `gpu` (whole GPUs of one's own) or `mig` (slices that the hardware keeps
    /// apart).
    #[schema(value_type = String, example = "gpu")]
    isolation: Isolation,
    /// No rental runs beyond this time; null without such a time.
    available_until: Option<Time>,
    /// Whether the machine was heard of lately.
    online: bool,
    /// Whether a quote for its smallest chunk and its shortest time can be had now: it is listed, online and not draining,
    /// enough GPUs are free, and neither its end nor an announced time without service comes before such a rental is over,
    /// which may begin as late as a quote allows.
    available: bool,
    created_at: Time,
    updated_at: Time,
}

impl OfferView {
    pub(crate) fn new(offer: &Offer, app: &AppState) -> Self {
        let now = app.now();
        let online = crate::provider::is_online(offer.last_heartbeat_at, &app.config, now);
        let terms = &offer.terms;
        let free = offer.gpus_free >= u32::from(terms.least_chunk());
        let begins = now.saturating_plus(app.store.policy().start_window());
        let ends = begins.saturating_plus(terms.min_duration);
        let mut limits = [terms.available_until, offer.closed_from].into_iter().flatten();
        let lasts = limits.all(|until| ends <= until);
        Self {
            id: offer.id,
            version: offer.version,
            state: offer.state,
            provider: offer.account,
            machine_id: offer.machine,
            region: offer.region.clone(),
            gpu_model: offer.model.clone(),
            gpu_count: terms.gpu_count,
            chunks: terms.chunks.clone(),
            gpus_free: offer.gpus_free,
            vram_gb: offer.vram_gb,
            price: terms.price.usd().into(),
            reserved: terms.reserved.iter().map(ReservedView::from).collect(),
            disk: DiskPrice { per_gb_month: terms.disk_price.into(), max_gb: terms.disk_gb },
            network: NetworkPrice {
                up_per_gb: terms.up_price.into(),
                down_per_gb: terms.down_price.into(),
            },
            min_duration_s: terms.min_duration,
            max_duration_s: terms.max_duration,
            granularity_s: 1,
            min_charge_s: 1,
            notice_s: terms.notice,
            isolation: terms.isolation,
            available_until: terms.available_until.map(Time),
            online,
            available: online && offer.open && free && lasts && offer.state == OfferState::Listed,
            created_at: Time(offer.created_at),
            updated_at: Time(offer.updated_at),
        }
    }
}
