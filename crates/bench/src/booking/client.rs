//! A renter's program.

use std::sync::Arc;

use domain::id::{QuoteId, RentalId};
use serde::Deserialize;
use uuid::Uuid;

use super::http::{Reply, Wire};
use crate::{
    BenchError,
    closed_loop::{Client, Step},
};

const DOING: &str = "book over HTTP";
/// How often one booking is sent while the service says that it may succeed later.
const TRIES: u32 = 5;
const CREATED: u16 = 201;

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
    wire: Wire,
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
    pub(super) async fn new(number: usize, url: &str) -> Result<Self, BenchError> {
        Ok(Self {
            number,
            wire: Wire::open(url).await?,
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
        let reply = self.wire.book(&ready.session, key, &body(ready)).await?;
        let marked = reply.header("idempotent-replayed") == "true";
        Ok(reply.status == CREATED && marked && rental_in(&reply) == Some(*rental))
    }
}

fn body(ready: &Ready) -> String {
    format!("{{\"quote_id\":\"{}\"}}", ready.quote)
}

impl Client for Renter {
    async fn once(&mut self) -> Result<Step, BenchError> {
        let Some(ready) = self.quotes.pop() else {
            return Ok(Step::Dry);
        };
        let key = Uuid::now_v7().to_string();
        let mut said = String::new();
        for _ in 0..TRIES {
            let reply = self.wire.book(&ready.session, &key, &body(&ready)).await?;
            if reply.status == CREATED {
                let rental = rental_in(&reply)
                    .ok_or_else(|| BenchError::subject(DOING)("an answer without a rental"))?;
                self.booked.push(rental);
                self.last = Some((ready, key, rental));
                return Ok(Step::Done(1));
            }
            said = format!("{}: {}", reply.status, String::from_utf8_lossy(reply.body));
            match serde_json::from_slice::<Problem>(reply.body) {
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

fn rental_in(reply: &Reply<'_>) -> Option<Uuid> {
    let answer: Answer = serde_json::from_slice(reply.body).ok()?;
    answer.rental.id.parse().ok().map(RentalId::uuid)
}
