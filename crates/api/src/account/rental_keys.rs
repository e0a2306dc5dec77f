//! Which SSH keys open a rental: named at the booking, replaced while it runs.

use axum::{Json, extract::State};
use domain::{
    id::{AccountId, RentalId, SshKeyId},
    rental::RentalState,
    time::UnixSeconds,
};
use serde::Deserialize;
use serde_json::Value;
use store::{
    Connection, StoreError, TxError, readings,
    rentals::{self, Rental},
    ssh_keys::{self, MOST_OF_RENTAL, SshKey},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    given_keys::{given_keys, refuse_private_keys},
    ssh_keys::{SshKeyList, SshKeyView},
};
use crate::{
    AppState, Code, Problem,
    extract::{self, Body, Id},
    identity::Wallet,
    problem::refuse,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read, replace))
}

/// The keys that open a rental from now on.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"ssh_key_ids": ["ssh_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"]}))]
pub(crate) struct RentalKeys {
    /// Ids of your SSH keys. With the other member at most 16; `[]` alone closes the rental to everybody.
    #[schema(value_type = Option<Vec<String>>)]
    ssh_key_ids: Option<Vec<SshKeyId>>,
    /// Public keys themselves, each the one line of a `.pub` file: they open this rental and are in no list of yours.
    ssh_public_keys: Option<Vec<String>>,
}

/// Whether these can be the keys of a rental.
///
/// # Errors
/// [`Code::ValidationFailed`].
pub(crate) fn check_ids(ids: &[SshKeyId]) -> Result<(), Problem> {
    if ids.len() > MOST_OF_RENTAL {
        return Err(Problem::invalid("/ssh_key_ids", format!("at most {MOST_OF_RENTAL}")));
    }
    let twice = ids.iter().enumerate().find(|(at, id)| ids.iter().take(*at).any(|b| b == *id));
    match twice {
        Some((at, _)) => Err(Problem::invalid(format!("/ssh_key_ids/{at}"), "it is named twice")),
        None => Ok(()),
    }
}

/// From now on these keys open the rental: some of the renter's, and some that are given for it.
///
/// # Errors
/// [`Code::ValidationFailed`] for one that the renter has not; the store's.
pub(crate) async fn open_with(
    tx: &mut Connection,
    renter: AccountId,
    rental: RentalId,
    ids: &[SshKeyId],
    given: &[SshKey],
) -> Result<(), TxError<Problem>> {
    if ids.len().saturating_add(given.len()) > MOST_OF_RENTAL {
        let message = format!("at most {MOST_OF_RENTAL} keys open a rental, both kinds together");
        return refuse(Problem::invalid("/ssh_public_keys", message));
    }
    let missing = ssh_keys::missing(tx, renter, ids).await?;
    if let Some(at) = ids.iter().position(|id| missing.contains(id)) {
        let message = "you have no such SSH key";
        return refuse(Problem::invalid(format!("/ssh_key_ids/{at}"), message));
    }
    let mut all = ids.to_vec();
    all.extend(ssh_keys::give(tx, renter, rental, given).await?);
    Ok(ssh_keys::set(tx, rental, &all).await?)
}

/// Tells the machine whom to let in, if it has been told to let anybody in.
pub(super) async fn tell_machine(
    tx: &mut Connection,
    rental: &Rental,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    match rental.progress.state {
        RentalState::Funded
        | RentalState::Provisioning
        | RentalState::Active
        | RentalState::Interrupted => ssh_keys::tell(tx, rental, now).await,
        // the order to provision names the keys as they are then
        RentalState::AwaitingFunds
        | RentalState::Stopping
        | RentalState::Settling
        | RentalState::Settled
        | RentalState::Expired
        | RentalState::Cancelled
        | RentalState::StartFailed
        | RentalState::Refunding
        | RentalState::Refunded
        | RentalState::Contested
        | RentalState::Resolved => Ok(()),
    }
}

/// Whether a rental may still be opened to others.
const fn goes_on(state: RentalState) -> bool {
    matches!(
        state,
        RentalState::AwaitingFunds
            | RentalState::Funded
            | RentalState::Provisioning
            | RentalState::Active
            | RentalState::Interrupted
    )
}

/// The rental, for its renter: its provider sees it and lets nobody in.
fn of_renter(rental: Option<Rental>, account: AccountId) -> Result<Rental, Problem> {
    let party = rental.filter(|rental| rental.renter == account || rental.provider == account);
    let rental = party.ok_or_else(|| Problem::not_found("rental"))?;
    if rental.renter == account {
        return Ok(rental);
    }
    Err(Problem::new(Code::Forbidden, "only the renter says which keys open the rental"))
}

/// The keys that open a rental; for its renter.
#[utoipa::path(get, path = "/v1/rentals/{id}/ssh-keys", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = SshKeyList)))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
) -> Result<Json<SshKeyList>, Problem> {
    let mut connection = app.store.read().await?;
    of_renter(rentals::get(&mut connection, id).await?, wallet.account.id)?;
    let keys = ssh_keys::of_rental(&mut connection, id).await?;
    Ok(Json(SshKeyList { data: keys.into_iter().map(SshKeyView::from).collect() }))
}

/// Replaces the keys that open a rental, while it goes on. Its machine is told with its next heartbeat.
#[utoipa::path(put, path = "/v1/rentals/{id}/ssh-keys", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = RentalKeys, responses((status = 200, body = SshKeyList)))]
async fn replace(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    Body(body): Body<Value>,
) -> Result<Json<SshKeyList>, Problem> {
    refuse_private_keys(&body)?;
    let request: RentalKeys = extract::value(body, "")?;
    if request.ssh_key_ids.is_none() && request.ssh_public_keys.is_none() {
        let message = "name keys, here or in ssh_public_keys; [] closes the rental to everybody";
        return Err(Problem::invalid("/ssh_key_ids", message));
    }
    let (account, now) = (wallet.account.id, app.now());
    let ids = request.ssh_key_ids.unwrap_or_default();
    check_ids(&ids)?;
    let given = given_keys(&request.ssh_public_keys.unwrap_or_default(), now)?;
    let keys = app
        .store
        .write("rentals.ssh_keys", move |tx| {
            let (ids, given) = (ids.clone(), given.clone());
            Box::pin(async move {
                // the rental before the order, as everybody who gives orders locks them
                readings::lock_rental(tx, id).await?;
                let rental = of_renter(rentals::get(tx, id).await?, account).or_else(refuse)?;
                let state = rental.progress.state;
                if !goes_on(state) {
                    let detail = format!("the rental is {state}: nobody can be let in any more");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                open_with(tx, account, id, &ids, &given).await?;
                tell_machine(tx, &rental, now).await?;
                Ok(ssh_keys::of_rental(tx, id).await?)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(Json(SshKeyList { data: keys.into_iter().map(SshKeyView::from).collect() }))
}
