//! What is asked of the database at the same time is asked in one statement, which costs it little more than that of one
//! (docs/adr/0016). No timer gathers: who comes while statements run shares the next one.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use store::StoreError;
use tokio::sync::{mpsc, oneshot};

/// Who share a statement, at most.
const MOST: usize = 32;
/// Nobody waits long for an answer to all: each then asks by itself.
const PATIENCE: Duration = Duration::from_millis(250);
/// Longer than the database lets a statement take, and a connection be waited for: then it is not there any more.
const GIVEN_UP: Duration = Duration::from_secs(20);
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
    patience: Duration,
}

impl<E: Errand> Batcher<E> {
    /// Begins to run errands, until this is dropped. Must be called inside a tokio runtime.
    pub(super) fn start(errand: E) -> Self {
        let (door, waiting) = mpsc::channel(ROOM);
        tokio::spawn(work(errand, waiting));
        Self { door, patience: PATIENCE }
    }

    /// What was found, as it was when this was asked, and never older. `None` if the database did not answer soon, or not to
    /// all: then whether something was done is not known, and what is needed is asked for by itself.
    pub(super) async fn ask(&self, asked: E::Asked) -> Option<E::Told> {
        let (answer, told) = oneshot::channel();
        let answered = async {
            self.door.send((asked, answer)).await.ok()?;
            told.await.ok()
        };
        tokio::time::timeout(self.patience, answered).await.ok().flatten()
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
                // nothing is done for whoever has gone
                come.retain(|(_, answer)| !answer.is_closed());
                if !come.is_empty() {
                    running.push(together(&errand, come));
                }
            }
            Some(()) = running.next() => {}
        }
    }
}

/// Runs to its end, however long nobody waits for it any more: its connection is not free before.
async fn together<E: Errand>(errand: &E, waiting: Vec<Waiting<E>>) {
    let (asked, answers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
    match tokio::time::timeout(GIVEN_UP, errand.run(&asked)).await {
        // whoever asked may have gone
        Ok(Ok(told)) => answers.into_iter().zip(told).for_each(|(to, told)| drop(to.send(told))),
        Ok(Err(error)) => tracing::debug!(%error, "nothing was done for all at once"),
        Err(_) => tracing::warn!("the database never answered"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{sync::Semaphore, task::JoinSet};

    use super::*;

    /// Doubles numbers, once it may; refuses all if there is a zero among them.
    #[derive(Clone)]
    struct Double {
        may: Arc<Semaphore>,
        runs: Arc<AtomicUsize>,
        done: Arc<AtomicUsize>,
    }

    impl Double {
        fn new(may: usize) -> Self {
            let (may, runs, done) = (Arc::new(Semaphore::new(may)), Arc::default(), Arc::default());
            Self { may, runs, done }
        }
    }

    impl Errand for Double {
        type Asked = usize;
        type Told = usize;
        const AT_ONCE: usize = 1;

        async fn run(&self, asked: &[usize]) -> Result<Vec<usize>, StoreError> {
            self.runs.fetch_add(1, Ordering::SeqCst);
            self.may.acquire().await.unwrap().forget();
            self.done.fetch_add(asked.len(), Ordering::SeqCst);
            if asked.contains(&0) {
                return Err(StoreError::corrupt("a zero"));
            }
            Ok(asked.iter().map(|number| number.saturating_mul(2)).collect())
        }
    }

    impl Batcher<Double> {
        /// The same, with another patience.
        fn with(&self, patience: Duration) -> Self {
            Self { door: self.door.clone(), patience }
        }
    }

    /// However busy the machine is.
    const LONG: Duration = Duration::from_secs(60);

    async fn wait_for(count: &AtomicUsize, wanted: usize) {
        while count.load(Ordering::SeqCst) < wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn who_comes_meanwhile_shares_the_next_and_each_has_its_own() {
        let errand = Double::new(0);
        let batcher = Arc::new(Batcher::start(errand.clone()).with(LONG));
        let mut asking = JoinSet::new();
        let ask = |asking: &mut JoinSet<_>, number: usize| {
            let batcher = batcher.clone();
            asking.spawn(async move { (number, batcher.ask(number).await) });
        };
        ask(&mut asking, 1);
        wait_for(&errand.runs, 1).await;
        for number in 2..=9 {
            ask(&mut asking, number);
        }
        while batcher.door.capacity() > ROOM - 8 {
            tokio::task::yield_now().await;
        }
        errand.may.add_permits(9);
        while let Some(told) = asking.join_next().await {
            let (number, told) = told.unwrap();
            assert_eq!(told, Some(number * 2));
        }
        assert_eq!(errand.runs.load(Ordering::SeqCst), 2);
        // what fails for one fails for all, who then ask by themselves
        let (one, two) = tokio::join!(batcher.ask(0), batcher.ask(4));
        assert_eq!(one, None);
        assert!(two.is_none() || errand.runs.load(Ordering::SeqCst) == 4);
        assert_eq!(batcher.ask(5).await, Some(10));
    }

    #[tokio::test]
    async fn who_waits_too_long_goes_alone_and_nothing_is_done_for_who_has_gone() {
        let errand = Double::new(0);
        let batcher = Batcher::start(errand.clone());
        // the first is under way, the second waits for its turn; neither is answered
        let second = async {
            wait_for(&errand.runs, 1).await;
            batcher.ask(2).await
        };
        let (one, two) = tokio::join!(batcher.ask(1), second);
        assert_eq!((one, two), (None, None));
        errand.may.add_permits(9);
        assert_eq!(batcher.with(LONG).ask(3).await, Some(6));
        assert_eq!(errand.runs.load(Ordering::SeqCst), 2);
        assert_eq!(errand.done.load(Ordering::SeqCst), 2, "the first and the third");
    }
}
