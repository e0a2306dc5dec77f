//! What ends with a session or a key: streams that were opened in its name. A request asks for itself; a stream goes on
//! for up to an hour, and hears of it here.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use store::{
    Store, StoreError,
    revocations::{self, Heard, Listener},
};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// How many revocations a stream may fall behind before it asks for itself.
const BACKLOG: usize = 256;
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// One listening connection for all streams, from the first stream on, until the last clone is gone.
#[derive(Clone, Default)]
pub(crate) struct Revoked(Arc<OnceLock<Listening>>);

struct Listening {
    news: broadcast::Sender<Heard>,
    _until: DropGuard,
}

impl Revoked {
    /// Ends when the session or key with this id is revoked; never without one.
    pub(crate) fn of(
        &self,
        store: &Store,
        id: Option<Uuid>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let listening = self.0.get_or_init(|| Listening::start(store.clone()));
        let (mut news, store) = (listening.news.subscribe(), store.clone());
        async move {
            let Some(id) = id else { return std::future::pending().await };
            // it may have been revoked between its request's own look and this moment
            let mut heard = Ok(Heard::Gap);
            loop {
                match heard {
                    Ok(Heard::Revoked(gone)) if gone == id => return,
                    Ok(Heard::Revoked(_)) => {}
                    Ok(Heard::Gap) | Err(RecvError::Lagged(_)) => match is_good(&store, id).await {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(error) => {
                            tracing::warn!(%error, "a stream's session was not looked up")
                        }
                    },
                    // the service ends, and every stream with it
                    Err(RecvError::Closed) => return,
                }
                heard = news.recv().await;
            }
        }
    }
}

impl Listening {
    fn start(store: Store) -> Self {
        let (news, _) = broadcast::channel(BACKLOG);
        let stop = CancellationToken::new();
        let (sender, stopped) = (news.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = listen_for_ever(&store, &sender) => {}
            }
        });
        Self { news, _until: stop.drop_guard() }
    }
}

async fn is_good(store: &Store, id: Uuid) -> Result<bool, StoreError> {
    let mut connection = store.read().await?;
    revocations::is_good(&mut connection, id).await
}

async fn listen_for_ever(store: &Store, news: &broadcast::Sender<Heard>) {
    loop {
        let Err(error) = listen(store, news).await;
        tracing::warn!(%error, "not listening for revocations; trying again");
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

async fn listen(
    store: &Store,
    news: &broadcast::Sender<Heard>,
) -> Result<std::convert::Infallible, StoreError> {
    let mut listener = Listener::start(store).await?;
    // what happened before this moment was not heard
    publish(news, Heard::Gap);
    loop {
        publish(news, listener.next().await?);
    }
}

fn publish(news: &broadcast::Sender<Heard>, heard: Heard) {
    if news.send(heard).is_err() {
        tracing::trace!("no stream is open");
    }
}
