//! Connections: who is let in, and how long one may be slow. What a request costs is limited where it is answered; here it
//! is about those that never become one.

mod pace;

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Once,
    task::Poll,
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

use self::pace::{Answer, Pace, Watched};
use crate::{
    AppState,
    limits::network_of,
    streams::{Full, Seats},
};

/// How many connections there may be, and how long one may take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionConfig {
    /// Open at once, in all.
    pub most: usize,
    /// From one IPv4 address or IPv6 network of 48 bits, but from a proxy of ours.
    pub share: usize,
    /// From the first byte of a request's head to its last, and from the connection to the first head's last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            most: 16_384,
            // an agent has two, one of which waits for orders: so many are two thousand machines of one house
            share: 4_096,
            head: Duration::from_secs(15),
            // longer than balancers keep what they do not use, so that it is they who close
            idle: Duration::from_secs(75),
        }
    }
}

impl ConnectionConfig {
    /// How many of the connections may be of agents that wait for orders: the others are for their heartbeats and for
    /// everybody else.
    pub(crate) const fn waiting(&self) -> usize {
        // one that rounds down to none would have agents ask in vain for ever
        if self.most < 4 { 1 } else { self.most / 4 }
    }

    /// How many may be event streams: with those that wait, an eighth is left for everybody else.
    pub(crate) const fn streams(&self) -> usize {
        let most = self.most.saturating_mul(5) / 8;
        if most == 0 { 1 } else { most }
    }
}

/// Why a connection was closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    Head,
    Idle,
    Reader,
}

impl Late {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Reader => "reader",
        }
    }
}

/// The longest head that is read, and what of an answer waits to be sent, in bytes. A body may be longer, and is read as it is
/// asked for; of a head that does not end no more is held than this.
const BUFFER: usize = 64 * 1_024;
/// After an error that is not one connection's, such as that there are no file handles left.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves whoever connects until the service closes, and then until all that are open have had their answers.
pub(crate) async fn serve(listener: TcpListener, router: Router, app: &AppState) {
    let config = app.config.connections;
    let seats = Seats::that_yield(config.most, config.share);
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.closing.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let ours = app.limits.is_proxy(peer.ip());
        match seats.take((!ours).then(|| network_of(peer.ip()))) {
            Ok(seat) => {
                let (router, closing) = (router.clone(), app.closing.child_token());
                let counted = Counted::new();
                open.spawn(async move {
                    talk(stream, peer, router, config, closing).await;
                    drop((counted, seat));
                });
            }
            Err(full) => {
                warn_of(full);
                let reason = full.as_str();
                metrics::counter!("weir_http_connections_refused_total", "reason" => reason)
                    .increment(1);
                tracing::debug!(%peer, reason, "a connection too many");
            }
        }
    }
    drop(listener);
    open.close();
    open.wait().await;
}

/// One of those that are open, until it is dropped: by the end of its task, however that comes.
struct Counted(());

impl Counted {
    fn new() -> Self {
        metrics::gauge!("weir_http_connections").increment(1);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("weir_http_connections").decrement(1);
    }
}

/// Says once what to look at when a network has its share: mostly it is a balancer that nobody has named.
fn warn_of(full: Full) {
    static WARNED: Once = Once::new();

    match full {
        Full::Share => WARNED.call_once(|| {
            tracing::warn!(
                "a network has as many connections as one may have, and more of it are closed: name a balancer in front in \
                 WEIR_TRUSTED_PROXIES, or raise WEIR_CONNECTIONS_NETWORK if so many machines stand together; this is said once"
            );
        }),
        Full::All => {}
    }
}

async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};

    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::error!(%error, "nobody can be accepted now");
    tokio::time::sleep(PAUSE).await;
}

/// Answers what comes over one connection, until either side ends it.
async fn talk(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    config: ConnectionConfig,
    closing: CancellationToken,
) {
    // an event goes out at once, whatever the one before waits for
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a connection that was over at once");
        return;
    }
    let pace = Pace::new(config);
    let watch = pace.clone();
    let io = TokioIo::new(Watched::new(stream, pace.clone()));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        pace.busy();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.clone().call(request);
        let pace = pace.clone();
        async move {
            let answer = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| Answer::new(body, pace)))
        }
    });
    let mut connection =
        pin!(http1::Builder::new().max_buf_size(BUFFER).serve_connection(io, service));
    let mut closed = pin!(closing.cancelled());
    let mut last = false;
    let mut look = pin!(tokio::time::sleep(config.head.min(config.idle)));
    let late = poll_fn(|context| {
        if connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if !last && closed.as_mut().poll(context).is_ready() {
            last = true;
            connection.as_mut().graceful_shutdown();
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
        }
        watch.poll(look.as_mut(), context).map(Some)
    });
    if let Some(late) = late.await {
        metrics::counter!("weir_http_connections_cut_total", "reason" => late.as_str())
            .increment(1);
        tracing::debug!(%peer, reason = late.as_str(), "a connection that took too long");
    }
}
