//! The file that the index is kept in, for the next start.

use std::{
    path::Path,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use domain::time::UnixSeconds;
use store::{
    StoreError,
    listings::{self, Line, Moment},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    super::image::{self, Header, Image, ImageError, Source},
    Inner, LONGEST_ABSENCE,
    follow::{Reader, SWEEP_EVERY},
    second,
};

/// How often the index is written to its file, if it has one.
const KEEP_EVERY: Duration = Duration::from_secs(300);

impl Inner {
    pub(super) fn kept_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.kept_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file is to be written now; then it is taken as tried.
    pub(super) fn is_keeping_due(&self) -> bool {
        let mut kept_at = self.kept_at();
        let due =
            self.image.is_some() && kept_at.is_none_or(|kept_at| kept_at.elapsed() >= KEEP_EVERY);
        if due {
            *kept_at = Some(Instant::now());
        }
        due
    }

    pub(super) async fn keep(self: &Arc<Self>) {
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

    /// Reads the file, and from the database what changed since; `None` if the file is of another database, or too old.
    pub(super) async fn restore(&self, path: &Path) -> Result<Option<Reader>, String> {
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
}
