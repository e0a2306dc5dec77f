//! What ends with a session or a key: streams that were opened in its name. A request asks for itself; a stream goes on
//! for up to an hour, and hears of it here. News of accounts, for the streams of accounts, come the same way.

mod accounts;

use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use domain::id::AccountId;
use store::{
    Store, StoreError,
    revocations::{self, Heard, Listener},
};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc, oneshot,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub(crate) use self::accounts::AccountNews;
use self::accounts::Accounts;

/// How many revocations a stream may fall behind before it asks for itself.
const BACKLOG: usize = 256;
/// Streams that ask at one moment, as after a gap all do, are answered together, so many at once.
const TOGETHER: usize = 1_000;
/// A stream that was not answered asks again after this and up to as long again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// One listening connection for all streams, from the first stream on, until the last clone is gone.
#[derive(Clone, Default)]
pub(crate) struct Revoked(Arc<OnceLock<Listening>>);

/// Whom it is told to.
#[derive(Clone)]
struct Told {
    news: broadcast::Sender<Heard>,
    accounts: Arc<Accounts>,
}

struct Listening {
    told: Told,
    questions: mpsc::Sender<Question>,
    _until: DropGuard,
}

impl Revoked {
    /// Ends when the session, key or rental's token with this id is revoked.
    pub(crate) fn of(&self, store: &Store, id: Uuid) -> impl Future<Output = ()> + Send + 'static {
        let listening = self.0.get_or_init(|| Listening::start(store.clone()));
        let (mut news, questions) = (listening.told.news.subscribe(), listening.questions.clone());
        async move {
            // it may have been revoked between its request's own look and this moment
            let mut heard = Ok(Heard::Gap);
            loop {
                match heard {
                    Ok(Heard::Revoked(gone)) if gone == id => return,
                    Ok(Heard::Revoked(_) | Heard::Account(_)) => {}
                    Ok(Heard::Gap) | Err(RecvError::Lagged(_)) => {
                        if !is_good(&questions, id).await {
                            return;
                        }
                    }
                    // the service ends, and every stream with it
                    Err(RecvError::Closed) => return,
                }
                heard = news.recv().await;
            }
        }
    }
}

impl Revoked {
    /// Hears what happens to an account, from now on.
    pub(crate) fn news_of(&self, store: &Store, account: AccountId) -> AccountNews {
        self.0.get_or_init(|| Listening::start(store.clone())).told.accounts.follow(account)
    }
}

impl Listening {
    fn start(store: Store) -> Self {
        let told = Told { news: broadcast::channel(BACKLOG).0, accounts: Arc::default() };
        let stop = CancellationToken::new();
        let (questions, asked) = mpsc::channel(TOGETHER);
        let (sender, stopped) = (told.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = listen_for_ever(&store, &sender) => {}
                () = answer_all(&store, asked) => {}
                () = sender.accounts.look_for_ever(&store) => {}
            }
        });
        Self { told, questions, _until: stop.drop_guard() }
    }
}

/// Whether somebody's session or key is good still; dropped if that could not be looked up.
struct Question {
    id: Uuid,
    answer: oneshot::Sender<bool>,
}

/// Asks until there is an answer. When the service ends, nothing is good any more.
async fn is_good(questions: &mpsc::Sender<Question>, id: Uuid) -> bool {
    loop {
        let (answer, answered) = oneshot::channel();
        if questions.send(Question { id, answer }).await.is_err() {
            return false;
        }
        if let Ok(good) = answered.await {
            return good;
        }
        let more = u64::from(rand::random::<u8>()).saturating_mul(2);
        tokio::time::sleep(ASK_AGAIN_AFTER.saturating_add(Duration::from_millis(more))).await;
    }
}

/// Answers whoever asks, all together who do at one moment.
async fn answer_all(store: &Store, mut asked: mpsc::Receiver<Question>) {
    let mut questions = Vec::new();
    while asked.recv_many(&mut questions, TOGETHER).await > 0 {
        let ids: Vec<Uuid> = questions.iter().map(|question| question.id).collect();
        let good = match good_of(store, &ids).await {
            Ok(good) => good,
            Err(error) => {
                tracing::warn!(%error, "the sessions of streams were not looked up; they ask again");
                questions.clear();
                continue;
            }
        };
        for question in questions.drain(..) {
            if question.answer.send(good.contains(&question.id)).is_err() {
                tracing::trace!("a stream ended before it was answered");
            }
        }
    }
}

async fn good_of(store: &Store, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let mut connection = store.read().await?;
    Ok(revocations::good(&mut connection, ids).await?.into_iter().collect())
}

async fn listen_for_ever(store: &Store, told: &Told) {
    loop {
        let Err(error) = listen(store, told).await;
        tracing::warn!(%error, "not listening for revocations; trying again");
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

async fn listen(store: &Store, told: &Told) -> Result<std::convert::Infallible, StoreError> {
    let mut listener = Listener::start(store).await?;
    // what happened before this moment was not heard
    told.publish(Heard::Gap);
    loop {
        told.publish(listener.next().await?);
    }
}

impl Told {
    fn publish(&self, heard: Heard) {
        match heard {
            // nobody else need wake up for what happens to an account
            Heard::Account(id) => return self.accounts.tell(id),
            Heard::Gap => self.accounts.tell_all(),
            Heard::Revoked(_) => {}
        }
        if self.news.send(heard).is_err() {
            tracing::trace!("no stream is open");
        }
    }
}
