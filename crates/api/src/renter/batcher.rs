//! What is asked of the database at the same time is asked in one statement, which costs it little more than that of one
//! (docs/adr/0016). No timer gathers: who comes while a statement runs shares the next one.

use std::{future::Future, time::Duration};

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

    /// As many answers as there were questions, in their order.
    fn run(
        &self,
        asked: &[Self::Asked],
    ) -> impl Future<Output = Result<Vec<Self::Told>, StoreError>> + Send;
}

/// Runs one errand after the other.
pub(super) struct Batcher<E: Errand> {
    door: mpsc::Sender<(E::Asked, oneshot::Sender<E::Told>)>,
}

impl<E: Errand> Batcher<E> {
    /// Begins to run errands, until this is dropped. Must be called inside a tokio runtime.
    pub(super) fn start(errand: E) -> Self {
        let (door, waiting) = mpsc::channel(ROOM);
        tokio::spawn(work(errand, waiting));
        Self { door }
    }

    /// What was found, as it was when this was asked, and never older. `None` if the database did not answer, or not to all: then
    /// whether something was done is not known, and what is needed is asked for by itself.
    pub(super) async fn ask(&self, asked: E::Asked) -> Option<E::Told> {
        let (answer, told) = oneshot::channel();
        self.door.send((asked, answer)).await.ok()?;
        told.await.ok()
    }
}

async fn work<E: Errand>(
    errand: E,
    mut door: mpsc::Receiver<(E::Asked, oneshot::Sender<E::Told>)>,
) {
    let mut waiting = Vec::with_capacity(MOST);
    while door.recv_many(&mut waiting, MOST).await > 0 {
        let (asked, answers): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        match tokio::time::timeout(PATIENCE, errand.run(&asked)).await {
            // whoever asked may have gone
            Ok(Ok(told)) => {
                answers.into_iter().zip(told).for_each(|(to, told)| drop(to.send(told)))
            }
            Ok(Err(error)) => tracing::debug!(%error, "nothing was done for all at once"),
            Err(_) => tracing::debug!("no answer in time for all at once"),
        }
    }
}
