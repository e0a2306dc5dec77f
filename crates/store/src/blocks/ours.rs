//! Our own transactions, as the watcher looks for them in ranges of blocks.

use alloy_primitives::B256;
use domain::id::TxId;

use crate::{Connection, StoreError, convert::hash};

/// The hashes of all attempts of transactions that are not final, oldest first, `limit` at most.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn open_attempts(
    connection: &mut Connection,
    limit: i64,
) -> Result<Vec<(B256, TxId)>, StoreError> {
    sqlx::query!(
        "SELECT a.hash, a.tx_id FROM chain_tx_attempts a JOIN chain_txs t ON t.id = a.tx_id
         WHERE t.state NOT IN ('final_ok', 'final_reverted', 'voided')
         ORDER BY t.nonce, a.attempt LIMIT $1",
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok((hash(&row.hash)?, TxId::from_uuid(row.tx_id))))
    .collect()
}
