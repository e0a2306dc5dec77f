//! Following a rental.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    http::{Request, StatusCode},
};
use domain::rental::RentalEvent;
use futures_util::StreamExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{fixture::World, running::Running};

/// A stream of an account waits for every transaction of the server, those of other tests too.
const PATIENCE: Duration = Duration::from_secs(60);

/// One event of a stream.
#[derive(Debug)]
pub struct Seen {
    pub id: Option<i64>,
    /// The id as it came.
    pub place: Option<String>,
    pub name: String,
    pub data: Value,
}

pub struct Stream {
    body: BodyDataStream,
    text: String,
    /// `content-encoding`.
    pub encoding: String,
}

impl Stream {
    pub async fn open(world: &World, id: &str, token: &str, last: Option<i64>) -> Self {
        let last = last.map(|last| last.to_string());
        Self::at(world, &format!("/v1/rentals/{id}/events"), token, last.as_deref()).await
    }

    pub async fn at(world: &World, path: &str, token: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(path)
            .header("authorization", format!("Bearer {token}"))
            .header("accept-encoding", "gzip");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let encoding = response.headers().get("content-encoding");
        let encoding = encoding.map_or("", |value| value.to_str().unwrap()).to_owned();
        Self { body: response.into_body().into_data_stream(), text: String::new(), encoding }
    }

    /// The next event, or `None` at the end.
    pub async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if !block.starts_with(':') {
                    return Some(parse(&block));
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("an event");
            self.text.push_str(std::str::from_utf8(&chunk?.unwrap()).unwrap());
        }
    }

    /// The next event with this name.
    pub async fn named(&mut self, name: &str) -> Seen {
        loop {
            let seen = self.next().await.expect("the stream goes on");
            if seen.name == name {
                return seen;
            }
        }
    }
}

fn parse(block: &str) -> Seen {
    let line = |name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
    };
    Seen {
        id: line("id:").and_then(|id| id.parse().ok()),
        place: line("id:"),
        name: line("event:").unwrap(),
        data: serde_json::from_str(&line("data:").unwrap()).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_past_the_present_and_the_end() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let mut stream = Stream::open(&world, &running.id, &running.renter.token, None).await;
    let mut states = Vec::new();
    let mut last = 0;
    while states.last().is_none_or(|state| state != "active") {
        let seen = stream.named("state").await;
        assert!(seen.id.unwrap() > last, "ids grow");
        last = seen.id.unwrap();
        states.push(seen.data["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states.first().unwrap(), "awaiting_funds");

    let cost = stream.named("cost").await;
    assert_eq!((cost.id, &cost.data["seconds_billed"]), (None, &Value::from(1)));
    world.pass(20);
    running.append(&world, 0, 20).await;
    while stream.named("cost").await.data["seconds_billed"] != 20 {}

    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    assert_eq!(stream.named("state").await.data["state"], "stopping");
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    assert_eq!(stream.named("state").await.data["state"], "settling");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_after_the_last_event_and_ends_with_the_rental() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    let mut stream = Stream::open(&world, id, &renter.token, None).await;
    let first = stream.next().await.unwrap();
    assert_eq!(first.data["state"], "awaiting_funds");
    drop(stream);

    world.advance(id, RentalEvent::LockIncluded).await;
    world.advance(id, RentalEvent::LockDropped).await;
    let stop = world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s");
    stop.send().await.ok(202);
    let mut missed = Vec::new();
    let mut stream = Stream::open(&world, id, &renter.token, first.id).await;
    while let Some(seen) = stream.next().await {
        missed.push(seen.data["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(missed, ["awaiting_funds", "awaiting_funds", "cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_resumed_in_another_process() {
    let world = World::new().await;
    let chain = crate::rpc::start().await;
    let other = World::beside(world.store.clone(), world.clock.clone(), &chain, |_| {}).await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    let mut told = Vec::new();
    let mut last = None;
    for (turn, event) in [RentalEvent::LockIncluded, RentalEvent::LockDropped].iter().enumerate() {
        let here = if turn % 2 == 0 { &world } else { &other };
        let mut stream = Stream::open(here, id, &renter.token, last).await;
        let seen = stream.next().await.unwrap();
        last = seen.id;
        told.push(seen.data["event"].clone());
        drop(stream);
        other.advance(id, *event).await;
    }
    // both processes tell the rest alike
    for here in [&world, &other] {
        let mut stream = Stream::open(here, id, &renter.token, last).await;
        assert_eq!(stream.next().await.unwrap().data["event"], "lock_dropped");
    }
    assert_eq!(told[1], "lock_included");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_rental_begins_anew() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let rig = world.rig(20, 1, "0.65").await;
    let quote = world.quote(&running.renter, &rig).await;
    let booking = world.book(&running.renter, &quote, "k").await.ok(201);
    let later = booking["rental"]["id"].as_str().unwrap();
    let token = &running.renter.token;
    let mut stream = Stream::open(&world, later, token, None).await;
    let of_later = stream.next().await.unwrap().id.unwrap();
    let mut stream = Stream::open(&world, &running.id, token, None).await;
    let first = stream.named("state").await.id.unwrap();
    assert!(of_later > first);
    // of a rental booked later, and of a database that had more
    for id in [of_later, i64::MAX] {
        let mut stream = Stream::open(&world, &running.id, token, Some(id)).await;
        let again = stream.next().await.unwrap();
        assert_eq!((&*again.name, again.id), ("again", Some(0)), "{id}");
        assert_eq!(stream.next().await.unwrap().id, Some(first), "nothing is left out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_stream_hears_at_once() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = Stream::open(&world, id, &renter.token, None).await;
        stream.next().await.unwrap();
        streams.push(stream);
    }
    // long enough for all to have looked and to wait
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = tokio::time::Instant::now();
    world.advance(id, RentalEvent::LockIncluded).await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap().data["event"], "lock_included");
    }
    // all rooms are looked at once a minute
    assert!(begun.elapsed() < Duration::from_secs(30), "heard, not polled for");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_and_their_resumption_is_checked() {
    let world = World::with(|config| config.stream_limit = 1).await;
    let running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}/events", running.id);
    let token = &running.renter.token;
    for bad in ["x", "-1", "99999999999999999999"] {
        let call = world.get(&path).auth(token).header("last-event-id", bad);
        call.send().await.problem(400, "invalid-request");
    }
    let stream = Stream::open(&world, &running.id, token, None).await;
    world.get(&path).auth(token).send().await.problem(503, "unavailable");
    drop(stream);
    Stream::open(&world, &running.id, token, None).await;
}
