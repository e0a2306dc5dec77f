//! How the deposit gets into the contract: by the renter's own transactions, or by the renter's signature alone.

use alloy::{
    primitives::{Address, B256, U256, hex},
    signers::local::PrivateKeySigner,
    sol_types::SolCall as _,
};
use domain::time::UnixSeconds;
use escrow::{
    bindings::TestUSDC,
    signed::{self, ReceiveWithAuthorization},
};
use serde_json::{Value, json};

use super::{Stage, client::text, memory::Memory, renter::reserve};
use crate::{deploy::Roles, failure::Failure, place::Place, wallet::Wallet};

/// A renter who owns test dollars and none of the native coin.
///
/// # Errors
/// If the key cannot be kept.
pub(super) async fn poor_renter(memory: &mut Memory, place: &Place) -> Result<Wallet, Failure> {
    let key = match memory.notes.poor_renter.clone() {
        Some(key) => key,
        None => hex::encode_prefixed(PrivateKeySigner::random().to_bytes()),
    };
    memory.notes.poor_renter = Some(key.clone());
    memory.save()?;
    Wallet::open(&key, &place.rpc).await
}

/// Gives the renter without coins its test dollars.
pub(super) async fn give_dollars(stage: &Stage<'_>, token: Address) -> Result<(), Failure> {
    const DOLLARS: u64 = 100_000_000;
    let renter = stage.renter.address();
    if stage.eyes.wallet(token, renter).await? >= U256::from(DOLLARS) {
        return Ok(());
    }
    let mint = TestUSDC::mintCall { to: renter, amount: U256::from(DOLLARS) };
    let owner = Wallet::open(Roles::OWNER, &stage.place.rpc).await?;
    owner.send(token, mint.abi_encode(), U256::ZERO).await?;
    Ok(())
}

/// Locks the deposit, unless the lock is on the chain already.
pub(super) async fn lock(stage: &Stage<'_>, rental: &str) -> Result<(), Failure> {
    let playing = stage.memory.notes.rental.as_ref();
    let playing = playing.ok_or_else(|| Failure::new("nothing is booked"))?;
    let (_, booked) = reserve(stage, playing).await?;
    let terms = text(&booked, "/rental/escrow_id")?;
    if stage.eyes.is_locked(&terms).await? {
        return Ok(());
    }
    if playing.gasless {
        authorize(stage, rental, &booked).await
    } else {
        pay(stage, &booked).await
    }
}

/// Two transactions of the renter's own.
async fn pay(stage: &Stage<'_>, booked: &Value) -> Result<(), Failure> {
    if let Some(approve) = booked.pointer("/funding/approve").filter(|call| !call.is_null()) {
        send(&stage.renter, approve, U256::ZERO).await?;
        stage.say("renter", "approved the escrow for exactly the deposit");
    }
    let funding = booked.pointer("/funding").cloned().unwrap_or_default();
    let value = text(&funding, "/value")?.parse().map_err(Failure::during("the value"))?;
    let hash = send(&stage.renter, &funding, value).await?;
    stage.say("renter", &format!("locked the deposit: tx {hash}"));
    Ok(())
}

async fn send(wallet: &Wallet, call: &Value, value: U256) -> Result<String, Failure> {
    let to: Address = text(call, "/to")?.parse().map_err(Failure::during("the address"))?;
    let data = text(call, "/calldata")?;
    let data = hex::decode(data).map_err(Failure::during("the calldata"))?;
    let receipt = wallet.send(to, data, value).await?;
    Ok(receipt.transaction_hash.to_string())
}

/// A signature, and nothing else: the platform sends it.
async fn authorize(stage: &Stage<'_>, rental: &str, booked: &Value) -> Result<(), Failure> {
    let typed = booked.pointer("/funding/typed_data/authorization").filter(|data| !data.is_null());
    let typed = typed.ok_or_else(|| Failure::new("the token takes no authorizations"))?;
    let message = message(typed)?;
    // what a wallet would show: exactly the deposit, to the escrow, for this rental
    let id: B256 = parsed(booked, "/rental/escrow_id")?;
    let deposit: U256 = parsed(booked, "/rental/deposit/base_units")?;
    if (message.nonce, message.to, message.value) != (id, stage.place.escrow, deposit) {
        return Err(Failure::new("the authorization is not for this rental; it is not signed"));
    }
    let token = parsed(typed, "/domain/verifyingContract")?;
    let (name, version) = (text(typed, "/domain/name")?, text(typed, "/domain/version")?);
    let domain = signed::token_domain(&name, &version, stage.renter.chain_id(), token);
    let signature = stage.renter.sign_digest(signed::digest(&message, &domain))?;
    let seconds = |word: U256| UnixSeconds(word.saturating_to());
    let body = json!({
        "valid_after": seconds(message.validAfter),
        "valid_before": seconds(message.validBefore),
        "signature": signature,
    });
    let path = format!("/v1/rentals/{rental}/authorization");
    stage.renter_api.post(&path, &body, Some(&format!("demo-authorize-{rental}"))).await?;
    stage.say("renter", "signed an authorization of exactly the deposit; the platform sends it");
    Ok(())
}

fn message(typed: &Value) -> Result<ReceiveWithAuthorization, Failure> {
    Ok(ReceiveWithAuthorization {
        from: parsed(typed, "/message/from")?,
        to: parsed(typed, "/message/to")?,
        value: parsed(typed, "/message/value")?,
        validAfter: parsed(typed, "/message/validAfter")?,
        validBefore: parsed(typed, "/message/validBefore")?,
        nonce: parsed(typed, "/message/nonce")?,
    })
}

fn parsed<T: std::str::FromStr>(value: &Value, pointer: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    text(value, pointer)?.parse().map_err(Failure::during("a figure of the booking"))
}
