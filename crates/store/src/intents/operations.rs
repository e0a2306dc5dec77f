//! The calls for the rentals of a party, as that party follows them.

use alloy_primitives::B256;
use domain::{id::RentalId, time::UnixSeconds};
use uuid::Uuid;

use crate::{
    Connection, StoreError,
    convert::{hash, seconds},
    rentals::Party,
};

/// A call that a rental wanted, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The intent's id.
    pub id: Uuid,
    /// Whose.
    pub rental: RentalId,
    /// The rental's id on the chain.
    pub escrow_id: B256,
    /// start, close, cancel, finalize, release or lock.
    pub purpose: String,
    /// The intent's: queued, sent, done or refused.
    pub intent: String,
    /// That of the transaction that carries it, if one does.
    pub tx: Option<String>,
    /// Its hash: of the attempt that was mined, else of the newest.
    pub tx_hash: Option<B256>,
    /// The block it was mined in.
    pub block: Option<u64>,
    /// When the rental wanted it.
    pub created_at: UnixSeconds,
}

/// Up to `limit` calls for a party's rentals before the one given: those of the newest rental first, of each the newest
/// first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn operations(
    connection: &mut Connection,
    party: Party,
    before: Option<(RentalId, Uuid)>,
    limit: i64,
) -> Result<Vec<Operation>, StoreError> {
    let (renter, provider) = match party {
        Party::Renter(account) => (Some(account.uuid()), None),
        Party::Provider(account) => (None, Some(account.uuid())),
    };
    sqlx::query!(
        r#"SELECT i.id, i.rental_id, r.escrow_id, i.purpose, i.state, i.created_at,
                  t.state AS "tx?", t.block_number AS "block?",
                  COALESCE(t.mined_attempt, (SELECT a.hash FROM chain_tx_attempts a
                                             WHERE a.tx_id = t.id ORDER BY a.attempt DESC LIMIT 1)) AS hash
           FROM rentals r JOIN chain_intents i ON i.rental_id = r.id LEFT JOIN chain_txs t ON t.id = i.tx_id
           WHERE (r.renter_id = $1 OR r.provider_id = $2)
             AND ($3::uuid IS NULL OR (r.id <= $3 AND (r.id, i.id) < ($3, $4)))
           ORDER BY r.id DESC, i.id DESC LIMIT $5"#,
        renter,
        provider,
        before.map(|(rental, _)| rental.uuid()),
        before.map(|(_, id)| id),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Operation {
            id: row.id,
            rental: RentalId::from_uuid(row.rental_id),
            escrow_id: hash(&row.escrow_id)?,
            purpose: row.purpose,
            intent: row.state,
            tx: row.tx,
            tx_hash: row.hash.as_deref().map(hash).transpose()?,
            block: row.block.map(u64::try_from).transpose().map_err(StoreError::corrupt)?,
            created_at: seconds(row.created_at)?,
        })
    })
    .collect()
}
