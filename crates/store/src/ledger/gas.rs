//! What our own transactions cost.

use alloy_primitives::U256;
use domain::{ledger::gas_posting, time::UnixSeconds};

use super::{Sourced, post};
use crate::{
    Connection, StoreError,
    convert::{address, hash, seconds, signed},
    txs::Finalised,
};

/// Posts what the signers of these final transactions paid for gas, of those that were mined. A transaction
/// that was posted before is not posted again. Returns how many were new.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn post_gas(
    tx: &mut Connection,
    ended: &[Finalised],
    now: UnixSeconds,
) -> Result<u64, StoreError> {
    let ids: Vec<uuid::Uuid> = ended.iter().map(|ended| ended.id.uuid()).collect();
    let rows = sqlx::query!(
        r#"SELECT t.signer, t.mined_attempt AS "attempt!", t.gas_used AS "gas_used!",
                  t.gas_price AS "gas_price!", b.timestamp AS "mined_at?"
           FROM chain_txs t LEFT JOIN chain_blocks b ON b.hash = t.block_hash
           WHERE t.id = ANY($1) AND t.mined_attempt IS NOT NULL AND t.gas_used IS NOT NULL
             AND t.gas_price IS NOT NULL
           ORDER BY t.signer, t.nonce"#,
        &ids
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut postings = Vec::with_capacity(rows.len());
    for row in rows {
        let used = u64::try_from(row.gas_used).map_err(StoreError::corrupt)?;
        let price: U256 = signed(&row.gas_price)?
            .try_into()
            .map_err(|_| StoreError::corrupt("a negative price"))?;
        let price = u128::try_from(price).map_err(StoreError::corrupt)?;
        let posting =
            gas_posting(address(&row.signer)?, used, price).map_err(StoreError::corrupt)?;
        postings.push(Sourced {
            source: format!("gas:{}", hash(&row.attempt)?),
            at: row.mined_at.map(seconds).transpose()?.unwrap_or(now),
            posting,
        });
    }
    post(tx, &postings).await
}
