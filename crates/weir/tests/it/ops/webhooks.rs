//! Webhooks are called by the worker, never by the request: real processes, and a receiver on this machine.

use std::time::Duration;

use axum::{Router, http::HeaderMap, routing::post};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    market::{Market, OPERATOR},
    process::{LIMIT, Running, Server, http, weir},
};

/// `weir serve` has so long to make a call that it must not make; the worker needs a fraction of it.
const QUIET: Duration = Duration::from_secs(5);

/// What was called, in order.
type Calls = UnboundedReceiver<(HeaderMap, Value)>;

/// A receiver that answers 200 to everything; its address.
async fn receiver() -> (String, Calls) {
    let (tell, calls) = unbounded_channel();
    let hear = move |headers: HeaderMap, body: String| {
        tell.send((headers, serde_json::from_str(&body).unwrap())).unwrap();
        async {}
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/weir", listener.local_addr().unwrap());
    let router = Router::new().route("/weir", post(hear));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_calls_and_the_api_never_does() {
    let market = Market::open().await;
    let renter = market.renters(1).await.remove(0);
    let environment = market.with(&[("WEIR_WEBHOOK_LOOPBACK", "true")]);
    let server = Server::start(&environment).await;
    let (client, api) = (http(), server.url.clone());
    let (url, mut calls) = receiver().await;
    let made = renter
        .asks(client.post(format!("{api}/v1/webhooks")))
        .json(&json!({"url": url, "events": ["*"]}))
        .send()
        .await
        .unwrap();
    assert_eq!(made.status(), 201);
    let made: Value = made.json().await.unwrap();
    let test = format!("{api}/v1/webhooks/{}/test", made["webhook"]["id"].as_str().unwrap());
    assert!(renter.asks(client.post(test)).send().await.unwrap().status().is_success());
    assert_eq!(renter.book(&client, &api).await.unwrap().status(), 201);
    let early = tokio::time::timeout(QUIET, calls.recv()).await;
    assert!(early.is_err(), "the API called: {early:?}");

    let environment =
        market.with(&[("WEIR_WEBHOOK_LOOPBACK", "true"), ("WEIR_OPERATOR_KEY", OPERATOR)]);
    let worker = Running::start(&mut weir(&["work"], &environment));
    let mut told = Vec::new();
    while told.len() < 2 {
        let (headers, body) = tokio::time::timeout(LIMIT, calls.recv()).await.unwrap().unwrap();
        let signature = headers["webhook-signature"].to_str().unwrap();
        assert!(signature.starts_with("v1,"), "{signature}");
        assert!(headers["webhook-id"].to_str().unwrap().starts_with("evt_"));
        told.push(body["type"].as_str().unwrap().to_owned());
    }
    told.sort_unstable();
    assert_eq!(told, ["rental.booked", "webhook.test"]);
    worker.signal("TERM");
    assert!(worker.end().await.success());
}
