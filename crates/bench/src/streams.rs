//! Event streams that have nothing to tell: what each weighs, what it asks of the database, and what all of them take of
//! a processor. Each follows a rental of its own, the dearest case: no room is shared.

use std::{
    convert::Infallible,
    fs, io,
    net::{SocketAddr, TcpStream as Socket},
    sync::OnceLock,
    time::{Duration, Instant},
};

use api::{ApiConfig, AppState};
use axum::{
    Router,
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
};
use chain::ReadClient;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::Statements;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{
    BenchError, Fact, Plan, Server,
    booking::{CHAIN_ID, Pool, Spread},
    search::{Serving, listen, on_cpu},
    server::{WEIR, generous},
};

const THREAD: &str = "bench-streams";
const DOING: &str = "follow rentals";
/// Streams for a market of so many offers: 10,000 beside a million.
const PER_OFFERS: u32 = 100;
/// Streams of the plain server.
const PLAIN: usize = 200;
/// File handles that a run needs beside those of its streams.
const OTHER_FILES: u64 = 1_000;
/// Opened at the same time.
const TOGETHER: usize = 64;
/// Slices that the streams are watched for: a minute of three-second ones.
const WATCHED: u32 = 20;
/// What statements about streams mention; the market's follower asks for other things meanwhile.
const ABOUT: [&str; 6] =
    ["rental_events", "FROM rentals", "readings", "quotes", "sessions", "tokens"];

/// Opens streams and leaves them alone.
pub(crate) async fn idle(server: &Server, plan: &Plan) -> Result<Vec<Fact>, BenchError> {
    let statements = counted();
    let wanted = (plan.offers / PER_OFFERS).min(room()?).max(1);
    let (listener, url) = listen().await?;
    let address = listener.local_addr().map_err(BenchError::io("listen"))?;
    let chain = ReadClient::connect("http://127.0.0.1:9").map_err(BenchError::subject(DOING))?;
    let config = ApiConfig {
        limits: generous(),
        streams_per_account: usize::MAX,
        ..ApiConfig::new(&url, CHAIN_ID)
    };
    let app = AppState::new(server.store(16).await?, chain, config, None);
    let serving = Serving::start(THREAD, listener, api::router(app))?;
    let (session, rentals) = prepare(server, plan, &url, wanted).await?;

    // the first ones make what is made once
    let session = &session;
    let first = open(address, session, rentals.iter().take(8).copied()).await?;
    let (before, began) = (resident()?, Instant::now());
    let open = open(address, session, rentals.iter().skip(8).copied()).await?;
    let opened_in = began.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let count = open.len() as f64;
    let plain = plain(open.len().min(PLAIN)).await?;
    let weight = resident()?.saturating_sub(before) as f64 / count.max(1.0);
    statements.take();
    let (on_before, watched) = (on_cpu(THREAD)?, plan.span.saturating_mul(WATCHED));
    tokio::time::sleep(watched).await;
    let on = on_cpu(THREAD)?.saturating_sub(on_before);
    let sent = Statements::mentioning(&statements.take(), &ABOUT);
    let minutes = watched.as_secs_f64() / 60.0;
    let all = open.len().saturating_add(first.len()) as f64;
    drop((first, open, serving));
    Ok(vec![
        Fact::new("streams_idle", all, "streams"),
        Fact::new("stream_idle_bytes", weight, "bytes"),
        Fact::new("stream_plain_bytes", plain, "bytes of axum's own"),
        Fact::new("stream_open", opened_in.as_secs_f64() * 1e3 / count.max(1.0), "ms"),
        Fact::new("stream_idle_statements", sent as f64 / (all * minutes), "a stream and minute"),
        Fact::new("streams_idle_statements", sent as f64 / minutes, "a minute, all"),
        Fact::new("streams_idle_cpu", on.as_secs_f64() / watched.as_secs_f64(), "cores, all"),
    ])
}

/// Bytes of a stream of an axum that says hello once and then nothing, with heartbeats as ours has.
async fn plain(count: usize) -> Result<f64, BenchError> {
    let hello = || async {
        let hello = Event::default().event("state").data("hello");
        let events = stream::iter([Ok::<_, Infallible>(hello)]).chain(stream::pending());
        Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
    };
    let (listener, _) = listen().await?;
    let address = listener.local_addr().map_err(BenchError::io("listen"))?;
    let router = Router::new().route("/v1/rentals/{id}/events", get(hello));
    let serving = Serving::start("bench-plain", listener, router)?;
    let first = open(address, "", (0..8).map(|_| Uuid::nil())).await?;
    let before = resident()?;
    let open = open(address, "", (0..count).map(|_| Uuid::nil())).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let weight = resident()?.saturating_sub(before) as f64 / (count as f64).max(1.0);
    drop((first, open, serving));
    Ok(weight)
}

/// Counts the process's statements from now on.
fn counted() -> Statements {
    static COUNTED: OnceLock<Statements> = OnceLock::new();
    let counted = COUNTED.get_or_init(|| {
        let statements = Statements::default();
        if tracing::subscriber::set_global_default(statements.clone()).is_err() {
            eprintln!("bench: statements are not counted: somebody else listens");
        }
        statements
    });
    counted.clone()
}

/// Streams for which there are file handles: two each, as both ends are ours.
fn room() -> Result<u32, BenchError> {
    let limits = fs::read_to_string("/proc/self/limits").map_err(BenchError::io("read limits"))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let files = line.split_whitespace().nth(3).and_then(|text| text.parse::<u64>().ok());
    let files = files.unwrap_or(1_024).saturating_sub(OTHER_FILES) / 2;
    Ok(u32::try_from(files).unwrap_or(u32::MAX))
}

/// Bytes of memory that this process has.
fn resident() -> Result<u64, BenchError> {
    let doing = "read the process's memory";
    let text = fs::read_to_string("/proc/self/status").map_err(BenchError::io(doing))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kilobytes = line.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
    kilobytes
        .map(|some| some.saturating_mul(1_024))
        .ok_or_else(|| BenchError::subject(doing)("no VmRSS"))
}

/// Books one rental as a renter does, and copies it until there are so many. Returns the renter's session and all ids.
async fn prepare(
    server: &Server,
    plan: &Plan,
    url: &str,
    wanted: u32,
) -> Result<(String, Vec<Uuid>), BenchError> {
    let mut pool = Pool::open(server.store(2).await?, Spread::Own, 1, plan.seed).await?;
    let quote = pool.make_quotes(1).await?.into_iter().flatten().next();
    let quote = quote.ok_or_else(|| BenchError::subject(DOING)("no quote was made"))?;
    let booked = tls::direct(Duration::from_secs(60))
        .map_err(BenchError::subject(DOING))?
        .post(format!("{url}/v1/rentals"))
        .bearer_auth(&quote.session)
        .header("idempotency-key", Uuid::now_v7().to_string())
        .json(&json!({"quote_id": quote.quote}))
        .send()
        .await
        .map_err(BenchError::subject(DOING))?;
    if booked.status() != StatusCode::CREATED {
        return Err(BenchError::subject(DOING)(format!(
            "a booking was answered {}",
            booked.status()
        )));
    }
    let booked: Value = booked.json().await.map_err(BenchError::subject(DOING))?;
    let id = booked.pointer("/rental/id").and_then(Value::as_str).unwrap_or_default();
    let id: Uuid = id.trim_start_matches("rnt_").parse().map_err(BenchError::subject(DOING))?;
    let mut connection = server.connect(WEIR).await?;
    let mut rentals: Vec<Uuid> = sqlx::query_scalar(COPIES)
        .bind(id)
        .bind(i32::try_from(wanted.saturating_sub(1)).unwrap_or(i32::MAX))
        .fetch_all(&mut connection)
        .await
        .map_err(BenchError::sql("copy a rental"))?;
    sqlx::query(
        "INSERT INTO rental_events (rental_id, at, kind, detail)
         SELECT id, now(), 'state', '{\"state\": \"awaiting_funds\"}' FROM unnest($1::uuid[]) AS c(id)",
    )
    .bind(&rentals)
    .execute(&mut connection)
    .await
    .map_err(BenchError::sql("write timelines"))?;
    rentals.push(id);
    Ok((quote.session.to_string(), rentals))
}

/// The same rental under other ids.
const COPIES: &str = "WITH fresh AS (
       SELECT gen_random_uuid() AS quote, '\\x' || encode(sha256(gen_random_uuid()::text::bytea), 'hex') AS escrow
       FROM generate_series(1, $2)),
     quoted AS (
       INSERT INTO quotes SELECT (jsonb_populate_record(q, jsonb_build_object('id', f.quote, 'escrow_id', f.escrow))).*
       FROM fresh f, quotes q JOIN rentals r ON r.quote_id = q.id WHERE r.id = $1 RETURNING id, escrow_id)
     INSERT INTO rentals SELECT (jsonb_populate_record(r, jsonb_build_object(
         'id', gen_random_uuid(), 'quote_id', q.id, 'escrow_id', '\\x' || encode(q.escrow_id, 'hex')))).*
     FROM quoted q, rentals r WHERE r.id = $1 RETURNING id";

/// Follows these rentals, and returns when each has told its first event. What is kept of a client is its socket alone.
async fn open(
    address: SocketAddr,
    session: &str,
    rentals: impl Iterator<Item = Uuid>,
) -> Result<Vec<Socket>, BenchError> {
    stream::iter(rentals)
        .map(|rental| follow(address, session, rental))
        .buffer_unordered(TOGETHER)
        .try_collect()
        .await
        .map_err(BenchError::io(DOING))
}

async fn follow(address: SocketAddr, session: &str, rental: Uuid) -> io::Result<Socket> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!(
        "GET /v1/rentals/rnt_{}/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {session}\r\n\r\n",
        rental.simple()
    );
    socket.write_all(request.as_bytes()).await?;
    let (mut seen, mut buffer) = (String::new(), [0; 1_024]);
    while !seen.contains("event: state") {
        let read = socket.read(&mut buffer).await?;
        if read == 0 || seen.len() > 4_096 {
            return Err(io::Error::other(format!("a stream was answered: {seen}")));
        }
        seen.push_str(&String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()));
    }
    socket.into_std()
}
