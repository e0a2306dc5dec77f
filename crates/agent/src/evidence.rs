//! What the agent may claim to have seen of one rental, and the readings that claim it.
//!
//! Pure: told when the workload was seen, it says which reading comes next.

use alloy::{
    primitives::{B256, hex},
    signers::local::PrivateKeySigner,
    sol_types::Eip712Domain,
};
use domain::{
    id::RentalId,
    metering::{Interval, ReadingHead},
    time::{Seconds, UnixSeconds},
};
use escrow::reading::{self, Reading, SignatureError};
use serde_json::Value;

use crate::wire::{self, Standing};

/// The longest stretch that the service takes in one reading.
const MAX_SPAN: Seconds = Seconds(60);
/// Between two looks at the workload. After longer the agent was away (suspended, restarted, starved), and
/// does not know what happened meanwhile.
const MAX_UNSEEN: Seconds = Seconds(15);

/// The workload was seen at both ends, and at least every [`MAX_UNSEEN`] in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    since: UnixSeconds,
    last: UnixSeconds,
}

/// A signed reading on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) body: wire::Reading,
    head: ReadingHead,
}

/// What to do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Make another reading, ending no later than this, and send it at once.
    Again(Option<UnixSeconds>),
    /// The service must say first where the chain of readings stands.
    LearnHead,
    /// Nothing helps now; try at the next turn.
    Wait,
}

/// One rental's chain of readings as this side knows it.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    rental: RentalId,
    escrow_id: B256,
    head: Option<ReadingHead>,
    /// False until the service has confirmed `head`: a reading may have been accepted whose answer was lost.
    head_is_sure: bool,
    /// The earliest second that the service lets a reading begin at.
    not_before: UnixSeconds,
    /// Where billing ended, if it has.
    not_after: Option<UnixSeconds>,
    seen: Option<Seen>,
    /// Sent, perhaps accepted: sent again as it was until there is an answer.
    pending: Option<Signed>,
}

impl Evidence {
    /// Of a rental that no reading was made for.
    pub(crate) const fn new(rental: RentalId, escrow_id: B256) -> Self {
        Self {
            rental,
            escrow_id,
            head: None,
            head_is_sure: true,
            not_before: UnixSeconds(0),
            not_after: None,
            seen: None,
            pending: None,
        }
    }

    /// Of a rental whose workload an earlier run of the agent watched up to `head`. Its process was
    /// recognised, so that it ran in between; if that was short the readings go on without a gap.
    pub(crate) fn resume(rental: RentalId, escrow_id: B256, head: Option<ReadingHead>) -> Self {
        Self {
            head,
            head_is_sure: false,
            seen: head.map(|head| Seen { since: head.to, last: head.to }),
            ..Self::new(rental, escrow_id)
        }
    }

    /// The last accepted reading.
    pub(crate) const fn head(&self) -> Option<ReadingHead> {
        self.head
    }

    /// The earliest second that a reading may begin at: the start of billing.
    pub(crate) const fn not_before(&self) -> UnixSeconds {
        self.not_before
    }

    /// The workload was seen running.
    pub(crate) fn saw(&mut self, now: UnixSeconds) {
        match &mut self.seen {
            Some(seen) if now.saturating_since(seen.last) <= MAX_UNSEEN => {
                seen.last = seen.last.max(now);
            }
            seen => *seen = Some(Seen { since: now, last: now }),
        }
    }

    /// The workload was not running: what lies before is no longer joined to what comes.
    pub(crate) const fn missed(&mut self) {
        self.seen = None;
    }

    /// The service says where the chain stands, of which it is the judge where that was not sure, and which
    /// time is billed.
    pub(crate) fn learn(&mut self, standing: &Standing) {
        if let Some(not_before) = standing.not_before {
            self.not_before = self.not_before.max(not_before);
        }
        self.not_after = standing.not_after;
        if !self.head_is_sure {
            self.head = standing.head();
            self.head_is_sure = true;
            self.pending = None;
        }
    }

    /// The stretch that can be claimed next, up to `cap`.
    pub(crate) fn next_span(&self, cap: Option<UnixSeconds>) -> Option<Interval> {
        let seen = self.seen?;
        let floor = self.head.map_or_else(
            // before the first reading the rental may have been waiting for its money: only the newest counts
            || seen.last.saturating_minus(MAX_SPAN),
            |head| head.to,
        );
        let from = seen.since.max(self.not_before).max(floor);
        let bounds = [Some(seen.last), Some(from.saturating_plus(MAX_SPAN)), self.not_after, cap];
        let to = bounds.into_iter().flatten().min()?;
        let span = Interval::new(from, to);
        (!span.is_empty()).then_some(span)
    }

    /// The reading to send now: the one without an answer, else a new one; `None` if there is nothing to
    /// say.
    ///
    /// # Errors
    /// [`SignatureError`] if the key does not sign.
    pub(crate) fn next(
        &mut self,
        cap: Option<UnixSeconds>,
        detail: impl FnOnce() -> Value,
        key: &PrivateKeySigner,
        domain: &Eip712Domain,
    ) -> Result<Option<Signed>, SignatureError> {
        if !self.head_is_sure {
            return Ok(None);
        }
        if self.pending.is_none() {
            let Some(span) = self.next_span(cap) else {
                return Ok(None);
            };
            self.pending = Some(self.sign(span, detail(), key, domain)?);
        }
        Ok(self.pending.clone())
    }

    fn sign(
        &self,
        span: Interval,
        detail: Value,
        key: &PrivateKeySigner,
        domain: &Eip712Domain,
    ) -> Result<Signed, SignatureError> {
        let (last, prev_hash) = self.head.map_or((0, B256::ZERO), |head| (head.seq, head.hash));
        // a number per reading of at least a second: never near the end of the range
        let seq = last.saturating_add(1);
        let reading = Reading {
            rental: self.escrow_id,
            seq,
            from: span.from.get(),
            to: span.to.get(),
            detailHash: reading::detail_hash(&detail),
            prevHash: prev_hash,
        };
        let signature = hex::encode_prefixed(reading::sign(&reading, key, domain)?);
        let body = wire::Reading {
            rental_id: self.rental,
            seq,
            from: span.from,
            to: span.to,
            detail,
            prev_hash,
            signature,
        };
        let hash = reading::hash(&reading, domain);
        Ok(Signed { body, head: ReadingHead { seq, to: span.to, hash } })
    }

    /// The service took the reading. What it took is checked against what was sent.
    pub(crate) fn accepted(&mut self, answer: &wire::Accepted) -> bool {
        let matching = self
            .pending
            .take()
            .filter(|sent| sent.head.seq == answer.accepted_seq && sent.head.hash == answer.hash);
        match matching {
            Some(sent) => self.head = Some(sent.head),
            None => self.head_is_sure = false,
        }
        self.head_is_sure
    }

    /// The service did not take it.
    pub(crate) fn refused(&mut self, problem: &wire::Problem) -> Verdict {
        self.pending = None;
        match problem.code.as_str() {
            "reading-gap" | "reading-conflict" => {
                self.head_is_sure = false;
                Verdict::LearnHead
            }
            "reading-too-late" | "reading-invalid" => self.out_of_bounds(problem),
            _ => Verdict::Wait,
        }
    }

    fn out_of_bounds(&mut self, problem: &wire::Problem) -> Verdict {
        if let Some(not_before) = problem.not_before {
            self.not_before = self.not_before.max(not_before);
        }
        match (problem.not_before, problem.not_after) {
            (None, None) => Verdict::Wait,
            (_, cap) => Verdict::Again(cap),
        }
    }
}

#[cfg(test)]
mod tests;
