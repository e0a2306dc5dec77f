//! What `weir serve` is started beside: an axum that says hello, and no more, on the address that is its argument.

use std::process::ExitCode;

use axum::{Json, Router, routing::get};
use serde_json::json;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("hello: an address is wanted");
        return ExitCode::from(2);
    };
    let router = Router::new().route("/healthz", get(|| async { Json(json!({"hello": "world"})) }));
    let served = match tokio::net::TcpListener::bind(&address).await {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {address}: {error}");
            ExitCode::from(1)
        }
    }
}
