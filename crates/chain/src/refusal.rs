//! What a node says to a raw transaction, and what follows from it. One table; a test per message.

use crate::{ChainError, error::INTERNAL_ERROR};

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

/// Fragments of refusals in lower case, the first that fits decides. From the nodes' sources: geth and bor
/// `core/txpool/errors.go`, `core/error.go`, `core/txpool/validation.go`, `internal/ethapi`; erigon's
/// `txpoolcfg` discard reasons, which its RPC puts behind a class and a colon; anvil's `eth/error.rs`.
const TABLE: &[(&str, Verdict)] = &[
    // about other things than this transaction's own number or price
    ("authority", Verdict::Refused(Refused::Invalid)),
    // the node has them
    ("already known", Verdict::Accepted),
    ("already imported", Verdict::Accepted),
    ("known transaction", Verdict::Accepted),
    ("alreadyknown", Verdict::Accepted),
    ("existing txn with same hash", Verdict::Accepted),
    (": mined", Verdict::Accepted),
    // numbers
    ("nonce too low", Verdict::Refused(Refused::NonceTooLow)),
    ("nonce too high", Verdict::Refused(Refused::NonceTooHigh)),
    ("nonce is too high", Verdict::Refused(Refused::NonceTooHigh)),
    ("nonce has max value", Verdict::Refused(Refused::Invalid)),
    // malformed, before the words about fees that are part of them
    ("max priority fee per gas higher than", Verdict::Refused(Refused::Invalid)),
    ("`max_priority_fee_per_gas` greater than", Verdict::Refused(Refused::Invalid)),
    ("max fee per gas higher than 2^256", Verdict::Refused(Refused::Invalid)),
    // fees
    ("underpriced", Verdict::Refused(Refused::Underpriced)),
    ("gas price below minimum", Verdict::Refused(Refused::Underpriced)),
    ("insufficient gas price to replace", Verdict::Refused(Refused::Underpriced)),
    ("could not replace existing tx", Verdict::Refused(Refused::Underpriced)),
    ("max fee per gas less than block base fee", Verdict::Refused(Refused::Underpriced)),
    ("fee cap less than block base fee", Verdict::Refused(Refused::Underpriced)),
    ("fee too low", Verdict::Refused(Refused::Underpriced)),
    ("feetoolow", Verdict::Refused(Refused::Underpriced)),
    ("insufficient funds", Verdict::Refused(Refused::PoorSigner)),
    ("insufficientfunds", Verdict::Refused(Refused::PoorSigner)),
    // a node's own cap on what a transaction may cost: for the operator to see, not to be sent for ever
    ("exceeds the configured cap", Verdict::Refused(Refused::Invalid)),
    // gas
    ("callgascostmorethangaslimit", Verdict::Refused(Refused::Invalid)),
    ("gasfloormorethangaslimit", Verdict::Refused(Refused::Invalid)),
    ("intrinsic gas too high", Verdict::Refused(Refused::TooMuchGas)),
    ("exceeds block gas limit", Verdict::Refused(Refused::TooMuchGas)),
    ("gas limit is greater than", Verdict::Refused(Refused::TooMuchGas)),
    ("gas limit too high", Verdict::Refused(Refused::TooMuchGas)),
    ("gas limit is too high", Verdict::Refused(Refused::TooMuchGas)),
    ("exceeds maximum per-transaction gas", Verdict::Refused(Refused::TooMuchGas)),
    ("gas uint64 overflow", Verdict::Refused(Refused::TooMuchGas)),
    ("gasuintoverflow", Verdict::Refused(Refused::TooMuchGas)),
    ("intrinsic gas too low", Verdict::Refused(Refused::Invalid)),
    ("intrinsicgas", Verdict::Refused(Refused::Invalid)),
    ("insufficient gas for floor data gas cost", Verdict::Refused(Refused::Invalid)),
    // signed for another chain, by nobody, or not a transaction
    ("invalid chain id", Verdict::Refused(Refused::Invalid)),
    ("signed for another chain", Verdict::Refused(Refused::Invalid)),
    ("only replay-protected", Verdict::Refused(Refused::Invalid)),
    ("invalid sender", Verdict::Refused(Refused::Invalid)),
    ("sender not an eoa", Verdict::Refused(Refused::Invalid)),
    ("transaction type not supported", Verdict::Refused(Refused::Invalid)),
    ("supporting this transaction type", Verdict::Refused(Refused::Invalid)),
    ("not supported by the current hardfork", Verdict::Refused(Refused::Invalid)),
    ("negative value", Verdict::Refused(Refused::Invalid)),
    ("oversized data", Verdict::Refused(Refused::Invalid)),
    ("rlptoolong", Verdict::Refused(Refused::Invalid)),
    ("initcode", Verdict::Refused(Refused::Invalid)),
    ("rlp:", Verdict::Refused(Refused::Invalid)),
    ("typed transaction too short", Verdict::Refused(Refused::Invalid)),
    ("failed to decode", Verdict::Refused(Refused::Invalid)),
    ("empty transaction data", Verdict::Refused(Refused::Invalid)),
    // Refusals of the moment are not in the table on purpose: a full pool or sub-pool, an account limit, a
    // reserved address, a gap that another transaction of ours fills, a replacement by our own next attempt. The
    // same bytes are sent again.
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
        // a node's own trouble, whatever it says of it: the bytes may have got through
        ChainError::Refused { code, .. } if *code == INTERNAL_ERROR => {
            return SendOutcome::Unknown(error.to_string());
        }
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

    fn all_mean(verdict: &SendOutcome, messages: &[&str]) {
        for message in messages {
            assert_eq!(said(message), *verdict, "{message}");
        }
    }

    #[test]
    fn a_node_that_has_the_bytes_has_accepted_them() {
        let messages = [
            "already known",                               // geth, bor
            "ALREADY_EXISTS: already known",               // erigon
            "INTERNAL_ERROR: existing txn with same hash", // erigon
            "INTERNAL_ERROR: mined",                       // erigon
            "transaction already imported",                // anvil
            "Tx: [0xabc] already Imported",                // anvil, older
            "known transaction: 0xabc",                    // geth, old
            "AlreadyKnown",                                // nethermind
        ];
        all_mean(&SendOutcome::Accepted, &messages);
    }

    #[test]
    fn refusals_of_numbers() {
        let low = [
            "nonce too low: next nonce 7, tx nonce 6",
            "nonce too low",
            "INTERNAL_ERROR: nonce too low",
        ];
        all_mean(&SendOutcome::Refused(Refused::NonceTooLow), &low);
        let high = ["nonce too high: tx nonce 9, gapped nonce 7", "Nonce too high"];
        all_mean(&SendOutcome::Refused(Refused::NonceTooHigh), &high);
    }

    #[test]
    fn refusals_of_prices_and_purses() {
        let cheap = [
            "replacement transaction underpriced",
            "transaction underpriced",
            "transaction underpriced: gas tip cap 1, minimum needed 25000000000",
            "transaction gas price below minimum: gas tip cap 1, minimum needed 25000000000",
            "max fee per gas less than block base fee: address 0x, maxFeePerGas: 1, baseFee: 7",
            "max fee per gas less than block base fee",
            "Tx: [0xabc] insufficient gas price to replace existing transaction",
            "FEE_TOO_LOW: underpriced",
            "FEE_TOO_LOW: fee too low",
            "FEE_TOO_LOW: replacement transaction underpriced",
            "INTERNAL_ERROR: could not replace existing tx",
            "FeeTooLow",
        ];
        all_mean(&SendOutcome::Refused(Refused::Underpriced), &cheap);
        let poor = [
            "insufficient funds for gas * price + value: balance 1, tx cost 2, overshot 1",
            "insufficient funds for gas * price + value: balance 1, queued cost 2, tx cost 2, overshot 3",
            "Insufficient funds for gas * price + value",
            "insufficient funds for transfer",
            "INTERNAL_ERROR: insufficient funds",
        ];
        all_mean(&SendOutcome::Refused(Refused::PoorSigner), &poor);
    }

    #[test]
    fn refusals_of_gas() {
        let much = [
            "exceeds block gas limit",
            "transaction gas limit too high (cap: 16777216, tx: 20000000)",
            "INVALID: gas limit is too high",
            "intrinsic gas too high -- CallerGasLimitMoreThanBlock",
            "Transaction gas limit is greater than the block gas limit, gas_limit: 20000000, cap: 16777216",
            "gas uint64 overflow",
            "INTERNAL_ERROR: GasUintOverflow",
        ];
        all_mean(&SendOutcome::Refused(Refused::TooMuchGas), &much);
    }

    #[test]
    fn what_can_never_be_taken_is_invalid() {
        let never = [
            "intrinsic gas too low: gas 1, minimum needed 21000",
            "intrinsic gas too low",
            "intrinsic gas too high -- CallGasCostMoreThanGasLimit",
            "intrinsic gas too high -- GasFloorMoreThanGasLimit",
            "insufficient gas for floor data gas cost: gas 1, minimum needed 2",
            "INTERNAL_ERROR: IntrinsicGas",
            "invalid sender: invalid chain id for signer: have 1 want 137",
            "INVALID: invalid sender",
            "invalid chain id for signer",
            "Incompatible EIP-155 transaction, signed for another chain",
            "only replay-protected (EIP-155) transactions allowed over RPC",
            "sender not an eoa: address 0x, codehash: 0x",
            "transaction type not supported: tx type 3 not supported by this pool",
            "fork supporting this transaction type is not activated yet",
            "EIP-1559 style fee params received but they are not supported by the current hardfork.",
            "nonce has max value",
            "max priority fee per gas higher than max fee per gas",
            "max priority fee per gas higher than 2^256-1",
            "max fee per gas higher than 2^256-1",
            "Invalid input: `max_priority_fee_per_gas` greater than `max_fee_per_gas`",
            "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)",
            "negative value",
            "INVALID: negative value",
            "oversized data: transaction size 131073, limit 131072",
            "INVALID: oversized data",
            "INTERNAL_ERROR: RLPTooLong",
            "max initcode size exceeded: code size 1, limit 0",
            "INTERNAL_ERROR: initcode too large",
            "rlp: expected input list for types.LegacyTx",
            "typed transaction too short",
            "Failed to decode transaction",
            "Empty transaction data",
            "authority nonce too low",
            "authority already reserved",
        ];
        all_mean(&SendOutcome::Refused(Refused::Invalid), &never);
    }

    #[test]
    fn refusals_of_the_moment_are_sent_again() {
        let moments = [
            "txpool is full",
            "pending sub-pool is full",
            "baseFee sub-pool is full",
            "queued sub-pool is full",
            "account limit exceeded: pooled 16 txs",
            "address already reserved",
            "future transaction tries to replace pending",
            "in-flight transaction limit reached for delegated accounts",
            "gapped-nonce tx from delegated accounts",
            "replaced by transaction with higher tip",
            "spammer",
            "Cyclic transaction detected",
            "not set",
        ];
        for message in moments {
            assert!(matches!(said(message), SendOutcome::Unknown(_)), "{message}");
        }
    }

    #[test]
    fn what_nobody_knows_is_sent_again() {
        assert!(matches!(said("internal error"), SendOutcome::Unknown(_)));
        let silence = ChainError::Unavailable("timed out".to_owned());
        assert!(matches!(classify(&silence), SendOutcome::Unknown(_)));
    }

    #[test]
    fn an_internal_error_says_nothing_whatever_its_words() {
        for message in ["nonce too low", "internal error", "already known"] {
            let error = ChainError::Refused { code: -32_603, message: message.to_owned() };
            assert!(matches!(classify(&error), SendOutcome::Unknown(_)), "{message}");
        }
    }
}
