//! A node before the node: it passes JSON-RPC over HTTP/1.1 on, single calls and batches, and misbehaves by a
//! seeded plan that can be changed while it runs. What it did wrong is counted.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

mod faults;
mod http;
mod lies;

pub(crate) use faults::Dice;
use faults::{Fate, Transport};
pub use faults::{Faults, Finality};
use http::Node;
use lies::Asked;

/// A batch with more calls than bor takes is refused as a whole.
const MAX_BATCH: usize = 100;

/// Given a method, its parameters and the result, to be changed.
type Meddling = Box<dyn Fn(&str, &Value, &mut Value) + Send>;
/// Given a method and its parameters; the error to answer with, if any.
type Refusing = Box<dyn Fn(&str, &Value) -> Option<Value> + Send>;

struct Shared {
    node: String,
    fate: Mutex<Fate>,
    meddling: Mutex<Option<Meddling>>,
    refusing: Mutex<Option<Refusing>>,
}

impl Shared {
    fn fate(&self) -> MutexGuard<'_, Fate> {
        // nothing in here can be left half done by a panic
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meddling(&self) -> MutexGuard<'_, Option<Meddling>> {
        self.meddling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusing(&self) -> MutexGuard<'_, Option<Refusing>> {
        self.refusing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error to answer a call with, if it is refused.
    fn refusal(&self, call: &Value) -> Option<Value> {
        let error = self.refusing().as_ref()?(lies::method(call), lies::params(call))?;
        Some(lies::refused(call, &error))
    }
}

/// The proxy of one node. Dropped, it takes no more connections.
pub struct RpcProxy {
    url: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

impl fmt::Debug for RpcProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcProxy").field("url", &self.url).field("node", &self.shared.node).finish()
    }
}

impl RpcProxy {
    /// Stands before the node at `node` (`http://HOST:PORT`), on a free port. It behaves until it is told otherwise;
    /// `seed` decides which requests are hit then.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(node: &str, seed: u64) -> io::Result<Self> {
        let node = node.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let fate = Mutex::new(Fate::new(seed));
        let (meddling, refusing) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { node, fate, meddling, refusing });
        let theirs = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&theirs);
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
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

    /// From now on these faults happen, to requests on open connections too.
    pub fn set(&self, faults: Faults) {
        self.shared.fate().faults = faults;
    }

    /// From now on every result passes through `with`.
    pub fn meddle(&self, with: impl Fn(&str, &Value, &mut Value) + Send + 'static) {
        *self.shared.meddling() = Some(Box::new(with));
    }

    /// From now on calls for which `with` has an error are answered with it, and do not reach the node.
    pub fn refuse(&self, with: impl Fn(&str, &Value) -> Option<Value> + Send + 'static) {
        *self.shared.refusing() = Some(Box::new(with));
    }

    /// From now on it hangs up on whoever asks.
    pub fn die(&self) {
        self.set(Faults { cut_before: 1_000, ..Faults::default() });
    }

    /// From now on everything is passed on as it is.
    pub fn behave(&self) {
        *self.shared.meddling() = None;
        *self.shared.refusing() = None;
        self.shared.fate().faults = Faults::default();
    }

    /// How many requests came, and how many faults of each kind happened.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.shared.fate().counts.clone()
    }

    /// How many requests came, answered or not, each with one call or many.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.fate().counts.get("requests").copied().unwrap_or_default()
    }

    /// How many calls of a method came through.
    #[must_use]
    pub fn calls(&self, method: &str) -> u64 {
        self.shared.fate().calls.get(method).copied().unwrap_or_default()
    }
}

impl Drop for RpcProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// One request after the other, until either side hangs up.
async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut node = Node::new(shared.node.clone());
    while let Some(body) = http::message(&mut stream).await? {
        let transport = shared.fate().transport();
        match transport {
            Transport::CutBefore => return Ok(()),
            Transport::Status(status) => {
                http::answer(stream.get_mut(), status, r#"{"error":"try again"}"#).await?;
                continue;
            }
            Transport::Hang { reaches } => {
                if reaches {
                    answer(shared, &mut node, &body).await?;
                }
                let hang_for = shared.fate().faults.hang_for;
                sleep(hang_for).await;
                return Ok(());
            }
            Transport::Delay(by) => sleep(by).await,
            Transport::CutAfter | Transport::Pass => {}
        }
        let answer = answer(shared, &mut node, &body).await?;
        if transport == Transport::CutAfter {
            return Ok(());
        }
        http::answer(stream.get_mut(), "200 OK", &answer.to_string()).await?;
    }
    Ok(())
}

/// The answer to a body, which is one call or a batch.
async fn answer(shared: &Shared, node: &mut Node, body: &[u8]) -> io::Result<Value> {
    let asked: Value = serde_json::from_slice(body)?;
    let Some(batch) = asked.as_array() else {
        return answer_one(shared, node, &asked).await;
    };
    if batch.len() > MAX_BATCH {
        return Ok(lies::error(&json!({}), -32_600, "the batch is too long"));
    }
    let mut answers = Vec::with_capacity(batch.len());
    for call in batch {
        answers.push(answer_one(shared, node, call).await?);
    }
    Ok(Value::Array(answers))
}

async fn answer_one(shared: &Shared, node: &mut Node, call: &Value) -> io::Result<Value> {
    let (fails, taken, behind, finality) = {
        let mut fate = shared.fate();
        fate.called(lies::method(call));
        let faults = fate.faults.clone();
        let fails = fate.strikes(faults.internal, "internal errors");
        let taken = lies::method(call) == "eth_sendRawTransaction" && fate.below(2) == 0;
        let lag = fate.below(3).saturating_add(1);
        let behind = fate.strikes(faults.stale, "stale heads").then_some(lag);
        (fails, taken, behind, faults.finality)
    };
    if fails {
        if taken {
            ask(node, call).await?;
        }
        return Ok(lies::error(call, -32_603, "internal error"));
    }
    if let Some(refusal) = shared.refusal(call) {
        return Ok(refusal);
    }
    let head = match behind {
        Some(lag) => head(node).await?.map(|head| head.saturating_sub(lag)),
        None => None,
    };
    let mut asked = lies::finality(call, finality);
    if let (Asked::Call(call), Some(head)) = (&asked, head) {
        asked = lies::stale(call, head);
    }
    let mut answer = match asked {
        Asked::Known(answer) => answer,
        Asked::Call(call) => ask(node, &call).await?,
    };
    if head.is_some_and(|head| lies::is_ahead(&answer, head)) {
        answer = lies::result(call, &Value::Null);
    }
    lies::change(&mut shared.fate(), call, &mut answer);
    if let (Some(with), Some(result)) = (&*shared.meddling(), answer.get_mut("result")) {
        with(lies::method(call), lies::params(call), result);
    }
    Ok(answer)
}

async fn ask(node: &mut Node, call: &Value) -> io::Result<Value> {
    let answer = node.ask(&call.to_string()).await?;
    Ok(serde_json::from_slice(&answer)?)
}

async fn head(node: &mut Node) -> io::Result<Option<u64>> {
    let call = json!({ "jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber", "params": [] });
    Ok(lies::quantity(ask(node, &call).await?.get("result")))
}
