//! How the index comes to be as the database is, and stays so.

use std::{collections::HashSet, time::Duration};

use domain::time::UnixSeconds;
use market::{Builder, Unlistable};
use store::{
    StoreError, TxError,
    listings::{self, Line, Moment},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Inner, count, second};

/// A look at what changed takes a millisecond; whoever does not answer for so long is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often machines are looked for that fell silent, or came back from maintenance.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often old changes are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Offers that are read at once.
const AT_ONCE: usize = 2_000;

/// Where the reading of changes stands.
pub(super) struct Reader {
    pub(super) line: Line,
    pub(super) moment: Moment,
    /// When the moment was asked for.
    pub(super) read_at: Instant,
    pub(super) swept_at: Instant,
    pub(super) swept_until: UnixSeconds,
    pub(super) forgot_at: Instant,
}

impl Inner {
    /// The index from its file if that will do, else from the database.
    pub(super) async fn begin(&self) -> Result<Reader, StoreError> {
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

    /// Reads everything.
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

    /// Reads what changed since, and looks after what time changes.
    pub(super) async fn follow(&self, mut reader: Reader) -> Result<Reader, StoreError> {
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
            let here: HashSet<Uuid> = listed.iter().map(|listing| listing.id).collect();
            let mut changes = Vec::new();
            self.write(|index| {
                let mut written = self.written();
                if let Some(models) = models {
                    index.set_models(models);
                    written.forget_all();
                }
                some.iter().for_each(|id| written.forget(*id));
                for id in some.iter().filter(|id| !here.contains(*id)) {
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
}
