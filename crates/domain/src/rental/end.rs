//! Why and by whom a rental ends.

use crate::names::{named_enum, written_as_name};

named_enum! {
    /// Who asks for something.
    pub enum Party ("party") {
        /// The renter.
        Renter => "renter",
        /// The provider.
        Provider => "provider",
        /// The platform's operator.
        Operator => "operator",
    }
}

named_enum! {
    /// Why a machine could not be made ready.
    pub enum FailReason ("failure reason") {
        /// The image could not be fetched or started.
        Image => "image",
        /// The GPUs are not those that were offered.
        GpuMismatch => "gpu_mismatch",
        /// The GPUs are in use or do not answer.
        GpuUnavailable => "gpu_unavailable",
        /// Too little disk or memory.
        Resources => "resources",
        /// The platform's probe could not reach the machine.
        Unreachable => "unreachable",
        /// Anything else on the machine.
        Internal => "internal",
    }
}

named_enum! {
    /// How the contract says that a rental was closed; the contract's `Outcome`, in its order.
    pub enum CloseOutcome ("close outcome") {
        /// Operator or provider gave it back before it started.
        Cancelled => "cancelled",
        /// It did not start in time, and somebody fetched the deposit back.
        Reclaimed => "reclaimed",
        /// The renter stopped it on the chain.
        StoppedByRenter => "stopped_by_renter",
        /// The provider stopped it on the chain.
        StoppedByProvider => "stopped_by_provider",
        /// The deposit was used up, and somebody stopped it on the chain.
        Exhausted => "exhausted",
        /// The operator closed it.
        ClosedByOperator => "closed_by_operator",
        /// Both sides signed the billed time.
        Agreed => "agreed",
        /// One side gave the held seconds up.
        Conceded => "conceded",
        /// The arbiter split the held seconds.
        Resolved => "resolved",
        /// Nobody disputed the held seconds in time.
        Undisputed => "undisputed",
        /// Somebody disputed, and the arbiter stayed silent.
        Defaulted => "defaulted",
    }
}

impl CloseOutcome {
    /// Whether the rental had started, so that somebody was paid.
    #[must_use]
    pub const fn was_started(self) -> bool {
        match self {
            Self::Cancelled | Self::Reclaimed => false,
            Self::StoppedByRenter
            | Self::StoppedByProvider
            | Self::Exhausted
            | Self::ClosedByOperator
            | Self::Agreed
            | Self::Conceded
            | Self::Resolved
            | Self::Undisputed
            | Self::Defaulted => true,
        }
    }

    /// Whether a dispute was decided, by the arbiter or by its silence.
    #[must_use]
    pub const fn is_decision(self) -> bool {
        match self {
            Self::Resolved | Self::Defaulted => true,
            Self::Cancelled
            | Self::Reclaimed
            | Self::StoppedByRenter
            | Self::StoppedByProvider
            | Self::Exhausted
            | Self::ClosedByOperator
            | Self::Agreed
            | Self::Conceded
            | Self::Undisputed => false,
        }
    }
}

/// Why a rental ended. The first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// The renter stopped it.
    RenterStop,
    /// The provider stopped it or called it off.
    ProviderStop,
    /// The deposit was used up.
    DurationEnd,
    /// The machine was away too long.
    OutageTooLong,
    /// Somebody closed it on the chain, past the platform.
    StoppedOnChain,
    /// The machine could not be made ready.
    StartFailed(FailReason),
    /// The machine was not ready in time.
    ReadyDeadline,
    /// The lock did not come in time.
    FundingDeadline,
    /// The renter called it off before it was active.
    RenterCancel,
    /// The platform's operator ended it.
    OperatorStop,
    /// The contract did not accept the start before the terms' `startBy`.
    StartWindowMissed,
}

impl EndReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::RenterStop,
        Self::ProviderStop,
        Self::DurationEnd,
        Self::OutageTooLong,
        Self::StoppedOnChain,
        Self::StartFailed(FailReason::Image),
        Self::StartFailed(FailReason::GpuMismatch),
        Self::StartFailed(FailReason::GpuUnavailable),
        Self::StartFailed(FailReason::Resources),
        Self::StartFailed(FailReason::Unreachable),
        Self::StartFailed(FailReason::Internal),
        Self::ReadyDeadline,
        Self::FundingDeadline,
        Self::RenterCancel,
        Self::OperatorStop,
        Self::StartWindowMissed,
    ];

    /// The name as stored and shown; a failed start names its reason, as in `start_failed_image`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RenterStop => "renter_stop",
            Self::ProviderStop => "provider_stop",
            Self::DurationEnd => "duration_end",
            Self::OutageTooLong => "outage_too_long",
            Self::StoppedOnChain => "stopped_on_chain",
            Self::StartFailed(FailReason::Image) => "start_failed_image",
            Self::StartFailed(FailReason::GpuMismatch) => "start_failed_gpu_mismatch",
            Self::StartFailed(FailReason::GpuUnavailable) => "start_failed_gpu_unavailable",
            Self::StartFailed(FailReason::Resources) => "start_failed_resources",
            Self::StartFailed(FailReason::Unreachable) => "start_failed_unreachable",
            Self::StartFailed(FailReason::Internal) => "start_failed_internal",
            Self::ReadyDeadline => "ready_deadline",
            Self::FundingDeadline => "funding_deadline",
            Self::RenterCancel => "renter_cancel",
            Self::OperatorStop => "operator_stop",
            Self::StartWindowMissed => "start_window_missed",
        }
    }

    /// The reason when `by` calls off a rental that is not active yet.
    pub(super) const fn called_off_by(by: Party) -> Self {
        match by {
            Party::Renter => Self::RenterCancel,
            Party::Provider => Self::ProviderStop,
            Party::Operator => Self::OperatorStop,
        }
    }

    /// The reason when `by` stops an active rental.
    pub(super) const fn stopped_by(by: Party) -> Self {
        match by {
            Party::Renter => Self::RenterStop,
            Party::Provider => Self::ProviderStop,
            Party::Operator => Self::OperatorStop,
        }
    }
}

written_as_name!(EndReason, "end reason");
