//! Where a rented machine is reached: told by its agent, for the renter.

use axum::{Json, extract::State};
use domain::{
    id::{MachineId, RentalId},
    reach::{Host, OpenPort, ReachError, open_ports},
};
use serde::{Deserialize, Serialize};
use store::{
    TxError,
    reach::{self, Reach},
    rentals,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Code, Problem,
    extract::{Body, Id},
    identity::Agent,
    problem::refuse,
};

/// The chain of those who try it all out on one machine, with its publicly known keys.
const DEVELOPMENT_CHAIN: u64 = 31_337;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(tell))
}

/// A port of a rental as it is reached from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessPort {
    /// As the template names it: 1 to 32 of a-z, 0-9 and -.
    #[schema(example = "ssh")]
    pub(crate) name: String,
    /// 1 to 65535: the host's, not the container's own.
    #[schema(example = 41_022)]
    pub(crate) port: u16,
}

impl From<OpenPort> for AccessPort {
    fn from(OpenPort { name, port }: OpenPort) -> Self {
        Self { name, port }
    }
}

/// Where a rental is reached.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RentalAccessRequest {
    /// A DNS name or an IP address; private ones too. Loopback only on a development chain: elsewhere the renter would come
    /// to their own machine.
    #[schema(example = "gpu1.example.com")]
    host: String,
    /// At most 64, each name once.
    ports: Vec<AccessPort>,
}

/// What is kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct RentalAccessAnswer {
    /// As the renter will read it.
    #[schema(example = "gpu1.example.com")]
    host: String,
    ports: Vec<AccessPort>,
}

/// Says where a rental is reached, in place of what was said before. Its renter reads it once the machine is ready, until the
/// rental ends; nobody else does. Sent before `ready`, and again when it changes.
#[utoipa::path(post, path = "/v1/agent/rentals/{id}/access", tag = "agent", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = RentalAccessRequest, responses((status = 200, body = RentalAccessAnswer)))]
async fn tell(
    State(app): State<AppState>,
    Agent(machine): Agent,
    Id(id): Id<RentalId>,
    Body(request): Body<RentalAccessRequest>,
) -> Result<Json<RentalAccessAnswer>, Problem> {
    let (host, ports) = checked(request, app.config.chain_id)?;
    let said = Reach { host, ports, told_at: app.now() };
    let answer = RentalAccessAnswer {
        host: said.host.to_string(),
        ports: said.ports.iter().cloned().map(AccessPort::from).collect(),
    };
    let store = app.store.clone();
    store
        .write("agent.access", move |tx| {
            let said = said.clone();
            Box::pin(async move { keep(tx, machine, id, &said).await })
        })
        .await
        .map_err(Problem::from)?;
    Ok(Json(answer))
}

async fn keep(
    tx: &mut store::Connection,
    machine: MachineId,
    id: RentalId,
    said: &Reach,
) -> Result<(), TxError<Problem>> {
    let rental = rentals::get(tx, id).await?.filter(|rental| rental.machine == machine);
    let Some(rental) = rental else { return refuse(Problem::not_found("rental")) };
    if !rental.progress.is_provisioned() {
        let detail = format!("the rental is {}: nobody is let in", rental.progress.state);
        return refuse(Problem::new(Code::StateConflict, detail));
    }
    Ok(reach::tell(tx, id, said).await?)
}

/// What an agent says, if it can be.
fn checked(request: RentalAccessRequest, chain_id: u64) -> Result<(Host, Vec<OpenPort>), Problem> {
    let at_host = |error: ReachError| Problem::invalid("/host", error.to_string());
    let host: Host = request.host.parse().map_err(at_host)?;
    if host.is_loopback() && chain_id != DEVELOPMENT_CHAIN {
        let detail = "a loopback address would lead renters to their own machine";
        return Err(Problem::invalid("/host", detail));
    }
    let given = request.ports.into_iter().map(|AccessPort { name, port }| OpenPort { name, port });
    let ports = open_ports(given.collect()).map_err(|(place, error)| {
        let pointer = match (place, error) {
            (Some(place), ReachError::Port) => format!("/ports/{place}/port"),
            (Some(place), _) => format!("/ports/{place}/name"),
            (None, _) => "/ports".to_owned(),
        };
        Problem::invalid(pointer, error.to_string())
    })?;
    Ok((host, ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_for_development_only() {
        let said = |host: &str, chain| {
            checked(RentalAccessRequest { host: host.to_owned(), ports: Vec::new() }, chain)
        };
        for host in ["127.0.0.1", "localhost", "::1"] {
            assert!(said(host, DEVELOPMENT_CHAIN).is_ok(), "{host}");
            assert_eq!(said(host, 137).unwrap_err().code(), Code::ValidationFailed, "{host}");
        }
        assert!(said("192.168.1.7", 137).is_ok());
    }
}
