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

use crate::{
    Connection, StoreError,
    convert::{address, amount, hash, numeric, ts},
};

mod deposits;
mod gas;
mod payouts;
mod statement;
mod totals;
pub use deposits::{OpenDeposit, deposits_of, figures_of_rentals, open_deposits, overdrawn_tokens};
pub use gas::post_gas;
pub use payouts::{Payout, PayoutEvent, payouts};
pub use statement::{Entry, Holder, Part, Place, Statement, statement};
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

/// Posts all of these facts that were not posted before, in one statement whatever their number. Returns how
/// many were new.
///
/// # Errors
/// The database's; then none is posted.
pub async fn post(tx: &mut Connection, postings: &[Sourced]) -> Result<u64, StoreError> {
    let mut named = BTreeSet::new();
    let postings: Vec<&Sourced> =
        postings.iter().filter(|item| named.insert(item.source.as_str())).collect();
    if postings.is_empty() {
        return Ok(0);
    }
    let accounts = Accounts::of(&postings);
    let moves = Moves::of(&postings, &accounts)?;
    let kinds: Vec<String> =
        postings.iter().map(|item| item.posting.kind.as_str().to_owned()).collect();
    let sources: Vec<String> = postings.iter().map(|item| item.source.clone()).collect();
    let times = postings.iter().map(|item| ts(item.at)).collect::<Result<Vec<_>, StoreError>>()?;
    // An account that somebody else opens at this moment is waited for, and `ledger_refers` sees it.
    let fresh = sqlx::query_scalar!(
        r#"WITH named AS MATERIALIZED (
               SELECT w.at, w.kind, NULLIF(w.owner, ''::bytea) AS owner,
                      NULLIF(w.escrow_id, ''::bytea) AS escrow_id, w.token,
                      ledger_account_id(w.kind, NULLIF(w.owner, ''::bytea),
                                        NULLIF(w.escrow_id, ''::bytea), w.token) AS id
               FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[])
                    WITH ORDINALITY AS w(kind, owner, escrow_id, token, at)),
           opened AS (
               INSERT INTO ledger_accounts (kind, owner, escrow_id, token)
               SELECT n.kind, n.owner, n.escrow_id, n.token FROM named n
               WHERE NOT EXISTS (SELECT FROM ledger_accounts a WHERE a.id = n.id) ORDER BY n.at
               ON CONFLICT DO NOTHING),
           fresh AS (
               INSERT INTO ledger_postings (kind, source, at)
               SELECT * FROM unnest($5::text[], $6::text[], $7::timestamptz[])
               ON CONFLICT DO NOTHING RETURNING id, source),
           moved AS (
               INSERT INTO ledger_transfers (posting_id, debit_id, credit_id, ordinal, amount)
               SELECT f.id, d.id, c.id, m.ordinal, m.amount
               FROM unnest($8::text[], $9::smallint[], $10::bigint[], $11::bigint[], $12::numeric[])
                    AS m(source, ordinal, debit, credit, amount)
               JOIN fresh f ON f.source = m.source
               JOIN named d ON d.at = m.debit JOIN named c ON c.at = m.credit)
           SELECT count(*) AS "fresh!" FROM fresh"#,
        &accounts.kinds,
        &accounts.owners,
        &accounts.escrow_ids,
        &accounts.tokens,
        &kinds,
        &sources,
        &times,
        &moves.sources,
        &moves.ordinals,
        &moves.debits,
        &moves.credits,
        &moves.amounts,
    )
    .fetch_one(tx)
    .await?;
    u64::try_from(fresh).map_err(StoreError::corrupt)
}

/// Every account that some postings touch, in order, by columns. Arrays of a column type cannot hold nulls
/// here: empty stands for none.
struct Accounts<'a> {
    known: Vec<&'a LedgerAccount>,
    kinds: Vec<String>,
    owners: Vec<Vec<u8>>,
    escrow_ids: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
}

impl<'a> Accounts<'a> {
    fn of(postings: &[&'a Sourced]) -> Self {
        let touched: BTreeSet<&LedgerAccount> = postings
            .iter()
            .flat_map(|item| &item.posting.transfers)
            .flat_map(|transfer| [&transfer.debit, &transfer.credit])
            .collect();
        let known: Vec<&LedgerAccount> = touched.into_iter().collect();
        Self {
            kinds: known.iter().map(|a| a.kind.as_str().to_owned()).collect(),
            owners: known.iter().map(|a| a.owner.map_or_else(Vec::new, |o| o.to_vec())).collect(),
            escrow_ids: known
                .iter()
                .map(|a| a.escrow_id.map_or_else(Vec::new, |id| id.to_vec()))
                .collect(),
            tokens: known.iter().map(|a| a.token.to_vec()).collect(),
            known,
        }
    }

    /// Its place in the columns, from 1.
    fn place(&self, account: &LedgerAccount) -> Result<i64, StoreError> {
        let at = self.known.binary_search(&account).ok();
        let at = at.and_then(|at| at.checked_add(1)).ok_or(StoreError::Missing("the account"))?;
        i64::try_from(at).map_err(StoreError::corrupt)
    }
}

/// All transfers, by columns.
#[derive(Default)]
struct Moves {
    sources: Vec<String>,
    ordinals: Vec<i16>,
    debits: Vec<i64>,
    credits: Vec<i64>,
    amounts: Vec<BigDecimal>,
}

impl Moves {
    fn of(postings: &[&Sourced], accounts: &Accounts<'_>) -> Result<Self, StoreError> {
        let mut moves = Self::default();
        for item in postings {
            for (ordinal, transfer) in item.posting.transfers.iter().enumerate() {
                moves.sources.push(item.source.clone());
                moves.ordinals.push(i16::try_from(ordinal).map_err(StoreError::corrupt)?);
                moves.debits.push(accounts.place(&transfer.debit)?);
                moves.credits.push(accounts.place(&transfer.credit)?);
                moves.amounts.push(numeric(transfer.amount));
            }
        }
        Ok(moves)
    }
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
           WHERE id = ledger_account_id($1, $2, $3, $4)"#,
        account.kind.as_str(),
        account.owner.as_ref().map(|owner| owner.as_slice()),
        account.escrow_id.as_ref().map(|id| id.as_slice()),
        account.token.as_slice(),
    )
    .fetch_optional(connection)
    .await?;
    sum.map_or(Ok(Amount::ZERO), |sum| amount(&sum))
}
