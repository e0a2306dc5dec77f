//! The ledger as a whole: sums per token, the folding of old transfers, and the check of what was folded.

use alloy_primitives::{Address, I256};
use sqlx::types::BigDecimal;

use crate::{
    Connection, StoreError,
    convert::{address, signed},
};

/// What the ledger says of one token as a whole.
#[derive(Clone, Debug)]
pub struct TokenTotals {
    /// The token.
    pub token: Address,
    /// All claims on the escrow together; what was spent on gas is none.
    pub claims: I256,
    /// Deposits of rentals that are not divided yet.
    pub deposits: I256,
    /// Claims that are below zero: none, unless something is broken.
    pub overdrawn: i64,
}

/// The totals of every token that was ever posted. Adds up only what is not folded.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn totals(connection: &mut Connection) -> Result<Vec<TokenTotals>, StoreError> {
    sqlx::query!(
        r#"WITH moved AS (
               SELECT t.debit_id AS id, -t.amount AS amount
               FROM ledger_transfers t, ledger_folded f WHERE t.seq > f.through
               UNION ALL
               SELECT t.credit_id, t.amount FROM ledger_transfers t, ledger_folded f
               WHERE t.seq > f.through),
           tail AS (
               SELECT a.id, a.token, a.kind, sum(m.amount) AS amount
               FROM moved m JOIN ledger_accounts a ON a.id = m.id GROUP BY a.id),
           below AS (
               SELECT t.token FROM tail t LEFT JOIN ledger_balances b ON b.account_id = t.id
               WHERE t.kind <> 'outside' AND COALESCE(b.balance, 0) + t.amount < 0
               UNION ALL
               SELECT a.token FROM ledger_balances b JOIN ledger_accounts a ON a.id = b.account_id
               WHERE b.balance < 0 AND a.kind <> 'outside'
                 AND NOT EXISTS (SELECT FROM tail t WHERE t.id = b.account_id)),
           parts AS (
               SELECT token, kind, total AS amount, 0 AS overdrawn FROM ledger_totals
               UNION ALL SELECT token, kind, amount, 0 FROM tail
               UNION ALL SELECT token, 'none', 0, 1 FROM below)
           SELECT token AS "token!",
                  COALESCE(sum(amount) FILTER (WHERE kind NOT IN ('outside', 'gas_spent')), 0) AS "claims!",
                  COALESCE(sum(amount) FILTER (WHERE kind = 'renter_deposit'), 0) AS "deposits!",
                  sum(overdrawn) AS "overdrawn!"
           FROM parts GROUP BY token ORDER BY token"#
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(TokenTotals {
            token: address(&row.token)?,
            claims: signed(&row.claims)?,
            deposits: signed(&row.deposits)?,
            overdrawn: row.overdrawn,
        })
    })
    .collect()
}

/// Folds transfers into the kept balances, oldest first: nothing if fewer than `least` wait, and not many
/// more than `most` of them. Returns how far it is folded.
///
/// # Errors
/// The database's; [`StoreError::Unavailable`] if postings under way do not end in time.
pub async fn fold(tx: &mut Connection, least: i64, most: i64) -> Result<i64, StoreError> {
    let waiting = sqlx::query!(
        r#"SELECT f.through, COALESCE((SELECT max(seq) FROM ledger_transfers), 0) AS "newest!"
           FROM ledger_folded f FOR UPDATE OF f"#
    )
    .fetch_one(&mut *tx)
    .await?;
    let from = waiting.through;
    if waiting.newest.saturating_sub(from) < least {
        return Ok(from);
    }
    // Numbers are given before commits are made: without writers under way, none below can appear.
    sqlx::query!("LOCK TABLE ledger_transfers IN SHARE MODE").execute(&mut *tx).await?;
    let through = waiting.newest.min(from.saturating_add(most));
    sqlx::query!(
        "WITH moved AS (
             SELECT debit_id AS id, -amount AS amount FROM ledger_transfers WHERE seq > $1 AND seq <= $2
             UNION ALL
             SELECT credit_id, amount FROM ledger_transfers WHERE seq > $1 AND seq <= $2),
         sums AS (SELECT id, sum(amount) AS amount FROM moved GROUP BY id),
         kept AS (
             INSERT INTO ledger_totals (token, kind, total)
             SELECT a.token, a.kind, sum(s.amount) FROM sums s JOIN ledger_accounts a ON a.id = s.id
             GROUP BY a.token, a.kind
             ON CONFLICT (token, kind) DO UPDATE SET total = ledger_totals.total + EXCLUDED.total)
         INSERT INTO ledger_balances (account_id, balance) SELECT id, amount FROM sums
         ON CONFLICT (account_id) DO UPDATE
         SET balance = ledger_balances.balance + EXCLUDED.balance",
        from,
        through
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("UPDATE ledger_folded SET through = $1", through).execute(tx).await?;
    Ok(through)
}

/// How far the check of folded balances is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The number of the last account that was looked at; 0 after the last of all.
    pub last: i64,
    /// How many of them are not the sum of their transfers.
    pub wrong: i64,
}

/// Compares the kept balances of the next `limit` accounts after `after` with the sums of their transfers.
///
/// # Errors
/// The database's.
pub async fn audit(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> Result<Audited, StoreError> {
    Ok(sqlx::query_as!(
        Audited,
        r#"WITH page AS (SELECT id, number FROM ledger_accounts WHERE number > $1
                         ORDER BY number LIMIT $2),
           compared AS (
               SELECT p.number, COALESCE(b.balance, 0) AS kept,
                      COALESCE((SELECT sum(amount) FROM ledger_transfers t
                                WHERE t.credit_id = p.id AND t.seq <= f.through), 0)
                    - COALESCE((SELECT sum(amount) FROM ledger_transfers t
                                WHERE t.debit_id = p.id AND t.seq <= f.through), 0) AS summed
               FROM page p CROSS JOIN ledger_folded f
               LEFT JOIN ledger_balances b ON b.account_id = p.id)
           SELECT COALESCE(max(number), 0) AS "last!",
                  count(*) FILTER (WHERE kept <> summed) AS "wrong!" FROM compared"#,
        after,
        limit
    )
    .fetch_one(connection)
    .await?)
}

/// The tokens of the accounts that [`audit`] found wrong in the same page.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn misfolded_tokens(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> Result<Vec<Address>, StoreError> {
    sqlx::query_scalar!(
        "WITH page AS (SELECT id, token FROM ledger_accounts WHERE number > $1 ORDER BY number LIMIT $2)
         SELECT DISTINCT p.token
         FROM page p CROSS JOIN ledger_folded f LEFT JOIN ledger_balances b ON b.account_id = p.id
         WHERE COALESCE(b.balance, 0) <> COALESCE((SELECT sum(amount) FROM ledger_transfers t
                                                   WHERE t.credit_id = p.id AND t.seq <= f.through), 0)
                                       - COALESCE((SELECT sum(amount) FROM ledger_transfers t
                                                   WHERE t.debit_id = p.id AND t.seq <= f.through), 0)",
        after,
        limit
    )
    .fetch_all(connection)
    .await?
    .iter()
    .map(|bytes| address(bytes))
    .collect()
}

/// The most that the contract was ever seen to hold above its events, per token; never zero.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn surpluses(connection: &mut Connection) -> Result<Vec<(Address, I256)>, StoreError> {
    sqlx::query!("SELECT token, surplus FROM surpluses")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| Ok((address(&row.token)?, signed(&row.surplus)?)))
        .collect()
}

/// Remembers a surplus, unless it was higher before.
///
/// # Errors
/// The database's.
pub async fn raise_surplus(
    connection: &mut Connection,
    token: Address,
    surplus: I256,
) -> Result<(), StoreError> {
    let surplus: BigDecimal = surplus.to_string().parse().map_err(StoreError::corrupt)?;
    sqlx::query!(
        "INSERT INTO surpluses (token, surplus) VALUES ($1, $2)
         ON CONFLICT (token) DO UPDATE SET surplus = GREATEST(surpluses.surplus, EXCLUDED.surplus)",
        token.as_slice(),
        surplus
    )
    .execute(connection)
    .await?;
    Ok(())
}
