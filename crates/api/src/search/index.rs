//! The index of this process: built at start, and kept as the database is, from the feed of changes.

mod file;
mod follow;
mod history;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::time::{Seconds, UnixSeconds};
use market::{Change, Counting, Index, Supply};
use store::{Store, StoreError};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{follow::Reader, history::History};
use super::written::Written;
use crate::{Code, Problem};

/// How often the feed is looked at: half of what a commit may take to be seen.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Who has not read changes for so long may have missed some that were deleted, and reads everything again.
const LONGEST_ABSENCE: Duration = Duration::from_secs(600);
/// Without the database the market is told as it was last known, for so long.
const GOOD_FOR: Duration = Duration::from_secs(60);

struct Inner {
    store: Store,
    offline_after: Seconds,
    index: RwLock<Option<Index>>,
    /// Whether it is, or ever was, as the database is: not yet while an image is brought up to date.
    caught_up: AtomicBool,
    /// Raised whenever the index is replaced, while it is locked.
    generation: AtomicU64,
    image: Option<PathBuf>,
    /// When it was last written to its file, or that was tried.
    kept_at: Mutex<Option<Instant>>,
    /// Held by who writes the file.
    keeping: AsyncMutex<()>,
    /// Locked after the index, which is then read or written.
    written: Mutex<Written>,
    secret: OnceLock<[u8; 32]>,
    history: Mutex<History>,
    news: watch::Sender<u64>,
    reader: AsyncMutex<Option<Reader>>,
    began: Instant,
    /// Milliseconds after `began` at which the index was last known to be as the database is.
    current_at: AtomicU64,
}

/// The market as this process knows it. Cheap to clone; the reading ends with the last clone.
#[derive(Clone)]
pub(crate) struct Market {
    inner: Arc<Inner>,
    _reading: Arc<DropGuard>,
}

impl Market {
    /// Begins to read, and goes on trying while the database is away. What was read is kept in the file `image`, and
    /// read from there at the next start.
    pub(crate) fn start(store: Store, offline_after: Seconds, image: Option<PathBuf>) -> Self {
        let inner = Arc::new(Inner {
            store,
            offline_after,
            index: RwLock::new(None),
            caught_up: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            image,
            kept_at: Mutex::new(None),
            keeping: AsyncMutex::new(()),
            written: Mutex::default(),
            secret: OnceLock::new(),
            history: Mutex::new(History::begin(rand::random::<u64>() >> 16, 0, 0)),
            news: watch::Sender::new(0),
            reader: AsyncMutex::new(None),
            began: Instant::now(),
            current_at: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let (reading, stopped) = (inner.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = reading.read_for_ever() => {}
            }
        });
        Self { inner, _reading: Arc::new(stop.drop_guard()) }
    }

    /// Asks the index.
    ///
    /// # Errors
    /// [`Code::NotReady`] until it is built; [`Code::Unavailable`] if it could not be kept as the database is for a minute.
    pub(crate) fn read<T>(&self, ask: impl FnOnce(&Index) -> T) -> Result<T, Problem> {
        if self.inner.age() > GOOD_FOR && self.is_built() {
            return Err(Problem::new(
                Code::Unavailable,
                "the market has not been read for a minute",
            ));
        }
        if !self.is_built() {
            return Err(not_ready());
        }
        self.inner.read(ask).ok_or_else(not_ready)
    }

    /// As [`Market::read`], if the index is still the one of this generation; `None` if it was replaced.
    ///
    /// # Errors
    /// As [`Market::read`].
    pub(crate) fn read_of<T>(
        &self,
        generation: u64,
        ask: impl FnOnce(&Index) -> T,
    ) -> Result<Option<T>, Problem> {
        self.read(|index| {
            let is_same = self.inner.generation.load(Ordering::Acquire) == generation;
            is_same.then(|| ask(index))
        })
    }

    /// As [`Market::read`]; then writes what was found, beside what was written of offers before. Others find meanwhile:
    /// only the writing is done one after the other.
    ///
    /// # Errors
    /// As [`Market::read`].
    pub(crate) fn read_page<P, T>(
        &self,
        find: impl FnOnce(&Index) -> Option<P>,
        write: impl FnOnce(&Index, &P, &mut Written) -> T,
    ) -> Result<Option<T>, Problem> {
        self.read(|index| {
            let found = find(index)?;
            Some(write(index, &found, &mut self.inner.written()))
        })
    }

    /// The supply at this second, counted piece by piece: whoever changes the index waits for a piece, and not for all of it.
    ///
    /// # Errors
    /// As [`Market::read`].
    pub(crate) fn supply(&self, second: u32) -> Result<Vec<Supply>, Problem> {
        let mut counting = Counting::default();
        let mut counted = None;
        loop {
            let found = self.read(|index| {
                // what was counted of an index that is replaced has other numbers
                let generation = self.inner.generation.load(Ordering::Acquire);
                if counted.replace(generation).is_some_and(|counted| counted != generation) {
                    counting = Counting::default();
                }
                let over = !index.count_on(&mut counting, second);
                over.then(|| index.counted(std::mem::take(&mut counting)))
            })?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Whether it is built.
    pub(crate) fn is_built(&self) -> bool {
        self.inner.caught_up.load(Ordering::Acquire)
    }

    /// How long ago it was last known to be as the database is.
    pub(crate) fn age(&self) -> Duration {
        self.inner.age()
    }

    /// Writes the index to its file now, if it has one.
    pub(crate) async fn keep(&self) {
        if self.is_built() {
            self.inner.keep().await;
        }
    }

    /// What cursors are sealed with.
    ///
    /// # Errors
    /// [`Code::NotReady`] until the index is built.
    pub(crate) fn secret(&self) -> Result<[u8; 32], Problem> {
        self.inner.secret.get().copied().ok_or_else(not_ready)
    }

    /// What happened.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.inner.history()
    }

    /// Tells of the number of the last change.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.inner.news.subscribe()
    }

    /// Reads now what has been committed, instead of within the next 50 ms.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn catch_up(&self) -> Result<(), StoreError> {
        self.inner.look().await
    }
}

pub(super) fn not_ready() -> Problem {
    Problem::new(Code::NotReady, "the market is being read; ask again in a moment")
}

impl Inner {
    fn history(&self) -> MutexGuard<'_, History> {
        // a change is added whole or not at all
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        // what is kept of an offer is put in whole
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_for_ever(self: Arc<Self>) {
        loop {
            let pause = match self.look().await {
                Ok(()) => {
                    if self.is_keeping_due() {
                        let inner = self.clone();
                        tokio::spawn(async move { inner.keep().await });
                    }
                    LOOK_EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, "the market cannot be read; trying again");
                    TRY_AGAIN_AFTER
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Brings the index up to date; builds it if there is none, or if it cannot be known what was missed.
    async fn look(&self) -> Result<(), StoreError> {
        let mut reader = self.reader.lock().await;
        let fresh =
            reader.as_ref().is_some_and(|reader| reader.read_at.elapsed() < LONGEST_ABSENCE);
        // After an error the connection is gone, and whether the database is still the same one is not known.
        let done = match reader.take().filter(|_| fresh) {
            Some(known) => self.follow(known).await,
            None => self.begin().await,
        };
        *reader = Some(done?);
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.current_at.store(passed, Ordering::Relaxed);
        Ok(())
    }

    fn age(&self) -> Duration {
        let current_at = Duration::from_millis(self.current_at.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(current_at)
    }

    /// Puts an index in the place of the one before.
    fn replace(&self, index: Index) {
        count(index.len());
        let known = {
            let mut place = self.index.write().unwrap_or_else(PoisonError::into_inner);
            self.written().forget_all();
            self.generation.fetch_add(1, Ordering::AcqRel);
            place.replace(index)
        };
        drop(known);
    }

    /// Tells everybody that there is an index, or another one.
    fn publish(&self) {
        {
            let mut history = self.history();
            let generation = self.generation.load(Ordering::Acquire);
            *history = History::begin(history.epoch.wrapping_add(1), history.last, generation);
        }
        self.caught_up.store(true, Ordering::Release);
        self.news.send_modify(|last| *last = last.wrapping_add(1));
    }

    fn read<T>(&self, ask: impl FnOnce(&Index) -> T) -> Option<T> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(ask)
    }

    fn write(&self, change: impl FnOnce(&mut Index)) {
        if let Some(index) = self.index.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
            change(index);
        }
    }

    fn tell(&self, changes: Vec<Change>) {
        let visible = changes.into_iter().filter(Change::is_visible);
        let last = {
            let mut history = self.history();
            let before = history.last;
            visible.for_each(|change| history.add(change));
            metrics::counter!("weir_market_changes_total")
                .increment(history.last.saturating_sub(before));
            (history.last != before).then_some(history.last)
        };
        if last.is_some() {
            self.news.send_modify(|last| *last = last.wrapping_add(1));
        }
    }
}

/// Seconds since 1970, in the 32 bits that last until 2106.
fn second(at: UnixSeconds) -> u32 {
    u32::try_from(at.get()).unwrap_or(u32::MAX)
}

fn count(offers: usize) {
    metrics::gauge!("weir_market_offers").set(f64::from(u32::try_from(offers).unwrap_or(u32::MAX)));
}
