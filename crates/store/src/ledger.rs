//! The ledger: postings of final chain facts, each posted once. Every transfer is one row with a debit
//! and a credit, so that it balances by construction; balances are sums over the rows of an account, of
//! which the older part is kept folded.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use domain::{
    ledger::{AccountKind, LedgerAccount, Posting},
    money::Amount,
    time::UnixSeconds,
};
use sqlx::types::BigDecimal;
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    convert::{address, amount, hash, numeric, ts},
};

mod deposits;
mod totals;
pub use deposits::{OpenDeposit, deposits_of, figures_of_rentals, open_deposits, overdrawn_tokens};
pub use totals::{
    Audited, TokenTotals, audit, fold, misfolded_tokens, raise_surplus, surpluses, totals,
};

/// A posting with the fact that it records.
#[derive(Clone, Debug)]
pub struct Sourced {
    /// The fact's own name, such as `block hash:log index`. A second posting of it changes nothing.
    pub source: String,
    /// When the fact happened.
    pub at: UnixSeconds,
    /// What moves.
    pub posting: Posting,
}

/// An account's balance: credits less debits.
#[derive(Clone, Debug)]
pub struct Balance {
    /// The account.
    pub account: LedgerAccount,
    /// Base units of its token; negative only for the outside.
    pub balance: BigDecimal,
}

/// Posts all of these facts that were not posted before, in a fixed number of statements whatever their
/// number. Returns how many were new.
///
/// # Errors
/// The database's; then none is posted.
pub async fn post(tx: &mut Connection, postings: &[Sourced]) -> Result<u64, StoreError> {
    let fresh = insert_postings(tx, postings).await?;
    if fresh.is_empty() {
        return Ok(0);
    }
    let new: Vec<(&Sourced, Uuid)> = postings
        .iter()
        .filter_map(|item| {
            let found = fresh.iter().find(|(source, _)| *source == item.source)?;
            Some((item, found.1))
        })
        .collect();
    let accounts = resolve_accounts(tx, &new).await?;
    insert_transfers(tx, &new, &accounts).await?;
    u64::try_from(fresh.len()).map_err(StoreError::corrupt)
}

async fn insert_postings(
    tx: &mut Connection,
    postings: &[Sourced],
) -> Result<Vec<(String, Uuid)>, StoreError> {
    let ids: Vec<Uuid> = postings.iter().map(|_| Uuid::now_v7()).collect();
    let kinds: Vec<String> =
        postings.iter().map(|item| item.posting.kind.as_str().to_owned()).collect();
    let sources: Vec<String> = postings.iter().map(|item| item.source.clone()).collect();
    let times = postings.iter().map(|item| ts(item.at)).collect::<Result<Vec<_>, StoreError>>()?;
    let rows = sqlx::query!(
        "INSERT INTO ledger_postings (id, kind, source, at)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])
         ON CONFLICT (source) DO NOTHING RETURNING source, id",
        &ids,
        &kinds,
        &sources,
        &times
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source, row.id)).collect())
}

type AccountId = (LedgerAccount, i64);

/// The row ids of every account that the postings touch; accounts are made when first touched.
async fn resolve_accounts(
    tx: &mut Connection,
    postings: &[(&Sourced, Uuid)],
) -> Result<Vec<AccountId>, StoreError> {
    let touched: BTreeSet<LedgerAccount> = postings
        .iter()
        .flat_map(|(item, _)| &item.posting.transfers)
        .flat_map(|transfer| [transfer.debit, transfer.credit])
        .collect();
    let accounts: Vec<LedgerAccount> = touched.into_iter().collect();
    let kinds: Vec<String> = accounts.iter().map(|a| a.kind.as_str().to_owned()).collect();
    // arrays of a column type cannot hold nulls here: empty stands for none
    let owners: Vec<Vec<u8>> =
        accounts.iter().map(|a| a.owner.map_or_else(Vec::new, |owner| owner.to_vec())).collect();
    let escrow_ids: Vec<Vec<u8>> =
        accounts.iter().map(|a| a.escrow_id.map_or_else(Vec::new, |id| id.to_vec())).collect();
    let tokens: Vec<Vec<u8>> = accounts.iter().map(|a| a.token.to_vec()).collect();
    sqlx::query!(
        "INSERT INTO ledger_accounts (kind, owner, escrow_id, token)
         SELECT kind, NULLIF(owner, ''::bytea), NULLIF(escrow_id, ''::bytea), token
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[])
              AS w(kind, owner, escrow_id, token)
         ON CONFLICT DO NOTHING",
        &kinds,
        &owners,
        &escrow_ids,
        &tokens
    )
    .execute(&mut *tx)
    .await?;
    let rows = sqlx::query!(
        r#"SELECT a.id, w.at AS "at!"
           FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[])
                WITH ORDINALITY AS w(kind, owner, escrow_id, token, at)
           JOIN ledger_accounts a ON a.kind = w.kind AND a.token = w.token
                AND a.owner IS NOT DISTINCT FROM NULLIF(w.owner, ''::bytea)
                AND a.escrow_id IS NOT DISTINCT FROM NULLIF(w.escrow_id, ''::bytea)
           ORDER BY w.at"#,
        &kinds,
        &owners,
        &escrow_ids,
        &tokens
    )
    .fetch_all(tx)
    .await?;
    if rows.len() != accounts.len() {
        return Err(StoreError::corrupt("a ledger account could not be made"));
    }
    Ok(accounts.into_iter().zip(rows).map(|(account, row)| (account, row.id)).collect())
}

async fn insert_transfers(
    tx: &mut Connection,
    postings: &[(&Sourced, Uuid)],
    accounts: &[AccountId],
) -> Result<(), StoreError> {
    let id_of = |account: &LedgerAccount| {
        accounts
            .binary_search_by(|(known, _)| known.cmp(account))
            .ok()
            .and_then(|at| accounts.get(at))
            .map(|(_, id)| *id)
            .ok_or(StoreError::Missing("the ledger account"))
    };
    let (mut ids, mut ordinals) = (Vec::new(), Vec::<i16>::new());
    let (mut debits, mut credits) = (Vec::new(), Vec::new());
    let (mut tokens, mut amounts) = (Vec::new(), Vec::new());
    for (item, posting) in postings {
        for (ordinal, transfer) in item.posting.transfers.iter().enumerate() {
            ids.push(*posting);
            ordinals.push(i16::try_from(ordinal).map_err(StoreError::corrupt)?);
            debits.push(id_of(&transfer.debit)?);
            credits.push(id_of(&transfer.credit)?);
            tokens.push(transfer.debit.token.to_vec());
            amounts.push(numeric(transfer.amount));
        }
    }
    sqlx::query!(
        "INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, token, amount)
         SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bytea[],
                              $6::numeric[])",
        &ids,
        &ordinals,
        &debits,
        &credits,
        &tokens,
        &amounts
    )
    .execute(tx)
    .await?;
    Ok(())
}

struct BalanceRow {
    kind: String,
    owner: Option<Vec<u8>>,
    escrow_id: Option<Vec<u8>>,
    token: Vec<u8>,
    balance: BigDecimal,
}

impl TryFrom<BalanceRow> for Balance {
    type Error = StoreError;

    fn try_from(row: BalanceRow) -> Result<Self, StoreError> {
        let kind: AccountKind = row.kind.parse().map_err(StoreError::corrupt)?;
        Ok(Self {
            account: LedgerAccount {
                kind,
                owner: row.owner.as_deref().map(address).transpose()?,
                escrow_id: row.escrow_id.as_deref().map(hash).transpose()?,
                token: address(&row.token)?,
            },
            balance: row.balance,
        })
    }
}

/// The balances of everything that belongs to an address, in every token; zero balances included.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn balances(
    connection: &mut Connection,
    owner: Address,
) -> Result<Vec<Balance>, StoreError> {
    sqlx::query_as!(
        BalanceRow,
        r#"SELECT kind AS "kind!", owner, escrow_id, token AS "token!", balance AS "balance!"
           FROM ledger_account_balances WHERE owner = $1 ORDER BY kind, token"#,
        owner.as_slice()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Balance::try_from)
    .collect()
}

/// One account's balance, zero if it was never touched.
///
/// # Errors
/// [`StoreError::Corrupt`] if a claim on the escrow is negative.
pub async fn balance_of(
    connection: &mut Connection,
    account: &LedgerAccount,
) -> Result<Amount, StoreError> {
    let sum = sqlx::query_scalar!(
        r#"SELECT balance AS "balance!" FROM ledger_account_balances
           WHERE kind = $1 AND token = $2 AND owner IS NOT DISTINCT FROM $3
             AND escrow_id IS NOT DISTINCT FROM $4"#,
        account.kind.as_str(),
        account.token.as_slice(),
        account.owner.map(|owner| owner.to_vec()),
        account.escrow_id.map(|id| id.to_vec()),
    )
    .fetch_optional(connection)
    .await?;
    sum.map_or(Ok(Amount::ZERO), |sum| amount(&sum))
}
