//! P5: what a request costs the server's thread, of a search with 50 offers in its answer and of a hello.

use std::{fs, time::Duration};

use axum::{Json, Router, routing::get};
use serde_json::json;

use super::{
    TYPICAL,
    market_data::{Filled, Serving, listen},
};
use crate::{
    BenchError, Scenario, Slice, Verdict,
    closed_loop::{Client, Step, drive},
};

/// Connections that keep the server busy.
const CLIENTS: usize = 16;

/// Requests for each second of the server's own time.
pub struct Cost {
    name: &'static str,
    thread: &'static str,
    clients: Vec<Asker>,
    /// Bytes that every answer has at least.
    least: usize,
    _server: Option<Serving>,
}

impl Cost {
    pub(crate) const SEARCH: &str = "p5_search_requests_per_cpu_s";
    pub(crate) const HELLO: &str = "axum_hello";

    /// Searches of [`TYPICAL`].
    pub(crate) fn search(filled: &Filled) -> Result<Self, BenchError> {
        let url = format!("{}/v1/offers?{TYPICAL}", filled.url);
        Self::of(Self::SEARCH, "bench-search", &url, 1_000, None)
    }

    /// An axum that says hello in JSON.
    pub(crate) async fn hello() -> Result<Self, BenchError> {
        let (listener, url) = listen().await?;
        let router = Router::new().route("/", get(|| async { Json(json!({"hello": "world"})) }));
        let serving = Serving::start("bench-hello", listener, router)?;
        Self::of(Self::HELLO, "bench-hello", &url, 10, Some(serving))
    }

    fn of(
        name: &'static str,
        thread: &'static str,
        url: &str,
        least: usize,
        server: Option<Serving>,
    ) -> Result<Self, BenchError> {
        let http = tls::direct(Duration::from_secs(60))
            .map_err(BenchError::subject("make an HTTP client"))?;
        let asker = |_| Asker { http: http.clone(), url: url.to_owned(), least, short: 0 };
        let clients = (0..CLIENTS).map(asker).collect();
        Ok(Self { name, thread, clients, least, _server: server })
    }
}

/// How long threads of this name were on a processor.
pub(crate) fn on_cpu(name: &str) -> Result<Duration, BenchError> {
    let mut nanos = 0_u64;
    let tasks = fs::read_dir("/proc/self/task").map_err(BenchError::io("list threads"))?;
    for task in tasks.filter_map(Result::ok) {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == name {
            let on = read("schedstat")
                .split_whitespace()
                .next()
                .and_then(|text| text.parse::<u64>().ok());
            nanos = nanos.saturating_add(on.unwrap_or(0));
        }
    }
    Ok(Duration::from_nanos(nanos))
}

impl Scenario for Cost {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn prepare(&mut self, _: Duration) -> Result<(), BenchError> {
        Ok(())
    }

    /// `elapsed` is the server's time on a processor: the rate is of requests for each second of that.
    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        let before = on_cpu(self.thread)?;
        let (clients, mut slice) = drive(std::mem::take(&mut self.clients), span).await?;
        self.clients = clients;
        slice.elapsed = on_cpu(self.thread)?.saturating_sub(before);
        Ok(slice)
    }

    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        let short: u64 =
            self.clients.iter_mut().map(|client| std::mem::take(&mut client.short)).sum();
        Ok(Verdict::of([
            (short == 0, format!("{short} answers have less than {} bytes", self.least)),
            (!slice.elapsed.is_zero(), "the server's threads were not found".to_owned()),
        ]))
    }
}

struct Asker {
    http: reqwest::Client,
    url: String,
    least: usize,
    short: u64,
}

impl Client for Asker {
    async fn once(&mut self) -> Result<Step, BenchError> {
        let doing = "ask over HTTP";
        let answer = self.http.get(&self.url).send().await.map_err(BenchError::subject(doing))?;
        let answer = answer.error_for_status().map_err(BenchError::subject(doing))?;
        let body = answer.bytes().await.map_err(BenchError::subject(doing))?;
        if body.len() < self.least {
            self.short = self.short.saturating_add(1);
        }
        Ok(Step::Done(1))
    }
}
