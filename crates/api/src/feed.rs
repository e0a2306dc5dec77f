//! What event streams tell, read once for all of them. A rental that somebody follows has a [`Room`]: the feed hears of
//! new entries on one listening connection, reads them, and shows them to everybody in the room. Streams themselves ask
//! the database only for what lies before their room: when they are opened, and when they have fallen behind. Nobody's
//! silence costs a statement, but for a look at all rooms together now and then, should something not have been heard.
//! On the same connection it hears of orders to machines, and rings for agents that wait for them ([`Bells`]).

mod bells;
mod room;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use domain::id::RentalId;
use futures_util::{StreamExt as _, stream};
use store::{
    Store, StoreError, readings,
    timeline::{self, Heard, Listener},
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::{
    bells::Bells,
    room::{Room, Snapshot, Told},
};
use crate::Problem;

/// After a failure of the listening connection, or of a read.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The evidence of all rentals that run and are followed is looked at so often: their cost changes by nothing else.
const EVIDENCE_EVERY: Duration = Duration::from_secs(1);
/// All rooms are looked at so often even without news.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Rentals that one statement asks about.
const TOGETHER: usize = 1_000;
/// Rooms that are read at once.
const AT_ONCE: usize = 4;

/// Hands out rooms. Cheap to clone; the listening ends with the last clone.
#[derive(Clone)]
pub(crate) struct Feed {
    hub: Arc<Hub>,
    _listening: Arc<DropGuard>,
}

/// What the rooms share.
pub(crate) struct Hub {
    store: Store,
    chain_id: u64,
    rooms: Mutex<HashMap<RentalId, Weak<Room>>>,
    /// Rentals that have news.
    news: Mutex<HashSet<RentalId>>,
    bells: Bells,
    /// Anything may have been missed.
    gap: Mutex<bool>,
    woken: Notify,
}

impl Feed {
    /// Begins to listen, and goes on trying while the database is away. At most so many agents may wait for orders.
    pub(crate) fn start(store: Store, chain_id: u64, agents: usize) -> Self {
        let hub = Arc::new(Hub {
            store,
            chain_id,
            rooms: Mutex::default(),
            news: Mutex::default(),
            bells: Bells::new(agents),
            gap: Mutex::default(),
            woken: Notify::new(),
        });
        let stop = CancellationToken::new();
        let (listening, keeping) = (hub.clone(), hub.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            listening.listen_for_ever().await;
        }));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            keeping.keep().await;
        }));
        Self { hub, _listening: Arc::new(stop.drop_guard()) }
    }

    /// Where agents wait for orders.
    pub(crate) fn bells(&self) -> &Bells {
        &self.hub.bells
    }

    /// The room of a rental, whose entries up to now are in the database and whose later ones it shows.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn follow(&self, rental: RentalId) -> Result<Arc<Room>, Problem> {
        let room = self.hub.room(rental);
        room.ready(&self.hub).await?;
        Ok(room)
    }
}

impl Hub {
    /// The room of a rental; a new one if nobody is in it.
    fn room(self: &Arc<Self>, rental: RentalId) -> Arc<Room> {
        let mut rooms = held(&self.rooms);
        if let Some(room) = rooms.get(&rental).and_then(Weak::upgrade) {
            return room;
        }
        let room = Arc::new(Room::new(rental, Arc::downgrade(self)));
        rooms.insert(rental, Arc::downgrade(&room));
        room
    }

    /// The last one has left a room.
    fn leave(&self, rental: RentalId) {
        let mut rooms = held(&self.rooms);
        // another may have been opened meanwhile
        if rooms.get(&rental).is_some_and(|room| room.strong_count() == 0) {
            rooms.remove(&rental);
        }
        if rooms.len() < rooms.capacity() / 4 {
            rooms.shrink_to_fit();
        }
    }

    fn open(&self) -> Vec<Arc<Room>> {
        held(&self.rooms).values().filter_map(Weak::upgrade).collect()
    }

    fn find(&self, rental: RentalId) -> Option<Arc<Room>> {
        held(&self.rooms).get(&rental).and_then(Weak::upgrade)
    }

    async fn listen_for_ever(&self) {
        loop {
            let Err(error) = self.listen().await;
            tracing::warn!(%error, "not listening for news of rentals; trying again");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn listen(&self) -> Result<std::convert::Infallible, StoreError> {
        let mut listener = Listener::start(&self.store).await?;
        // what happened before this moment was not heard
        self.note(Heard::Gap);
        loop {
            self.note(listener.next().await?);
        }
    }

    fn note(&self, heard: Heard) {
        match heard {
            Heard::Gap => {
                *held(&self.gap) = true;
                self.bells.ring_all();
            }
            Heard::Machine(id) => {
                self.bells.ring(id);
                return;
            }
            // nobody listens to most of them
            Heard::Rental(id) if self.find(id).is_none() => return,
            Heard::Rental(id) => {
                held(&self.news).insert(id);
            }
        }
        self.woken.notify_one();
    }

    /// Keeps the rooms as the database is.
    async fn keep(&self) {
        let (mut looked, mut evidence) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = self.woken.notified() => {}
                () = tokio::time::sleep(EVIDENCE_EVERY) => {}
            }
            let gap = std::mem::take(&mut *held(&self.gap));
            let now = Instant::now();
            let mut done = Ok(());
            if gap || now.saturating_duration_since(looked) >= LOOK_EVERY {
                looked = now;
                done = self.look_at_all().await;
            }
            let news = std::mem::take(&mut *held(&self.news));
            stream::iter(news).for_each_concurrent(AT_ONCE, |rental| self.read(rental)).await;
            if done.is_ok() && now.saturating_duration_since(evidence) >= EVIDENCE_EVERY {
                evidence = now;
                done = self.look_at_evidence().await;
            }
            if let Err(error) = done {
                tracing::warn!(%error, "event streams are not kept up; trying again");
                *held(&self.gap) = true;
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    async fn read(&self, rental: RentalId) {
        let Some(room) = self.find(rental) else { return };
        if let Err(problem) = room.read(self).await {
            tracing::warn!(rental.id = %rental, error.code = problem.code().as_str(), "news of a rental are not read yet");
            // again with the next look
            *held(&self.gap) = true;
        }
    }

    /// Notes which rooms have not shown the newest entry of their rental.
    async fn look_at_all(&self) -> Result<(), StoreError> {
        let rooms = self.open();
        for some in rooms.chunks(TOGETHER) {
            let ids: Vec<RentalId> = some.iter().map(|room| room.rental()).collect();
            let mut connection = self.store.read().await?;
            let newest = timeline::newest(&mut connection, &ids).await?;
            drop(connection);
            let mut news = held(&self.news);
            for room in some {
                let newest = newest.get(&room.rental()).copied().unwrap_or_default();
                if room.snapshot().is_some_and(|shown| newest > shown.last) {
                    news.insert(room.rental());
                }
            }
        }
        Ok(())
    }

    /// Shows what rentals that run have cost, where evidence has come.
    async fn look_at_evidence(&self) -> Result<(), StoreError> {
        let running: Vec<_> = self.open().into_iter().filter(|room| room.runs()).collect();
        for some in running.chunks(TOGETHER) {
            let ids: Vec<RentalId> = some.iter().map(|room| room.rental()).collect();
            let mut connection = self.store.read().await?;
            let evidence = readings::evidence_of(&mut connection, &ids).await?;
            drop(connection);
            let now = self.store.now().seconds();
            for room in some {
                match room.accrue(evidence.get(&room.rental()), now).await {
                    Ok(true) => {}
                    // an irregular one: its readings have to be looked at
                    Ok(false) => self.read(room.rental()).await,
                    Err(problem) => {
                        tracing::warn!(rental.id = %room.rental(), error.code = problem.code().as_str(), "a cost is not told");
                    }
                }
            }
        }
        Ok(())
    }
}

/// Nothing that is kept behind a lock here can be left half done by a panic.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
