//! Quotes that are asked for at the same time share a look at what they depend on, and are stored in one statement: a quote is
//! a small thing, and a statement costs more than what it does.

use std::sync::Arc;

use domain::{
    id::OfferId,
    time::{Seconds, UnixSeconds},
};
use store::{
    Store, StoreError,
    quotes::{self, AsOf, Asking, Ground, Promise, Quote, Remembered},
};

use crate::{
    ApiConfig,
    renter::batcher::{Batcher, Errand},
};

/// Looks and stores for all that ask.
pub(super) struct Together {
    looks: Batcher<Looks>,
    promises: Batcher<Promises>,
}

/// Whose session it is, and what for.
pub(super) struct Question {
    pub(super) offer: OfferId,
    /// The symbol of the token that is paid in.
    pub(super) token: String,
    /// The rental's last second, at the latest.
    pub(super) to: UnixSeconds,
    /// The hash of a session's token.
    pub(super) caller: [u8; 32],
}

impl Together {
    /// Begins, until this is dropped. Must be called inside a tokio runtime.
    pub(super) fn start(store: &Store, config: &ApiConfig) -> Self {
        let (idle, offline_after) = (config.session_idle, config.offline_after);
        let looks = Batcher::start(Looks { store: store.clone(), idle });
        let promises = Batcher::start(Promises { store: store.clone(), idle, offline_after });
        Self { looks, promises }
    }

    /// What a quote depends on. `None` if there is no such offer, or if it was not found out: what is missing is asked for
    /// by itself.
    pub(super) async fn look(&self, question: Question) -> Option<Ground> {
        self.looks.ask(question).await.flatten()
    }

    /// Stores a quote, if what was remembered is so. `None` if it is not known whether it is stored.
    pub(super) async fn promise(
        &self,
        quote: Arc<Quote>,
        remembered: Option<Remembered>,
    ) -> Option<bool> {
        self.promises.ask((quote, remembered)).await
    }
}

struct Looks {
    store: Store,
    idle: Seconds,
}

impl Errand for Looks {
    type Asked = Question;
    type Told = Option<Ground>;
    const AT_ONCE: usize = 2;

    async fn run(&self, asked: &[Question]) -> Result<Vec<Option<Ground>>, StoreError> {
        let asked = asked.iter().map(|one| Asking {
            offer: one.offer,
            token: &one.token,
            to: one.to,
            caller: Some(one.caller),
        });
        let asked: Vec<Asking<'_>> = asked.collect();
        let now = self.store.now().seconds();
        let mut connection = self.store.borrow().await?;
        let found = quotes::grounds(&mut connection, &asked, now, self.idle).await?;
        self.store.keep(connection);
        Ok(found)
    }
}

struct Promises {
    store: Store,
    idle: Seconds,
    offline_after: Seconds,
}

impl Errand for Promises {
    type Asked = (Arc<Quote>, Option<Remembered>);
    type Told = bool;
    const AT_ONCE: usize = 2;

    async fn run(&self, asked: &[Self::Asked]) -> Result<Vec<bool>, StoreError> {
        let now = self.store.now().seconds();
        let heard_since = now.get().saturating_sub(self.offline_after.get().into());
        let as_of = AsOf { now, heard_since: UnixSeconds(heard_since), idle: self.idle };
        let promises: Vec<Promise<'_>> =
            asked.iter().map(|(quote, known)| (quote.as_ref(), known.as_ref())).collect();
        let mut connection = self.store.borrow().await?;
        let stored = quotes::promise(&mut connection, &promises, &as_of).await?;
        self.store.keep(connection);
        Ok(asked.iter().map(|(quote, _)| stored.contains(&quote.id)).collect())
    }
}
