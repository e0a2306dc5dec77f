//! How fast a connection is. Its socket and its answers note what happens, and its task looks when it may have taken too
//! long: a request costs no timer, only a connection does.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::{ConnectionConfig, Late};

/// Nobody may take nothing of an answer for longer.
const TAKES_NOTHING: Duration = Duration::from_secs(60);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits for the next request.
    Idle,
    /// Some of a request's head has come.
    Head,
    /// A request is answered: how long that may take is said elsewhere.
    Busy,
}

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;

/// How fast a connection is. All of it is used by the one task of the connection.
pub(super) struct Pace {
    config: ConnectionConfig,
    begun: Instant,
    /// Milliseconds from the beginning to when the phase began, times four, and the phase.
    phase: AtomicU64,
    /// The same to when the peer stopped to take what is sent, plus one; zero while it takes it.
    stuck: AtomicU64,
    /// The same to when the next look is due.
    look: AtomicU64,
}

impl Pace {
    /// Of a connection that begins now: its first head has begun.
    pub(super) fn new(config: ConnectionConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            begun: Instant::now(),
            phase: AtomicU64::new(HEAD),
            stuck: AtomicU64::new(0),
            look: AtomicU64::new(millis(config.head.min(config.idle))),
        })
    }

    fn now(&self) -> u64 {
        millis(self.begun.elapsed())
    }

    fn enter(&self, phase: u64) {
        self.phase.store(self.now().saturating_mul(4) | phase, Relaxed);
    }

    /// A request came in whole, and is answered from now on.
    pub(super) fn busy(&self) {
        self.phase.store(BUSY, Relaxed);
    }

    /// Bytes came.
    fn received(&self) {
        if self.phase.load(Relaxed) & 3 == IDLE {
            self.enter(HEAD);
        }
    }

    /// The peer took some of what is sent, or did not.
    fn sent(&self, took: bool) {
        if took && self.phase.load(Relaxed) & 3 == IDLE {
            // the end of an answer is on its way yet
            self.enter(IDLE);
        }
        let stuck = self.stuck.load(Relaxed) > 0;
        if took && stuck {
            self.stuck.store(0, Relaxed);
        } else if !took && !stuck {
            self.stuck.store(self.now().saturating_add(1), Relaxed);
        }
    }

    fn phase(&self) -> (Phase, u64) {
        let noted = self.phase.load(Relaxed);
        let phase = match noted & 3 {
            IDLE => Phase::Idle,
            HEAD => Phase::Head,
            _ => Phase::Busy,
        };
        (phase, noted >> 2)
    }

    /// When to look again, in milliseconds from the beginning.
    ///
    /// # Errors
    /// What has taken too long.
    fn judge(&self, now: u64) -> Result<u64, Late> {
        let (phase, since) = self.phase();
        // a reader that stops meanwhile is noticed at the next look
        let soon = now.saturating_add(millis(self.config.idle.min(TAKES_NOTHING)));
        let (until, late) = match phase {
            Phase::Idle => (since.saturating_add(millis(self.config.idle)), Late::Idle),
            Phase::Head => (since.saturating_add(millis(self.config.head)), Late::Head),
            // nothing can have taken too long before
            Phase::Busy => (soon, Late::Idle),
        };
        if until <= now {
            return Err(late);
        }
        // a phase that begins before the next look may be over sooner than this one
        let until = until.min(soon);
        match self.stuck.load(Relaxed).checked_sub(1) {
            None => Ok(until),
            Some(since) => {
                let taken = since.saturating_add(millis(TAKES_NOTHING));
                if taken <= now { Err(Late::Reader) } else { Ok(until.min(taken)) }
            }
        }
    }

    /// Waits until something takes too long. To be polled after the connection.
    pub(super) fn poll(&self, mut look: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<Late> {
        loop {
            let (phase, since) = self.phase();
            let head = since.saturating_add(millis(self.config.head));
            // a head that began since the last look is over sooner than what was waited for
            let sooner = phase == Phase::Head && head < self.look.load(Relaxed);
            if !sooner && look.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match self.judge(self.now()) {
                Err(late) => return Poll::Ready(late),
                Ok(next) => {
                    self.look.store(next, Relaxed);
                    let at = self.begun.checked_add(Duration::from_millis(next));
                    // never past what was judged, so that the next look finds it
                    let at = at.and_then(|at| at.checked_add(Duration::from_millis(1)));
                    let Some(at) = at else { return Poll::Pending };
                    look.as_mut().reset(at);
                }
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 3)
}

/// A socket that notes what comes and goes.
pub(super) struct Watched {
    stream: TcpStream,
    pace: Arc<Pace>,
}

impl Watched {
    pub(super) const fn new(stream: TcpStream, pace: Arc<Pace>) -> Self {
        Self { stream, pace }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pace.sent(written.is_ready());
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pace.received();
        }
        done
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An answer's body: with its end the connection waits for the next request.
pub(super) struct Answer {
    body: Body,
    pace: Arc<Pace>,
}

impl Answer {
    pub(super) const fn new(body: Body, pace: Arc<Pace>) -> Self {
        Self { body, pace }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.pace.enter(IDLE);
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)] // a test stops at the first surprise

    use std::future::poll_fn;

    use super::*;

    const CONFIG: ConnectionConfig = ConnectionConfig {
        most: 1,
        share: 1,
        head: Duration::from_secs(10),
        idle: Duration::from_secs(60),
    };

    fn second(n: u64) -> u64 {
        n * 1_000
    }

    #[test]
    fn each_phase_has_its_time() {
        let pace = Pace::new(CONFIG);
        assert_eq!(pace.judge(second(9)), Ok(second(10)), "nothing has come yet");
        assert_eq!(pace.judge(second(10)), Err(Late::Head));
        pace.busy();
        assert_eq!(pace.judge(second(500)), Ok(second(560)), "answers have limits of their own");
        pace.received();
        assert_eq!(pace.phase().0, Phase::Busy, "a body is no head");
        pace.phase.store((second(100) * 4) | IDLE, Relaxed);
        assert_eq!(pace.judge(second(159)), Ok(second(160)));
        assert_eq!(pace.judge(second(160)), Err(Late::Idle));
        pace.received();
        assert_eq!(pace.phase().0, Phase::Head);
        assert!(pace.judge(second(9)).is_ok_and(|next| next >= second(10)));
        pace.phase.store((second(100) * 4) | HEAD, Relaxed);
        pace.received();
        assert_eq!(pace.phase(), (Phase::Head, second(100)), "more bytes give no more time");
    }

    #[test]
    fn who_takes_nothing_of_an_answer_is_cut_off() {
        let pace = Pace::new(CONFIG);
        pace.busy();
        pace.sent(false);
        pace.stuck.store(second(1), Relaxed);
        pace.sent(false);
        assert_eq!(pace.judge(second(60)), Ok(second(61) - 1), "once more is no new beginning");
        assert_eq!(pace.judge(second(61)), Err(Late::Reader));
        pace.sent(true);
        assert!(pace.judge(second(61)).is_ok());
    }

    #[test]
    fn a_long_rest_is_no_reason_to_look_seldom() {
        let pace = Pace::new(ConnectionConfig { idle: Duration::from_secs(3_600), ..CONFIG });
        pace.busy();
        assert_eq!(pace.judge(second(1)), Ok(second(61)));
        pace.phase.store((second(1) * 4) | IDLE, Relaxed);
        assert_eq!(pace.judge(second(3_600)), Ok(second(3_601)));
        assert_eq!(pace.judge(second(3_601)), Err(Late::Idle));
    }

    #[tokio::test]
    async fn a_head_that_begins_late_is_looked_at_in_its_time() {
        let (head, idle) = (Duration::from_millis(50), Duration::from_secs(30));
        let pace = Pace::new(ConnectionConfig { head, idle, ..CONFIG });
        pace.enter(IDLE);
        let mut look = std::pin::pin!(tokio::time::sleep(head));
        let begun = Instant::now();
        tokio::select! {
            _ = poll_fn(|context| pace.poll(look.as_mut(), context)) => panic!("too soon"),
            () = tokio::time::sleep(head * 3) => {}
        }
        pace.received();
        let late = poll_fn(|context| pace.poll(look.as_mut(), context)).await;
        assert_eq!(late, Late::Head);
        assert!(begun.elapsed() >= head * 4 && begun.elapsed() < idle);
    }
}
