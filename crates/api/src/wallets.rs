//! Whether a contract wallet signed: EIP-1271, and ERC-6492 for a wallet that is not deployed yet.
//!
//! Whatever is asked is asked of code that anybody may have written, in `eth_call`s of one block, with bounds on gas and
//! time, by a caller that is nobody. A wallet that has code is asked itself, whatever the signature says of a factory.

use std::{sync::Arc, time::Duration};

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, Bytes},
    sol,
    sol_types::{SolCall as _, SolConstructor as _, SolValue as _},
};
use chain::{Bounded, ChainError, ReadClient};
use escrow::bindings::WalletProbe;
use tokio::sync::Semaphore;

use crate::{AppState, limits::Origin};

sol! {
    function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
}

/// What a signature by ERC-6492 ends with.
const WRAPPED: [u8; 32] = [
    0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92,
    0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92,
];
/// More than this a wallet may not burn to check a signature.
const GAS_TO_CHECK: u64 = 500_000;
/// Nor this to be deployed first.
const GAS_TO_DEPLOY: u64 = 8_000_000;
/// How long all questions together may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// Signatures that are asked about at once, of a process: what they cost the chain is not for callers to decide.
const AT_ONCE: usize = 4;

/// Room for so many questions.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// A signature as it came: the wallet's own part, and how the wallet would be deployed.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    own: Bytes,
    deployment: Option<(Address, Bytes)>,
}

impl Parts {
    /// `None` if it says to be wrapped and is not well so.
    fn of(signature: &[u8]) -> Option<Self> {
        let Some(wrapped) = signature.strip_suffix(&WRAPPED) else {
            return Some(Self { own: Bytes::copy_from_slice(signature), deployment: None });
        };
        let (factory, input, own) =
            <(Address, Bytes, Bytes)>::abi_decode_params_validate(wrapped).ok()?;
        Some(Self { own, deployment: Some((factory, input)) })
    }
}

/// Whether a contract wallet says that it signed a hash. An account without code did not, unless the signature shows
/// how it gets some.
///
/// # Errors
/// [`ChainError::Unavailable`] if the chain does not answer in time, or is asked too much already.
pub(crate) async fn signed(
    (app, origin): (&AppState, Origin),
    wallet: Address,
    hash: B256,
    signature: &[u8],
) -> Result<bool, ChainError> {
    let Some(parts) = Parts::of(signature) else { return Ok(false) };
    in_turn((app, origin), wallet, hash, parts).await
}

/// Whether a wallet that has code says that it signed a hash (EIP-1271 alone): as other contracts ask it.
///
/// # Errors
/// As [`signed`].
pub(crate) async fn signed_as_deployed(
    (app, origin): (&AppState, Origin),
    wallet: Address,
    hash: B256,
    signature: &[u8],
) -> Result<bool, ChainError> {
    let own = Bytes::copy_from_slice(signature);
    in_turn((app, origin), wallet, hash, Parts { own, deployment: None }).await
}

async fn in_turn(
    (app, origin): (&AppState, Origin),
    wallet: Address,
    hash: B256,
    parts: Parts,
) -> Result<bool, ChainError> {
    if !app.limits.may_ask_wallet(origin) {
        let reason = "wallets are asked about too often; come again in a minute".to_owned();
        return Err(ChainError::Unavailable(reason));
    }
    let asked = tokio::time::timeout(PATIENCE, async {
        // it is never closed
        let _turn = app.desk.0.acquire().await;
        ask(&app.chain, wallet, hash, parts).await
    });
    asked.await.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        Err(ChainError::Unavailable(format!("no answer about a wallet within {seconds} s")))
    })
}

async fn ask(
    chain: &ReadClient,
    wallet: Address,
    hash: B256,
    parts: Parts,
) -> Result<bool, ChainError> {
    // one block for all questions: what has no code in it is asked as such
    let at = BlockId::number(chain.common_head().await?);
    if chain.has_code(wallet, at).await? {
        let data = isValidSignatureCall { hash, signature: parts.own }.abi_encode().into();
        let call = Bounded { to: Some(wallet), data, gas: GAS_TO_CHECK };
        let answer = chain.ask_bounded(&call, at).await?;
        let mut good = [0; 32];
        good.iter_mut().zip(isValidSignatureCall::SELECTOR).for_each(|(to, from)| *to = from);
        return Ok(answer.is_some_and(|answer| answer.get(..32) == Some(&good)));
    }
    let Some((factory, input)) = parts.deployment else { return Ok(false) };
    let arguments =
        WalletProbe::constructorCall { wallet, digest: hash, signature: parts.own, factory, input };
    let data = [WalletProbe::BYTECODE.as_ref(), &arguments.abi_encode()].concat().into();
    let call = Bounded { to: None, data, gas: GAS_TO_DEPLOY };
    let answer = chain.ask_bounded(&call, at).await?;
    Ok(answer.is_some_and(|answer| answer.as_ref() == [1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(factory: Address, input: &[u8], own: &[u8]) -> Vec<u8> {
        let parts = (factory, Bytes::copy_from_slice(input), Bytes::copy_from_slice(own));
        [parts.abi_encode_params(), WRAPPED.to_vec()].concat()
    }

    #[test]
    fn a_wrapped_signature_is_taken_apart() {
        let factory = Address::repeat_byte(7);
        let deployment = Some((factory, Bytes::from_static(&[1, 2])));
        let own = Bytes::from_static(&[3; 65]);
        assert_eq!(Parts::of(&wrapped(factory, &[1, 2], &own)), Some(Parts { own, deployment }));
        let own = Bytes::from_static(&[3; 65]);
        assert_eq!(Parts::of(&own), Some(Parts { own: own.clone(), deployment: None }));
        assert_eq!(Parts::of(&[]), Some(Parts { own: Bytes::new(), deployment: None }));
    }

    #[test]
    fn what_only_ends_like_one_is_none() {
        let good = wrapped(Address::repeat_byte(7), &[1, 2], &[3; 65]);
        assert_eq!(Parts::of(&WRAPPED), None);
        assert_eq!(Parts::of(&[&[9; 64][..], &WRAPPED].concat()), None);
        for cut in 1..good.len() - 32 {
            assert_eq!(Parts::of(&good[cut..]), None, "{cut}");
        }
    }
}
