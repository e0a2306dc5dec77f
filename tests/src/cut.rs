//! Requests that move money, over connections that are cut at random: one repetition with the same key must tell what
//! became of each. Renters book and call off, again and again, each a machine of its own, so that nothing but a cut can
//! be the reason for another answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::signers::local::PrivateKeySigner;
use serde_json::{Value, json};
use testkit::CutProxy;
use tokio_util::sync::CancellationToken;

use crate::{
    chaos::{
        client::{Client, text},
        machine::Machine,
        record::Record,
        site,
        world::{Plan, World},
    },
    random::Random,
};

const RENTERS: u64 = 24;
/// Of a thousand connections.
const CUT: u64 = 600;
/// Of so many requests that were answered one is sent again, to see whether it is answered the same.
const AGAIN: u64 = 8;

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub asked: u64,
    /// No whole answer the first time.
    pub broken: u64,
    /// Sent again though they were answered, and answered the same.
    pub again: u64,
    pub cuts: BTreeMap<&'static str, u64>,
    /// Rentals that answers told of, and those that are there.
    pub told: usize,
    pub there: i64,
    pub failures: Vec<String>,
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cuts: Vec<_> = self.cuts.iter().map(|(at, count)| format!("{count} {at}")).collect();
        write!(
            f,
            "{} requests with a key, {} connections cut ({}): {} had no whole answer, {} sent again for the same answer, \
             {} ambiguous; {} rentals told of, {} there; {} s",
            self.asked,
            self.cuts.values().sum::<u64>(),
            cuts.join(", "),
            self.broken,
            self.again,
            self.failures.len(),
            self.told,
            self.there,
            self.took.as_secs()
        )?;
        self.failures.iter().take(20).try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

/// Asks so many times, on real processes.
pub async fn run(weir: &Path, requests: u64, seed: u64) -> Outcome {
    let began = tokio::time::Instant::now();
    let world = World::start(weir, Plan { seed, ..Plan::default() }).await;
    let wire = Arc::new(CutProxy::before(&world.url, seed, CUT).await.unwrap());
    let record = Arc::new(Record::default());
    let stop = CancellationToken::new();
    let tally = Arc::new(Mutex::new((Outcome::default(), BTreeSet::new())));
    let mut random = Random(!seed);
    let mut renters = Vec::new();
    for number in 0..RENTERS {
        let mut key = || PrivateKeySigner::from_bytes(&random.bytes::<32>().into()).unwrap();
        let (owner, agent, wallet) = (key(), key(), key());
        site::give_coins(&world.rpc, std::slice::from_ref(&owner)).await;
        let place = usize::try_from(number).unwrap();
        let machine = Machine::list(&world, &record, &owner, agent, place).await;
        let client = Client::new(&world, &record);
        client.sign_in(&wallet).await;
        let renter = Renter {
            token: client.token().await,
            client,
            offer: machine.offer.clone(),
            wire: Arc::clone(&wire),
            // a connection for each request, as the wire expects
            http: tls::client()
                .unwrap()
                .timeout(Duration::from_secs(30))
                .pool_max_idle_per_host(0)
                .no_proxy()
                .build()
                .unwrap(),
            direct: world.url.clone(),
            tally: Arc::clone(&tally),
        };
        tokio::spawn(machine.run(stop.clone()));
        // a booking and its end are two
        let rounds = requests.div_ceil(2 * RENTERS);
        renters.push(tokio::spawn(async move { renter.rent(number, rounds).await }));
    }
    for renter in renters {
        renter.await.unwrap();
    }
    stop.cancel();
    let (mut outcome, told) = std::mem::take(&mut *tally.lock().unwrap());
    outcome.cuts = wire.counts();
    outcome.told = told.len();
    outcome.there = world.number("SELECT count(*) FROM rentals").await;
    let open = world.number("SELECT count(*) FROM rentals WHERE state <> 'cancelled'").await;
    if i64::try_from(outcome.told).unwrap() != outcome.there {
        outcome.failures.push("rentals are there that nobody was told of, or the other way".into());
    }
    if open > 0 {
        outcome.failures.push(format!("{open} were called off and are not"));
    }
    outcome.took = began.elapsed();
    outcome
}

struct Renter {
    client: Client,
    token: String,
    offer: String,
    wire: Arc<CutProxy>,
    http: reqwest::Client,
    direct: String,
    tally: Arc<Mutex<(Outcome, BTreeSet<String>)>>,
}

impl Renter {
    async fn rent(&self, number: u64, rounds: u64) {
        for round in 0..rounds {
            let body = json!({ "quote_id": self.quote().await });
            let key = format!("book-{number}-{round}");
            let Some(booked) = self.keyed("/v1/rentals", &body, &key, 201).await else { return };
            let id = text(&booked, "/rental/id");
            if !self.tally.lock().unwrap().1.insert(id.clone()) {
                self.fail(format!("{id} was told of for two keys"));
            }
            let path = format!("/v1/rentals/{id}/stop");
            let key = format!("stop-{number}-{round}");
            if self.keyed(&path, &json!({}), &key, 202).await.is_none() {
                return;
            }
        }
    }

    /// A machine is free again in the second after it was.
    async fn quote(&self) -> String {
        let ask = json!({ "offer_id": self.offer, "duration_s": 600, "token": "USDC" });
        for _ in 0..300 {
            let (status, quote) = self.client.post("/v1/quotes", &ask).await;
            if status == 201 {
                return text(&quote, "/id");
            }
            assert_eq!(quote["code"], "offer-taken", "{quote}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the machine stays taken");
    }

    /// Over the wire, and if that gives no whole answer once more past it. `None`, and a failure, if that is not told what
    /// was done.
    async fn keyed(&self, path: &str, body: &Value, key: &str, wanted: u16) -> Option<Value> {
        let first = self.once(self.wire.url(), path, body, key).await;
        let again = {
            let outcome = &mut self.tally.lock().unwrap().0;
            outcome.asked += 1;
            outcome.broken += u64::from(first.is_none());
            first.is_some() && outcome.asked.is_multiple_of(AGAIN)
        };
        let last = if first.is_none() || again {
            self.once(&self.direct, path, body, key).await
        } else {
            first.clone()
        };
        if again {
            self.tally.lock().unwrap().0.again += 1;
            if first != last {
                self.fail(format!("{key}: {first:?}, and then {last:?}"));
            }
        }
        match last {
            Some((status, body)) if status == wanted => Some(body),
            other => {
                self.fail(format!("{key}: after one repetition: {other:?}"));
                None
            }
        }
    }

    async fn once(&self, at: &str, path: &str, body: &Value, key: &str) -> Option<(u16, Value)> {
        let request = self.http.post(format!("{at}{path}")).bearer_auth(&self.token).json(body);
        let answer = request.header("Idempotency-Key", key).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    fn fail(&self, what: String) {
        self.tally.lock().unwrap().0.failures.push(what);
    }
}
