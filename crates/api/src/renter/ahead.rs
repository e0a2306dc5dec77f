//! What a booking begins with, read ahead of it: who asks, and the quote. Requests that come at the same time share a look,
//! which costs the database little more than that of one (docs/adr/0016).

use std::{collections::BTreeMap, time::Duration};

use axum::{Extension, http::HeaderMap};
use domain::{id::QuoteId, time::Seconds};
use serde_json::Value;
use store::{
    Store, StoreError,
    accounts::{self, Session},
    quotes::{self, Quote},
};
use tokio::sync::{mpsc, oneshot};

use super::quotes::owned;
use crate::{
    AppState, Problem,
    identity::{Wallet, session_hash},
};

/// Requests that share a look, at most.
const MOST: usize = 32;
/// Who looks for others does not wait long for the database: each then asks by itself.
const PATIENCE: Duration = Duration::from_millis(250);
/// Requests that may wait to be put down; more wait to wait.
const ROOM: usize = 256;

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
    app.scout.look(token_hash, quote).await
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

struct Asked {
    token_hash: [u8; 32],
    quote: QuoteId,
    answer: oneshot::Sender<Ahead>,
}

/// Looks for all that ask.
#[derive(Clone)]
pub(crate) struct Scout {
    door: mpsc::Sender<Asked>,
}

impl Scout {
    /// Begins to look, until the last clone is gone. Must be called inside a tokio runtime.
    pub(crate) fn start(store: Store, idle: Seconds) -> Self {
        let (door, asked) = mpsc::channel(ROOM);
        tokio::spawn(work(store, idle, asked));
        Self { door }
    }

    async fn look(&self, token_hash: [u8; 32], quote: QuoteId) -> Option<Ahead> {
        let (answer, found) = oneshot::channel();
        self.door.send(Asked { token_hash, quote, answer }).await.ok()?;
        found.await.ok()
    }
}

/// No timer gathers: who comes while a look runs shares the next one.
async fn work(store: Store, idle: Seconds, mut door: mpsc::Receiver<Asked>) {
    let mut asked = Vec::with_capacity(MOST);
    while door.recv_many(&mut asked, MOST).await > 0 {
        let found = match tokio::time::timeout(PATIENCE, read(&store, idle, &asked)).await {
            Ok(found) => found,
            Err(_) => Err(StoreError::Unavailable("no answer in time".to_owned())),
        };
        match found {
            Ok((sessions, quotes)) => {
                for Asked { token_hash, quote, answer } in asked.drain(..) {
                    let session = sessions.get(&token_hash).copied();
                    let quote = quotes.iter().find(|found| found.id == quote).cloned();
                    // whoever asked may have gone
                    drop(answer.send(Ahead { token_hash, session, quote }));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "nothing was read ahead");
                asked.clear();
            }
        }
    }
}

type Found = (BTreeMap<[u8; 32], Session>, Vec<Quote>);

async fn read(store: &Store, idle: Seconds, asked: &[Asked]) -> Result<Found, StoreError> {
    let hashes: Vec<[u8; 32]> = asked.iter().map(|asked| asked.token_hash).collect();
    let ids: Vec<QuoteId> = asked.iter().map(|asked| asked.quote).collect();
    let mut connection = store.borrow().await?;
    let sessions =
        accounts::find_sessions(&mut connection, &hashes, store.now().seconds(), idle).await?;
    let quotes = quotes::many(&mut connection, &ids).await?;
    store.keep(connection);
    Ok((sessions, quotes))
}
