//! Ordering a machine's self-test.

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    id::{MachineId, TestId},
    machine::{Requirement, Service, requirements},
};
use serde::Serialize;
use store::{StoreError, machines};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{mine, retired};
use crate::{AppState, Code, Problem, extract::Id, identity::Wallet, problem::refuse, views::Time};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(order))
}

/// A self-test that waits for the agent.
#[derive(Serialize, ToSchema)]
pub(crate) struct TestView {
    #[schema(value_type = String, example = "tst_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: TestId,
    /// What the machine has to show: each with `id`, `op` and `required`.
    #[schema(value_type = Vec<Object>, example = json!([{"id": "cpu_cores", "op": ">=", "required": 32}]))]
    requirements: Vec<Requirement>,
    ordered_at: Time,
}

/// Orders a self-test. The agent hears of it with its next heartbeat; the answer is public at
/// `/v1/machines/{id}/checks`. Ordered again before it is answered, what has to be shown is taken anew.
#[utoipa::path(post, path = "/v1/machines/{id}/verify", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 202, body = TestView)))]
async fn order(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<(StatusCode, Json<TestView>), Problem> {
    let (account, now) = (wallet.account.id, app.now());
    let view = app
        .store
        .write("machines.verify", move |tx| {
            Box::pin(async move {
                let machine = mine(tx, account, id).await?;
                if machine.service == Service::Retired {
                    return refuse(retired());
                }
                if machine.agent.is_none() {
                    let detail = "its agent is not enrolled: there is nobody to test it";
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                if machine.standing.barred {
                    let reason = machine.standing.reason.unwrap_or_default();
                    let detail = format!("the operator took its tier away: {reason}");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                let said = machines::declared(tx, id).await?;
                let asked = requirements(&said.ok_or(StoreError::Missing("the machine's GPUs"))?);
                if let Some(open) = machines::open_test(tx, id).await?
                    && open.requirements == asked
                {
                    let (id, ordered_at) = (open.id, Time(open.ordered_at));
                    return Ok(TestView { id, requirements: asked, ordered_at });
                }
                let test = TestId::from_uuid(Uuid::now_v7());
                machines::order_test(tx, test, id, &asked, now).await?;
                Ok(TestView { id: test, requirements: asked, ordered_at: Time(now) })
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::ACCEPTED, Json(view)))
}
