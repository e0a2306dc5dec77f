//! What the chain says of one escrow, whoever made it.

use alloy_primitives::B256;
use domain::money::Amount;

use super::{EventRow, SeenEvent};
use crate::{Connection, StoreError, convert::amount};

/// What an escrow has paid, by all of its events up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// To the provider's balance.
    pub provider: Amount,
    /// To the treasury's.
    pub fee: Amount,
    /// Back to the renter.
    pub refund: Amount,
}

/// The newest event of an escrow under one of these names, final or not, however much else was said; never a skipped call.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn newest_named(
    connection: &mut Connection,
    escrow_id: B256,
    names: &[&str],
) -> Result<Option<SeenEvent>, StoreError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    sqlx::query_as!(
        EventRow,
        r#"SELECT e.block_hash, e.block_number, b.timestamp, e.log_index, e.tx_hash, e.name,
                  e.escrow_id, b.final AS "is_final!", e.body
           FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
           WHERE e.escrow_id = $1 AND e.name <> 'skipped' AND e.name = ANY($2)
           ORDER BY e.block_number DESC, e.log_index DESC LIMIT 1"#,
        escrow_id.as_slice(),
        &names,
    )
    .fetch_optional(connection)
    .await?
    .map(SeenEvent::try_from)
    .transpose()
}

/// What an escrow has paid: each event tells what its own call paid.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn paid(connection: &mut Connection, escrow_id: B256) -> Result<Paid, StoreError> {
    let sums = sqlx::query!(
        r#"SELECT COALESCE(sum((body ->> 'net')::numeric), 0) AS "net!",
                  COALESCE(sum((body ->> 'fee')::numeric), 0) AS "fee!",
                  COALESCE(sum((body ->> 'refund')::numeric), 0) AS "refund!"
           FROM chain_events
           WHERE escrow_id = $1 AND name <> 'skipped' AND name IN ('released', 'contested', 'closed')"#,
        escrow_id.as_slice(),
    )
    .fetch_one(connection)
    .await?;
    Ok(Paid {
        provider: amount(&sums.net)?,
        fee: amount(&sums.fee)?,
        refund: amount(&sums.refund)?,
    })
}
