//! The contract's own words, replayed: each payment is computed again, and each end held against its rule.

use alloy::primitives::B256;
use domain::{
    billing::{closing_between, held_between, payout_between, settlement_seconds, split},
    money::{Amount, FeeBps, MoneyError},
    rate::TokenRate,
    time::{Seconds, UnixSeconds},
};

use super::{ChainEvent, Fault};
use crate::{EscrowEvent, Outcome, Terms};

/// What a rental's payments are computed by.
pub(super) struct Rules {
    pub(super) id: B256,
    pub(super) terms: Terms,
    pub(super) rate: TokenRate,
    pub(super) fee: FeeBps,
    /// The seconds that the readings cover, if it started.
    pub(super) covered: Option<Seconds>,
}

/// Held seconds, those after `settled`.
#[derive(Clone, Copy)]
struct Held {
    seconds: Seconds,
    claim: Seconds,
    renter_disputes: bool,
    provider_disputes: bool,
}

impl Held {
    const fn is_disputed(self) -> bool {
        self.renter_disputes || self.provider_disputes
    }
}

#[derive(Clone, Copy)]
enum Stage {
    None,
    Locked,
    Active(UnixSeconds),
    Held(Held),
    Over,
}

/// What the events add up to.
pub(super) struct Story {
    stage: Stage,
    /// The first billed second, if it started.
    pub(super) started_at: Option<UnixSeconds>,
    /// When the operator ended it, if it did: its clock had stopped by then.
    pub(super) operator_end: Option<UnixSeconds>,
    pub(super) deposit: Amount,
    pub(super) billed: Seconds,
    pub(super) provider: Amount,
    pub(super) fee: Amount,
    pub(super) refund: Amount,
    settled: Seconds,
}

/// A place inside an event, and what is wrong there.
type Told<T> = Result<T, (&'static str, String)>;

fn wrong<T>(place: &'static str, what: impl Into<String>) -> Told<T> {
    Err((place, what.into()))
}

fn computed<T>(result: Result<T, MoneyError>) -> Told<T> {
    result.map_err(|error| ("", format!("it cannot be computed: {error}")))
}

impl Story {
    /// Replays all events.
    pub(super) fn follow(rules: &Rules, events: &[ChainEvent]) -> Result<Self, Fault> {
        let mut story = Self {
            stage: Stage::None,
            started_at: None,
            operator_end: None,
            deposit: Amount::ZERO,
            billed: Seconds::ZERO,
            provider: Amount::ZERO,
            fee: Amount::ZERO,
            refund: Amount::ZERO,
            settled: Seconds::ZERO,
        };
        let mut before: Option<&ChainEvent> = None;
        for (index, event) in events.iter().enumerate() {
            let told = in_order(before, event).and_then(|()| story.take(rules, event));
            told.map_err(|(place, what)| Fault::new(format!("/events/{index}{place}"), what))?;
            before = Some(event);
        }
        if matches!(story.stage, Stage::Over) {
            return Ok(story);
        }
        Err(Fault::new("/events", "the rental has not ended by them"))
    }

    fn take(&mut self, rules: &Rules, event: &ChainEvent) -> Told<()> {
        if event.said.rental() != Some(rules.id) {
            return wrong("/said/id", "it is about another rental than the quote");
        }
        match (&event.said, self.stage) {
            (EscrowEvent::Skipped { .. }, _) => Ok(()),
            (EscrowEvent::Locked { renter, provider, token, deposit, .. }, Stage::None) => {
                let terms = &rules.terms;
                if (*renter, *provider, *token) != (terms.renter, terms.provider, terms.token) {
                    return wrong("/said", "renter, provider and token are not those of the terms");
                }
                self.deposit = *deposit;
                self.stage = Stage::Locked;
                Ok(())
            }
            (EscrowEvent::ToppedUp { amount, deposit, .. }, Stage::Locked | Stage::Active(_)) => {
                if self.deposit.checked_add(*amount) != Some(*deposit) {
                    return wrong("/said/deposit", "it is not the deposit before and the amount");
                }
                self.deposit = *deposit;
                Ok(())
            }
            (EscrowEvent::Started { started_at, .. }, Stage::Locked) => {
                if started_at.get() > rules.terms.startBy.to::<u64>() || *started_at > event.at {
                    return wrong("/said/started_at", "it is after its block or after `startBy`");
                }
                self.started_at = Some(*started_at);
                self.stage = Stage::Active(*started_at);
                Ok(())
            }
            (EscrowEvent::Released { settled, net, fee, .. }, Stage::Active(_)) => {
                let due = self.payout(rules, *settled)?;
                self.pay((*net, *fee, Amount::ZERO), (due.net, due.fee, Amount::ZERO))?;
                self.settled = *settled;
                Ok(())
            }
            (EscrowEvent::Contested { .. }, Stage::Active(started)) => {
                self.held(rules, event, started)
            }
            (EscrowEvent::Disputed { by, .. }, Stage::Held(held)) => {
                let (renter, provider) = (rules.terms.renter, rules.terms.provider);
                if *by != renter && *by != provider {
                    return wrong("/said/by", "only the renter and the provider can dispute");
                }
                self.stage = Stage::Held(Held {
                    renter_disputes: held.renter_disputes || *by == renter,
                    provider_disputes: held.provider_disputes || *by == provider,
                    ..held
                });
                Ok(())
            }
            (EscrowEvent::Closed { .. }, Stage::Locked | Stage::Active(_) | Stage::Held(_)) => {
                self.end(rules, event)
            }
            (said, _) => wrong("/said/event", format!("{} cannot come here", said.name())),
        }
    }

    fn payout(&self, rules: &Rules, settled: Seconds) -> Told<domain::billing::Payout> {
        let (rate, fee, deposit) = (rules.rate, rules.fee, self.deposit);
        computed(payout_between(rate, fee, deposit, self.settled, settled))
    }

    /// Adds a payment, which must be what was computed.
    fn pay(&mut self, told: (Amount, Amount, Amount), due: (Amount, Amount, Amount)) -> Told<()> {
        let parts = [
            ("/said/net", &mut self.provider, told.0, due.0),
            ("/said/fee", &mut self.fee, told.1, due.1),
            ("/said/refund", &mut self.refund, told.2, due.2),
        ];
        for (place, sum, told, due) in parts {
            if told != due {
                return wrong(place, format!("{told} was paid, {due} was due"));
            }
            *sum = sum.checked_add(told).ok_or((place, "the sum is out of range".to_owned()))?;
        }
        Ok(())
    }

    /// What the chain's clock comes to at a time.
    fn clock(&self, rules: &Rules, started: UnixSeconds, at: UnixSeconds) -> Seconds {
        let elapsed = at.saturating_since(started);
        settlement_seconds(self.deposit, rules.rate, self.settled, elapsed)
    }

    /// The seconds that the evidence comes to, beyond what is settled.
    fn by_evidence(&self, rules: &Rules) -> Told<Seconds> {
        let Some(covered) = rules.covered else {
            return wrong("", "the operator ended it, and nothing was metered");
        };
        Ok(settlement_seconds(self.deposit, rules.rate, self.settled, covered))
    }

    fn held(&mut self, rules: &Rules, event: &ChainEvent, started: UnixSeconds) -> Told<()> {
        let EscrowEvent::Contested {
            outcome,
            settled,
            held,
            claim,
            renter_disputes,
            net,
            fee,
            refund,
            ..
        } = &event.said
        else {
            return wrong("/said/event", "not a contested end");
        };
        let clock = settled.saturating_add(*held);
        if claim > held {
            return wrong("/said/claim", "more is claimed than is held");
        }
        let billed = settled.saturating_add(*claim);
        if *outcome == Outcome::ClosedByOperator {
            self.operator_end = Some(event.at);
            let due = self.by_evidence(rules)?;
            if billed != due {
                let what = format!("{billed} s are told to be used, the readings cover {due} s");
                return wrong("/said/settled", what);
            }
            if clock > self.clock(rules, started, event.at) {
                return wrong("/said/held", "more is held than the clock allows");
            }
        } else if clock != self.clock(rules, started, event.at) {
            return wrong("/said/held", "it is not the clock's time at that block");
        }
        let due = self.payout(rules, *settled)?;
        let rest = computed(split(self.deposit, rules.rate, rules.fee, clock))?.refund;
        self.pay((*net, *fee, *refund), (due.net, due.fee, rest))?;
        self.settled = *settled;
        self.stage = Stage::Held(Held {
            seconds: *held,
            claim: *claim,
            renter_disputes: *renter_disputes,
            provider_disputes: false,
        });
        Ok(())
    }

    fn end(&mut self, rules: &Rules, event: &ChainEvent) -> Told<()> {
        let EscrowEvent::Closed { outcome, billed, net, fee, refund, .. } = &event.said else {
            return wrong("/said/event", "not an end");
        };
        let due = match self.stage {
            Stage::Locked => {
                self.whole(*outcome, *billed)?;
                (Amount::ZERO, Amount::ZERO, self.deposit)
            }
            Stage::Active(started) => {
                self.at_once(rules, started, event.at, *outcome, *billed)?;
                let (rate, fee, deposit) = (rules.rate, rules.fee, self.deposit);
                let due = computed(closing_between(rate, fee, deposit, self.settled, *billed))?;
                (due.net, due.fee, due.refund)
            }
            Stage::Held(held) => {
                let clock = self.settled.saturating_add(held.seconds);
                self.after(held, *outcome, *billed)?;
                let (rate, fee, deposit) = (rules.rate, rules.fee, self.deposit);
                let due = computed(held_between(rate, fee, deposit, self.settled, *billed, clock))?;
                (due.net, due.fee, due.refund)
            }
            Stage::None | Stage::Over => return wrong("/said/event", "it cannot end here"),
        };
        self.pay((*net, *fee, *refund), due)?;
        self.billed = *billed;
        self.stage = Stage::Over;
        Ok(())
    }

    /// An end before the start: everything goes back.
    fn whole(&self, outcome: Outcome, billed: Seconds) -> Told<()> {
        if !matches!(outcome, Outcome::Cancelled | Outcome::Reclaimed) {
            return wrong("/said/outcome", "it never started, and did not end so");
        }
        if billed == Seconds::ZERO { Ok(()) } else { wrong("/said/billed", "it never started") }
    }

    /// An end of a running rental of which nothing is held.
    fn at_once(
        &mut self,
        rules: &Rules,
        started: UnixSeconds,
        at: UnixSeconds,
        outcome: Outcome,
        billed: Seconds,
    ) -> Told<()> {
        let clock = self.clock(rules, started, at);
        let good = match outcome {
            Outcome::ClosedByOperator => {
                self.operator_end = Some(at);
                billed == self.by_evidence(rules)? && billed <= clock
            }
            Outcome::StoppedByRenter | Outcome::StoppedByProvider | Outcome::Exhausted => {
                billed == clock
            }
            Outcome::Agreed => billed >= self.settled && billed >= Seconds::ONE && billed <= clock,
            Outcome::Cancelled
            | Outcome::Reclaimed
            | Outcome::Conceded
            | Outcome::Resolved
            | Outcome::Undisputed
            | Outcome::Defaulted => return wrong("/said/outcome", "it did not end so"),
        };
        if good {
            return Ok(());
        }
        let covered = rules.covered.unwrap_or_default();
        let what = format!(
            "{billed} s were billed; the readings cover {covered} s, the chain's clock came to {clock} s"
        );
        wrong("/said/billed", what)
    }

    /// An end of held seconds.
    fn after(&self, held: Held, outcome: Outcome, billed: Seconds) -> Told<()> {
        let clock = self.settled.saturating_add(held.seconds);
        let claimed = self.settled.saturating_add(held.claim);
        let good = match outcome {
            Outcome::Undisputed => !held.is_disputed() && billed == claimed,
            Outcome::Defaulted => {
                held.is_disputed() && billed == if held.provider_disputes { clock } else { claimed }
            }
            Outcome::Conceded => billed == self.settled || billed == clock,
            // what a side did not dispute, the arbiter cannot take from the other
            Outcome::Resolved => {
                let least = if held.renter_disputes { self.settled } else { claimed };
                let most = if held.provider_disputes { clock } else { claimed };
                held.is_disputed() && billed >= least && billed <= most
            }
            Outcome::Agreed => billed >= self.settled && billed <= clock,
            Outcome::Cancelled
            | Outcome::Reclaimed
            | Outcome::StoppedByRenter
            | Outcome::StoppedByProvider
            | Outcome::Exhausted
            | Outcome::ClosedByOperator => return wrong("/said/outcome", "it did not end so"),
        };
        if good {
            Ok(())
        } else {
            wrong("/said/billed", "that is not what becomes of what was held")
        }
    }
}

fn in_order(before: Option<&ChainEvent>, event: &ChainEvent) -> Told<()> {
    let Some(before) = before else { return Ok(()) };
    if (event.block, event.log) <= (before.block, before.log) {
        return wrong("/block", "it does not come after the event before");
    }
    if event.at < before.at {
        return wrong("/at", "it is earlier than the event before");
    }
    Ok(())
}
