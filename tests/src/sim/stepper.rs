//! Holds a loop's tick at one of its seams: to let others go on meanwhile, or to drop it there as a kill would.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use store::seam::{Watch, watched};

const GOING: usize = 0;
const HELD: usize = 1;
const RELEASED: usize = 2;

struct Hold {
    /// Seams that are passed before the task is held.
    left: AtomicUsize,
    state: AtomicUsize,
    place: Mutex<String>,
}

impl Watch for Hold {
    fn passes(&self, place: &str) -> bool {
        match self.state.load(Ordering::SeqCst) {
            RELEASED => true,
            HELD => false,
            _ if self.left.load(Ordering::SeqCst) == 0 => {
                place.clone_into(&mut self.place.lock().unwrap());
                self.state.store(HELD, Ordering::SeqCst);
                false
            }
            _ => {
                self.left.fetch_sub(1, Ordering::SeqCst);
                true
            }
        }
    }
}

/// A tick that may be held.
pub struct Stepper<T> {
    hold: Arc<Hold>,
    work: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T: 'static> Stepper<T> {
    /// `work`, to be held at the seam after so many others.
    pub fn new(work: impl Future<Output = T> + Send + 'static, seams: usize) -> Self {
        let hold = Arc::new(Hold {
            left: AtomicUsize::new(seams),
            state: AtomicUsize::new(GOING),
            place: Mutex::default(),
        });
        let work = Box::pin(watched(hold.clone(), work));
        Self { hold, work }
    }

    /// Goes on until the work is done, or held for the first time: then `None`.
    pub async fn go(&mut self) -> Option<T> {
        let (hold, work) = (&self.hold, &mut self.work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if hold.state.load(Ordering::SeqCst) == HELD => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Where it is held.
    pub fn place(&self) -> String {
        self.hold.place.lock().unwrap().clone()
    }

    /// Lets it go on to its end.
    pub async fn finish(mut self) -> T {
        self.hold.state.store(RELEASED, Ordering::SeqCst);
        self.go().await.unwrap()
    }
}
