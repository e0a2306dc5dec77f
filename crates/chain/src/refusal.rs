//! What a node says to a raw transaction, and what follows from it. One table; a test per message.

use crate::ChainError;

/// What became of bytes that were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The node has them, from now or from before.
    Accepted,
    /// Nobody knows: send the same bytes again.
    Unknown(String),
    /// The node will not take them.
    Refused(Refused),
}

/// Why a node will not take a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The nonce is used: perhaps by these very bytes. Look by hash before deciding.
    NonceTooLow,
    /// An earlier nonce is missing; it will be sent first.
    NonceTooHigh,
    /// The signer cannot pay for the gas.
    PoorSigner,
    /// The fee is below what the node or the block wants.
    Underpriced,
    /// More gas than a block or the protocol allows.
    TooMuchGas,
    /// Signed for another chain, or malformed.
    Invalid,
}

impl Refused {
    /// The stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NonceTooLow => "nonce_too_low",
            Self::NonceTooHigh => "nonce_too_high",
            Self::PoorSigner => "poor_signer",
            Self::Underpriced => "underpriced",
            Self::TooMuchGas => "too_much_gas",
            Self::Invalid => "invalid",
        }
    }
}

/// Fragments of refusals as bor, geth, erigon and anvil word them, in lower case, most telling first.
const TABLE: &[(&str, Verdict)] = &[
    ("already known", Verdict::Accepted),
    ("already imported", Verdict::Accepted),
    ("known transaction", Verdict::Accepted),
    ("alreadyknown", Verdict::Accepted),
    ("nonce too low", Verdict::Refused(Refused::NonceTooLow)),
    ("nonce too high", Verdict::Refused(Refused::NonceTooHigh)),
    ("nonce is too high", Verdict::Refused(Refused::NonceTooHigh)),
    ("replacement transaction underpriced", Verdict::Refused(Refused::Underpriced)),
    ("transaction underpriced", Verdict::Refused(Refused::Underpriced)),
    ("tip cap", Verdict::Refused(Refused::Underpriced)),
    ("max fee per gas less than block base fee", Verdict::Refused(Refused::Underpriced)),
    ("fee cap less than block base fee", Verdict::Refused(Refused::Underpriced)),
    ("feetoolow", Verdict::Refused(Refused::Underpriced)),
    ("insufficient funds", Verdict::Refused(Refused::PoorSigner)),
    ("insufficientfunds", Verdict::Refused(Refused::PoorSigner)),
    ("exceeds block gas limit", Verdict::Refused(Refused::TooMuchGas)),
    ("gas limit too high", Verdict::Refused(Refused::TooMuchGas)),
    ("exceeds maximum per-transaction gas", Verdict::Refused(Refused::TooMuchGas)),
    ("intrinsic gas too low", Verdict::Refused(Refused::Invalid)),
    ("invalid chain id", Verdict::Refused(Refused::Invalid)),
    ("invalid sender", Verdict::Refused(Refused::Invalid)),
    ("rlp:", Verdict::Refused(Refused::Invalid)),
    ("failed to decode", Verdict::Refused(Refused::Invalid)),
];

#[derive(Clone, Copy)]
enum Verdict {
    Accepted,
    Refused(Refused),
}

/// Decides what an error to a send means. Whatever the table does not know is [`SendOutcome::Unknown`]:
/// the bytes may have been taken, and sending them again is harmless.
#[must_use]
pub fn classify(error: &ChainError) -> SendOutcome {
    let text = match error {
        ChainError::Refused { message, .. } => message.to_lowercase(),
        ChainError::Unavailable(_) | ChainError::Reverts { .. } | ChainError::Nonsense(_) => {
            return SendOutcome::Unknown(error.to_string());
        }
    };
    for (fragment, verdict) in TABLE {
        if text.contains(fragment) {
            return match verdict {
                Verdict::Accepted => SendOutcome::Accepted,
                Verdict::Refused(why) => SendOutcome::Refused(*why),
            };
        }
    }
    SendOutcome::Unknown(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> SendOutcome {
        classify(&ChainError::Refused { code: -32000, message: message.to_owned() })
    }

    #[test]
    fn every_known_message_has_its_verdict() {
        let cases = [
            ("already known", SendOutcome::Accepted),
            ("ALREADY_EXISTS: already known", SendOutcome::Accepted),
            ("transaction already imported", SendOutcome::Accepted),
            ("known transaction: 0xabc", SendOutcome::Accepted),
            ("nonce too low: next nonce 7, tx nonce 6", SendOutcome::Refused(Refused::NonceTooLow)),
            ("nonce too high", SendOutcome::Refused(Refused::NonceTooHigh)),
            ("replacement transaction underpriced", SendOutcome::Refused(Refused::Underpriced)),
            (
                "transaction gas price below minimum: gas tip cap 1, minimum needed 25000000000",
                SendOutcome::Refused(Refused::Underpriced),
            ),
            (
                "max fee per gas less than block base fee: address 0x, maxFeePerGas: 1",
                SendOutcome::Refused(Refused::Underpriced),
            ),
            (
                "insufficient funds for gas * price + value",
                SendOutcome::Refused(Refused::PoorSigner),
            ),
            (
                "Insufficient funds for gas * price + value",
                SendOutcome::Refused(Refused::PoorSigner),
            ),
            ("exceeds block gas limit", SendOutcome::Refused(Refused::TooMuchGas)),
            ("intrinsic gas too low", SendOutcome::Refused(Refused::Invalid)),
            ("invalid chain id for signer", SendOutcome::Refused(Refused::Invalid)),
        ];
        for (message, verdict) in cases {
            assert_eq!(said(message), verdict, "{message}");
        }
    }

    #[test]
    fn what_nobody_knows_is_sent_again() {
        assert!(matches!(said("internal error"), SendOutcome::Unknown(_)));
        let silence = ChainError::Unavailable("timed out".to_owned());
        assert!(matches!(classify(&silence), SendOutcome::Unknown(_)));
    }
}
