//! The self-test: measures what was asked for, signs what it found, and sends it until the service has heard.

use std::sync::Arc;

use domain::machine::answer;
use escrow::reading::detail_hash;
use serde_json::Value;

use crate::{
    context::Context,
    http::CallError,
    server::sign,
    wire::{SelfTest, SelfTestAnswer},
};

/// Makes the test and sends the answer, once; the service asks again until it has one.
pub(crate) async fn run(context: Arc<Context>, test: SelfTest) {
    let id = test.id;
    tracing::info!(test.id = %id, "a self-test is ordered");
    let measured = context.bench.measure().await;
    let checks = answer(&test.requirements, &measured, context.server.skew_s());
    for check in checks.iter().filter(|check| !check.pass) {
        let remedy = check.remediation.as_deref().unwrap_or_default();
        tracing::warn!(check.id, actual = ?check.actual, required = ?check.required, remedy, "a check fails");
    }
    let body = match serde_json::to_value(&checks) {
        Ok(told) => {
            let text =
                format!("{}:{id}:{}", context.server.names("weir-checks"), detail_hash(&told));
            sign(context.server.key(), &text).map(|signature| SelfTestAnswer {
                checks,
                measured,
                signature,
            })
        }
        Err(error) => Err(CallError::Malformed(error.to_string())),
    };
    let sent = match body {
        Ok(body) => context.post::<Value>(&format!("v1/agent/self-tests/{id}"), &body).await,
        Err(error) => Err(error),
    };
    match sent {
        Ok(said) => {
            tracing::info!(test.id = %id, passed = ?said.get("passed"), "the self-test is answered")
        }
        Err(error) => {
            tracing::warn!(test.id = %id, %error, "the self-test is not answered; it will be asked again")
        }
    }
}
