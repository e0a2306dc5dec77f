//! The self-test: measures what was asked for, signs what it found, and sends it until the service has heard.

use std::sync::Arc;

use domain::{id::TestId, machine::answer};
use escrow::reading::detail_hash;
use serde_json::Value;

use crate::{
    context::Context,
    http::CallError,
    server::sign,
    wire::{SelfTest, SelfTestAnswer},
};

/// A test that was made: measured once, however often it has to be sent.
pub(crate) struct Made {
    pub(crate) id: TestId,
    answer: Option<SelfTestAnswer>,
    /// The service has heard, or will not: there is nothing more to do about it.
    pub(crate) over: bool,
}

/// Makes the test, unless `made` is this one already, and sends the answer.
pub(crate) async fn run(context: Arc<Context>, test: SelfTest, made: Option<Made>) -> Made {
    let id = test.id;
    let before = made.filter(|made| made.id == id).and_then(|made| made.answer);
    let answer = match before {
        Some(answer) => answer,
        None => match make(&context, &test).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(test.id = %id, %error, "the self-test cannot be answered");
                return Made { id, answer: None, over: true };
            }
        },
    };
    let over = match context.post::<Value>(&format!("v1/agent/self-tests/{id}"), &answer).await {
        Ok(said) => {
            tracing::info!(test.id = %id, passed = ?said.get("passed"), "the self-test is answered");
            true
        }
        Err(CallError::Refused(problem)) => {
            let (code, detail) = (&problem.code, &problem.detail);
            tracing::warn!(test.id = %id, code, detail, "the answer to a self-test is refused");
            true
        }
        Err(error) => {
            tracing::debug!(test.id = %id, %error, "the self-test is not answered; it is sent again");
            false
        }
    };
    Made { id, answer: Some(answer), over }
}

async fn make(context: &Context, test: &SelfTest) -> Result<SelfTestAnswer, CallError> {
    tracing::info!(test.id = %test.id, "a self-test is ordered");
    let measured = context.bench.measure().await;
    let checks = answer(&test.requirements, &measured, context.server.skew_s());
    for check in checks.iter().filter(|check| !check.pass) {
        let remedy = check.remediation.as_deref().unwrap_or_default();
        tracing::warn!(check.id, actual = ?check.actual, required = ?check.required, remedy, "a check fails");
    }
    let told = serde_json::to_value(&checks);
    let told = told.map_err(|error| CallError::Malformed(error.to_string()))?;
    let named = context.server.names("weir-checks");
    let text = format!("{named}:{}:{}", test.id, detail_hash(&told));
    let signature = sign(context.server.key(), &text)?;
    Ok(SelfTestAnswer { checks, measured, signature })
}
