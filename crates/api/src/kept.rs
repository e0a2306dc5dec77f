//! Answers that cost much, such as a look at the whole market: made by one at a time, in a task of its own, and kept for a
//! while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::time::{Seconds, UnixSeconds};
use tokio::{sync::watch, time::Instant};
use tracing::Instrument as _;

use crate::{Code, Problem, problem::internal};

/// How long is waited for what.
#[derive(Clone, Copy)]
struct Patience {
    /// For an answer that is being made: it is made to its end all the same, for those who come then.
    whole: Duration,
    /// The same by who had it made, and may be told the old one.
    moment: Duration,
    /// From a failure until it is tried again.
    failure: Duration,
}

const PATIENCE: Patience = Patience {
    whole: Duration::from_secs(8),
    moment: Duration::from_secs(1),
    failure: Duration::from_secs(1),
};

/// What making one came to; nothing yet.
type Outcome<T> = Option<Result<Arc<T>, Problem>>;

/// An answer that was made.
struct Made<T> {
    /// It is as of then.
    begun: UnixSeconds,
    /// Its age counts from then: one that takes long to make is kept as long as any other.
    ended: UnixSeconds,
    answer: Arc<T>,
}

struct State<T> {
    last: Option<Made<T>>,
    /// Whoever makes the next one tells here.
    making: Option<watch::Receiver<Outcome<T>>>,
    /// When the last making failed, and why, if it did.
    failed: Option<(Instant, Problem)>,
}

impl<T> State<T> {
    /// The last one, if it was made within `age`, even where the clock went back.
    fn told(&self, now: UnixSeconds, age: Seconds) -> Option<Arc<T>> {
        let last = self.last.as_ref()?;
        (last.begun <= now && now < last.ended.saturating_plus(age)).then(|| last.answer.clone())
    }

    /// Why it failed within `time`.
    fn failure(&self, time: Duration) -> Option<Problem> {
        let (at, problem) = self.failed.as_ref()?;
        (at.elapsed() < time).then(|| problem.clone())
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
        Self(Arc::new(Mutex::new(State { last: None, making: None, failed: None })))
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // an answer is put in whole or not at all
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, if it was made within `age`; else a new one. While one is made, the old one is told until it is twice as
    /// old: to whoever asked for the new one after a moment, and to others at once; after that all wait. A failure is told
    /// to all who wait, and for a second to those who come; then it is tried again.
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
        patience: Patience,
        age: Seconds,
        now: UnixSeconds,
        make: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Problem>
    where
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let (mut made, old) = {
            let mut state = self.state();
            if let Some(last) = state.told(now, age) {
                return Ok(last);
            }
            let old = state.told(now, age.saturating_add(age));
            // who makes one and panics tells nothing, and is gone
            match state.making.clone().filter(|making| making.has_changed().is_ok()) {
                Some(making) => match old {
                    Some(old) => return Ok(old),
                    None => (making, None),
                },
                None => {
                    if let Some(problem) = state.failure(patience.failure) {
                        return old.ok_or(problem);
                    }
                    let (tell, made) = watch::channel(None);
                    state.making = Some(made.clone());
                    let (kept, work) = (self.clone(), make());
                    let began = Instant::now();
                    tokio::spawn(
                        async move {
                            let outcome = work.await.map(Arc::new);
                            kept.end(now, began.elapsed(), &outcome);
                            tell.send_replace(Some(outcome));
                        }
                        .in_current_span(),
                    );
                    (made, old)
                }
            }
        };
        let wait = if old.is_some() { patience.moment } else { patience.whole };
        let outcome = match tokio::time::timeout(wait, made.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(internal("no outcome"))),
            Ok(Err(gone)) => Err(internal(gone)),
            Err(_) => {
                let detail = "this is being looked at; come again in a moment";
                Err(Problem::new(Code::Unavailable, detail))
            }
        };
        // an old one that may be told is better than none
        outcome.or_else(|problem| old.ok_or(problem))
    }

    fn end(&self, begun: UnixSeconds, took: Duration, outcome: &Result<Arc<T>, Problem>) {
        let took = Seconds(u32::try_from(took.as_secs()).unwrap_or(u32::MAX));
        let mut state = self.state();
        state.making = None;
        match outcome {
            Ok(answer) => {
                let ended = begun.saturating_plus(took);
                state.last = Some(Made { begun, ended, answer: answer.clone() });
                state.failed = None;
            }
            Err(problem) => state.failed = Some((Instant::now(), problem.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const AGE: Seconds = Seconds(10);
    const SHORT: Patience = Patience {
        whole: Duration::from_millis(200),
        moment: Duration::from_millis(200),
        failure: Duration::from_millis(300),
    };

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
            let got = kept.get_within(SHORT, AGE, now, make).await;
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
        assert_eq!(maker.ask(&kept, at(0), true).await, Err(Code::Unavailable), "for a moment");
        assert_eq!(maker.made.load(Ordering::Relaxed), 1, "nobody tried");
        tokio::time::sleep(SHORT.failure).await;
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(0), true).await, Ok(1), "who comes later tries anew");
        // who may have the old one is told of no failure
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(10), false).await, Ok(1));
        assert_eq!(maker.ask(&kept, at(19), true).await, Ok(1));
        assert_eq!(maker.made.load(Ordering::Relaxed), 3);
        assert_eq!(maker.ask(&kept, at(20), true).await, Err(Code::Unavailable), "it is too old");
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
    async fn who_has_a_new_one_made_waits_for_it_a_moment_and_is_then_told_the_old_one() {
        let (kept, maker) = (Kept::default(), Maker::new());
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(0), true).await, Ok(0));
        maker.gate.add_permits(1);
        assert_eq!(maker.ask(&kept, at(10), true).await, Ok(1), "it was made in time");
        assert_eq!(maker.ask(&kept, at(20), true).await, Ok(1), "it was not");
        assert_eq!(maker.ask(&kept, at(29), true).await, Ok(1));
    }

    #[test]
    fn an_answer_that_took_long_is_kept_from_its_end_on() {
        let kept = Kept::<u32>::default();
        kept.end(at(5), Duration::from_secs(8), &Ok(Arc::new(7)));
        let told = |now| kept.state().told(at(now), AGE).map(|answer| *answer);
        assert_eq!((told(4), told(5), told(22), told(23)), (None, Some(7), Some(7), None));
    }

    #[tokio::test]
    async fn who_panics_keeps_nobody_from_making_one() {
        let kept = Kept::<u32>::default();
        let broken = kept.get(AGE, at(0), || async { panic!("secret") }).await.map(|_| ());
        assert_eq!(broken.unwrap_err().code(), Code::Internal);
        assert_eq!(kept.get(AGE, at(0), || async { Ok(7) }).await.map(|n| *n).unwrap(), 7);
    }
}
