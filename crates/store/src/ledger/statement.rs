//! Statements: what moved on somebody's accounts in one token, with the balance before, after and at each step.

use alloy_primitives::{Address, B256, I256};
use domain::{
    id::{AccountId, RentalId},
    ledger::{AccountKind, PostingKind},
    time::UnixSeconds,
};

use crate::{
    Connection, StoreError,
    convert::{hash, seconds, signed, ts},
};

/// Whose accounts a statement is of.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    /// The wallet: what it earned, what waits for it, what it spent on gas.
    pub owner: Address,
    /// Our account of that wallet: the deposits of its rentals.
    pub account: Option<AccountId>,
}

/// Which part of it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The token.
    pub token: Address,
    /// From this second on.
    pub from: UnixSeconds,
    /// Up to this second, without it.
    pub to: UnixSeconds,
    /// Entries after this one.
    pub after: Option<Place>,
    /// So many entries at most.
    pub limit: i64,
}

/// An entry's place: statements are in the order of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the fact happened.
    pub at: UnixSeconds,
    /// The transfer's number.
    pub seq: i64,
    /// 0 for what is given, 1 for what is got: a transfer between two accounts of one holder is both.
    pub side: i32,
}

/// One movement on one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub place: Place,
    /// What happened.
    pub kind: PostingKind,
    /// Whose claim the account is.
    pub account: AccountKind,
    /// The other side's.
    pub counter: AccountKind,
    /// The rental whose money it is, if it is one of ours.
    pub rental: Option<RentalId>,
    /// Its id on the chain.
    pub escrow_id: Option<B256>,
    /// Base units: above zero what came, below what went.
    pub amount: I256,
    /// What all the holder's accounts in this token come to after it.
    pub balance: I256,
    /// The fact's own name.
    pub source: String,
    /// The transaction that it happened in.
    pub tx: Option<B256>,
}

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The balance before the first second.
    pub opening: I256,
    /// What moved, oldest first: at most the limit.
    pub entries: Vec<Entry>,
    /// The balance at the end of the last second, whatever the limit.
    pub closing: I256,
}

/// The statement of a holder, all figures of one moment. `opening` and all entries make `closing`.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn statement(
    connection: &mut Connection,
    holder: &Holder,
    part: &Part,
) -> Result<Statement, StoreError> {
    let rows = sqlx::query!(
        r#"WITH own AS MATERIALIZED (
               SELECT id, kind, escrow_id FROM ledger_accounts WHERE owner = $1 AND token = $2
               UNION ALL
               SELECT a.id, a.kind, a.escrow_id FROM rentals r
               JOIN ledger_accounts a ON a.id = ledger_account_id('renter_deposit', NULL, r.escrow_id, $2)
               WHERE r.renter_id = $3),
           moved AS MATERIALIZED (
               SELECT p.at, t.seq, 0 AS side, p.kind, p.source, o.kind AS account, o.escrow_id,
                      t.credit_id AS other, -t.amount AS amount
               FROM own o JOIN ledger_transfers t ON t.debit_id = o.id
               JOIN ledger_postings p ON p.id = t.posting_id WHERE p.at < $5
               UNION ALL
               SELECT p.at, t.seq, 1, p.kind, p.source, o.kind, o.escrow_id, t.debit_id, t.amount
               FROM own o JOIN ledger_transfers t ON t.credit_id = o.id
               JOIN ledger_postings p ON p.id = t.posting_id WHERE p.at < $5),
           bounds AS (
               SELECT COALESCE(sum(amount) FILTER (WHERE at < $4), 0) AS opening,
                      COALESCE(sum(amount), 0) AS closing FROM moved),
           page AS (
               SELECT * FROM (SELECT *, sum(amount) OVER (ORDER BY at, seq, side) AS balance
                              FROM moved) AS summed
               WHERE at >= $4 AND ($6::timestamptz IS NULL OR (at, seq, side) > ($6, $7, $8))
               ORDER BY at, seq, side LIMIT $9)
           SELECT b.opening AS "opening!", b.closing AS "closing!", m.at AS "at?", m.seq AS "seq?",
                  m.side AS "side?", m.kind AS "kind?", m.source AS "source?", m.account AS "account?",
                  c.kind AS "counter?", r.id AS "rental?", COALESCE(m.escrow_id, c.escrow_id) AS escrow_id,
                  m.amount, m.balance, e.tx_hash AS "tx_hash?"
           FROM bounds b LEFT JOIN page m ON true
           LEFT JOIN ledger_accounts c ON c.id = m.other
           LEFT JOIN rentals r ON r.escrow_id = COALESCE(m.escrow_id, c.escrow_id)
           LEFT JOIN LATERAL (
               SELECT tx_hash FROM chain_events
               WHERE block_hash = CASE WHEN m.source ~ '^0x[0-9a-f]{64}:[0-9]{1,9}$'
                                       THEN decode(substr(m.source, 3, 64), 'hex') END
                 AND log_index = CASE WHEN m.source ~ '^0x[0-9a-f]{64}:[0-9]{1,9}$'
                                      THEN substr(m.source, 68)::integer END
           ) e ON true
           ORDER BY m.at, m.seq, m.side"#,
        holder.owner.as_slice(),
        part.token.as_slice(),
        holder.account.map(AccountId::uuid),
        ts(part.from)?,
        ts(part.to)?,
        part.after.map(|place| ts(place.at)).transpose()?,
        part.after.map(|place| place.seq),
        part.after.map(|place| place.side),
        part.limit,
    )
    .fetch_all(connection)
    .await?;
    let first = rows.first().ok_or(StoreError::Missing("the bounds of a statement"))?;
    let (opening, closing) = (signed(&first.opening)?, signed(&first.closing)?);
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let (Some(at), Some(seq), Some(side), Some(source)) =
            (row.at, row.seq, row.side, row.source)
        else {
            continue;
        };
        let named = |name: Option<String>| name.ok_or(StoreError::Missing("an entry's name"));
        let sum = |sum: Option<sqlx::types::BigDecimal>| {
            signed(&sum.ok_or(StoreError::Missing("an entry's amount"))?)
        };
        // gas is named by the transaction itself
        let tx = match source.strip_prefix("gas:") {
            Some(text) => Some(text.parse().map_err(StoreError::corrupt)?),
            None => row.tx_hash.as_deref().map(hash).transpose()?,
        };
        entries.push(Entry {
            place: Place { at: seconds(at)?, seq, side },
            kind: named(row.kind)?.parse().map_err(StoreError::corrupt)?,
            account: named(row.account)?.parse().map_err(StoreError::corrupt)?,
            counter: named(row.counter)?.parse().map_err(StoreError::corrupt)?,
            rental: row.rental.map(RentalId::from_uuid),
            escrow_id: row.escrow_id.as_deref().map(hash).transpose()?,
            amount: sum(row.amount)?,
            balance: sum(row.balance)?,
            source,
            tx,
        });
    }
    Ok(Statement { opening, entries, closing })
}
