//! What an offer is made of and changed by, and what is refused.

use domain::{
    id::MachineId,
    money::Bps,
    offer::{GpuModelSlug, Isolation, OfferError, OfferState, OfferTerms, Reserved},
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};
use serde::{Deserialize, Deserializer};
use store::machines::Machine;
use utoipa::ToSchema;

use crate::{
    Problem,
    market::{DiskPrice, NetworkPrice, ReservedView},
    views::{Time, Usd},
};

/// The notice if none is stated.
const DEFAULT_NOTICE: Seconds = Seconds(120);
/// How the vendor's ids of slices of a GPU begin.
const SLICE: &str = "MIG-";

/// An offer to be listed.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "machine_id": "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f",
    "price": {"amount": "0.65", "currency": "USD"}, "gpu_count": 4, "chunks": [1, 2, 4],
    "min_duration_s": 60, "max_duration_s": 2678400,
    "reserved": [{"min_duration_s": 604800, "discount_bps": 1000}],
    "disk": {"per_gb_month": {"amount": "0.10", "currency": "USD"}, "max_gb": 1000},
    "network": {"up_per_gb": {"amount": "0.02", "currency": "USD"},
                "down_per_gb": {"amount": "0", "currency": "USD"}},
    "notice_s": 300, "available_until": "2027-12-31T00:00:00Z",
}))]
pub(crate) struct OfferRequest {
    /// The machine that is offered; it has one live offer at a time.
    #[schema(value_type = String)]
    pub(super) machine_id: MachineId,
    /// The model that you take the machine's GPUs for: if they are another, nothing is listed.
    #[schema(value_type = Option<String>)]
    gpu_model: Option<GpuModelSlug>,
    /// Per GPU and hour, gross of the platform's fee; above 0, at most 1,000 dollars.
    price: Usd,
    /// The most of the machine's GPUs that one rental takes.
    gpu_count: u16,
    /// How many GPUs a rental can take: ascending, the last is `gpu_count`; only all together if left out.
    chunks: Option<Vec<u16>>,
    /// The shortest rental in seconds, at least 1.
    #[schema(value_type = u32)]
    min_duration_s: Seconds,
    /// The longest rental in seconds, at most 31 days.
    #[schema(value_type = u32)]
    max_duration_s: Seconds,
    /// Longer is cheaper: durations and discounts ascend; none if left out.
    reserved: Option<Vec<ReservedView>>,
    /// Disk to be rented with the GPUs; none if left out.
    disk: Option<DiskPrice>,
    /// What the network costs; nothing if left out.
    network: Option<NetworkPrice>,
    /// How long before you end a rental the renter is told, in seconds, at most 7 days; 120 if left out.
    #[schema(value_type = Option<u32>)]
    notice_s: Option<Seconds>,
    /// `machine` or `gpu`, which it is if left out; slices of GPUs (`mig`) are not taken.
    #[schema(value_type = Option<String>)]
    isolation: Option<Isolation>,
    /// No rental runs beyond this time; without end if left out.
    pub(super) available_until: Option<Time>,
}

/// A change of an offer: what is left out stays.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"price": {"amount": "0.70", "currency": "USD"}}))]
pub(crate) struct OfferPatch {
    price: Option<Usd>,
    /// Where GPUs are rented all together only, `chunks` follows.
    gpu_count: Option<u16>,
    chunks: Option<Vec<u16>>,
    #[schema(value_type = Option<u32>)]
    min_duration_s: Option<Seconds>,
    #[schema(value_type = Option<u32>)]
    max_duration_s: Option<Seconds>,
    /// The whole schedule; `[]` takes all discounts away.
    reserved: Option<Vec<ReservedView>>,
    disk: Option<DiskPrice>,
    network: Option<NetworkPrice>,
    #[schema(value_type = Option<u32>)]
    notice_s: Option<Seconds>,
    #[schema(value_type = Option<String>)]
    isolation: Option<Isolation>,
    /// `null` takes the end away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) available_until: Option<Option<Time>>,
    /// `listed` or `paused`.
    #[schema(value_type = Option<String>, example = "paused")]
    pub(super) state: Option<OfferState>,
}

/// Tells `null` from nothing.
fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl OfferRequest {
    /// The terms, if they are acceptable and the machine can keep them.
    ///
    /// # Errors
    /// [`Code::ValidationFailed`](crate::Code::ValidationFailed) with the place.
    pub(super) fn terms(self, machine: &Machine) -> Result<OfferTerms, Problem> {
        let model = machine.gpus.first().map(|gpu| gpu.model.as_str()).unwrap_or_default();
        if self.gpu_model.as_ref().is_some_and(|claimed| claimed.as_str() != model) {
            let detail = format!("the machine's GPUs are {model}");
            return Err(Problem::invalid("/gpu_model", detail));
        }
        let disk = self.disk;
        let price = UsdPerHour(self.price.amount);
        let plain =
            OfferTerms::plain(price, self.gpu_count, self.min_duration_s, self.max_duration_s);
        let terms = checked(OfferTerms {
            chunks: self.chunks.unwrap_or_else(|| plain.chunks.clone()),
            reserved: steps(self.reserved.unwrap_or_default())?,
            disk_price: disk.map_or(plain.disk_price, |disk| disk.per_gb_month.amount),
            disk_gb: disk.map_or(0, |disk| disk.max_gb),
            up_price: self.network.map_or(plain.up_price, |net| net.up_per_gb.amount),
            down_price: self.network.map_or(plain.down_price, |net| net.down_per_gb.amount),
            notice: self.notice_s.unwrap_or(DEFAULT_NOTICE),
            isolation: self.isolation.unwrap_or(Isolation::Gpu),
            available_until: self.available_until.map(|until| until.0),
            ..plain
        })?;
        check_disk(&terms, machine)?;
        check_hardware(&terms, machine)?;
        Ok(terms)
    }
}

impl OfferPatch {
    /// Takes the offer off the market and changes nothing else.
    pub(super) fn withdrawal() -> Self {
        Self { state: Some(OfferState::Withdrawn), ..Self::default() }
    }

    /// # Errors
    /// [`Code::ValidationFailed`](crate::Code::ValidationFailed) if it withdraws: there is no way back from that, so
    /// it has a verb of its own.
    pub(super) fn check_state(&self) -> Result<(), Problem> {
        if self.state == Some(OfferState::Withdrawn) {
            return Err(Problem::invalid("/state", "withdraw an offer with DELETE"));
        }
        Ok(())
    }

    /// The terms with the change in them, or the same terms without one.
    ///
    /// # Errors
    /// [`Code::ValidationFailed`](crate::Code::ValidationFailed) with the place.
    pub(super) fn applied(&self, terms: &OfferTerms) -> Result<OfferTerms, Problem> {
        let mut next = terms.clone();
        if let Some(price) = self.price {
            next.price = UsdPerHour(price.amount);
        }
        if let Some(count) = self.gpu_count {
            next.gpu_count = count;
            if terms.chunks == [terms.gpu_count] {
                next.chunks = vec![count];
            }
        }
        if let Some(chunks) = &self.chunks {
            next.chunks.clone_from(chunks);
        }
        next.min_duration = self.min_duration_s.unwrap_or(next.min_duration);
        next.max_duration = self.max_duration_s.unwrap_or(next.max_duration);
        if let Some(reserved) = &self.reserved {
            next.reserved = steps(reserved.clone())?;
        }
        if let Some(disk) = self.disk {
            (next.disk_price, next.disk_gb) = (disk.per_gb_month.amount, disk.max_gb);
        }
        if let Some(net) = self.network {
            (next.up_price, next.down_price) = (net.up_per_gb.amount, net.down_per_gb.amount);
        }
        next.notice = self.notice_s.unwrap_or(next.notice);
        next.isolation = self.isolation.unwrap_or(next.isolation);
        if let Some(until) = self.available_until {
            next.available_until = until.map(|until| until.0);
        }
        if next == *terms { Ok(next) } else { checked(next) }
    }
}

fn steps(shown: Vec<ReservedView>) -> Result<Vec<Reserved>, Problem> {
    let step = |(index, step): (usize, ReservedView)| {
        let discount_bps = Bps::new(step.discount_bps).map_err(|error| {
            Problem::invalid(format!("/reserved/{index}/discount_bps"), error.to_string())
        })?;
        Ok(Reserved { min_duration: Seconds(step.min_duration_s), discount_bps })
    };
    shown.into_iter().enumerate().map(step).collect()
}

fn checked(terms: OfferTerms) -> Result<OfferTerms, Problem> {
    let Err(error) = terms.validate() else {
        return Ok(terms);
    };
    let pointer = match error {
        OfferError::PriceZero | OfferError::PriceTooHigh => "/price/amount".to_owned(),
        OfferError::GpuCount(_) => "/gpu_count".to_owned(),
        OfferError::Chunks(_) => "/chunks".to_owned(),
        OfferError::MinDurationZero | OfferError::MinAboveMax { .. } => {
            "/min_duration_s".to_owned()
        }
        OfferError::MaxDurationTooLong => "/max_duration_s".to_owned(),
        OfferError::ReservedTooMany => "/reserved".to_owned(),
        OfferError::Discount(index) => format!("/reserved/{index}/discount_bps"),
        OfferError::ReservedDuration(index) => format!("/reserved/{index}/min_duration_s"),
        OfferError::ReservedOrder(index) => format!("/reserved/{index}"),
        OfferError::DiskPriceTooHigh => "/disk/per_gb_month/amount".to_owned(),
        OfferError::DiskTooLarge => "/disk/max_gb".to_owned(),
        OfferError::NetworkPriceTooHigh { up: true } => "/network/up_per_gb/amount".to_owned(),
        OfferError::NetworkPriceTooHigh { up: false } => "/network/down_per_gb/amount".to_owned(),
        OfferError::NoticeTooLong => "/notice_s".to_owned(),
        OfferError::IsolatedInParts => "/chunks".to_owned(),
        OfferError::ModelSlug => "/gpu_model".to_owned(),
    };
    Err(Problem::invalid(pointer, error.to_string()))
}

/// Refuses an end that lies in the past already.
///
/// # Errors
/// [`Code::ValidationFailed`](crate::Code::ValidationFailed).
pub(super) fn check_until(until: Option<Time>, now: UnixSeconds) -> Result<(), Problem> {
    if until.is_some_and(|until| until.0 <= now) {
        return Err(Problem::invalid("/available_until", "it must be in the future"));
    }
    Ok(())
}

/// Refuses more disk than the machine is sold with.
///
/// # Errors
/// [`Code::ValidationFailed`](crate::Code::ValidationFailed) with the place.
pub(super) fn check_disk(terms: &OfferTerms, machine: &Machine) -> Result<(), Problem> {
    let disk = machine.sold.disk_gb;
    if terms.disk_gb > disk {
        let detail = format!("the machine has {disk} GB of disk");
        return Err(Problem::invalid("/disk/max_gb", detail));
    }
    Ok(())
}

/// Refuses what the machine's GPUs cannot keep.
///
/// # Errors
/// [`Code::ValidationFailed`](crate::Code::ValidationFailed) with the place.
pub(super) fn check_hardware(terms: &OfferTerms, machine: &Machine) -> Result<(), Problem> {
    let gpus = machine.gpus.len();
    if usize::from(terms.gpu_count) > gpus {
        return Err(Problem::invalid("/gpu_count", format!("the machine has {gpus} GPUs")));
    }
    let refused = |detail: String| Err(Problem::invalid("/isolation", detail));
    // machines of the time when they were registered
    if machine.gpus.iter().any(|gpu| gpu.vendor_uuid.starts_with(SLICE)) {
        return refused("the machine has slices of GPUs (MIG), which are not taken".to_owned());
    }
    match terms.isolation {
        Isolation::Machine if usize::from(terms.gpu_count) != gpus => refused(format!(
            "who has the machine alone has all of its GPUs: gpu_count must be {gpus}"
        )),
        Isolation::Mig => refused("slices of GPUs (MIG) are not taken".to_owned()),
        Isolation::Machine | Isolation::Gpu => Ok(()),
    }
}
