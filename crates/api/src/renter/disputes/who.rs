//! Who asks about cases, and which of them they see.

use domain::id::{AccountId, RentalId};
use store::{Connection, StoreError, api_keys::ApiKey, disputes::Case, rentals};

use crate::{access::is_limited, identity::Wallet, renter::rentals::seen_by};

/// Who asks: an account, of which a rental's token sees the cases about that rental only.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub(super) account: AccountId,
    only: Option<RentalId>,
}

impl Asker {
    pub(super) fn of(wallet: &Wallet) -> Self {
        Self { account: wallet.account.id, only: wallet.only() }
    }

    pub(super) fn sees(self, rental: RentalId) -> bool {
        self.only.is_none_or(|only| only == rental)
    }
}

/// Whether a case is about one of the things that a key is limited to.
pub(super) async fn seen(
    connection: &mut Connection,
    key: Option<&ApiKey>,
    case: &Case,
) -> Result<bool, StoreError> {
    let Some(key) = key.filter(|key| is_limited(key)) else { return Ok(true) };
    let rental = rentals::get(connection, case.rental).await?;
    let rental = rental.ok_or(StoreError::Missing("the case's rental"))?;
    seen_by(connection, Some(key), &rental).await
}
