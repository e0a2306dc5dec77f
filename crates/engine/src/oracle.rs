//! Tokens' prices: asked of their oracles on the chain, believed by [`domain::oracle`], kept in the store, where quotes
//! find them. A price that is not renewed in time is no price any more, and nothing is quoted at it.

use chain::{BlockHeader, ReadClient};
use domain::{
    oracle::{OracleError, believe},
    time::UnixSeconds,
};
use store::{
    Store, StoreError, TxError,
    feeds::{self, Feed},
};

use crate::EngineError;

/// Asks the oracles.
pub struct Oracle {
    store: Store,
    client: ReadClient,
}

/// What came of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priced {
    /// Answers that were believed.
    pub taken: usize,
    /// Answers that were not, or that did not come.
    pub refused: usize,
}

impl Oracle {
    /// Over this store and chain.
    #[must_use]
    pub const fn new(store: Store, client: ReadClient) -> Self {
        Self { store, client }
    }

    /// Asks every feed once, as of the newest final block: an answer that could leave the chain is no price. One that
    /// is not believed is counted and said, and keeps no other from being asked.
    ///
    /// # Errors
    /// The database's, or the chain's if it does not tell its final block.
    pub async fn tick(&self) -> Result<Priced, EngineError> {
        let all = {
            let mut connection = self.store.read().await?;
            feeds::list(&mut connection).await?
        };
        let mut priced = Priced::default();
        if all.is_empty() {
            return Ok(priced);
        }
        let last = self.client.finalized().await;
        for feed in &all {
            let now = self.store.now().seconds();
            let taken = match &last {
                Ok(Some(block)) => self.ask(feed, block, now).await?,
                Ok(None) | Err(_) => None,
            };
            match taken {
                Some(at) => {
                    priced.taken = priced.taken.saturating_add(1);
                    tell_age(feed, at, now);
                }
                None => {
                    priced.refused = priced.refused.saturating_add(1);
                    let at = feed.newest.map_or(UnixSeconds(0), |newest| newest.at);
                    tell_age(feed, at, now);
                }
            }
        }
        last?;
        Ok(priced)
    }

    /// Asks one feed; the time of its answer if that was believed.
    async fn ask(
        &self,
        feed: &Feed,
        block: &BlockHeader,
        now: UnixSeconds,
    ) -> Result<Option<UnixSeconds>, EngineError> {
        let round = match self.client.latest_round(feed.feed, block.hash).await {
            Ok(round) => round,
            Err(error) => {
                refused(feed, "no_answer", &error.to_string());
                return Ok(None);
            }
        };
        let answer = match believe(&round, feed.decimals, feed.max_age, feed.newest, now) {
            Ok(answer) => answer,
            Err(error) => {
                refused(feed, error.reason(), &error.to_string());
                if matches!(error, OracleError::Jump { .. }) {
                    self.doubt(feed, now).await?;
                }
                return Ok(None);
            }
        };
        let known = feed.clone();
        let taken = self
            .store
            .write("take a price", move |tx| {
                let feed = known.clone();
                Box::pin(async move {
                    Ok::<_, TxError<StoreError>>(feeds::take(tx, &feed, &answer, now).await?)
                })
            })
            .await;
        match taken {
            // what was not taken came after another worker took one
            Ok(_) => Ok(Some(answer.at)),
            Err(TxError::Store(error) | TxError::Refused(error)) => Err(error.into()),
        }
    }
}

impl Oracle {
    async fn doubt(&self, feed: &Feed, now: UnixSeconds) -> Result<(), EngineError> {
        let known = feed.clone();
        let noted = self.store.write("doubt a price", move |tx| {
            let feed = known.clone();
            Box::pin(
                async move { Ok::<_, TxError<StoreError>>(feeds::doubt(tx, &feed, now).await?) },
            )
        });
        match noted.await {
            Ok(()) => Ok(()),
            Err(TxError::Store(error) | TxError::Refused(error)) => Err(error.into()),
        }
    }
}

fn refused(feed: &Feed, reason: &'static str, error: &str) {
    tracing::warn!(
        token.symbol = feed.symbol,
        feed = %feed.feed,
        reason,
        error,
        "the oracle's answer is not taken"
    );
    let token = feed.symbol.clone();
    metrics::counter!("weir_oracle_refused_total", "token" => token, "reason" => reason)
        .increment(1);
}

/// Seconds since the oracle gave the price in use, and how many they may be.
fn tell_age(feed: &Feed, at: UnixSeconds, now: UnixSeconds) {
    let age = u32::try_from(now.get().saturating_sub(at.get())).unwrap_or(u32::MAX);
    metrics::gauge!("weir_oracle_age_seconds", "token" => feed.symbol.clone()).set(age);
    let most = feed.max_age.get();
    metrics::gauge!("weir_oracle_max_age_seconds", "token" => feed.symbol.clone()).set(most);
}
