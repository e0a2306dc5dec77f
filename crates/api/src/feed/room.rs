//! One rental, for everybody who follows it.

use std::sync::{Arc, Mutex, Weak};

use domain::{
    id::RentalId,
    rental::RentalState,
    time::{Seconds, UnixSeconds},
};
use serde_json::{Value, json};
use store::{
    StoreError,
    quotes::{self, Quote},
    readings::{self, Evidence},
    rentals::{self, Rental},
    timeline,
};
use tokio::sync::Notify;

use super::{Hub, held};
use crate::{
    Problem,
    renter::{billed_by, billed_known, cost_at, unit_of},
    views::{Time, Unit, json_of},
};

/// Entries that are read at once, and the most that a room shows.
const BATCH: i64 = 100;

/// An entry as it is told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Its place in the timeline.
    pub(crate) id: i64,
    /// `tx` if it is about a transaction, `notice` of what is to come (maintenance, the deposit's end), else `state`.
    pub(crate) name: &'static str,
    /// JSON.
    pub(crate) data: Box<str>,
}

impl Told {
    /// An entry as it is told; none for a time that cannot be written.
    pub(crate) fn of(entry: &timeline::TimelineEntry) -> Option<Self> {
        let name = match entry.kind.as_str() {
            "notice" | "deposit" => "notice",
            kind if kind.starts_with("tx") => "tx",
            _ => "state",
        };
        let mut data = json!({"at": Time(entry.at).text()?, "kind": entry.kind});
        if let (Some(members), Value::Object(detail)) = (data.as_object_mut(), &entry.detail) {
            members.extend(detail.clone());
        }
        Some(Self { id: entry.id, name, data: data.to_string().into_boxed_str() })
    }
}

/// What a room shows.
#[derive(Clone)]
pub(crate) struct Snapshot {
    /// Grows with each change.
    pub(crate) version: u64,
    /// The newest entry of the timeline; 0 for none.
    pub(crate) last: i64,
    /// All entries after this one are in `recent`.
    pub(crate) since: i64,
    pub(crate) recent: Arc<[Told]>,
    /// The rental has ended.
    pub(crate) over: bool,
    /// What it has cost, while it runs.
    pub(crate) cost: Option<Cost>,
}

/// What a running rental has cost, and what it is worked out from when more evidence comes.
#[derive(Clone)]
pub(crate) struct Cost {
    /// JSON.
    pub(crate) told: Arc<str>,
    /// The number of the newest reading that it knows of.
    seq: u64,
    terms: Arc<(Rental, Quote, Unit)>,
}

impl Cost {
    fn of(
        terms: Arc<(Rental, Quote, Unit)>,
        (billed, seq): (Seconds, u64),
        now: UnixSeconds,
    ) -> Result<Self, Problem> {
        let (rental, quote, unit) = &*terms;
        let view = cost_at(rental, quote, unit, billed, now)?;
        Ok(Self { told: Arc::from(json_of(&view)?.to_string()), seq, terms })
    }
}

/// A rental that somebody follows.
pub(crate) struct Room {
    rental: RentalId,
    hub: Weak<Hub>,
    shown: Mutex<Option<Arc<Snapshot>>>,
    /// One reads at a time.
    reading: tokio::sync::Mutex<()>,
    changed: Notify,
}

impl Room {
    pub(super) fn new(rental: RentalId, hub: Weak<Hub>) -> Self {
        Self {
            rental,
            hub,
            shown: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) const fn rental(&self) -> RentalId {
        self.rental
    }

    /// What it shows; nothing before it was read once.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        held(&self.shown).clone()
    }

    /// Waits until it shows something else than this version.
    pub(crate) async fn changed_from(&self, version: u64) {
        loop {
            let notified = self.changed.notified();
            tokio::pin!(notified);
            // whoever asks is woken from here on, and looks once more
            notified.as_mut().enable();
            if self.snapshot().is_some_and(|shown| shown.version != version) {
                return;
            }
            notified.await;
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.snapshot().is_some_and(|shown| shown.cost.is_some())
    }

    /// Shows what a running rental has cost by this evidence. False if that is not enough to say.
    ///
    /// # Errors
    /// For figures out of range.
    pub(super) async fn accrue(
        &self,
        evidence: Option<&Evidence>,
        now: UnixSeconds,
    ) -> Result<bool, Problem> {
        let _alone = self.reading.lock().await;
        let Some(shown) = self.snapshot() else { return Ok(true) };
        let Some(cost) = &shown.cost else { return Ok(true) };
        let seq = evidence.map_or(0, |evidence| evidence.head.seq);
        if cost.seq == seq {
            return Ok(true);
        }
        let (rental, quote, _) = &*cost.terms;
        let Some(billed) = billed_known(rental, quote, evidence, now) else { return Ok(false) };
        let cost = Some(Cost::of(cost.terms.clone(), (billed, seq), now)?);
        let version = shown.version.saturating_add(1);
        self.show(Snapshot { version, cost, ..Snapshot::clone(&shown) });
        Ok(true)
    }

    fn show(&self, snapshot: Snapshot) {
        *held(&self.shown) = Some(Arc::new(snapshot));
        self.changed.notify_waiters();
    }

    /// Reads it, unless it was read before.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn ready(&self, hub: &Hub) -> Result<(), Problem> {
        if self.snapshot().is_some() { Ok(()) } else { self.read(hub).await }
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn read(&self, hub: &Hub) -> Result<(), Problem> {
        let _alone = self.reading.lock().await;
        let before = self.snapshot();
        let mut connection = hub.store.read().await?;
        // the rental before its timeline: an end that is seen here is in the timeline already
        let rental = rentals::get(&mut connection, self.rental).await?;
        let rental = rental.ok_or_else(|| Problem::not_found("rental"))?;
        let (last, since, recent) = match &before {
            // what lies before the first look is read by whoever wants it
            None => {
                let newest = timeline::newest(&mut connection, &[self.rental]).await?;
                let newest = newest.get(&self.rental).copied().unwrap_or_default();
                (newest, newest, Vec::new())
            }
            Some(before) => {
                let (mut last, mut since) = (before.last, before.last);
                let mut recent = Vec::new();
                loop {
                    let found = timeline::after(&mut connection, self.rental, last, BATCH).await?;
                    let Some(newest) = found.last().map(|entry| entry.id) else { break };
                    // of a flood the newest are shown; the rest is in the database
                    since = last;
                    last = newest;
                    recent = found.iter().filter_map(Told::of).collect();
                    if i64::try_from(found.len()).is_ok_and(|read| read < BATCH) {
                        break;
                    }
                }
                (last, since, recent)
            }
        };
        let cost = if rental.progress.state == RentalState::Active {
            let quote = quotes::get(&mut connection, rental.quote_id).await?;
            let mut quote = quote.ok_or(StoreError::Missing("the rental's quote"))?;
            // the lines are for people, and long
            quote.lines = Value::Null;
            let unit = unit_of(&mut connection, quote.token, hub.chain_id).await?;
            let now = hub.store.now().seconds();
            // the number before the sum: a reading that comes in between is seen once more
            let head = readings::head(&mut connection, self.rental).await?;
            let billed = billed_by(&mut connection, &rental, &quote, now).await?;
            let seq = head.map_or(0, |head| head.seq);
            Some(Cost::of(Arc::new((rental.clone(), quote, unit)), (billed, seq), now)?)
        } else {
            None
        };
        drop(connection);
        let version = before.as_ref().map_or(1, |before| before.version.saturating_add(1));
        let over = rental.progress.state.is_terminal();
        self.show(Snapshot { version, last, since, recent: recent.into(), over, cost });
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.leave(self.rental);
        }
    }
}
