//! A receipt against the chain: the contract is asked, and nobody else.

use std::collections::BTreeMap;

use alloy::{eips::BlockNumberOrTag, sol_types::SolCall as _};
use chain::{ChainError, ReadClient};
use domain::time::UnixSeconds;
use escrow::{
    EscrowEvent, Terms,
    bindings::Escrow::{hashTermsCall, rentalCall},
    decode_event,
    quote::Quote,
    receipt::{ChainEvent, Fault, Receipt},
};

use crate::failure::Failure;

/// `Status` of the contract: nothing is held under the id.
const NONE: u8 = 0;
const CLOSED: u8 = 4;

/// What the chain says otherwise.
///
/// # Errors
/// If it does not answer.
pub(super) async fn chain(receipt: &Receipt, client: &ReadClient) -> Result<Vec<Fault>, Failure> {
    let silent = Failure::silent::<ChainError>;
    let id = client.chain_id().await.map_err(silent("the chain"))?;
    if id != receipt.chain_id {
        return Ok(vec![Fault::new("/chain_id", format!("the chain asked is {id}"))]);
    }
    let mut faults = Vec::new();
    contract(receipt, client, &mut faults).await?;
    let last = client.finalized().await.map_err(silent("the chain"))?;
    let last = last.map_or(0, |header| header.number);
    let mut blocks: BTreeMap<u64, Vec<(usize, &ChainEvent)>> = BTreeMap::new();
    for (index, event) in receipt.events.iter().enumerate() {
        blocks.entry(event.block).or_default().push((index, event));
    }
    for (number, told) in blocks {
        if number > last {
            let pointer = format!("/events/{}/block", told.first().map_or(0, |(index, _)| *index));
            faults.push(Fault::new(pointer, format!("blocks are final up to {last} only")));
            continue;
        }
        let seen = events_in(receipt, client, number).await?;
        compare(&told, &seen, &mut faults);
    }
    Ok(faults)
}

/// Whether the contract is there, hashes the terms to the id, and holds nothing of the rental.
async fn contract(
    receipt: &Receipt,
    client: &ReadClient,
    faults: &mut Vec<Fault>,
) -> Result<(), Failure> {
    let escrow = receipt.escrow;
    let code = client.code_hash(escrow).await.map_err(Failure::silent("the contract"))?;
    if code.is_none() {
        faults.push(Fault::new("/escrow", "there is no contract at this address"));
        return Ok(());
    }
    let terms = Terms::from(&Quote::from(&receipt.quote.message).terms);
    match client.call(escrow, hashTermsCall { t: terms }.abi_encode()).await {
        Ok(hash) if hash.as_ref() == receipt.id().as_slice() => {}
        Ok(_) | Err(ChainError::Reverts { .. }) => {
            let problem = "the contract does not give these terms this id";
            faults.push(Fault::new("/quote/message/rental", problem));
        }
        Err(error) => return Err(Failure::silent("the contract")(error)),
    }
    let asked = client.call(escrow, rentalCall { id: receipt.id() }.abi_encode()).await;
    let answer = match asked {
        Ok(answer) => rentalCall::abi_decode_returns(&answer).ok(),
        Err(ChainError::Reverts { .. }) => None,
        Err(error) => return Err(Failure::silent("the contract")(error)),
    };
    if !answer.is_some_and(|rental| [NONE, CLOSED].contains(&rental.status)) {
        faults.push(Fault::new("/events", "the contract still holds something of this rental"));
    }
    Ok(())
}

/// What the contract said of the rental in a block.
async fn events_in(
    receipt: &Receipt,
    client: &ReadClient,
    number: u64,
) -> Result<Vec<ChainEvent>, Failure> {
    let silent = || format!("block {number}");
    let header = client.header(BlockNumberOrTag::Number(number)).await;
    let Some(header) = header.map_err(Failure::silent(&silent()))? else {
        return Err(Failure::new(format!("the chain asked has no block {number}")));
    };
    let logs = client.logs(&header, receipt.escrow).await.map_err(Failure::silent(&silent()))?;
    let mut seen = Vec::new();
    for log in logs {
        let Ok(said) = decode_event(&log.inner.data) else { continue };
        if said.rental() != Some(receipt.id()) {
            continue;
        }
        seen.push(ChainEvent {
            tx: log.transaction_hash.unwrap_or_default(),
            block: number,
            at: UnixSeconds(header.timestamp.get()),
            log: log.log_index.and_then(|index| u32::try_from(index).ok()).unwrap_or(u32::MAX),
            said,
        });
    }
    Ok(seen)
}

fn compare(told: &[(usize, &ChainEvent)], seen: &[ChainEvent], faults: &mut Vec<Fault>) {
    for (index, event) in told {
        let Some(real) = seen.iter().find(|real| real.log == event.log) else {
            let problem = "the contract said nothing of this rental at this place of that block";
            faults.push(Fault::new(format!("/events/{index}/log"), problem));
            continue;
        };
        let parts = [
            ("tx", real.tx != event.tx, real.tx.to_string()),
            ("at", real.at != event.at, real.at.to_string()),
            ("said", real.said != event.said, format!("{:?}", real.said)),
        ];
        for (part, differs, truth) in parts {
            if differs {
                let problem = format!("the chain says {truth}");
                faults.push(Fault::new(format!("/events/{index}/{part}"), problem));
            }
        }
    }
    let first = told.first().map_or(0, |(index, _)| *index);
    for real in seen {
        // what anybody can have it say is no part of the story, and a receipt may leave it out
        if matches!(real.said, EscrowEvent::Skipped { .. }) {
            continue;
        }
        if !told.iter().any(|(_, event)| event.log == real.log) {
            let problem = format!(
                "log {} of block {} ({}) is left out",
                real.log,
                real.block,
                real.said.name()
            );
            faults.push(Fault::new(format!("/events/{first}"), problem));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};
    use domain::money::Amount;

    use super::*;

    fn event(log: u32, said: EscrowEvent) -> ChainEvent {
        ChainEvent { tx: B256::repeat_byte(1), block: 7, at: UnixSeconds(9), log, said }
    }

    #[test]
    fn only_what_belongs_to_the_story_may_not_be_left_out() {
        let id = B256::repeat_byte(2);
        let started = EscrowEvent::Started { id, started_at: UnixSeconds(8) };
        let skipped = EscrowEvent::Skipped { id, reason: "NotDue".to_owned() };
        let amount = Amount::new(1).unwrap();
        let topped =
            EscrowEvent::ToppedUp { id, from: Address::repeat_byte(3), amount, deposit: amount };
        let told = event(0, started);
        let faults = |seen: &[ChainEvent]| {
            let mut faults = Vec::new();
            compare(&[(1, &told)], seen, &mut faults);
            faults
        };
        assert_eq!(faults(&[told.clone(), event(1, skipped)]), []);
        let left_out = faults(&[told.clone(), event(1, topped)]);
        assert_eq!(left_out.len(), 1);
        assert!(left_out[0].problem.contains("left out"), "{left_out:?}");
        assert_eq!(faults(&[]).len(), 1);
    }
}
