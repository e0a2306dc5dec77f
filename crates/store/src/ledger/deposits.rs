//! Deposits one by one: what the reconciler looks at to find whose figure differs.

use alloy_primitives::{Address, B256, I256};

use crate::{
    Connection, StoreError,
    convert::{address, hash, signed},
};

/// What is left of a deposit that is not divided yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenDeposit {
    /// The rental's id on the chain.
    pub escrow_id: B256,
    /// The token.
    pub token: Address,
    /// Base units; below zero only if something is broken.
    pub open: I256,
}

/// What the ledger has left of each of these deposits; those that it does not know are left out.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn deposits_of(
    connection: &mut Connection,
    ids: &[B256],
) -> Result<Vec<OpenDeposit>, StoreError> {
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.to_vec()).collect();
    sqlx::query!(
        r#"SELECT escrow_id AS "escrow_id!", token AS "token!", balance AS "balance!"
           FROM ledger_account_balances WHERE kind = 'renter_deposit' AND escrow_id = ANY($1)"#,
        &ids
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(OpenDeposit {
            escrow_id: hash(&row.escrow_id)?,
            token: address(&row.token)?,
            open: signed(&row.balance)?,
        })
    })
    .collect()
}

/// Every deposit of which the ledger has anything left, or less than nothing; `limit` at most. Reads the whole
/// ledger: for when a total is known to differ.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn open_deposits(
    connection: &mut Connection,
    limit: i64,
) -> Result<Vec<OpenDeposit>, StoreError> {
    sqlx::query!(
        r#"SELECT escrow_id AS "escrow_id!", token AS "token!", balance AS "balance!"
           FROM ledger_account_balances WHERE kind = 'renter_deposit' AND balance <> 0 LIMIT $1"#,
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(OpenDeposit {
            escrow_id: hash(&row.escrow_id)?,
            token: address(&row.token)?,
            open: signed(&row.balance)?,
        })
    })
    .collect()
}

/// What is left of the deposits by the rentals' own figures; those with nothing left are left out.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn figures_of_rentals(
    connection: &mut Connection,
) -> Result<Vec<OpenDeposit>, StoreError> {
    sqlx::query!(
        r#"SELECT r.escrow_id, q.token,
                  r.locked - r.paid_provider - r.paid_fee - r.paid_refund AS "open!"
           FROM rentals r JOIN quotes q ON q.id = r.quote_id
           WHERE r.locked <> r.paid_provider + r.paid_fee + r.paid_refund"#
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(OpenDeposit {
            escrow_id: hash(&row.escrow_id)?,
            token: address(&row.token)?,
            open: signed(&row.open)?,
        })
    })
    .collect()
}

/// Tokens in which somebody's claim, other than a deposit, is below zero. Reads the whole ledger.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn overdrawn_tokens(connection: &mut Connection) -> Result<Vec<Address>, StoreError> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT token AS "token!" FROM ledger_account_balances
           WHERE kind NOT IN ('outside', 'renter_deposit') AND balance < 0"#
    )
    .fetch_all(connection)
    .await?
    .iter()
    .map(|bytes| address(bytes))
    .collect()
}
