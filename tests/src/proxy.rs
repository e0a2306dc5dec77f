//! A node before the node: it passes everything on, and says what it is told to say differently.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Given a method, its parameters and the real result, to be changed.
type Meddling = Box<dyn Fn(&str, &Value, &mut Value) + Send>;
/// Given a method and its parameters; the error to answer with, if any.
type Refusing = Box<dyn Fn(&str, &Value) -> Option<Value> + Send>;

pub struct Proxy {
    pub url: String,
    mood: Arc<Mood>,
}

/// How it behaves, and what it was asked.
#[derive(Default)]
struct Mood {
    meddling: Mutex<Option<Meddling>>,
    refusing: Mutex<Option<Refusing>>,
    /// It hangs up instead of answering.
    dead: AtomicBool,
    /// Requests, each with one call or many.
    requests: AtomicUsize,
    /// Calls by their method.
    calls: Mutex<BTreeMap<String, usize>>,
}

impl Proxy {
    pub async fn before(node: &str) -> Self {
        let node = node.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mood = Arc::new(Mood::default());
        let shared = Arc::clone(&mood);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, node.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, mood }
    }

    pub fn meddle(&self, with: impl Fn(&str, &Value, &mut Value) + Send + 'static) {
        *self.mood.meddling.lock().unwrap() = Some(Box::new(with));
    }

    /// Answers some calls with an error.
    pub fn refuse(&self, with: impl Fn(&str, &Value) -> Option<Value> + Send + 'static) {
        *self.mood.refusing.lock().unwrap() = Some(Box::new(with));
    }

    /// Hangs up on whoever asks.
    pub fn die(&self) {
        self.mood.dead.store(true, Ordering::SeqCst);
    }

    pub fn behave(&self) {
        *self.mood.meddling.lock().unwrap() = None;
        *self.mood.refusing.lock().unwrap() = None;
        self.mood.dead.store(false, Ordering::SeqCst);
    }

    /// How many requests came so far, answered or not.
    pub fn requests(&self) -> usize {
        self.mood.requests.load(Ordering::SeqCst)
    }

    /// How many calls of a method came so far.
    pub fn calls(&self, method: &str) -> usize {
        self.mood.calls.lock().unwrap().get(method).copied().unwrap_or_default()
    }
}

/// One request after the other, until the client hangs up.
async fn serve(stream: TcpStream, node: String, mood: Arc<Mood>) {
    let mut stream = BufReader::new(stream);
    while let Some(body) = message(&mut stream).await {
        mood.requests.fetch_add(1, Ordering::SeqCst);
        if mood.dead.load(Ordering::SeqCst) {
            return;
        }
        let request: Value = serde_json::from_slice(&body).unwrap();
        let mut answer: Value = serde_json::from_slice(&ask(&node, &body).await).unwrap();
        match (&request, &mut answer) {
            (Value::Array(requests), Value::Array(answers)) => {
                for (request, answer) in requests.iter().zip(answers) {
                    mood.change(request, answer);
                }
            }
            (request, answer) => mood.change(request, answer),
        }
        let answer = answer.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        let response = format!("{head}: {}\r\n\r\n{answer}", answer.len());
        if stream.get_mut().write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Mood {
    fn change(&self, request: &Value, answer: &mut Value) {
        let method = request["method"].as_str().unwrap();
        *self.calls.lock().unwrap().entry(method.to_owned()).or_default() += 1;
        let refusing = self.refusing.lock().unwrap();
        if let Some(error) = refusing.as_ref().and_then(|with| with(method, &request["params"])) {
            *answer = json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
        }
        if let (Some(with), Some(result)) =
            (&*self.meddling.lock().unwrap(), answer.get_mut("result"))
        {
            with(method, &request["params"], result);
        }
    }
}

async fn ask(node: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {node}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    message(&mut BufReader::new(stream)).await.unwrap()
}

/// The body of the next HTTP message, whose length is told; `None` at the end of the connection.
async fn message(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0_usize;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim().to_lowercase();
        if let Some(told) = line.strip_prefix("content-length:") {
            length = told.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}
