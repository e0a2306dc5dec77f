//! What somebody took out of the contract.

use alloy_primitives::{Address, B256};
use domain::{ledger::AccountKind, money::Amount, time::UnixSeconds};

use crate::{
    Connection, StoreError,
    convert::{address, amount, hash, seconds},
};

/// A part of a withdrawal: what it took from one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    /// Its number; later ones are larger.
    pub seq: i64,
    /// When the block of the withdrawal was made.
    pub at: UnixSeconds,
    /// From which account.
    pub account: AccountKind,
    /// In which token.
    pub token: Address,
    /// How much.
    pub amount: Amount,
    /// The event that said so, as long as its block is kept.
    pub event: Option<PayoutEvent>,
}

/// Where on the chain a withdrawal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayoutEvent {
    /// Where it went.
    pub to: Option<Address>,
    /// The transaction.
    pub tx_hash: B256,
    /// The block's height.
    pub block: u64,
    /// The event's position in the block.
    pub log_index: u32,
}

/// What an address took out, newest first: up to `limit` before the one with number `before`. By final events only.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn payouts(
    connection: &mut Connection,
    owner: Address,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Payout>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT t.seq, p.at, a.kind, a.token, t.amount, e.tx_hash AS "tx_hash?", e.block_number AS "block?",
                  e.log_index AS "log_index?", e.body ->> 'to' AS "to?"
           FROM ledger_accounts a
           JOIN ledger_transfers t ON t.debit_id = a.id
           JOIN ledger_postings p ON p.id = t.posting_id AND p.kind = 'withdraw'
           LEFT JOIN LATERAL (
               SELECT tx_hash, block_number, log_index, body FROM chain_events
               WHERE block_hash = CASE WHEN p.source ~ '^0x[0-9a-f]{64}:[0-9]{1,9}$'
                                       THEN decode(substr(p.source, 3, 64), 'hex') END
                 AND log_index = CASE WHEN p.source ~ '^0x[0-9a-f]{64}:[0-9]{1,9}$'
                                      THEN substr(p.source, 68)::integer END
           ) e ON true
           WHERE a.owner = $1 AND ($2::bigint IS NULL OR t.seq < $2)
           ORDER BY t.seq DESC LIMIT $3"#,
        owner.as_slice(),
        before,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let event = match (row.tx_hash, row.block, row.log_index) {
                (Some(tx), Some(block), Some(index)) => Some(PayoutEvent {
                    to: row
                        .to
                        .as_deref()
                        .map(str::parse)
                        .transpose()
                        .map_err(StoreError::corrupt)?,
                    tx_hash: hash(&tx)?,
                    block: u64::try_from(block).map_err(StoreError::corrupt)?,
                    log_index: u32::try_from(index).map_err(StoreError::corrupt)?,
                }),
                _ => None,
            };
            Ok(Payout {
                seq: row.seq,
                at: seconds(row.at)?,
                account: row.kind.parse().map_err(StoreError::corrupt)?,
                token: address(&row.token)?,
                amount: amount(&row.amount)?,
                event,
            })
        })
        .collect()
}
