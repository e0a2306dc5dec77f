//! Answers that cost a look at the whole market: made by one at a time, in a task of its own, and kept for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::time::{Seconds, UnixSeconds};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::{Code, Problem, problem::internal};

/// How long one waits for an answer that is being made: it is made to its end all the same, for those who come then.
const PATIENCE: Duration = Duration::from_secs(8);

/// What making one came to; nothing yet.
type Outcome<T> = Option<Result<Arc<T>, Problem>>;

struct State<T> {
    /// The last one, and when its making began.
    last: Option<(UnixSeconds, Arc<T>)>,
    /// Whoever makes the next one tells here.
    making: Option<watch::Receiver<Outcome<T>>>,
}

impl<T> State<T> {
    /// The last one, if it is no older than `age`, even where the clock went back.
    fn told(&self, now: UnixSeconds, age: Seconds) -> Option<Arc<T>> {
        let (made, last) = self.last.as_ref()?;
        (*made <= now && now < made.saturating_plus(age)).then(|| last.clone())
    }
}

/// An answer that is kept. Cheap to clone.
pub(crate) struct Kept<T>(Arc<Mutex<State<T>>>);

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { last: None, making: None })))
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // an answer is put in whole or not at all
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, if it was made within `age`; else a new one. While one is made, others get the old one until it is twice as
    /// old, and then wait with whoever asked for the new one. A failure is told to all who wait, and kept for nobody.
    ///
    /// # Errors
    /// Those of making it; [`Code::Unavailable`] if that takes too long.
    pub(crate) async fn get<F>(
        &self,
        age: Seconds,
        now: UnixSeconds,
        make: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Problem>
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        self.get_within(PATIENCE, age, now, make).await
    }

    async fn get_within<F>(
        &self,
        patience: Duration,
        age: Seconds,
        now: UnixSeconds,
        make: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Problem>
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let mut made = {
            let mut state = self.state();
            if let Some(last) = state.told(now, age) {
                return Ok(last);
            }
            // who makes one and panics tells nothing, and is gone
            match state.making.clone().filter(|making| making.has_changed().is_ok()) {
                Some(making) => {
                    if let Some(old) = state.told(now, age.saturating_add(age)) {
                        return Ok(old);
                    }
                    making
                }
                None => {
                    let (tell, made) = watch::channel(None);
                    state.making = Some(made.clone());
                    let (kept, work) = (self.clone(), make());
                    tokio::spawn(
                        async move {
                            let outcome = work.await.map(Arc::new);
                            kept.end(now, outcome.as_ref().ok());
                            tell.send_replace(Some(outcome));
                        }
                        .in_current_span(),
                    );
                    made
                }
            }
        };
        match tokio::time::timeout(patience, made.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(internal("no outcome"))),
            Ok(Err(gone)) => Err(internal(gone)),
            Err(_) => {
                let detail = "the market is being looked at; come again in a moment";
                Err(Problem::new(Code::Unavailable, detail))
            }
        }
    }

    fn end(&self, begun: UnixSeconds, made: Option<&Arc<T>>) {
        let mut state = self.state();
        state.making = None;
        if let Some(made) = made {
            state.last = Some((begun, made.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const AGE: Seconds = Seconds(10);

    fn at(second: u64) -> UnixSeconds {
        UnixSeconds(1_800_000_000_u64.saturating_add(second))
    }

    /// Makes the number of the making, or fails, when it is let.
    #[derive(Clone)]
    struct Maker {
        gate: Arc<Semaphore>,
        made: Arc<AtomicU32>,
    }

    impl Maker {
        fn new() -> Self {
            Self { gate: Arc::new(Semaphore::new(0)), made: Arc::default() }
        }

        async fn ask(&self, kept: &Kept<u32>, now: UnixSeconds, good: bool) -> Result<u32, Code> {
            let own = self.clone();
            let make = move || async move {
                own.gate.acquire().await.map_err(internal)?.forget();
                let number = own.made.fetch_add(1, Ordering::Relaxed);
                if good { Ok(number) } else { Err(Problem::new(Code::Unavailable, "away")) }
            };
            let got = kept.get_within(Duration::from_millis(200), AGE, now, make).await;
            got.map(|number| *number).map_err(|error| error.code())
        }
    }

    #[tokio::test]
    async fn many_who_ask_at_once_are_told_of_one_making() {
        let (kept, maker) = (Kept::default(), Maker::new());
        maker.gate.add_permits(1);
        let all = std::iter::repeat_with(|| maker.ask(&kept, at(0), true)).take(9);
        let told = futures_util::future::join_all(all).await;
        assert!(told.iter().all(|one| *one == Ok(0)), "{told:?}");
        assert_eq!(maker.ask(&kept, at(9), true).await, Ok(0), "it is kept");
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(10), true).await, Ok(1), "it is too old");
        // the clock went back: what is of the future is not told
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(3), true).await, Ok(2));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_waited_and_not_tried_by_each() {
        let (kept, maker) = (Kept::default(), Maker::new());
        maker.gate.add_permits(1);
        let all = std::iter::repeat_with(|| maker.ask(&kept, at(0), false)).take(9);
        let told = futures_util::future::join_all(all).await;
        assert!(told.iter().all(|one| *one == Err(Code::Unavailable)), "{told:?}");
        assert_eq!(maker.made.load(Ordering::Relaxed), 1);
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(0), true).await, Ok(1), "who comes later tries anew");
    }

    #[tokio::test]
    async fn the_old_one_is_told_meanwhile_and_nobody_waits_for_ever() {
        let (kept, maker) = (Kept::default(), Maker::new());
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(0), true).await, Ok(0));
        // whoever finds it old has a new one made, and goes away without it
        let first = maker.ask(&kept, at(10), true);
        assert!(tokio::time::timeout(Duration::from_millis(1), first).await.is_err());
        assert_eq!(maker.ask(&kept, at(19), true).await, Ok(0));
        assert_eq!(
            maker.ask(&kept, at(20), true).await,
            Err(Code::Unavailable),
            "after its patience"
        );
        // it is made to its end for whoever comes then
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(20), true).await, Ok(1));
        assert_eq!(maker.ask(&kept, at(19), true).await, Ok(1), "it is kept");
    }

    #[tokio::test]
    async fn who_panics_keeps_nobody_from_making_one() {
        let kept = Kept::<u32>::default();
        let broken = kept.get(AGE, at(0), || async { panic!("secret") }).await.map(|_| ());
        assert_eq!(broken.unwrap_err().code(), Code::Internal);
        assert_eq!(kept.get(AGE, at(0), || async { Ok(7) }).await.map(|n| *n).unwrap(), 7);
    }
}
