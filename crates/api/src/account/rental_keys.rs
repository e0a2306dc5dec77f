//! Which SSH keys open a rental: named at the booking, replaced while it runs.

use axum::{Json, extract::State};
use domain::{
    id::{AccountId, RentalId, SshKeyId},
    rental::RentalState,
    time::UnixSeconds,
};
use serde::Deserialize;
use store::{
    Connection, StoreError, TxError, readings,
    rentals::{self, Rental},
    ssh_keys::{self, MOST_OF_RENTAL},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::ssh_keys::{SshKeyList, SshKeyView};
use crate::{
    AppState, Code, Problem,
    extract::{Body, Id},
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
    /// Ids of your SSH keys, at most 16; none closes the rental to everybody.
    #[schema(value_type = Vec<String>)]
    ssh_key_ids: Vec<SshKeyId>,
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

/// From now on these keys of the renter's open the rental.
///
/// # Errors
/// [`Code::ValidationFailed`] for one that the renter has not; the store's.
pub(crate) async fn open_with(
    tx: &mut Connection,
    renter: AccountId,
    rental: RentalId,
    ids: &[SshKeyId],
) -> Result<(), TxError<Problem>> {
    let missing = ssh_keys::missing(tx, renter, ids).await?;
    if let Some(at) = ids.iter().position(|id| missing.contains(id)) {
        let message = "you have no such SSH key";
        return refuse(Problem::invalid(format!("/ssh_key_ids/{at}"), message));
    }
    Ok(ssh_keys::set(tx, rental, ids).await?)
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
    Body(request): Body<RentalKeys>,
) -> Result<Json<SshKeyList>, Problem> {
    check_ids(&request.ssh_key_ids)?;
    let (account, now) = (wallet.account.id, app.now());
    let keys = app
        .store
        .write("rentals.ssh_keys", move |tx| {
            let ids = request.ssh_key_ids.clone();
            Box::pin(async move {
                // the rental before the order, as everybody who gives orders locks them
                readings::lock_rental(tx, id).await?;
                let rental = of_renter(rentals::get(tx, id).await?, account).or_else(refuse)?;
                let state = rental.progress.state;
                if !goes_on(state) {
                    let detail = format!("the rental is {state}: nobody can be let in any more");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                open_with(tx, account, id, &ids).await?;
                tell_machine(tx, &rental, now).await?;
                Ok(ssh_keys::of_rental(tx, id).await?)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(Json(SshKeyList { data: keys.into_iter().map(SshKeyView::from).collect() }))
}
