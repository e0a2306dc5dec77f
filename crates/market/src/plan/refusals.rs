//! Why offers are not taken: of how many each reason is told, and everything about the cheapest.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::{listing::Listing, query::Field, segment::Key};

/// Why an offer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A fact is not what was asked for, or not known.
    Fact(Field),
    /// It stands elsewhere.
    Place,
    /// It is not of the providers, machines or offers that were named.
    NotNamed,
    /// The machine was not heard of lately.
    Offline,
    /// The machine takes no new rentals.
    Closed,
    /// Its GPUs are rented, or too few are left.
    Taken,
    /// It is rented in other numbers of GPUs, and could not be put together with seven others at most; or it was not looked
    /// at with others, as its provider has 64 cheaper ones there, 32 if it is too small to be one of eight alike.
    GpuCount,
    /// It is rented for longer or shorter times only.
    Duration,
    /// It ends before the job would.
    EndsTooSoon,
    /// It has too little disk.
    Disk,
    /// It has no discount for this duration.
    NotReserved,
    /// It would cost more than the budget.
    Budget,
}

impl Reason {
    /// Its stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fact(field) => field.as_str(),
            Self::Place => "region",
            Self::NotNamed => "not_named",
            Self::Offline => "offline",
            Self::Closed => "draining",
            Self::Taken => "gpus_taken",
            Self::GpuCount => "gpu_count",
            Self::Duration => "duration",
            Self::EndsTooSoon => "available_until",
            Self::Disk => "disk_gb",
            Self::NotReserved => "reserved",
            Self::Budget => "budget",
        }
    }
}

/// How many offers a reason kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Offers that it applies to.
    pub offers: u64,
    /// Offers that nothing else keeps out: what giving this wish up would bring.
    pub alone: u64,
    /// The cheapest of those by price per GPU and hour: the offer and its price in micro-dollars.
    pub nearest: Option<(Uuid, u32)>,
}

/// An offer that was not taken, and everything that stands against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The offer.
    pub listing: Listing,
    /// At least one.
    pub reasons: Vec<Reason>,
}

/// What is noted of refused offers.
pub(super) struct Refusals {
    by_reason: HashMap<Reason, Refusal>,
    /// The cheapest, with all that stands against each.
    cheapest: BTreeMap<Key, Vec<Reason>>,
    /// How many of those.
    kept: usize,
}

impl Refusals {
    pub(super) fn new(kept: usize) -> Self {
        Self { by_reason: HashMap::new(), cheapest: BTreeMap::new(), kept }
    }

    /// Notes everything that keeps an offer out.
    pub(super) fn note(&mut self, key: Key, reasons: &[Reason]) {
        for reason in reasons {
            let refusal = self.by_reason.entry(*reason).or_insert(Refusal {
                reason: *reason,
                offers: 0,
                alone: 0,
                nearest: None,
            });
            refusal.offers = refusal.offers.saturating_add(1);
            if reasons.len() == 1 {
                refusal.alone = refusal.alone.saturating_add(1);
                if refusal.nearest.is_none_or(|(id, price)| key < (price, id)) {
                    refusal.nearest = Some((key.1, key.0));
                }
            }
        }
        let is_cheap = self.cheapest.len() < self.kept
            || self.cheapest.last_key_value().is_some_and(|(dearest, _)| key < *dearest);
        if is_cheap {
            self.cheapest.insert(key, reasons.to_vec());
            if self.cheapest.len() > self.kept {
                self.cheapest.pop_last();
            }
        }
    }

    /// The reasons, most frequent first, and the cheapest offers.
    pub(super) fn told(self) -> (Vec<Refusal>, Vec<(Key, Vec<Reason>)>) {
        let mut refusals: Vec<Refusal> = self.by_reason.into_values().collect();
        refusals.sort_by_key(|refusal| (u64::MAX ^ refusal.offers, refusal.reason.as_str()));
        (refusals, self.cheapest.into_iter().collect())
    }
}
