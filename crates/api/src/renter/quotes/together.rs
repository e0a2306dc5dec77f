//! Quotes that are asked for at the same time share a look at what they depend on, and are stored in one statement: a quote is
//! a small thing, and a statement costs more than what it does.

use std::sync::Arc;

use domain::{
    id::OfferId,
    time::{Seconds, UnixSeconds},
};
use store::{
    Store, StoreError,
    quotes::{self, Asking, Ground, Quote},
};

use crate::renter::batcher::{Batcher, Errand};

/// Looks and stores for all that ask.
pub(crate) struct Quoting {
    looks: Batcher<Looks>,
    promises: Batcher<Promises>,
    store: Store,
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

impl Quoting {
    /// Begins, until this is dropped. Must be called inside a tokio runtime.
    pub(crate) fn start(store: Store, idle: Seconds) -> Self {
        let looks = Batcher::start(Looks { store: store.clone(), idle });
        let promises = Batcher::start(Promises { store: store.clone() });
        Self { looks, promises, store }
    }

    /// What a quote depends on. `None` if there is no such offer, or if it was not found out: what is missing is asked for
    /// by itself.
    pub(super) async fn look(&self, question: Question) -> Option<Ground> {
        self.looks.ask(question).await.flatten()
    }

    /// Stores a quote with an id of its own.
    ///
    /// # Errors
    /// As [`quotes::promise`].
    pub(super) async fn promise(&self, quote: &Arc<Quote>) -> Result<(), StoreError> {
        if self.promises.ask(quote.clone()).await.is_some() {
            return Ok(());
        }
        let mut connection = self.store.borrow().await?;
        match quotes::promise(&mut connection, &[quote]).await {
            // it was stored with the others, and only not said
            Err(error) if error.is_conflict_on("quotes_pkey") => {}
            done => done?,
        }
        self.store.keep(connection);
        Ok(())
    }
}

struct Looks {
    store: Store,
    idle: Seconds,
}

impl Errand for Looks {
    type Asked = Question;
    type Told = Option<Ground>;

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
}

impl Errand for Promises {
    type Asked = Arc<Quote>;
    type Told = ();

    async fn run(&self, quotes: &[Arc<Quote>]) -> Result<Vec<()>, StoreError> {
        let all: Vec<&Quote> = quotes.iter().map(Arc::as_ref).collect();
        let mut connection = self.store.borrow().await?;
        quotes::promise(&mut connection, &all).await?;
        self.store.keep(connection);
        Ok(vec![(); quotes.len()])
    }
}
