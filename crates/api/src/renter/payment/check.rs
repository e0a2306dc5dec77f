//! Whether a payment is good.

use alloy::{eips::BlockId, primitives::B256};
use domain::time::UnixSeconds;
use escrow::{signed, terms::uint256};
use store::{deployment::Deployment, quotes::Quote};

use super::{invalid, wire::Payment};
use crate::{
    AppState, Code, Problem,
    limits::Origin,
    renter::{
        authorization::LEAST_LEFT_S,
        end::{MAX_SIGNATURE, check_signature},
        quotes::terms_of,
    },
    views::Unit,
};

/// Whether the payment is the payer's, of this deposit, for this rental.
pub(super) async fn check(
    (app, origin): (&AppState, Origin),
    quote: &Quote,
    (id, contract, unit): (B256, &Deployment, &Unit),
    payment: &Payment,
) -> Result<(), Problem> {
    let told = &payment.authorization;
    let parts = [
        (told.to == contract.escrow, "`to` is not the escrow contract"),
        (payment.value == uint256(quote.deposit), "`value` is not the deposit"),
        (
            told.nonce == id,
            "`nonce` is not the rental's id: the EIP-712 hash of `extra.terms` with the payer as renter, in the \
             domain of the escrow",
        ),
    ];
    if let Some((_, what)) = parts.into_iter().find(|(good, _)| !good) {
        return Err(invalid(what));
    }
    if payment.signature.is_empty() || payment.signature.len() > MAX_SIGNATURE {
        return Err(invalid("the signature has no length that a wallet's can have"));
    }
    let domain = app.gasless.domain(&app.chain, unit.token(), contract.chain_id).await;
    let domain = domain.ok_or_else(|| {
        Problem::new(Code::ChainUnavailable, "the token could not be asked for its signing domain")
    })?;
    let valid = (UnixSeconds(payment.valid_after), UnixSeconds(payment.valid_before));
    let message =
        signed::authorization(&terms_of(quote), id, contract.escrow, quote.deposit, valid);
    let digest = signed::digest(&message, &domain);
    check_signature((app, origin), quote.renter, digest, &payment.signature).await.map_err(
        |problem| {
            if problem.code() == Code::ValidationFailed {
                invalid("the signature is not by `from` over this authorization")
            } else {
                problem
            }
        },
    )
}

/// Whether the payment can be sent now, and the payer has the money.
pub(super) async fn affordable(
    app: &AppState,
    quote: &Quote,
    payment: &Payment,
) -> Result<(), Problem> {
    let now = app.now().get();
    if payment.valid_after >= now {
        return Err(invalid("the authorization is not valid yet"));
    }
    if payment.valid_before < now.saturating_add(LEAST_LEFT_S) {
        return Err(invalid("the authorization has ended, or ends too soon to be sent"));
    }
    let balance = app.chain.token_balance(quote.token, quote.renter, BlockId::latest()).await;
    let balance = balance.map_err(|error| {
        tracing::warn!(%error, "a payer's balance could not be asked for");
        Problem::new(Code::ChainUnavailable, "the chain could not be asked for the payer's balance")
    })?;
    if balance < uint256(quote.deposit) {
        let detail =
            format!("the payer has {balance} base units, the deposit is {}", quote.deposit);
        return Err(invalid(detail));
    }
    Ok(())
}
