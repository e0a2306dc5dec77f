//! What a booking begins with, read ahead of it: who asks, and the quote. Requests that come at the same time share a look,
//! which costs the database little more than that of one (docs/adr/0016).

use axum::{Extension, http::HeaderMap};
use domain::{id::QuoteId, time::Seconds};
use serde_json::Value;
use store::{
    Store, StoreError,
    accounts::{self, Session},
    quotes::{self, Quote},
};

use super::{
    batcher::{Batcher, Errand},
    quotes::owned,
};
use crate::{
    AppState, Problem,
    identity::{Wallet, session_hash},
};

/// What was found for a request. It is as it was when the request had come, and never older.
#[derive(Clone)]
pub(crate) struct Ahead {
    token_hash: [u8; 32],
    session: Option<Session>,
    quote: Option<Quote>,
}

impl Ahead {
    /// The session of this token is this one, or none.
    pub(super) const fn of(token_hash: [u8; 32], session: Option<Session>) -> Self {
        Self { token_hash, session, quote: None }
    }

    /// The session of this token, if it was looked for: `Some(None)` if it is none.
    pub(crate) fn session(&self, token_hash: &[u8; 32]) -> Option<Option<Session>> {
        (self.token_hash == *token_hash).then_some(self.session)
    }
}

/// Looks ahead for a request with these headers and this body, if it is a booking by somebody who signed in. `None`, too, if
/// the database did not answer: then what is needed is asked for by itself.
pub(super) async fn look(
    app: &AppState,
    headers: &HeaderMap,
    body: Option<&Value>,
) -> Option<Ahead> {
    let quote = body?.get("quote_id")?.as_str()?.parse().ok()?;
    let token_hash = session_hash(headers)?;
    app.scout.0.ask((token_hash, quote)).await
}

/// The caller's quote: the one that was read ahead, or else asked for.
pub(super) async fn quote(
    ahead: Option<Extension<Ahead>>,
    app: &AppState,
    wallet: &Wallet,
    id: QuoteId,
) -> Result<Quote, Problem> {
    let found = ahead.and_then(|Extension(ahead)| ahead.quote).filter(|quote| quote.id == id);
    match found.filter(|quote| quote.account == wallet.account.id) {
        Some(quote) => Ok(quote),
        None => owned(&mut *app.store.read().await?, wallet, id).await,
    }
}

/// Looks for all that ask.
pub(crate) struct Scout(Batcher<Look>);

impl Scout {
    /// Begins to look, until this is dropped. Must be called inside a tokio runtime.
    pub(crate) fn start(store: Store, idle: Seconds) -> Self {
        Self(Batcher::start(Look { store, idle }))
    }
}

struct Look {
    store: Store,
    idle: Seconds,
}

impl Errand for Look {
    /// The hash of the session's token, and the quote.
    type Asked = ([u8; 32], QuoteId);
    type Told = Ahead;
    const AT_ONCE: usize = 1;

    async fn run(&self, asked: &[Self::Asked]) -> Result<Vec<Ahead>, StoreError> {
        let (hashes, ids): (Vec<_>, Vec<_>) = asked.iter().copied().unzip();
        let now = self.store.now().seconds();
        let mut connection = self.store.borrow().await?;
        let sessions = accounts::find_sessions(&mut connection, &hashes, now, self.idle).await?;
        let quotes = quotes::many(&mut connection, &ids).await?;
        self.store.keep(connection);
        let found = asked.iter().map(|(token_hash, quote)| Ahead {
            token_hash: *token_hash,
            session: sessions.get(token_hash).copied(),
            quote: quotes.iter().find(|found| found.id == *quote).cloned(),
        });
        Ok(found.collect())
    }
}
