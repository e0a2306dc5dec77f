//! Seams: the places where what a loop has done becomes visible to others: each transaction begun and
//! committed, each call to the chain. A test that watches a task can hold it at any of them, let others go
//! on meanwhile, or drop it there as a kill would. Debug builds only: a release build has no seams.

#[cfg(debug_assertions)]
mod watched {
    use std::{
        future::{Future, poll_fn},
        sync::Arc,
        task::Poll,
    };

    /// Decides at each place whether the task may go on; asked again whenever the task is polled.
    pub trait Watch: Send + Sync {
        /// True if the task goes on.
        fn passes(&self, place: &str) -> bool;
    }

    tokio::task_local! {
        static WATCH: Arc<dyn Watch>;
    }

    /// Runs `work` under the eyes of `watch`.
    pub fn watched<F: Future>(watch: Arc<dyn Watch>, work: F) -> impl Future<Output = F::Output> {
        WATCH.scope(watch, work)
    }

    /// Passes at once, unless a watch holds this task here.
    pub async fn at(place: &str) {
        let Ok(watch) = WATCH.try_with(Arc::clone) else { return };
        poll_fn(|_| if watch.passes(place) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}
#[cfg(debug_assertions)]
pub use watched::{Watch, at, watched};

/// Passes at once.
#[cfg(not(debug_assertions))]
pub async fn at(_place: &str) {}
