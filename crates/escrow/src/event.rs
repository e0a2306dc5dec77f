//! Events of the contract in the domain's types, as they are stored and applied.

use alloy::{
    primitives::{Address, B256, LogData, Uint},
    sol_types::SolEventInterface,
};
use domain::{
    money::Amount,
    time::{Seconds, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bindings::Escrow::{self, EscrowEvents};

/// How a rental was closed on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// By the operator or the provider, before the start: everything back.
    Cancelled,
    /// By anyone, after the start window: everything back.
    Reclaimed,
    /// By the renter on the chain.
    StoppedByRenter,
    /// By the provider on the chain.
    StoppedByProvider,
    /// By anyone, once the deposit was used up.
    Exhausted,
    /// By the operator, with the measured second and the outage credit.
    ClosedByOperator,
}

/// An event that moves money or a rental, or says where fees go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EscrowEvent {
    /// A deposit is locked under an id.
    Locked {
        /// The rental's id on the chain.
        id: B256,
        /// Who paid.
        renter: Address,
        /// Who will earn.
        provider: Address,
        /// What in; zero is the native coin.
        token: Address,
        /// How much.
        deposit: Amount,
    },
    /// More was added.
    ToppedUp {
        /// The rental's id on the chain.
        id: B256,
        /// Who paid.
        from: Address,
        /// How much was added.
        amount: Amount,
        /// The deposit after it.
        deposit: Amount,
    },
    /// Billing began.
    Started {
        /// The rental's id on the chain.
        id: B256,
        /// The first billed second.
        started_at: UnixSeconds,
    },
    /// Accrued money was paid while the rental runs.
    Released {
        /// The rental's id on the chain.
        id: B256,
        /// Seconds settled so far, cumulative.
        settled: Seconds,
        /// What this call paid the provider.
        net: Amount,
        /// What this call paid the platform.
        fee: Amount,
    },
    /// The rental ended; amounts are what this call paid.
    Closed {
        /// The rental's id on the chain.
        id: B256,
        /// By whom and why.
        outcome: Outcome,
        /// Seconds billed in all.
        billed: Seconds,
        /// To the provider's balance.
        net: Amount,
        /// To the treasury's balance.
        fee: Amount,
        /// To the renter.
        refund: Amount,
        /// False if the renter's refund had to be credited instead of pushed.
        pushed: bool,
    },
    /// A push failed; the amount is a balance now.
    Credited {
        /// Whose.
        account: Address,
        /// What in.
        token: Address,
        /// How much.
        amount: Amount,
    },
    /// A balance was taken out.
    Withdrawn {
        /// Whose.
        account: Address,
        /// What in.
        token: Address,
        /// Where to.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// A batch item was passed over.
    Skipped {
        /// The rental's id on the chain.
        id: B256,
        /// The name of the error it would have reverted with.
        reason: String,
    },
    /// Fees go here from now on.
    TreasurySet {
        /// The new treasury.
        treasury: Address,
    },
    /// Roles and listings: kept for the record, no money moves.
    Config {
        /// The event's name.
        name: String,
    },
}

/// A log that is not what the contract emits.
#[derive(Debug, Error)]
#[error("the log is not an event of the escrow: {0}")]
pub struct EventError(String);

fn amount(value: Uint<96, 2>) -> Result<Amount, EventError> {
    Amount::new(value.to::<u128>()).map_err(|error| EventError(error.to_string()))
}

fn outcome(value: u8) -> Result<Outcome, EventError> {
    Ok(match value {
        0 => Outcome::Cancelled,
        1 => Outcome::Reclaimed,
        2 => Outcome::StoppedByRenter,
        3 => Outcome::StoppedByProvider,
        4 => Outcome::Exhausted,
        5 => Outcome::ClosedByOperator,
        other => return Err(EventError(format!("unknown outcome {other}"))),
    })
}

/// Decodes a log that the escrow emitted.
///
/// # Errors
/// [`EventError`] if the topics or the data are not of any of its events.
pub fn decode_event(log: &LogData) -> Result<EscrowEvent, EventError> {
    let event = EscrowEvents::decode_raw_log(log.topics(), &log.data)
        .map_err(|error| EventError(error.to_string()))?;
    Ok(match event {
        EscrowEvents::Locked(e) => EscrowEvent::Locked {
            id: e.id,
            renter: e.renter,
            provider: e.provider,
            token: e.terms.token,
            deposit: amount(e.deposit)?,
        },
        EscrowEvents::ToppedUp(e) => EscrowEvent::ToppedUp {
            id: e.id,
            from: e.from,
            amount: amount(e.amount)?,
            deposit: amount(e.deposit)?,
        },
        EscrowEvents::Started(e) => {
            EscrowEvent::Started { id: e.id, started_at: UnixSeconds(e.startedAt.to::<u64>()) }
        }
        EscrowEvents::Released(e) => EscrowEvent::Released {
            id: e.id,
            settled: Seconds(e.settledSecs),
            net: amount(e.net)?,
            fee: amount(e.fee)?,
        },
        EscrowEvents::Closed(e) => closed(&e)?,
        EscrowEvents::Credited(e) => {
            EscrowEvent::Credited { account: e.account, token: e.token, amount: amount(e.amount)? }
        }
        EscrowEvents::Withdrawn(e) => EscrowEvent::Withdrawn {
            account: e.account,
            token: e.token,
            to: e.to,
            amount: amount(e.amount)?,
        },
        EscrowEvents::Skipped(e) => {
            EscrowEvent::Skipped { id: e.id, reason: crate::refusal::name_of(e.reason.0) }
        }
        EscrowEvents::TreasurySet(e) => EscrowEvent::TreasurySet { treasury: e.treasury },
        EscrowEvents::EIP712DomainChanged(_)
        | EscrowEvents::GuardianSet(_)
        | EscrowEvents::OperatorSet(_)
        | EscrowEvents::OwnershipTransferStarted(_)
        | EscrowEvents::OwnershipTransferred(_)
        | EscrowEvents::TokenListed(_)
        | EscrowEvents::TokenPaused(_) => EscrowEvent::Config { name: "config".to_owned() },
    })
}

fn closed(event: &Escrow::Closed) -> Result<EscrowEvent, EventError> {
    Ok(EscrowEvent::Closed {
        id: event.id,
        outcome: outcome(event.outcome)?,
        billed: Seconds(event.billedSecs),
        net: amount(event.net)?,
        fee: amount(event.fee)?,
        refund: amount(event.refund)?,
        pushed: event.refundPushed,
    })
}

impl EscrowEvent {
    /// The rental it is about, if any.
    #[must_use]
    pub fn rental(&self) -> Option<B256> {
        match self {
            Self::Locked { id, .. }
            | Self::ToppedUp { id, .. }
            | Self::Started { id, .. }
            | Self::Released { id, .. }
            | Self::Closed { id, .. }
            | Self::Skipped { id, .. } => Some(*id),
            Self::Credited { .. }
            | Self::Withdrawn { .. }
            | Self::TreasurySet { .. }
            | Self::Config { .. } => None,
        }
    }

    /// The name it is stored under.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "locked",
            Self::ToppedUp { .. } => "topped_up",
            Self::Started { .. } => "started",
            Self::Released { .. } => "released",
            Self::Closed { .. } => "closed",
            Self::Credited { .. } => "credited",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Skipped { .. } => "skipped",
            Self::TreasurySet { .. } => "treasury_set",
            Self::Config { .. } => "config",
        }
    }
}
