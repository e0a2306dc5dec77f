//! A node before the node: it passes everything on, and says what it is told to say differently.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Given a method, its parameters and the real result, to be changed.
type Meddling = Box<dyn Fn(&str, &Value, &mut Value) + Send>;

pub struct Proxy {
    pub url: String,
    meddling: Arc<Mutex<Option<Meddling>>>,
}

impl Proxy {
    pub async fn before(node: &str) -> Self {
        let node = node.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let meddling = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&meddling);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, node.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, meddling }
    }

    pub fn meddle(&self, with: impl Fn(&str, &Value, &mut Value) + Send + 'static) {
        *self.meddling.lock().unwrap() = Some(Box::new(with));
    }

    pub fn behave(&self) {
        *self.meddling.lock().unwrap() = None;
    }
}

/// One request after the other, until the client hangs up.
async fn serve(stream: TcpStream, node: String, meddling: Arc<Mutex<Option<Meddling>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(body) = message(&mut stream).await {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let mut answer: Value = serde_json::from_slice(&ask(&node, &body).await).unwrap();
        if let (Some(with), Some(result)) = (&*meddling.lock().unwrap(), answer.get_mut("result")) {
            with(request["method"].as_str().unwrap(), &request["params"], result);
        }
        let answer = answer.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        let response = format!("{head}: {}\r\n\r\n{answer}", answer.len());
        if stream.get_mut().write_all(response.as_bytes()).await.is_err() {
            return;
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
