//! Named refusals of the contract, decoded from revert data.

use alloy::{
    primitives::{Bytes, FixedBytes, hex},
    sol_types::SolInterface,
};

use crate::bindings::Escrow::EscrowErrors;

/// Why the contract would not do a call, by what the sender can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The rental is not, or no longer, in the state that the call needs.
    WrongState(String),
    /// The measured second is outside the contract's window: measure again.
    OutOfWindow(String),
    /// It is too early for this call: ask again later.
    TooEarly(String),
    /// A signature that was attached is not one that the contract takes.
    BadSignature(String),
    /// We may not make this call: a matter for the operator.
    NotAllowed(String),
    /// Anything else, by name or raw.
    Other(String),
}

impl Refusal {
    /// Decodes revert data.
    #[must_use]
    pub fn decode(data: &Bytes) -> Self {
        let Ok(error) = EscrowErrors::abi_decode(data) else {
            return Self::Other(format!("0x{}", hex::encode(data)));
        };
        let name = name_of(error.selector());
        match name.as_str() {
            "NotActive" | "NotLocked" | "IdUsed" | "NotContested" => Self::WrongState(name),
            "StartOutOfWindow" | "StopOutOfWindow" | "StartWindowOver" => Self::OutOfWindow(name),
            "FinalizeTooEarly" => Self::TooEarly(name),
            "BadSignature" => Self::BadSignature(name),
            "NotOperator" | "NotOperatorOrProvider" => Self::NotAllowed(name),
            _ => Self::Other(name),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongState(name)
            | Self::OutOfWindow(name)
            | Self::TooEarly(name)
            | Self::BadSignature(name)
            | Self::NotAllowed(name)
            | Self::Other(name) => f.write_str(name),
        }
    }
}

/// The name of an error of the contract, or its selector in hex.
#[must_use]
pub fn name_of(selector: [u8; 4]) -> String {
    EscrowErrors::name_by_selector(selector)
        .map_or_else(|| FixedBytes::from(selector).to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolError;

    use super::*;
    use crate::bindings::Escrow;

    #[test]
    fn the_contracts_errors_are_known_by_what_can_be_done() {
        let decode = |selector: [u8; 4]| Refusal::decode(&Bytes::copy_from_slice(&selector));
        assert!(matches!(decode(Escrow::NotActive::SELECTOR), Refusal::WrongState(_)));
        assert!(matches!(decode(Escrow::NotLocked::SELECTOR), Refusal::WrongState(_)));
        assert!(matches!(decode(Escrow::IdUsed::SELECTOR), Refusal::WrongState(_)));
        assert!(matches!(decode(Escrow::NotContested::SELECTOR), Refusal::WrongState(_)));
        assert!(matches!(decode(Escrow::FinalizeTooEarly::SELECTOR), Refusal::TooEarly(_)));
        assert!(matches!(decode(Escrow::BadSignature::SELECTOR), Refusal::BadSignature(_)));
        assert!(matches!(decode(Escrow::StartOutOfWindow::SELECTOR), Refusal::OutOfWindow(_)));
        assert!(matches!(decode(Escrow::StopOutOfWindow::SELECTOR), Refusal::OutOfWindow(_)));
        assert!(matches!(decode(Escrow::StartWindowOver::SELECTOR), Refusal::OutOfWindow(_)));
        assert!(matches!(decode(Escrow::NotOperator::SELECTOR), Refusal::NotAllowed(_)));
        assert!(matches!(decode(Escrow::NotOperatorOrProvider::SELECTOR), Refusal::NotAllowed(_)));
        assert_eq!(decode(Escrow::ZeroAmount::SELECTOR), Refusal::Other("ZeroAmount".to_owned()));
        assert_eq!(decode([1, 2, 3, 4]), Refusal::Other("0x01020304".to_owned()));
    }
}
