//! A renter's program.

use std::sync::Arc;

use domain::id::{QuoteId, RentalId};
use reqwest::{Client as Http, RequestBuilder, StatusCode, header::HeaderMap};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    BenchError,
    closed_loop::{Client, Step},
};

const DOING: &str = "book over HTTP";
/// How often one booking is sent while the service says that it may succeed later.
const TRIES: u32 = 5;

/// A quote that can be booked, and the bearer token of the renter it was made for.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) quote: QuoteId,
    pub(crate) session: Arc<str>,
}

/// One client with its connection and the quotes it was given. It stands for many renters: each has a few
/// bookings at most that wait for their deposit, as the service allows.
pub(super) struct Renter {
    number: usize,
    http: Http,
    url: String,
    quotes: Vec<Ready>,
    booked: Vec<Uuid>,
    retried: u64,
    last: Option<(Ready, String, Uuid)>,
}

#[derive(Deserialize)]
struct Answer {
    rental: Rental,
}

#[derive(Deserialize)]
struct Rental {
    id: String,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    retryable: bool,
}

impl Renter {
    pub(super) fn new(number: usize, url: &str) -> Result<Self, BenchError> {
        let http = tls::client()
            .map_err(BenchError::subject("make an HTTP client"))?
            .no_proxy()
            .pool_max_idle_per_host(1)
            .build()
            .map_err(BenchError::subject("make an HTTP client"))?;
        Ok(Self {
            number,
            http,
            url: format!("{url}/v1/rentals"),
            quotes: Vec::new(),
            booked: Vec::new(),
            retried: 0,
            last: None,
        })
    }

    /// Its place among the clients; its quotes go by it.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Quotes that are left.
    pub(super) fn ready(&self) -> usize {
        self.quotes.len()
    }

    pub(super) fn add(&mut self, mut quotes: Vec<Ready>) {
        self.quotes.append(&mut quotes);
    }

    /// The rentals that the answers named since the last time.
    pub(super) fn take_booked(&mut self) -> Vec<Uuid> {
        std::mem::take(&mut self.booked)
    }

    /// How often a request was sent again since the last time.
    pub(super) fn take_retried(&mut self) -> u64 {
        std::mem::take(&mut self.retried)
    }

    /// Sends the last booking again; true if the answer is the same rental, marked as a repetition.
    pub(super) async fn replays_last(&mut self) -> Result<bool, BenchError> {
        let Some((ready, key, rental)) = &self.last else {
            return Ok(true);
        };
        let (status, headers, body) = send(self.request(ready, key)).await?;
        let marked = headers.get("idempotent-replayed").is_some_and(|value| value == "true");
        Ok(status == StatusCode::CREATED && marked && rental_in(&body) == Some(*rental))
    }

    fn request(&self, ready: &Ready, key: &str) -> RequestBuilder {
        self.http
            .post(&self.url)
            .bearer_auth(&ready.session)
            .header("Idempotency-Key", key)
            .json(&json!({"quote_id": ready.quote}))
    }
}

impl Client for Renter {
    async fn once(&mut self) -> Result<Step, BenchError> {
        let Some(ready) = self.quotes.pop() else {
            return Ok(Step::Dry);
        };
        let key = Uuid::now_v7().to_string();
        let mut said = String::new();
        for _ in 0..TRIES {
            let (status, _, body) = send(self.request(&ready, &key)).await?;
            if status == StatusCode::CREATED {
                let rental = rental_in(&body)
                    .ok_or_else(|| BenchError::subject(DOING)("an answer without a rental"))?;
                self.booked.push(rental);
                self.last = Some((ready, key, rental));
                return Ok(Step::Done(1));
            }
            said = format!("{status}: {}", String::from_utf8_lossy(&body));
            match serde_json::from_slice::<Problem>(&body) {
                // another client was first at this machine's next GPU
                Ok(problem) if problem.code == "offer-taken" => return Ok(Step::Refused),
                // with the same key: what was done after all is not done twice
                Ok(problem) if problem.retryable => self.retried = self.retried.saturating_add(1),
                _ => break,
            }
        }
        Err(BenchError::subject(DOING)(said))
    }
}

async fn send(request: RequestBuilder) -> Result<(StatusCode, HeaderMap, Vec<u8>), BenchError> {
    let response = request.send().await.map_err(BenchError::subject(DOING))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.map_err(BenchError::subject(DOING))?;
    Ok((status, headers, body.to_vec()))
}

fn rental_in(body: &[u8]) -> Option<Uuid> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    answer.rental.id.parse().ok().map(RentalId::uuid)
}
