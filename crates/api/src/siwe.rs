//! Sign-in messages (ERC-4361). The crate `siwe` parses them; what they must say is decided here, from
//! the service's own settings and never from the message.
//!
//! The parser is lenient in places (blank lines, checksums of the whole), so the parsed message must
//! print as exactly the text that was signed: nothing that a wallet showed is left unchecked.

use alloy::primitives::{Address, eip191_hash_message};
use domain::time::{Seconds, UnixSeconds};
use escrow::reading::recover_hash;
use siwe::Message;
use time::OffsetDateTime;

use crate::{Code, Problem, identity::is_nonce, state::ApiConfig};

/// What the message says to the person who signs it.
pub(crate) const STATEMENT: &str =
    "Sign in to Weir. This costs nothing and allows nothing to be spent.";
/// The longest message that is parsed, in bytes.
const MAX_MESSAGE: usize = 2_048;
/// How far ahead of ours a wallet's clock may be.
const CLOCK_SKEW: Seconds = Seconds(60);

/// Who says that they sign in, with which nonce. The signature is not checked here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) wallet: Address,
    pub(crate) nonce: String,
}

/// Checks everything that a sign-in message says.
///
/// # Errors
/// [`Code::SiweInvalid`], [`Code::WrongChain`], [`Code::SiweExpired`].
pub(crate) fn check(text: &str, config: &ApiConfig, now: UnixSeconds) -> Result<Claim, Problem> {
    let invalid =
        |detail: String| Problem::new(Code::SiweInvalid, detail.clone()).at("/message", detail);
    if text.len() > MAX_MESSAGE {
        return Err(invalid(format!("the message is longer than {MAX_MESSAGE} bytes")));
    }
    let message: Message =
        text.parse().map_err(|error| invalid(format!("not an ERC-4361 message: {error}")))?;
    if message.to_string() != text {
        return Err(invalid("not an ERC-4361 message: it has more or other lines".to_owned()));
    }
    if message.domain.as_str() != config.siwe_domain {
        return Err(invalid(format!("the domain must be {}", config.siwe_domain)));
    }
    if message.uri.as_str() != config.public_url {
        return Err(invalid(format!("the URI must be {}", config.public_url)));
    }
    if message.statement.as_deref() != Some(STATEMENT) {
        return Err(invalid("the statement must be the one that came with the nonce".to_owned()));
    }
    if !is_nonce(&message.nonce) {
        return Err(invalid("the nonce must be 8 to 64 letters and digits".to_owned()));
    }
    if !message.resources.is_empty() {
        return Err(invalid("the message must name no resources".to_owned()));
    }
    if message.chain_id != config.chain_id {
        let detail = format!(
            "the message is for chain {}, this service is on chain {}",
            message.chain_id, config.chain_id
        );
        return Err(Problem::new(Code::WrongChain, detail));
    }
    check_times(&message, config, now)?;
    Ok(Claim { wallet: Address::from(message.address), nonce: message.nonce })
}

/// Whether the key of the wallet that a message names signed it.
pub(crate) fn is_by_key(claim: &Claim, text: &str, signature: &[u8]) -> bool {
    recover_hash(&eip191_hash_message(text), signature).ok() == Some(claim.wallet)
}

fn check_times(message: &Message, config: &ApiConfig, now: UnixSeconds) -> Result<(), Problem> {
    let expired = |detail: &str| Problem::new(Code::SiweExpired, detail);
    let issued = unix(message.issued_at.as_ref());
    if issued > now.saturating_plus(CLOCK_SKEW) {
        return Err(expired("the message was issued in the future; check the wallet's clock"));
    }
    if issued < now.saturating_minus(config.nonce_ttl) {
        return Err(expired("the message was issued too long ago"));
    }
    if message.expiration_time.as_ref().is_some_and(|at| unix(at.as_ref()) <= now) {
        return Err(expired("the message's expiration time has passed"));
    }
    let latest = now.saturating_plus(CLOCK_SKEW);
    if message.not_before.as_ref().is_some_and(|at| unix(at.as_ref()) > latest) {
        return Err(expired("the message is not valid yet"));
    }
    Ok(())
}

/// Whole seconds since 1970; 0 before that, which every check refuses.
fn unix(at: &OffsetDateTime) -> UnixSeconds {
    UnixSeconds(u64::try_from(at.unix_timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod forgeries;
#[cfg(test)]
mod forgery;

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const NOW: UnixSeconds = UnixSeconds(1_800_000_000); // 2027-01-15T08:00:00Z

    pub(super) fn config() -> ApiConfig {
        ApiConfig::new("http://localhost:8080", 31_337)
    }

    pub(super) fn message(edit: impl Fn(String) -> String) -> String {
        edit(format!(
            "localhost:8080 wants you to sign in with your Ethereum account:\n\
             0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n\n{STATEMENT}\n\n\
             URI: http://localhost:8080\nVersion: 1\nChain ID: 31337\n\
             Nonce: 0123456789abcdef\nIssued At: 2027-01-15T07:59:00Z\n\
             Expiration Time: 2027-01-15T08:05:00Z"
        ))
    }

    fn refusal(edit: impl Fn(String) -> String) -> Code {
        check(&message(edit), &config(), NOW).unwrap_err().code()
    }

    #[test]
    fn a_message_made_from_the_nonces_answer_is_good() {
        let claim = check(&message(|text| text), &config(), NOW).unwrap();
        assert_eq!(claim.nonce, "0123456789abcdef");
        assert_eq!(claim.wallet.to_checksum(None), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let replaced = |from: &'static str, to: &'static str| {
            refusal(move |text| {
                assert!(text.contains(from));
                text.replacen(from, to, 1)
            })
        };
        assert_eq!(replaced("localhost:8080 wants", "evil.example wants"), Code::SiweInvalid);
        assert_eq!(replaced("URI: http://localhost", "URI: http://evil"), Code::SiweInvalid);
        assert_eq!(replaced("Sign in to Weir.", "Give all."), Code::SiweInvalid);
        assert_eq!(replaced("0xf39Fd6e", "0xf39fd6e"), Code::SiweInvalid);
        assert_eq!(replaced("Version: 1", "Version: 2"), Code::SiweInvalid);
        assert_eq!(replaced("Chain ID: 31337", "Chain ID: 1"), Code::WrongChain);
        assert_eq!(replaced("\n\nURI", "\nx\nURI"), Code::SiweInvalid);
        assert_eq!(refusal(|text| text + "\nResources:\n- http://x"), Code::SiweInvalid);
        assert_eq!(refusal(|text| text + "\nMore: 1"), Code::SiweInvalid);
        assert_eq!(refusal(|_| "x".repeat(3_000)), Code::SiweInvalid);
    }

    #[test]
    fn a_message_has_its_time() {
        let at =
            |from: &'static str, to: &'static str| refusal(move |text| text.replacen(from, to, 1));
        let issued = "Issued At: 2027-01-15T07:59:00Z";
        assert_eq!(at(issued, "Issued At: 2027-01-15T08:01:01Z"), Code::SiweExpired);
        assert_eq!(at(issued, "Issued At: 2027-01-15T07:49:59Z"), Code::SiweExpired);
        let expires = "Expiration Time: 2027-01-15T08:05:00Z";
        assert_eq!(at(expires, "Expiration Time: 2027-01-15T08:00:00Z"), Code::SiweExpired);
        let text = message(|text| text + "\nNot Before: 2027-01-15T08:02:00Z");
        assert_eq!(check(&text, &config(), NOW).unwrap_err().code(), Code::SiweExpired);
        let offset =
            message(|text| text.replace("2027-01-15T07:59:00Z", "2027-01-15T09:59:00+02:00"));
        assert!(check(&offset, &config(), NOW).is_ok());
    }
}
