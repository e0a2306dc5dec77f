//! The index of this process: built at start, and kept as the database is, from the feed of changes.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::time::{Seconds, UnixSeconds};
use market::{Builder, Change, Counting, Index, Supply, Unlistable};
use store::{
    Store, StoreError, TxError,
    listings::{self, Line, Moment},
};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{
    image::{self, Header, Image, ImageError, Source},
    written::Written,
};
use crate::{Code, Problem};

/// How often the feed is looked at: half of what a commit may take to be seen.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A look at what changed takes a millisecond; whoever does not answer for so long is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often machines are looked for that fell silent, or came back from maintenance.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often old changes are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Who has not read changes for so long may have missed some that were deleted, and reads everything again.
const LONGEST_ABSENCE: Duration = Duration::from_secs(600);
/// How often the index is written to its file, if it has one.
const KEEP_EVERY: Duration = Duration::from_secs(300);
/// Without the database the market is told as it was last known, for so long.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// Offers that are read at once.
const AT_ONCE: usize = 2_000;
/// Changes that are kept for streams that come again.
const HISTORY: usize = 4_096;

/// What happened, for streams. Numbers grow by one; a new epoch begins when the index was read anew.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    /// Of the index that the changes are of: another one has other numbers for regions, providers and schedules.
    pub(crate) generation: u64,
    changes: VecDeque<Change>,
}

impl History {
    /// What came after `seen`; `None` if some of that is not kept any more.
    pub(crate) fn after(&self, seen: u64) -> Option<Vec<Change>> {
        let missed = usize::try_from(self.last.checked_sub(seen)?).ok()?;
        let first = self.changes.len().checked_sub(missed)?;
        Some(self.changes.iter().skip(first).copied().collect())
    }

    fn add(&mut self, change: Change) {
        if self.changes.len() >= HISTORY {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        self.last = self.last.saturating_add(1);
    }
}

/// Where the reading of changes stands.
struct Reader {
    line: Line,
    moment: Moment,
    /// When the moment was asked for.
    read_at: Instant,
    swept_at: Instant,
    swept_until: UnixSeconds,
    forgot_at: Instant,
}

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
            history: Mutex::new(History {
                epoch: rand::random::<u64>() >> 16,
                ..History::default()
            }),
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

    /// As [`Market::read`], with what was written of offers before.
    ///
    /// # Errors
    /// As [`Market::read`].
    pub(crate) fn read_page<T>(
        &self,
        ask: impl FnOnce(&Index, &mut Written) -> T,
    ) -> Result<T, Problem> {
        self.read(|index| ask(index, &mut self.inner.written()))
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

    fn kept_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.kept_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file is to be written now; then it is taken as tried.
    fn is_keeping_due(&self) -> bool {
        let mut kept_at = self.kept_at();
        let due =
            self.image.is_some() && kept_at.is_none_or(|kept_at| kept_at.elapsed() >= KEEP_EVERY);
        if due {
            *kept_at = Some(Instant::now());
        }
        due
    }

    async fn keep(self: &Arc<Self>) {
        let Some(path) = &self.image else { return };
        let _keeping = self.keeping.lock().await;
        let began = Instant::now();
        match self.write_image(path).await {
            Ok(Some(offers)) => {
                tracing::info!(offers, took = ?began.elapsed(), "the market is written to its file");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    error,
                    "the market cannot be written to its file; a restart reads everything"
                );
            }
        }
    }

    async fn write_image(self: &Arc<Self>, path: &Path) -> Result<Option<usize>, String> {
        let (moment, read_at, swept_until, wanted) = {
            let reader = self.reader.lock().await;
            let Some(reader) = reader.as_ref() else { return Ok(None) };
            // whoever replaces the index holds the reader
            let generation = self.generation.load(Ordering::Acquire);
            (reader.moment.clone(), reader.read_at, reader.swept_until, generation)
        };
        // after the moment, so that a database that has the mark has seen it
        let mark = Uuid::new_v4();
        let marked = self.store.write::<u64, StoreError, _>("listings.mark", move |tx| {
            Box::pin(async move { Ok(listings::mark(tx, mark).await?) })
        });
        let now = marked.await.map_err(|error| error.to_string())?;
        let age = read_at.elapsed().as_secs().saturating_add(1);
        let at = now.saturating_sub(age);
        let header = Header::new(mark, moment.as_str().to_owned(), at, swept_until.get());
        let (inner, path) = (self.clone(), path.to_owned());
        let written = tokio::task::spawn_blocking(move || {
            let source = Source { index: &inner.index, generation: &inner.generation, wanted };
            image::write(&path, header, &source)
        });
        let written = written.await.map_err(|error| error.to_string())?;
        written.map(Some).map_err(|error| error.to_string())
    }

    /// The index from its file if that will do, else from the database.
    async fn begin(&self) -> Result<Reader, StoreError> {
        let empty = self.read(|_| ()).is_none();
        if let Some(path) = self.image.as_ref().filter(|_| empty) {
            let began = Instant::now();
            match self.restore(path).await {
                Ok(Some(reader)) => {
                    tracing::info!(took = ?began.elapsed(), "the market is read from its file");
                    *self.kept_at() = Some(Instant::now());
                    return Ok(reader);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error, "the market's file cannot be used; everything is read")
                }
            }
        }
        self.build().await
    }

    /// Reads the file, and from the database what changed since; `None` if the file is of another database, or too old.
    async fn restore(&self, path: &Path) -> Result<Option<Reader>, String> {
        let path = path.to_owned();
        let told = |error: StoreError| error.to_string();
        let image = tokio::task::spawn_blocking(move || Image::open(&path)).await;
        let image = image.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let Some(image) = image else { return Ok(None) };
        let mut line = Line::open(&self.store).await.map_err(told)?;
        let connection = line.connection();
        let now = listings::has_mark(connection, image.header.mark).await.map_err(told)?;
        let fits = now.is_some_and(|now| image.header.fits(now, LONGEST_ABSENCE.as_secs()));
        let moment = Moment::read(&image.header.moment).filter(|_| fits);
        let Some(moment) = moment else { return Ok(None) };
        let secret = listings::cursor_secret(connection).await.map_err(told)?;
        self.secret.get_or_init(|| secret);
        let models = listings::models(connection).await.map_err(told)?;
        let (now, offline_after) = (self.store.now().seconds(), self.offline_after.get());
        let swept_until = UnixSeconds(image.header.swept_until);
        let index =
            tokio::task::spawn_blocking(move || image.restore(models, offline_after, second(now)));
        let index = index.await.map_err(|error| error.to_string())?;
        let index = index.map_err(|error: ImageError| error.to_string())?;
        self.replace(index);
        let at = Instant::now();
        // maintenance that ended since is looked for at once
        let swept_at = at.checked_sub(SWEEP_EVERY).unwrap_or(at);
        let reader = Reader { line, moment, read_at: at, swept_at, swept_until, forgot_at: at };
        let reader = self.follow(reader).await.map_err(told)?;
        self.publish();
        Ok(Some(reader))
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
            *history = History {
                epoch: history.epoch.wrapping_add(1),
                last: history.last,
                generation: self.generation.load(Ordering::Acquire),
                ..History::default()
            };
        }
        self.caught_up.store(true, Ordering::Release);
        self.news.send_modify(|last| *last = last.wrapping_add(1));
    }

    async fn build(&self) -> Result<Reader, StoreError> {
        let began = Instant::now();
        let mut line = Line::open(&self.store).await?;
        let connection = line.connection();
        let secret = listings::cursor_secret(connection).await?;
        self.secret.get_or_init(|| secret);
        let moment = listings::moment(connection).await?;
        let models = listings::models(connection).await?;
        let now = self.store.now().seconds();
        let mut builder = Builder::new(models, self.offline_after.get(), second(now));
        listings::read_all(connection, now, |listing| builder.push(&listing)).await?;
        let read = began.elapsed();
        let (index, refused) = builder.finish();
        for (offer, error) in refused.iter().take(10) {
            tracing::warn!(%offer, %error, "an offer is stored that cannot be listed");
        }
        let offers = index.len();
        tracing::info!(offers, refused = refused.len(), ?read, took = ?began.elapsed(), "the market is read");
        metrics::counter!("weir_market_rebuilds_total").increment(1);
        self.replace(index);
        self.publish();
        let at = Instant::now();
        Ok(Reader { line, moment, read_at: began, swept_at: at, swept_until: now, forgot_at: at })
    }

    async fn follow(&self, mut reader: Reader) -> Result<Reader, StoreError> {
        let asked_at = Instant::now();
        let changes = listings::changes(reader.line.connection(), &reader.moment);
        let changes = tokio::time::timeout(ANSWER_WITHIN, changes)
            .await
            .map_err(|_| StoreError::Unavailable("the database does not answer".to_owned()))??;
        let Some(offers) = changes.offers else {
            tracing::info!("too many changes at once; everything is read again");
            drop(reader);
            return self.build().await;
        };
        self.reread(reader.line.connection(), &offers).await?;
        reader.moment = changes.until;
        reader.read_at = asked_at;
        if reader.swept_at.elapsed() >= SWEEP_EVERY {
            self.sweep(&mut reader).await?;
        }
        if reader.forgot_at.elapsed() >= FORGET_EVERY {
            reader.forgot_at = Instant::now();
            self.forget().await?;
        }
        Ok(reader)
    }

    /// Reads these offers again and lists them as they are now.
    async fn reread(
        &self,
        connection: &mut store::Connection,
        offers: &[Uuid],
    ) -> Result<(), StoreError> {
        for some in offers.chunks(AT_ONCE) {
            let now = self.store.now().seconds();
            let listed = listings::read(connection, some, now).await?;
            let unknown = self.read(|index| {
                let known = |slug: &String| index.models().iter().any(|model| model.slug == *slug);
                listed.iter().any(|listing| !known(&listing.model))
            });
            let models = match unknown {
                Some(true) => Some(listings::models(connection).await?),
                Some(false) | None => None,
            };
            let mut changes = Vec::new();
            self.write(|index| {
                let mut written = self.written();
                if let Some(models) = models {
                    index.set_models(models);
                    written.forget_all();
                }
                some.iter().for_each(|id| written.forget(*id));
                for id in some.iter().filter(|id| !listed.iter().any(|listing| listing.id == **id)) {
                    changes.extend(index.remove(*id));
                }
                for listing in &listed {
                    match index.upsert(listing, second(now)) {
                        Ok(change) => changes.push(change),
                        Err(error @ (Unlistable::Model | Unlistable::Gpus | Unlistable::Crowd(_) | Unlistable::Name(_))) => {
                            tracing::warn!(offer = %listing.id, %error, "an offer cannot be listed");
                            changes.extend(index.remove(listing.id));
                        }
                    }
                }
                count(index.len());
            });
            self.tell(changes);
        }
        Ok(())
    }

    /// Finds machines that fell silent, and those whose maintenance is over.
    async fn sweep(&self, reader: &mut Reader) -> Result<(), StoreError> {
        let now = self.store.now().seconds();
        let since = reader.swept_at.elapsed();
        let every = (self.offline_after.get() / 6).max(1);
        let mut quiet = Vec::new();
        self.write(|index| {
            // the whole market six times in the time that makes a machine offline
            let share = index.len().div_ceil(usize::try_from(every).unwrap_or(1));
            let seconds = usize::try_from(since.as_secs()).unwrap_or(1).max(1);
            quiet = index.quiet(second(now), share.saturating_mul(seconds).saturating_add(64));
        });
        reader.swept_at = Instant::now();
        let connection = reader.line.connection();
        for some in quiet.chunks(AT_ONCE) {
            let heard = listings::heard_at(connection, some).await?;
            let mut changes = Vec::new();
            self.write(|index| {
                let noted =
                    heard.into_iter().filter_map(|(id, at)| index.heard(id, at, second(now)));
                changes.extend(noted);
            });
            self.tell(changes);
        }
        let back = listings::back_from_maintenance(connection, reader.swept_until, now).await?;
        reader.swept_until = now;
        self.reread(connection, &back).await
    }

    async fn forget(&self) -> Result<(), StoreError> {
        let forgotten = self
            .store
            .write::<u64, StoreError, _>("listings.forget", |tx| {
                Box::pin(async move { Ok(listings::forget(tx).await?) })
            })
            .await;
        match forgotten {
            Ok(changes) => tracing::debug!(changes, "old changes are deleted"),
            Err(TxError::Store(error) | TxError::Refused(error)) => return Err(error),
        }
        Ok(())
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
