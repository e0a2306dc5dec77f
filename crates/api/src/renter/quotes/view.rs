//! A quote as the renter sees it.

use alloy::primitives::B256;
use domain::{
    billing::{auto_stop_second, split},
    id::{OfferId, QuoteId},
    quote::QuoteLine,
    time::Seconds,
};
use escrow::typed_data;
use serde::Serialize;
use serde_json::Value;
use store::{Policy, deployment::Deployment, quotes::Quote};
use utoipa::ToSchema;

use super::terms_of;
use crate::{
    Problem,
    problem::internal,
    views::{Time, TokenAmount, Unit, Usd, usd_of},
};

/// A line of a quote.
#[derive(Serialize, ToSchema)]
pub(crate) struct LineView {
    #[schema(example = "compute")]
    kind: &'static str,
    unit_price: Usd,
    /// What `unit_price` is the price of.
    #[schema(example = "gpu_hour")]
    unit: &'static str,
    /// The most that can be used, in GPU-seconds.
    #[schema(example = 7200)]
    qty_estimate: u64,
    /// The most that it can cost, rounded up.
    max: Usd,
}

/// A rate per hour for all GPUs together.
#[derive(Serialize, ToSchema)]
pub(in crate::renter) struct RateView {
    usd_per_hour: Usd,
    /// What the contract bills by.
    per_hour: TokenAmount,
}

/// The platform's fee. It is taken from the provider's side: the renter pays nothing on top.
#[derive(Serialize, ToSchema)]
pub(crate) struct FeeView {
    #[schema(example = 1200)]
    bps: u16,
    #[schema(example = "provider")]
    side: &'static str,
    /// If the whole time is used.
    amount: TokenAmount,
}

/// What the platform promises.
#[derive(Serialize, ToSchema)]
pub(crate) struct SlaView {
    /// Ready within so many seconds of the lock, or everything goes back.
    #[schema(example = 300)]
    ready_s: u32,
    /// Time without evidence for longer than this is an outage, which is not billed.
    #[schema(example = 60)]
    evidence_s: u32,
    /// An outage of more than so many seconds ends the rental at its last good second.
    #[schema(example = 600)]
    max_outage_s: u32,
}

/// A quote.
#[derive(Serialize, ToSchema)]
pub(crate) struct QuoteView {
    #[schema(value_type = String, example = "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: QuoteId,
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    offer_id: OfferId,
    offer_version: u32,
    gpu_model: String,
    /// The GPUs of the offer; which ones they are, by the vendor's UUID, is fixed at the booking.
    gpu_count: u16,
    #[schema(value_type = u32)]
    duration_s: Seconds,
    lines: Vec<LineView>,
    /// The most that it can cost, in dollars.
    subtotal: Usd,
    rate: RateView,
    fee: FeeView,
    /// What the provider earns if the whole time is used.
    provider_max: TokenAmount,
    /// What the renter locks.
    deposit: TokenAmount,
    /// The second after which the deposit is used up.
    #[schema(value_type = u32)]
    auto_stop_s: Seconds,
    /// What goes back, in a sentence.
    refund_rule: &'static str,
    sla: SlaView,
    /// From then on it cannot be booked.
    expires_at: Time,
    /// The last second at which the contract accepts the lock and the start.
    start_by: Time,
    created_at: Time,
    /// The rental's id on the chain: the EIP-712 hash of the terms.
    #[schema(value_type = String)]
    escrow_id: B256,
    /// The terms as typed data, for a wallet to show.
    eip712: Value,
}

const REFUND_RULE: &str = "Billed by the second from the start, at least one second; outages are not \
                           billed. Everything that is not billed goes back to the renter, and \
                           everything does if the rental never starts.";

/// The quote as the renter sees it.
///
/// # Errors
/// [`Code::Internal`](crate::Code::Internal) if it holds what cannot be.
pub(super) fn view(
    quote: &Quote,
    unit: &Unit,
    contract: &Deployment,
    policy: &Policy,
) -> Result<QuoteView, Problem> {
    let stored: Vec<QuoteLine> = serde_json::from_value(quote.lines.clone()).map_err(internal)?;
    let lines = stored
        .iter()
        .map(|line| LineView {
            kind: line.kind.as_str(),
            unit_price: line.unit_price.usd().into(),
            unit: line.unit.as_str(),
            qty_estimate: line.qty,
            max: line.max_usd.into(),
        })
        .collect();
    let auto_stop = auto_stop_second(quote.deposit, quote.rate);
    let whole = split(quote.deposit, quote.rate, quote.fee, auto_stop).map_err(internal)?;
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    Ok(QuoteView {
        id: quote.id,
        offer_id: quote.offer,
        offer_version: quote.offer_version,
        gpu_model: quote.model.clone(),
        gpu_count: quote.gpu_count,
        duration_s: quote.duration,
        lines,
        subtotal: usd_of(quote.deposit, quote)?,
        rate: rate_view(quote, unit),
        fee: FeeView { bps: quote.fee.get(), side: "provider", amount: unit.amount(whole.fee) },
        provider_max: unit.amount(whole.provider),
        deposit: unit.amount(quote.deposit),
        auto_stop_s: auto_stop,
        refund_rule: REFUND_RULE,
        sla: SlaView {
            ready_s: policy.ready_ttl.get(),
            evidence_s: policy.evidence_timeout.get(),
            max_outage_s: policy.max_outage.get(),
        },
        expires_at: Time(quote.expires_at),
        start_by: Time(quote.start_by),
        created_at: Time(quote.created_at),
        escrow_id: quote.escrow_id,
        eip712: typed_data::terms(&terms_of(quote), &domain),
    })
}

/// The rate of a quote.
pub(in crate::renter) fn rate_view(quote: &Quote, unit: &Unit) -> RateView {
    RateView {
        usd_per_hour: quote.usd_per_hour.usd().into(),
        per_hour: unit.amount(quote.rate.amount()),
    }
}
