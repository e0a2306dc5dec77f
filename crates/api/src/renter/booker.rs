//! Bookings that come at the same time share a transaction: while one runs, the next ones gather (docs/adr/0016).
//!
//! Two of one account or of one machine never share a transaction, nor are in two shared ones at the same time, so that each
//! sees what the other did. Whatever keeps a booking from sharing, it is then made alone, by [`Booking::commit`], which alone
//! says no, and which the database's locks keep in order with all others.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use domain::id::{AccountId, MachineId, RentalId};
use serde_json::Value;
use store::{StoreError, TxError};
use tokio::{
    sync::{mpsc, oneshot},
    task::{Id, JoinError, JoinSet},
};

use super::{book::Booking, shared};
use crate::Problem;

/// Bookings that share a transaction, at most.
const MOST: usize = 32;
/// Transactions that run at the same time.
const AT_ONCE: usize = 2;
/// So many must wait for another one to begin beside one that runs: fewer share the next.
const COMPANY: usize = 4;
/// Bookings that may wait for theirs; more wait to wait.
const ROOM: usize = 1_024;

/// What became of a booking.
pub(super) enum Booked {
    /// It was made just now; this is its answer.
    Made { rental: RentalId, body: String },
    /// Status and body of the answer, and whether it was given before.
    Said(u16, Value, bool),
}

type Answer = Result<Booked, TxError<Problem>>;

struct Waiting {
    booking: Arc<Booking>,
    answer: oneshot::Sender<Answer>,
}

impl Waiting {
    /// What no two that run at the same time have in common.
    fn claims(&self) -> (AccountId, MachineId) {
        (self.booking.quote.account, self.booking.quote.machine)
    }
}

/// Makes bookings.
#[derive(Clone)]
pub(crate) struct Booker {
    door: mpsc::Sender<Waiting>,
}

impl Booker {
    /// Begins to take bookings, until the last clone is gone. Must be called inside a tokio runtime.
    pub(crate) fn start() -> Self {
        let (door, waiting) = mpsc::channel(ROOM);
        tokio::spawn(work(waiting));
        Self { door }
    }

    /// Books, or finds that it was done before. Once it waits here, it goes on without whoever asked.
    pub(super) async fn book(&self, booking: Booking) -> Answer {
        let booking = Arc::new(booking);
        if !booking.is_plain() {
            return alone(booking).await;
        }
        let (answer, told) = oneshot::channel();
        // it may be stored or not: whoever asks again with the same key learns it
        let lost =
            || StoreError::Unavailable("it was not said what became of the booking".to_owned());
        self.door.send(Waiting { booking, answer }).await.map_err(|_| lost())?;
        told.await.map_err(|_| lost())?
    }
}

/// In a transaction of its own.
async fn alone(booking: Arc<Booking>) -> Answer {
    let store = booking.app.store.clone();
    let done = store.write("rentals.book", move |tx| {
        let booking = booking.clone();
        Box::pin(async move { booking.commit(tx).await })
    });
    let (status, body, replayed) = done.await?;
    Ok(Booked::Said(status, body, replayed))
}

async fn work(mut door: mpsc::Receiver<Waiting>) {
    let mut queue = VecDeque::new();
    let mut running = Running::default();
    let mut arrived = Vec::with_capacity(MOST);
    let mut open = true;
    while open || !queue.is_empty() || !running.tasks.is_empty() {
        while running.has_room(queue.len()) && running.begin(&mut queue) {}
        tokio::select! {
            count = door.recv_many(&mut arrived, MOST), if open && queue.len() < ROOM => {
                open = count > 0;
                queue.extend(arrived.drain(..));
            }
            Some(done) = running.tasks.join_next_with_id() => running.end(done),
            else => {}
        }
    }
}

/// The transactions that run.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    claims: HashMap<Id, Vec<(AccountId, MachineId)>>,
    accounts: BTreeSet<AccountId>,
    machines: BTreeSet<MachineId>,
}

impl Running {
    /// Whether another one may begin while so many wait.
    fn has_room(&self, waiting: usize) -> bool {
        self.tasks.is_empty() || (self.tasks.len() < AT_ONCE && waiting >= COMPANY)
    }

    /// Begins one with those that can run now, the first first. False if none can.
    fn begin(&mut self, queue: &mut VecDeque<Waiting>) -> bool {
        let (mut batch, mut claims, mut rest) = (Vec::new(), Vec::new(), VecDeque::new());
        while let Some(waiting) = queue.pop_front() {
            let (account, machine) = waiting.claims();
            if self.accounts.contains(&account) || self.machines.contains(&machine) {
                rest.push_back(waiting);
                continue;
            }
            self.accounts.insert(account);
            self.machines.insert(machine);
            claims.push((account, machine));
            batch.push(waiting);
            if batch.len() >= MOST {
                break;
            }
        }
        rest.append(queue);
        *queue = rest;
        if batch.is_empty() {
            return false;
        }
        let id = self.tasks.spawn(together(batch)).id();
        self.claims.insert(id, claims);
        true
    }

    fn end(&mut self, done: Result<(Id, ()), JoinError>) {
        let id = done.map_or_else(|error| error.id(), |(id, ())| id);
        for (account, machine) in self.claims.remove(&id).unwrap_or_default() {
            self.accounts.remove(&account);
            self.machines.remove(&machine);
        }
    }
}

/// Makes all that can be made in one transaction, and each of the others alone.
async fn together(batch: Vec<Waiting>) {
    let bookings: Arc<Vec<_>> =
        Arc::new(batch.iter().map(|waiting| waiting.booking.clone()).collect());
    let Some(store) = bookings.first().map(|booking| booking.app.store.clone()) else { return };
    let done = store.write("rentals.book_together", move |tx| {
        let bookings = bookings.clone();
        Box::pin(async move { shared::commit(tx, &bookings).await })
    });
    let mut made = match done.await {
        Ok(made) => made,
        // it may be stored or not: whoever asks again with the same key learns it
        Err(TxError::Store(StoreError::Unavailable(reason))) if !is_local(&reason) => {
            for waiting in batch {
                let error = StoreError::Unavailable(reason.clone());
                drop(waiting.answer.send(Err(error.into())));
            }
            return;
        }
        // one of them is to blame, and being alone shows which
        Err(error) => {
            tracing::debug!(%error, "bookings that do not share a transaction");
            Vec::new()
        }
    };
    for (place, Waiting { booking, answer }) in batch.into_iter().enumerate() {
        match made.get_mut(place).and_then(Option::take) {
            // whoever asked may have gone
            Some((rental, body)) => drop(answer.send(Ok(Booked::Made { rental, body }))),
            // not waited for: it may wait for others
            None => drop(tokio::spawn(async move { drop(answer.send(alone(booking).await)) })),
        }
    }
}

/// Whether it tells of something in the database that somebody held, and not of the database.
fn is_local(reason: &str) -> bool {
    reason.contains("lock timeout") || reason.contains("contention")
}
