//! What a quote takes beside a single indexed read, both over HTTP and through one service: `POST /v1/quotes`, signed and
//! stored, and `GET /v1/offers/{id}`.

use std::{sync::Arc, time::Duration};

use alloy_primitives::B256;
use api::{ApiConfig, AppState};
use chain::ReadClient;
use domain::id::OfferId;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::json;

use crate::{
    BenchError, Fact, Histogram, Plan, Row, Scenario, Server, Slice, Verdict,
    booking::{CHAIN_ID, Pool, Spread},
    closed_loop::{Client, Step, drive},
    machine::Setting,
    measure,
    open_loop::pace,
    search::{Serving, listen},
    server::{WEIR, analyze, generous},
};

const QUOTES: &str = "quote_http";
const READS: &str = "indexed_read";
/// Offers that each client asks about.
const OFFERS: usize = 64;
/// Requests a second that come at random moments.
const RATES: [f64; 3] = [250.0, 500.0, 1_000.0];
const DOING: &str = "ask for quotes";

/// Measures as many clients of either side that never rest, in turn: the figure is the ratio of the 99th percentiles. Then how
/// long each takes when requests come at random moments, so many a second.
///
/// # Errors
/// If the service does not start, or the market cannot be made.
pub(crate) async fn quotes(
    server: &Server,
    plan: &Plan,
    setting: &Setting,
) -> Result<(Row, Vec<Fact>), BenchError> {
    let store = server.store(u32::from(plan.clients)).await?;
    let mut pool = Pool::open(store, Spread::Own, plan.clients, plan.seed).await?;
    let made = pool.make_quotes(OFFERS.saturating_mul(8)).await?;
    let mut connection = server.connect(WEIR).await?;
    sqlx::query(
        "UPDATE machines SET contact_since = now(), last_heartbeat_at = now() + interval '1 day'",
    )
    .execute(&mut connection)
    .await
    .map_err(BenchError::sql(DOING))?;
    analyze(&mut connection).await?;
    let (listener, url) = listen().await?;
    let chain = ReadClient::connect("http://127.0.0.1:9").map_err(BenchError::subject(DOING))?;
    let quoter = alloy::signers::local::PrivateKeySigner::from_bytes(&B256::repeat_byte(7))
        .map_err(BenchError::subject(DOING))?;
    let config =
        ApiConfig { limits: generous(), quoter: Some(quoter), ..ApiConfig::new(&url, CHAIN_ID) };
    let app = AppState::new(server.store(16).await?, chain, config, None);
    let _serving = Serving::start("bench-quotes", listener, api::router(app))?;
    let (mut asking, mut reading) = (Vec::new(), Vec::new());
    for ready in made {
        let Some(session) = ready.first().map(|ready| ready.session.clone()) else { continue };
        let ids: Vec<_> = ready.iter().map(|ready| ready.quote.uuid()).collect();
        let offers: Vec<uuid::Uuid> =
            sqlx::query_scalar("SELECT DISTINCT offer_id FROM quotes WHERE id = ANY($1)")
                .bind(ids)
                .fetch_all(&mut connection)
                .await
                .map_err(BenchError::sql(DOING))?;
        let offers: Arc<[OfferId]> = offers.into_iter().map(OfferId::from_uuid).collect();
        for (session, clients) in [(Some(session), &mut asking), (None, &mut reading)] {
            let http = tls::client().map_err(BenchError::subject(DOING))?;
            let http = http.no_proxy().pool_max_idle_per_host(1).build();
            let http = http.map_err(BenchError::subject(DOING))?;
            let (url, offers) = (url.clone(), offers.clone());
            clients.push(Asker { http, url, session, offers, turn: 0, wrong: None });
        }
    }
    let mut asking = Side { name: QUOTES, clients: asking };
    let mut reading = Side { name: READS, clients: reading };
    let measured = measure(&mut asking, &mut reading, plan.pairs, plan.span).await;
    let row = Row::of(&measured, plan, READS, setting);
    let (asked, read) = (&measured.subject.latency, &measured.limit.latency);
    let mut facts = vec![Fact::new("quote_p99_ratio", p99(asked) / p99(read), "x an indexed read")];
    for rate in RATES {
        let (mut quotes, mut reads) = (Histogram::default(), Histogram::default());
        for number in 0..plan.pairs {
            let seed = plan.seed.wrapping_add(u64::from(number));
            quotes.merge(&asking.paced(plan.span, rate, seed).await?.latency);
            reads.merge(&reading.paced(plan.span, rate, seed).await?.latency);
        }
        let name = |what: &str| format!("quote_at_{rate}_{what}");
        let p50 = |side: &Histogram| side.percentile_ms(0.5).unwrap_or(f64::NAN);
        facts.extend([
            Fact::new(&name("p50"), p50(&quotes), "ms"),
            Fact::new(&name("p99"), p99(&quotes), "ms"),
            Fact::new(&name("read_p50"), p50(&reads), "ms"),
            Fact::new(&name("read_p99"), p99(&reads), "ms"),
            Fact::new(&name("p99_ratio"), p99(&quotes) / p99(&reads), "x an indexed read"),
        ]);
    }
    Ok((row, facts))
}

fn p99(side: &Histogram) -> f64 {
    side.percentile_ms(0.99).unwrap_or(f64::NAN)
}

/// Clients that all ask for the same.
struct Side {
    name: &'static str,
    clients: Vec<Asker>,
}

/// One client: with a session it asks for quotes, without one it reads offers.
struct Asker {
    http: reqwest::Client,
    url: String,
    session: Option<Arc<str>>,
    offers: Arc<[OfferId]>,
    turn: usize,
    wrong: Option<String>,
}

impl Asker {
    fn request(&mut self) -> Option<(RequestBuilder, StatusCode)> {
        let offer = self.offers.get(self.turn.checked_rem(self.offers.len())?)?;
        self.turn = self.turn.wrapping_add(1);
        let Some(session) = &self.session else {
            return Some((
                self.http.get(format!("{}/v1/offers/{offer}", self.url)),
                StatusCode::OK,
            ));
        };
        let body = json!({"offer_id": offer, "duration_s": 3_600, "token": "USDB"});
        let request = self.http.post(format!("{}/v1/quotes", self.url)).bearer_auth(session);
        Some((request.json(&body), StatusCode::CREATED))
    }
}

impl Client for Asker {
    async fn once(&mut self) -> Result<Step, BenchError> {
        let Some((request, expected)) = self.request() else { return Ok(Step::Dry) };
        let answer = request.send().await.map_err(BenchError::subject(DOING))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(BenchError::subject(DOING))?;
        if status != expected {
            self.wrong = Some(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        Ok(Step::Done(1))
    }
}

impl Side {
    /// Works for this long at so many requests a second.
    async fn paced(&mut self, span: Duration, rate: f64, seed: u64) -> Result<Slice, BenchError> {
        let (clients, slice) = pace(std::mem::take(&mut self.clients), span, rate, seed).await?;
        self.clients = clients;
        match self.verify(&slice).await? {
            Verdict::Sound => Ok(slice),
            Verdict::Void(reason) => Err(BenchError::subject(DOING)(reason)),
        }
    }
}

impl Scenario for Side {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn prepare(&mut self, _: Duration) -> Result<(), BenchError> {
        Ok(())
    }

    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        let (clients, slice) = drive(std::mem::take(&mut self.clients), span).await?;
        self.clients = clients;
        Ok(slice)
    }

    async fn verify(&mut self, _: &Slice) -> Result<Verdict, BenchError> {
        let wrong = self.clients.iter_mut().find_map(|client| client.wrong.take());
        Ok(Verdict::of([(wrong.is_none(), wrong.unwrap_or_default())]))
    }
}
