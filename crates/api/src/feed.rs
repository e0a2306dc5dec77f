//! News of rentals: one listening connection, shared by all event streams.

use std::{sync::Arc, time::Duration};

use store::{
    Store, StoreError,
    timeline::{Heard, Listener},
};
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many pieces of news a slow stream may fall behind before it reads its timeline anew.
const BACKLOG: usize = 1_024;
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Hands out the news. The listening ends with the last clone.
#[derive(Clone)]
pub(crate) struct Feed {
    news: broadcast::Sender<Heard>,
    _listening: Arc<DropGuard>,
}

impl Feed {
    /// Begins to listen, and goes on trying while the database is away.
    pub(crate) fn start(store: Store) -> Self {
        let (news, _) = broadcast::channel(BACKLOG);
        let stop = CancellationToken::new();
        let (sender, stopped) = (news.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = listen_for_ever(&store, &sender) => {}
            }
        });
        Self { news, _listening: Arc::new(stop.drop_guard()) }
    }

    /// News from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Heard> {
        self.news.subscribe()
    }
}

async fn listen_for_ever(store: &Store, news: &broadcast::Sender<Heard>) {
    loop {
        let Err(error) = listen(store, news).await;
        tracing::warn!(%error, "not listening for news of rentals; trying again");
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
        tracing::trace!("nobody follows a rental");
    }
}
