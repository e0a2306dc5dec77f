//! Numbers that must be spent though their call is not wanted any more, and numbers that nobody spent.

use alloy_primitives::Address;
use domain::{
    id::TxId,
    time::UnixMillis,
    tx::{TxEvent, TxStatus},
};

use super::{Lease, NewTx, advance, int, is_held, state_of};
use crate::{Connection, StoreError, convert::ts_millis};

/// A number between the chain's next one and the lowest that is under way: until it is spent, nothing moves.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The number.
    pub nonce: u64,
    /// The bytes that once spent it, if they are ours: the block that they were in is gone.
    pub raw: Option<Vec<u8>>,
}

/// Whether another attempt of a transaction may be signed: it is in no block and has not ended, and the lease holds.
/// Both stay so until this database transaction is over.
///
/// # Errors
/// The database's.
pub async fn is_open(
    tx: &mut Connection,
    signer: Address,
    lease: Lease,
    id: TxId,
) -> Result<bool, StoreError> {
    if !is_held(tx, signer, lease).await? {
        return Ok(false);
    }
    let status = state_of(tx, id).await?.status();
    Ok(!status.is_terminal() && status != TxStatus::Mined)
}

/// Gives an open transaction up: its number goes to a no-op, which the caller stores as its next attempt. An attempt that
/// left before may be mined all the same.
///
/// # Errors
/// The database's.
pub async fn give_up(tx: &mut Connection, id: TxId, now: UnixMillis) -> Result<(), StoreError> {
    advance(tx, id, TxEvent::Void, now).await
}

/// The first numbers, at most `limit`, that the chain waits for (`next_nonce` is its own next one) and that no
/// transaction under way has. Not those of a release whose time is over at `now` or in the newest block: they wait until
/// we have read what became of the block that it was in.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn gap_below(
    connection: &mut Connection,
    signer: Address,
    next_nonce: u64,
    limit: i64,
    now: UnixMillis,
) -> Result<Vec<Gap>, StoreError> {
    sqlx::query!(
        r#"WITH lowest AS (
               SELECT min(nonce) AS nonce FROM chain_txs
               WHERE signer = $1 AND state IN ('numbered', 'signed', 'flying', 'void'))
           SELECT n.nonce AS "nonce!", a.raw AS "raw?"
           FROM lowest CROSS JOIN LATERAL 
                generate_series($2::bigint, LEAST(lowest.nonce - 1, $2 + $3)) AS n(nonce)
           LEFT JOIN chain_txs t ON t.signer = $1 AND t.nonce = n.nonce
           LEFT JOIN chain_tx_attempts a ON a.hash = t.mined_attempt
           WHERE NOT EXISTS (
                   SELECT FROM chain_intents i WHERE i.tx_id = t.id AND i.purpose = 'release'
                     AND to_timestamp((i.args ->> 'until')::bigint) <= GREATEST($4,
                         (SELECT timestamp FROM chain_blocks ORDER BY number DESC LIMIT 1)))
           ORDER BY n.nonce LIMIT $3"#,
        signer.as_slice(),
        int(next_nonce)?,
        limit,
        ts_millis(now)?
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Gap { nonce: u64::try_from(row.nonce).map_err(StoreError::corrupt)?, raw: row.raw })
    })
    .collect()
}

/// Makes the row of a number that none of ours has, void from the beginning: the caller stores its no-op. False if
/// the number has a row or the lease is another's.
///
/// # Errors
/// The database's.
pub async fn fill_gap(
    tx: &mut Connection,
    lease: Lease,
    new: &NewTx,
    nonce: u64,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    if !is_held(tx, new.signer, lease).await? {
        return Ok(false);
    }
    let made = sqlx::query!(
        "INSERT INTO chain_txs (id, signer, nonce, to_address, calldata, gas_limit, state,
                                next_send_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, 'void', $7, $7, $7)
         ON CONFLICT (signer, nonce) DO NOTHING",
        new.id.uuid(),
        new.signer.as_slice(),
        int(nonce)?,
        new.to.as_slice(),
        new.calldata,
        int(new.gas_limit)?,
        ts_millis(now)?,
    )
    .execute(tx)
    .await?;
    Ok(made.rows_affected() == 1)
}
