//! A wire before an HTTP server that is cut: before a request, in the middle of it, when the server has it, when the
//! server has answered, in the middle of the answer. A seed decides; what was cut is counted. A connection carries one
//! request.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::rpc_proxy::Dice;

/// No request here is longer.
const MOST: usize = 1 << 20;

/// Where a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Before,
    MidRequest,
    AfterRequest,
    BeforeAnswer,
    MidAnswer,
}

const CUTS: [(Cut, &str); 5] = [
    (Cut::Before, "before the request"),
    (Cut::MidRequest, "in the request"),
    (Cut::AfterRequest, "after the request"),
    (Cut::BeforeAnswer, "before the answer"),
    (Cut::MidAnswer, "in the answer"),
];

struct Shared {
    server: String,
    per_mille: u64,
    state: Mutex<(Dice, BTreeMap<&'static str, u64>)>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, (Dice, BTreeMap<&'static str, u64>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self) -> Option<Cut> {
        let mut state = self.state();
        if state.0.below(1_000) >= self.per_mille {
            return None;
        }
        let which = usize::try_from(state.0.below(5)).unwrap_or_default();
        let (cut, name) = CUTS.get(which).copied()?;
        let count = state.1.entry(name).or_default();
        *count = count.saturating_add(1);
        Some(cut)
    }

    /// Some of the bytes, at least one less than all.
    fn part<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let length = u64::try_from(bytes.len()).unwrap_or_default();
        let at = usize::try_from(self.state().0.below(length)).unwrap_or_default();
        bytes.get(..at).unwrap_or_default()
    }
}

/// The wire. Dropped, it takes no more connections.
pub struct CutProxy {
    url: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

impl CutProxy {
    /// Stands before the server at `server` (`http://HOST:PORT`), on a free port, and cuts so many of a thousand
    /// connections.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(server: &str, seed: u64, per_mille: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let state = Mutex::new((Dice::new(seed), BTreeMap::new()));
        let shared = Arc::new(Shared { server, per_mille, state });
        let theirs = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&theirs);
                tokio::spawn(async move {
                    if let Err(error) = carry(client, &shared).await {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
        });
        Ok(Self { url, shared, listening })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many connections were cut, by where.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.shared.state().1.clone()
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// One request and its answer, as far as they get. What is dropped is closed.
async fn carry(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let cut = shared.draw();
    if cut == Some(Cut::Before) {
        return Ok(());
    }
    let request = read_request(&mut client).await?;
    let mut server = TcpStream::connect(&shared.server).await?;
    if cut == Some(Cut::MidRequest) {
        return server.write_all(shared.part(&request)).await;
    }
    server.write_all(&request).await?;
    if cut == Some(Cut::AfterRequest) {
        return Ok(());
    }
    let mut answer = Vec::new();
    if cut == Some(Cut::BeforeAnswer) {
        server.read_u8().await?;
        return Ok(());
    }
    server.read_to_end(&mut answer).await?;
    if cut == Some(Cut::MidAnswer) {
        return client.write_all(shared.part(&answer)).await;
    }
    client.write_all(&answer).await?;
    client.shutdown().await
}

/// Head and body, with the wish that the server ends the connection.
async fn read_request(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at.saturating_add(4);
        }
        more(client, &mut bytes).await?;
    };
    let text = String::from_utf8_lossy(bytes.get(..head).unwrap_or_default()).into_owned();
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or_default();
    while bytes.len() < head.saturating_add(length) {
        more(client, &mut bytes).await?;
    }
    let (first, rest) = text.split_once("\r\n").unwrap_or((&text, "\r\n"));
    let mut request = format!("{first}\r\nconnection: close\r\n{rest}").into_bytes();
    request.extend_from_slice(bytes.get(head..).unwrap_or_default());
    Ok(request)
}

async fn more(client: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    if client.read_buf(bytes).await? == 0 || bytes.len() > MOST {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
