//! Connections that are slow, idle or too many.

use std::{net::SocketAddr, time::Duration};

use api::ConnectionConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::fixture::World;

const PATIENCE: Duration = Duration::from_secs(60);
const ASKED: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

/// A service with these limits, until it is dropped.
struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn new(edit: impl FnOnce(&mut api::ApiConfig)) -> Self {
        let world = World::with(edit).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(api::serve(listener, world.state.clone(), stop.clone()));
        Self { address, stop, server }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Whether a request over this connection is answered.
    async fn answers(socket: &mut TcpStream) -> bool {
        if socket.write_all(ASKED.as_bytes()).await.is_err() {
            return false;
        }
        let mut seen = vec![0; 4_096];
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut seen)).await.expect("an end");
        read.is_ok_and(|read| seen[..read].starts_with(b"HTTP/1.1 200"))
    }
}

/// Waits until the other side has closed a connection that it answers nothing on.
async fn closes(socket: &mut TcpStream) {
    let mut seen = [0; 64];
    let read = tokio::time::timeout(PATIENCE, socket.read(&mut seen)).await.expect("an end");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

fn limits(head: u64, idle: u64) -> ConnectionConfig {
    let (head, idle) = (Duration::from_millis(head), Duration::from_millis(idle));
    ConnectionConfig { head, idle, ..ConnectionConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_come_slowly_are_cut_off_while_others_are_served() {
    let served = Served::new(|config| config.connections = limits(3_000, 600_000)).await;
    let begun = Instant::now();
    let mut slow = tokio::task::JoinSet::new();
    for n in 0..40 {
        let mut socket = served.connect().await;
        slow.spawn(async move {
            // some say nothing at all
            if n % 4 == 0 {
                return closes(&mut socket).await;
            }
            for byte in b"GET /".iter().copied().chain(std::iter::repeat(b'a')) {
                let mut seen = [0; 64];
                tokio::select! {
                    read = socket.read(&mut seen) => {
                        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
                        return;
                    }
                    () = tokio::time::sleep(Duration::from_millis(50)) => {
                        if socket.write_all(&[byte]).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
    let mut client = served.connect().await;
    while !slow.is_empty() {
        assert!(Served::answers(&mut client).await, "who is quick notices nothing");
        let ended = tokio::time::timeout(Duration::from_millis(100), slow.join_next()).await;
        if let Ok(Some(ended)) = ended {
            ended.unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "{} are still open", slow.len());
    }
    assert!(begun.elapsed() >= Duration::from_millis(2_900), "a head has its time");
    // and a head that begins later than the connection
    client.write_all(b"GET /heal").await.unwrap();
    closes(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_between_requests_for_a_while() {
    let served = Served::new(|config| config.connections = limits(600_000, 5_000)).await;
    let mut client = served.connect().await;
    for _ in 0..3 {
        assert!(Served::answers(&mut client).await);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    // by nothing else: a head has longer than is waited here
    closes(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_has_so_many_connections_and_all_have_so_many() {
    let served = Served::new(|config| {
        config.connections = ConnectionConfig { share: 2, ..ConnectionConfig::default() };
    })
    .await;
    let (mut one, mut two) = (served.connect().await, served.connect().await);
    assert!(Served::answers(&mut one).await && Served::answers(&mut two).await);
    closes(&mut served.connect().await).await;
    assert!(Served::answers(&mut one).await, "those that are in stay");
    drop(two);
    let begun = Instant::now();
    while !Served::answers(&mut served.connect().await).await {
        assert!(begun.elapsed() < PATIENCE, "a seat is given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // a proxy of ours has no share, and is held to what there is in all
    let served = Served::new(|config| {
        config.connections = ConnectionConfig { most: 3, share: 1, ..ConnectionConfig::default() };
        config.limits.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut socket = served.connect().await;
        assert!(Served::answers(&mut socket).await);
        open.push(socket);
    }
    closes(&mut served.connect().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_may_be_long_and_not_without_end() {
    let served = Served::new(|config| config.connections = limits(600_000, 600_000)).await;
    let head =
        |bytes: usize| format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}", "a".repeat(bytes));
    let mut client = served.connect().await;
    let whole = format!("{}\r\n\r\n", head(48 * 1_024));
    client.write_all(whole.as_bytes()).await.unwrap();
    assert!(Served::answers(&mut client).await);
    let mut client = served.connect().await;
    let sent = client.write_all(head(128 * 1_024).as_bytes()).await;
    let mut seen = [0; 64];
    let read = tokio::time::timeout(PATIENCE, client.read(&mut seen)).await;
    let read = read.expect("it is not waited for the end of such a head");
    let refused = read.is_err() || seen.starts_with(&[0]) || seen.starts_with(b"HTTP/1.1 431");
    assert!(sent.is_err() || refused, "{:?}", String::from_utf8_lossy(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_nothing_does_not_keep_the_service_from_stopping() {
    // far longer than is waited for the stop
    let mut served = Served::new(|config| config.drain_timeout = Duration::from_secs(300)).await;
    let mut idle = served.connect().await;
    assert!(Served::answers(&mut idle).await);
    served.stop.cancel();
    let stopped = tokio::time::timeout(PATIENCE, &mut served.server).await;
    stopped.expect("an idle connection is closed").unwrap().unwrap();
    closes(&mut idle).await;
}
