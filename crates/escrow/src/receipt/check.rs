//! Whether a receipt is true, as far as this can be told offline.

use std::fmt;

use alloy::primitives::{Address, B256};
use domain::{
    billing::auto_stop_second,
    metering::{Interval, meter},
    money::{Amount, FeeBps},
    rate::TokenRate,
    time::UnixSeconds,
};

use super::{
    Item, MAX_OUTAGES, Metered, Receipt, Totals, domain,
    story::{Rules, Story},
};
use crate::{Terms, quote, reading, signed};

/// What is not true in a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: a JSON pointer, empty for the whole.
    pub pointer: String,
    /// What is wrong there.
    pub problem: String,
}

impl Fault {
    /// Something wrong at a place.
    pub fn new(pointer: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), problem: problem.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "the receipt" } else { self.pointer.as_str() };
        write!(f, "{place}: {}", self.problem)
    }
}

/// What was found to be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The rental's id on the chain.
    pub id: B256,
    /// The terms that it is the hash of.
    pub terms: Terms,
    /// Who signed the quote and the receipt for the platform.
    pub platform: Vec<Address>,
    /// How many readings were checked.
    pub readings: u64,
    /// What it came to.
    pub totals: Totals,
}

/// Holds everything in a receipt against everything else: signatures, the chain of readings, the terms, the metered
/// time, and each payment. `apart` are the readings that are not in it. With `platform`, only these keys may have
/// signed for the platform; without, it is one key, whichever it is.
///
/// # Errors
/// All that is wrong.
pub fn verify(
    receipt: &Receipt,
    apart: Option<&[Item]>,
    platform: &[Address],
) -> Result<Proven, Vec<Fault>> {
    let mut faults = Vec::new();
    let promise = quote::Quote::from(&receipt.quote.message);
    let terms = Terms::from(&promise.terms);
    let mut proven = Proven {
        id: promise.rental,
        terms: terms.clone(),
        platform: vec![receipt.quote.signer],
        readings: 0,
        totals: receipt.totals,
    };
    if receipt.seal.signer != receipt.quote.signer {
        proven.platform.push(receipt.seal.signer);
    }
    who(receipt, platform, &mut faults);
    promised(receipt, &promise, &mut faults);
    let items = match (receipt.readings.items.is_empty(), apart) {
        (true, Some(apart)) => apart,
        (_, None) => &receipt.readings.items,
        (false, Some(_)) => {
            let problem = "it holds its readings itself; give none apart";
            faults.push(Fault::new("/readings/items", problem));
            &receipt.readings.items
        }
    };
    match evidence(receipt, promise.rental, items) {
        Ok(()) => proven.readings = receipt.readings.count,
        Err(fault) => faults.push(fault),
    }
    if let Err(fault) = money(receipt, &terms, promise.rental, items) {
        faults.push(fault);
    }
    if faults.is_empty() { Ok(proven) } else { Err(faults) }
}

/// Whether the platform's keys are the ones to be expected, and the seal is by its key.
fn who(receipt: &Receipt, platform: &[Address], faults: &mut Vec<Fault>) {
    let signers = [("/quote/signer", receipt.quote.signer), ("/seal/signer", receipt.seal.signer)];
    for (pointer, signer) in signers {
        if !platform.is_empty() && !platform.contains(&signer) {
            faults.push(Fault::new(pointer, format!("{signer} is not a key of the platform")));
        }
    }
    if platform.is_empty() && receipt.seal.signer != receipt.quote.signer {
        let problem = "another key signed the receipt than the quote; name the platform's keys";
        faults.push(Fault::new("/seal/signer", problem));
    }
    let domain = domain(receipt.chain_id, receipt.escrow);
    let signature = &receipt.seal.signature;
    // recovery takes other spellings of the last byte too
    if !matches!(signature.last(), Some(27 | 28)) {
        faults.push(Fault::new("/seal/signature", "it does not end in 1b or 1c"));
    }
    match signed::recover(&receipt.sealed(), signature, &domain) {
        Ok(by) if by == receipt.seal.signer => {}
        Ok(by) => {
            let problem = format!("it is {by}'s signature over this content");
            faults.push(Fault::new("/seal/signature", problem));
        }
        Err(error) => faults.push(Fault::new("/seal/signature", error.to_string())),
    }
}

fn promised(receipt: &Receipt, promise: &quote::Quote, faults: &mut Vec<Fault>) {
    let (signature, signer) = (&receipt.quote.signature, receipt.quote.signer);
    let told = quote::verify(promise, signature, signer, receipt.chain_id, receipt.escrow);
    if let Err(error) = told {
        let pointer = match error {
            quote::QuoteError::Signature(_) | quote::QuoteError::Signer(_) => "/quote/signature",
            quote::QuoteError::Terms => "/quote/message/rental",
            quote::QuoteError::Sum | quote::QuoteError::Total => "/quote/message/usdMax",
            quote::QuoteError::Price => "/quote/message/terms/pricePerHour",
            quote::QuoteError::Deposit => "/quote/message/deposit",
        };
        faults.push(Fault::new(pointer, error.to_string()));
    }
}

/// The hash of a reading of this rental, which is signed and which the next one names.
#[must_use]
pub fn hash_of(item: &Item, rental: B256, chain_id: u64, escrow: Address) -> B256 {
    let domain = crate::terms::domain(chain_id, escrow);
    reading::hash(&as_signed(item, rental), &domain)
}

fn as_signed(item: &Item, rental: B256) -> reading::Reading {
    reading::Reading {
        rental,
        seq: item.seq,
        from: item.from.get(),
        to: item.to.get(),
        detailHash: reading::detail_hash(&item.detail),
        prevHash: item.prev_hash,
    }
}

/// Whether the readings are a chain of the machine's own.
fn evidence(receipt: &Receipt, rental: B256, items: &[Item]) -> Result<(), Fault> {
    let told = &receipt.readings;
    let domain = crate::terms::domain(receipt.chain_id, receipt.escrow);
    let (mut before, mut covered_to) = (B256::ZERO, UnixSeconds(0));
    for (index, (item, seq)) in items.iter().zip(1_u64..).enumerate() {
        let at = |place: &str, problem: String| {
            Fault::new(format!("/readings/items/{index}{place}"), problem)
        };
        if item.seq != seq {
            return Err(at("/seq", format!("expected {seq}")));
        }
        if item.prev_hash != before {
            return Err(at("/prev_hash", format!("the reading before has the hash {before}")));
        }
        if item.to <= item.from || item.from < covered_to {
            return Err(at("/from", "it is empty, or overlaps the reading before".to_owned()));
        }
        let reading = as_signed(item, rental);
        let by = reading::recover(&reading, &item.signature, &domain)
            .map_err(|error| at("/signature", error.to_string()))?;
        if told.agent != Some(by) {
            return Err(at("/signature", format!("{by} signed, and not the machine's agent")));
        }
        (before, covered_to) = (reading::hash(&reading, &domain), item.to);
    }
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if told.count != count {
        let problem = if items.is_empty() {
            format!("{} readings belong to it; give them apart", told.count)
        } else {
            format!("there are {count}")
        };
        return Err(Fault::new("/readings/count", problem));
    }
    if told.root != before {
        return Err(Fault::new("/readings/root", format!("the last reading's hash is {before}")));
    }
    if told.agent.is_some() == items.is_empty() {
        return Err(Fault::new("/readings/agent", "it is named if and only if there are readings"));
    }
    Ok(())
}

/// Whether the metered time is that of the readings, and each payment that of the time.
fn money(receipt: &Receipt, terms: &Terms, id: B256, items: &[Item]) -> Result<(), Fault> {
    let rate = Amount::new(terms.pricePerHour.to::<u128>())
        .and_then(TokenRate::new)
        .map_err(|error| Fault::new("/quote/message/terms/pricePerHour", error.to_string()))?;
    let fee = FeeBps::new(terms.feeBps)
        .map_err(|error| Fault::new("/quote/message/terms/feeBps", error.to_string()))?;
    let covered = receipt.metered.as_ref().map(|metered| metered.covered);
    let rules = Rules { id, terms: terms.clone(), rate, fee, covered };
    let story = Story::follow(&rules, &receipt.events)?;
    let totals = receipt.totals;
    if let Some(metered) = &receipt.metered {
        if story.operator_end.is_some_and(|end| metered.window.to > end) {
            let problem = "it lies after the block in which the operator ended the rental";
            return Err(Fault::new("/metered/window/to", problem));
        }
        time(metered, items, story.started_at, (totals.deposit, rate))?;
    }
    let sums = [
        ("/totals/deposit", totals.deposit, story.deposit),
        ("/totals/provider", totals.provider, story.provider),
        ("/totals/fee", totals.fee, story.fee),
        ("/totals/refund", totals.refund, story.refund),
    ];
    for (pointer, told, sum) in sums {
        if told != sum {
            return Err(Fault::new(pointer, format!("the events come to {sum}")));
        }
    }
    if totals.billed != story.billed {
        let problem = format!("the contract billed {} s", story.billed);
        return Err(Fault::new("/totals/billed", problem));
    }
    let shares = totals.provider.checked_add(totals.fee);
    if shares.and_then(|sum| sum.checked_add(totals.refund)) != Some(totals.deposit) {
        return Err(Fault::new("/totals", "provider, fee and refund are not the deposit"));
    }
    Ok(())
}

/// Whether the metered time is what the readings come to.
pub(super) fn time(
    metered: &Metered,
    items: &[Item],
    started_at: Option<UnixSeconds>,
    (deposit, rate): (Amount, TokenRate),
) -> Result<(), Fault> {
    if started_at != Some(metered.window.from) {
        return Err(Fault::new("/metered/window/from", "it did not start then"));
    }
    let covered: Vec<Interval> =
        items.iter().map(|item| Interval::new(item.from, item.to)).collect();
    let due = meter(metered.window, &covered, auto_stop_second(deposit, rate));
    if metered.elapsed != due.elapsed {
        return Err(Fault::new(
            "/metered/elapsed",
            format!("{} s were to be metered", due.elapsed),
        ));
    }
    if metered.covered != due.billed {
        return Err(Fault::new("/metered/covered", format!("the readings cover {} s", due.billed)));
    }
    let Some(left_out) = metered.left_out else {
        if metered.outages != due.outages {
            return Err(Fault::new(
                "/metered/outages",
                "these are not the times without a reading",
            ));
        }
        return Ok(());
    };
    let count = u64::try_from(due.outages.len()).unwrap_or(u64::MAX);
    if left_out != count || count <= u64::from(MAX_OUTAGES) {
        let problem = format!("there are {count}; more than {MAX_OUTAGES} are left out");
        return Err(Fault::new("/metered/left_out", problem));
    }
    if !metered.outages.is_empty() {
        return Err(Fault::new("/metered/outages", "it lists what it says to leave out"));
    }
    Ok(())
}
