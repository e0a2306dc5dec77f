//! A block with what we keep of it.

use alloy::{
    primitives::{B256, LogData},
    rpc::types::Log,
};
use chain::{BlockHeader, ReadClient, TxReceipt};
use domain::{id::TxId, tx::BlockRef};
use escrow::EscrowEvent;
use store::{
    Store,
    blocks::{FollowedBlock, NewEvent},
    txs,
};

use super::nonsense;
use crate::{EngineError, Site};

#[derive(Clone)]
pub(super) struct Page {
    pub(super) block: FollowedBlock,
    pub(super) events: Vec<NewEvent>,
    pub(super) decoded: Vec<(B256, EscrowEvent)>,
    pub(super) mined: Vec<(TxId, txs::Mined)>,
}

impl Page {
    /// Everything of one block, asked for by its hash.
    pub(super) async fn read(
        client: &ReadClient,
        site: &Site,
        store: &Store,
        header: &BlockHeader,
    ) -> Result<Self, EngineError> {
        // Receipts are asked for only while transactions of ours are open, or the block may have events.
        let open = {
            let mut connection = store.read().await?;
            txs::any_open(&mut connection).await?
        };
        let (logs, receipts) = if open {
            client.logs_and_receipts(header, site.escrow).await?
        } else {
            (client.logs(header, site.escrow).await?, Vec::new())
        };
        let mut page = Self::of(header, &logs)?;
        page.mined = mined_in(store, header, &receipts).await?;
        Ok(page)
    }

    /// A block with these logs, which must be its own.
    pub(super) fn of(header: &BlockHeader, logs: &[Log]) -> Result<Self, EngineError> {
        let block = FollowedBlock {
            number: header.number,
            hash: header.hash,
            parent_hash: header.parent_hash,
            timestamp: header.timestamp,
            is_final: false,
        };
        let mut page = Self { block, events: Vec::new(), decoded: Vec::new(), mined: Vec::new() };
        for log in logs {
            let (Some(index), Some(tx_hash)) = (log.log_index, log.transaction_hash) else {
                return Err(nonsense("a mined log without index or transaction"));
            };
            if log.block_hash != Some(header.hash) {
                return Err(nonsense("a log of another block than asked for"));
            }
            let data: &LogData = &log.inner.data;
            let event = escrow::decode_event(data).map_err(|error| nonsense(&error.to_string()))?;
            page.events.push(NewEvent {
                log_index: u32::try_from(index).map_err(|_| nonsense("log index"))?,
                tx_hash,
                name: event.name(),
                escrow_id: event.rental(),
                body: serde_json::to_value(&event).map_err(|error| nonsense(&error.to_string()))?,
            });
            page.decoded.push((tx_hash, event));
        }
        Ok(page)
    }
}

/// Our own transactions in the block.
async fn mined_in(
    store: &Store,
    header: &BlockHeader,
    receipts: &[TxReceipt],
) -> Result<Vec<(TxId, txs::Mined)>, EngineError> {
    if receipts.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<B256> = receipts.iter().map(|receipt| receipt.hash).collect();
    let ours = {
        let mut connection = store.read().await?;
        txs::ours(&mut connection, &hashes).await?
    };
    let block = BlockRef { number: header.number, hash: header.hash };
    Ok(ours
        .into_iter()
        .filter_map(|(hash, id)| {
            let receipt = receipts.iter().find(|receipt| receipt.hash == hash)?;
            Some((id, mined(receipt, block)))
        })
        .collect())
}

pub(super) fn mined(receipt: &TxReceipt, block: BlockRef) -> txs::Mined {
    txs::Mined {
        attempt: receipt.hash,
        block,
        succeeded: receipt.succeeded,
        gas_used: receipt.gas_used,
        gas_price: receipt.gas_price,
    }
}
