//! A dispute about the seconds of a rental that the contract holds, or may yet hold.
//!
//! What becomes of the money is the contract's alone: a case here follows what it says, and collects what both sides
//! have to show. Only a case of which the contract has not heard can be withdrawn.

use thiserror::Error;

use crate::{names::named_enum, rental::CloseOutcome};

named_enum! {
    /// Where a case is.
    pub enum DisputeState ("dispute state") {
        /// Recorded; the contract has not heard of it.
        Open => "open",
        /// The contract has: the arbiter decides, or its silence does.
        Disputed => "disputed",
        /// The contract has paid everything. The end.
        Closed => "closed",
        /// Taken back before the contract heard of it. The end.
        Withdrawn => "withdrawn",
    }
}

named_enum! {
    /// Which of the two.
    pub enum Side ("side") {
        /// Pays.
        Renter => "renter",
        /// Earns.
        Provider => "provider",
    }
}

named_enum! {
    /// What a case is about.
    pub enum DisputeCode ("dispute code") {
        /// Another machine than was promised.
        WrongHardware => "wrong_hardware",
        /// It could not be reached.
        NotReachable => "not_reachable",
        /// It was slower than promised.
        Underperforming => "underperforming",
        /// What was stored is gone.
        DataLoss => "data_loss",
        /// The bill is not what was used.
        Billing => "billing",
        /// The machine was used for what the provider forbids.
        Abuse => "abuse",
    }
}

impl DisputeCode {
    /// Whether readings and arithmetic say something about it.
    #[must_use]
    pub const fn is_objective(self) -> bool {
        match self {
            Self::NotReachable | Self::Billing => true,
            Self::WrongHardware | Self::Underperforming | Self::DataLoss | Self::Abuse => false,
        }
    }
}

/// What is remembered of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// Where it is.
    pub state: DisputeState,
    /// The renter has said so on the chain.
    pub renter_disputes: bool,
    /// The provider has said so on the chain.
    pub provider_disputes: bool,
    /// How the contract ended the rental; set in `Closed` only.
    pub outcome: Option<CloseOutcome>,
}

impl Dispute {
    /// A case that was just recorded.
    pub const OPENED: Self = Self {
        state: DisputeState::Open,
        renter_disputes: false,
        provider_disputes: false,
        outcome: None,
    };
}

/// What happens to a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisputeEvent {
    /// The clock has stopped on the chain, and some seconds are held; finally.
    HeldFinal {
        /// The renter disputed them in the same call.
        renter_disputes: bool,
    },
    /// A side has disputed on the chain, finally.
    DisputedFinal {
        /// Which.
        by: Side,
    },
    /// The contract has paid everything, finally.
    ClosedFinal {
        /// How.
        outcome: CloseOutcome,
    },
    /// Who opened it takes it back.
    Withdrawn,
}

/// Why an event is refused. The case stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DisputeError {
    /// The contract has heard of it: only a `concede` on the chain gives in.
    #[error("the contract has heard of the dispute; concede on the chain to give in")]
    OnTheChain,
    /// It is over.
    #[error("the dispute is over")]
    Over,
}

/// What an event does to a case. Words of the chain that come again, or after the case is over, change nothing.
///
/// # Errors
/// [`DisputeError`] for a withdrawal that comes too late.
pub fn step(dispute: &Dispute, event: &DisputeEvent) -> Result<Dispute, DisputeError> {
    let next = match (dispute.state, *event) {
        (DisputeState::Open, DisputeEvent::HeldFinal { renter_disputes: false })
        | (DisputeState::Disputed, DisputeEvent::HeldFinal { .. })
        | (
            DisputeState::Closed | DisputeState::Withdrawn,
            DisputeEvent::HeldFinal { .. }
            | DisputeEvent::DisputedFinal { .. }
            | DisputeEvent::ClosedFinal { .. },
        ) => *dispute,
        (DisputeState::Open, DisputeEvent::HeldFinal { renter_disputes: true }) => {
            Dispute { state: DisputeState::Disputed, renter_disputes: true, ..*dispute }
        }
        (DisputeState::Open | DisputeState::Disputed, DisputeEvent::DisputedFinal { by }) => {
            let (renter, provider) = match by {
                Side::Renter => (true, dispute.provider_disputes),
                Side::Provider => (dispute.renter_disputes, true),
            };
            Dispute {
                state: DisputeState::Disputed,
                renter_disputes: renter,
                provider_disputes: provider,
                outcome: None,
            }
        }
        (DisputeState::Open | DisputeState::Disputed, DisputeEvent::ClosedFinal { outcome }) => {
            Dispute { state: DisputeState::Closed, outcome: Some(outcome), ..*dispute }
        }
        (DisputeState::Open, DisputeEvent::Withdrawn) => {
            Dispute { state: DisputeState::Withdrawn, ..*dispute }
        }
        (DisputeState::Disputed, DisputeEvent::Withdrawn) => return Err(DisputeError::OnTheChain),
        (DisputeState::Closed | DisputeState::Withdrawn, DisputeEvent::Withdrawn) => {
            return Err(DisputeError::Over);
        }
    };
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [DisputeEvent; 6] {
        [
            DisputeEvent::HeldFinal { renter_disputes: false },
            DisputeEvent::HeldFinal { renter_disputes: true },
            DisputeEvent::DisputedFinal { by: Side::Renter },
            DisputeEvent::DisputedFinal { by: Side::Provider },
            DisputeEvent::ClosedFinal { outcome: CloseOutcome::Resolved },
            DisputeEvent::Withdrawn,
        ]
    }

    fn after(events: &[DisputeEvent]) -> Dispute {
        events.iter().fold(Dispute::OPENED, |dispute, event| step(&dispute, event).unwrap())
    }

    #[test]
    fn a_case_follows_the_chain_from_its_opening_to_its_end() {
        let both = after(&all()[..5]);
        assert_eq!(both.state, DisputeState::Closed);
        assert!(both.renter_disputes && both.provider_disputes);
        assert_eq!(both.outcome, Some(CloseOutcome::Resolved));
        let held = after(&all()[..1]);
        assert_eq!(held, Dispute::OPENED, "what is held is not disputed yet");
        let ended = after(&[DisputeEvent::ClosedFinal { outcome: CloseOutcome::Undisputed }]);
        assert_eq!((ended.state, ended.renter_disputes), (DisputeState::Closed, false));
    }

    #[test]
    fn every_event_can_be_told_again_and_none_leads_out_of_an_end() {
        let reached = [
            Dispute::OPENED,
            after(&all()[2..3]),
            after(&all()[3..4]),
            after(&all()[..4]),
            after(&all()[..5]),
            after(&[DisputeEvent::Withdrawn]),
        ];
        for dispute in reached {
            let over = matches!(dispute.state, DisputeState::Closed | DisputeState::Withdrawn);
            for event in all() {
                match step(&dispute, &event) {
                    Ok(next) if over => assert_eq!(next, dispute, "{event:?}"),
                    Ok(next) if event != DisputeEvent::Withdrawn => {
                        assert_eq!(step(&next, &event), Ok(next), "{event:?}");
                        assert_eq!(next.outcome.is_some(), next.state == DisputeState::Closed);
                        let told = next.renter_disputes || next.provider_disputes;
                        assert!(told || next.state != DisputeState::Disputed);
                    }
                    Ok(next) => assert_eq!(next.state, DisputeState::Withdrawn),
                    Err(error) => {
                        assert_eq!(event, DisputeEvent::Withdrawn);
                        assert_eq!(error == DisputeError::Over, over);
                    }
                }
            }
        }
    }

    #[test]
    fn only_what_the_contract_has_not_heard_of_is_withdrawn() {
        for before in [&all()[1..2], &all()[2..3], &all()[3..4]] {
            let refused = step(&after(before), &DisputeEvent::Withdrawn);
            assert_eq!(refused, Err(DisputeError::OnTheChain));
        }
        let twice = step(&after(&[DisputeEvent::Withdrawn]), &DisputeEvent::Withdrawn);
        assert_eq!(twice, Err(DisputeError::Over));
    }
}
