//! What is asked of the database at the same time is asked in one statement, which costs it little more than that of one
//! (docs/adr/0016). No timer gathers: who comes while statements run shares the next one.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use store::StoreError;
use tokio::sync::{mpsc, oneshot};

/// Who share a statement, at most.
const MOST: usize = 32;
/// Who asks for others does not wait long for the database: each then asks by itself.
const PATIENCE: Duration = Duration::from_millis(250);
/// Who may wait to be put down; more wait to wait.
const ROOM: usize = 256;

/// What can be asked for many at once.
pub(super) trait Errand: Send + Sync + 'static {
    /// What one asks.
    type Asked: Send + Sync + 'static;
    /// What it is told.
    type Told: Send + 'static;
    /// Statements that run at the same time.
    const AT_ONCE: usize;

    /// As many answers as there were questions, in their order.
    fn run(
        &self,
        asked: &[Self::Asked],
    ) -> impl Future<Output = Result<Vec<Self::Told>, StoreError>> + Send;
}

type Waiting<E> = (<E as Errand>::Asked, oneshot::Sender<<E as Errand>::Told>);

/// Runs errands of one kind.
pub(super) struct Batcher<E: Errand> {
    door: mpsc::Sender<Waiting<E>>,
}

impl<E: Errand> Batcher<E> {
    /// Begins to run errands, until this is dropped. Must be called inside a tokio runtime.
    pub(super) fn start(errand: E) -> Self {
        let (door, waiting) = mpsc::channel(ROOM);
        tokio::spawn(work(errand, waiting));
        Self { door }
    }

    /// What was found, as it was when this was asked, and never older. `None` if the database did not answer, or not to all:
    /// then whether something was done is not known, and what is needed is asked for by itself.
    pub(super) async fn ask(&self, asked: E::Asked) -> Option<E::Told> {
        let (answer, told) = oneshot::channel();
        self.door.send((asked, answer)).await.ok()?;
        told.await.ok()
    }
}

async fn work<E: Errand>(errand: E, mut door: mpsc::Receiver<Waiting<E>>) {
    let mut running = FuturesUnordered::new();
    let mut open = true;
    while open || !running.is_empty() {
        let mut come = Vec::new();
        tokio::select! {
            count = door.recv_many(&mut come, MOST), if open && running.len() < E::AT_ONCE => {
                open = count > 0;
                if open {
                    running.push(together(&errand, come));
                }
            }
            Some(()) = running.next() => {}
        }
    }
}

async fn together<E: Errand>(errand: &E, waiting: Vec<Waiting<E>>) {
    let (asked, answers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
    match tokio::time::timeout(PATIENCE, errand.run(&asked)).await {
        // whoever asked may have gone
        Ok(Ok(told)) => answers.into_iter().zip(told).for_each(|(to, told)| drop(to.send(told))),
        Ok(Err(error)) => tracing::debug!(%error, "nothing was done for all at once"),
        Err(_) => tracing::debug!("no answer in time for all at once"),
    }
}
