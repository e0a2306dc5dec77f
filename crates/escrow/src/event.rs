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
    /// Both sides signed the billed time.
    Agreed,
    /// One side gave the held seconds up.
    Conceded,
    /// The arbiter split the held seconds.
    Resolved,
    /// Nobody disputed the held seconds in time.
    Undisputed,
    /// Somebody disputed, and the arbiter stayed silent.
    Defaulted,
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
        /// Whether it came from the renter's balance in the escrow.
        prepaid: bool,
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
    /// The clock has stopped and some seconds are held; amounts are what this call paid.
    Contested {
        /// The rental's id on the chain.
        id: B256,
        /// By whom and why.
        outcome: Outcome,
        /// Seconds paid for good.
        settled: Seconds,
        /// Seconds after those that are held.
        held: Seconds,
        /// The first of the held seconds, which go to the provider unless the renter disputes; the others go to
        /// the renter unless the provider disputes.
        claim: Seconds,
        /// The last second to dispute; for the arbiter, if the renter disputed in the same call.
        deadline: UnixSeconds,
        /// Whether it did.
        renter_disputes: bool,
        /// To the provider's balance.
        net: Amount,
        /// To the treasury's balance.
        fee: Amount,
        /// To the renter.
        refund: Amount,
        /// False if the renter's refund had to be credited instead of pushed.
        pushed: bool,
    },
    /// A side will not have what would come of silence.
    Disputed {
        /// The rental's id on the chain.
        id: B256,
        /// Which side.
        by: Address,
        /// The arbiter's last second.
        deadline: UnixSeconds,
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
    /// Somebody paid into a balance.
    Prepaid {
        /// Whose.
        account: Address,
        /// What in.
        token: Address,
        /// Who paid.
        from: Address,
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
    /// Somebody signs ends for an account from now on, or nobody does.
    AgentSet {
        /// Whose.
        account: Address,
        /// Who signs; zero is nobody.
        agent: Address,
        /// The last second of that right.
        expires_at: UnixSeconds,
    },
    /// Roles, listings and used nonces: kept for the record, no money moves.
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
        6 => Outcome::Agreed,
        7 => Outcome::Conceded,
        8 => Outcome::Resolved,
        9 => Outcome::Undisputed,
        10 => Outcome::Defaulted,
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
            prepaid: e.prepaid,
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
        EscrowEvents::Contested(e) => contested(&e)?,
        EscrowEvents::Disputed(e) => EscrowEvent::Disputed {
            id: e.id,
            by: e.by,
            deadline: UnixSeconds(e.deadline.to::<u64>()),
        },
        EscrowEvents::Closed(e) => closed(&e)?,
        EscrowEvents::Credited(e) => {
            EscrowEvent::Credited { account: e.account, token: e.token, amount: amount(e.amount)? }
        }
        EscrowEvents::Prepaid(e) => EscrowEvent::Prepaid {
            account: e.account,
            token: e.token,
            from: e.from,
            amount: amount(e.amount)?,
        },
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
        EscrowEvents::AgentSet(e) => EscrowEvent::AgentSet {
            account: e.account,
            agent: e.agent,
            expires_at: UnixSeconds(e.expiresAt.to::<u64>()),
        },
        EscrowEvents::NonceUsed(_) => config("nonce_used"),
        EscrowEvents::EIP712DomainChanged(_) => config("domain_changed"),
        EscrowEvents::GuardianSet(_) => config("guardian_set"),
        EscrowEvents::ArbiterSet(_) => config("arbiter_set"),
        EscrowEvents::OperatorSet(_) => config("operator_set"),
        EscrowEvents::OwnershipTransferStarted(_) => config("ownership_transfer_started"),
        EscrowEvents::OwnershipTransferred(_) => config("ownership_transferred"),
        EscrowEvents::TokenListed(_) => config("token_listed"),
        EscrowEvents::TokenPaused(_) => config("token_paused"),
        EscrowEvents::ChangeScheduled(_) => config("change_scheduled"),
        EscrowEvents::ChangeCancelled(_) => config("change_cancelled"),
    })
}

fn config(name: &str) -> EscrowEvent {
    EscrowEvent::Config { name: name.to_owned() }
}

fn contested(event: &Escrow::Contested) -> Result<EscrowEvent, EventError> {
    Ok(EscrowEvent::Contested {
        id: event.id,
        outcome: outcome(event.outcome)?,
        settled: Seconds(event.settledSecs),
        held: Seconds(event.contestedSecs),
        claim: Seconds(event.claimSecs),
        deadline: UnixSeconds(event.deadline.to::<u64>()),
        renter_disputes: event.renterDisputes,
        net: amount(event.net)?,
        fee: amount(event.fee)?,
        refund: amount(event.refund)?,
        pushed: event.refundPushed,
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
            | Self::Contested { id, .. }
            | Self::Disputed { id, .. }
            | Self::Closed { id, .. }
            | Self::Skipped { id, .. } => Some(*id),
            Self::Credited { .. }
            | Self::Prepaid { .. }
            | Self::Withdrawn { .. }
            | Self::TreasurySet { .. }
            | Self::AgentSet { .. }
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
            Self::Contested { .. } => "contested",
            Self::Disputed { .. } => "disputed",
            Self::Closed { .. } => "closed",
            Self::Credited { .. } => "credited",
            Self::Prepaid { .. } => "prepaid",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Skipped { .. } => "skipped",
            Self::TreasurySet { .. } => "treasury_set",
            Self::AgentSet { .. } => "agent_set",
            Self::Config { .. } => "config",
        }
    }
}
