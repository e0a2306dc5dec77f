//! A quote as the renter sees it.

use alloy::{
    hex,
    primitives::{Address, B256},
};
use domain::{
    billing::{auto_stop_second, split},
    id::{MachineId, OfferId, QuoteId},
    money::UsdDelta,
    offer::Isolation,
    quote::{LineKind, QuoteLine},
    time::Seconds,
};
use escrow::{
    quote as sealed,
    typed_data::{self, TypedData},
};
use serde::Serialize;
use store::{Policy, deployment::Deployment, quotes::Quote};
use utoipa::ToSchema;

use super::{order_text, seal::promised, terms_of};
use crate::{
    Problem,
    problem::internal,
    views::{SignedUsd, Time, TokenAmount, Unit, Usd},
};

/// A line of a quote. Together they come to `total_max`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LineView {
    /// `compute`, `reserved_discount`, `disk`, `network_up`, `network_down`, `fee` (nothing on top: the provider pays
    /// it) or `rounding` (everything is billed at one rate per hour, in whole millionths).
    #[schema(example = "compute")]
    kind: &'static str,
    /// Negative for what is taken off.
    unit_price: SignedUsd,
    /// What `unit_price` is the price of: `gpu_hour`, `hour`, `gb_month` (720 hours), `gb` or `quote` (the whole).
    #[schema(example = "gpu_hour")]
    unit: &'static str,
    /// The most that can be used: GPU-seconds of a `gpu_hour`, seconds of an `hour`, GB-seconds of a `gb_month`.
    #[schema(example = 7200)]
    qty_estimate: u64,
    /// The most that it can cost, rounded up; what is taken off is rounded down.
    max: SignedUsd,
}

/// The token's price that the quote converts at.
#[derive(Serialize, ToSchema)]
pub(crate) struct FxView {
    usd_per_token: Usd,
    /// Who says so.
    #[schema(example = "chainlink:0xAB594600376Ec9fD91F8e885dADF0CE036862dE0")]
    source: String,
    priced_at: Time,
}

/// The platform's signature over everything that the quote says.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignedView {
    /// The platform's quoting key, which can move no money.
    #[schema(value_type = String)]
    signer: Address,
    /// r, s and v over the typed data's EIP-712 hash.
    #[schema(example = "0x")]
    signature: String,
    /// What is signed. `refundRule` is the keccak256 of the text of `refund_rule`, `rental` the hash of the terms.
    #[schema(value_type = Value)]
    typed_data: TypedData,
}

/// A rate per hour for everything together.
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
    /// Told so many seconds before the provider ends it.
    #[schema(example = 120)]
    notice_s: u32,
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
    #[schema(value_type = String)]
    machine_id: MachineId,
    /// How many GPUs; which ones they are, by the vendor's UUID, is fixed at the booking.
    gpu_count: u16,
    /// Disk, in GB.
    disk_gb: u32,
    /// The allowance of GB sent from the machine over the whole duration; it grows with the time used.
    up_gb: u32,
    /// The allowance of GB received by the machine over the whole duration; it grows with the time used.
    down_gb: u32,
    /// What is to run, as `slug@version`.
    template: Option<String>,
    /// `machine` (nothing is shared, it is rented whole), `gpu` (the machine is shared) or `mig` (a GPU is).
    #[schema(value_type = String, example = "gpu")]
    isolation: Option<Isolation>,
    #[schema(value_type = u32)]
    duration_s: Seconds,
    lines: Vec<LineView>,
    /// The lines without the rounding.
    subtotal: SignedUsd,
    /// The most that it can cost, in dollars: all lines.
    total_max: SignedUsd,
    rate: RateView,
    fee: FeeView,
    /// What the provider earns if the whole time is used.
    provider_max: TokenAmount,
    /// What the renter locks.
    deposit: TokenAmount,
    /// The second after which the deposit is used up.
    #[schema(value_type = u32)]
    auto_stop_s: Seconds,
    /// The token's price; null for a quote from before it was kept.
    fx: Option<FxView>,
    /// What goes back.
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
    /// The order as it is hashed: keccak256 of this text is `orderHash` of the terms.
    #[schema(example = "{\"disk_gb\":0,\"down_gb\":0,...}")]
    order: String,
    /// The terms as typed data, for a wallet to show.
    #[schema(value_type = Value)]
    eip712: TypedData,
    /// The platform's signature; null where it has no quoting key.
    signed: Option<SignedView>,
}

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
            unit_price: line.unit_price.into(),
            unit: line.unit.as_str(),
            qty_estimate: line.qty,
            max: line.max_usd.into(),
        })
        .collect();
    let sum = |all: bool| {
        let counted = stored.iter().filter(|line| all || line.kind != LineKind::Rounding);
        let sum = counted.map(|line| line.max_usd).try_fold(UsdDelta::ZERO, UsdDelta::checked_add);
        sum.map(SignedUsd::from).ok_or_else(|| internal("lines out of range"))
    };
    let auto_stop = auto_stop_second(quote.deposit, quote.rate);
    let whole = split(quote.deposit, quote.rate, quote.fee, auto_stop).map_err(internal)?;
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    let outages = quote.sla.and_then(|sla| sla.outages);
    Ok(QuoteView {
        id: quote.id,
        offer_id: quote.offer,
        offer_version: quote.offer_version,
        gpu_model: quote.model.clone(),
        machine_id: quote.machine,
        gpu_count: quote.gpu_count,
        disk_gb: quote.extras.disk_gb,
        up_gb: quote.extras.up_gb,
        down_gb: quote.extras.down_gb,
        template: quote.extras.template.clone(),
        isolation: quote.extras.isolation,
        duration_s: quote.duration,
        lines,
        subtotal: sum(false)?,
        total_max: sum(true)?,
        rate: rate_view(quote, unit),
        fee: FeeView { bps: quote.fee.get(), side: "provider", amount: unit.amount(whole.fee) },
        provider_max: unit.amount(whole.provider),
        deposit: unit.amount(quote.deposit),
        auto_stop_s: auto_stop,
        fx: quote.fx.as_ref().map(|fx| FxView {
            usd_per_token: fx.usd_per_token.into(),
            source: fx.source.clone(),
            priced_at: Time(fx.at),
        }),
        refund_rule: sealed::REFUND_RULE,
        sla: SlaView {
            ready_s: quote.sla.map_or(policy.ready_ttl, |sla| sla.ready).get(),
            notice_s: quote.sla.map_or(Seconds::ZERO, |sla| sla.notice).get(),
            evidence_s: outages.map_or(policy.evidence_timeout, |of| of.evidence).get(),
            max_outage_s: outages.map_or(policy.max_outage, |of| of.most).get(),
        },
        expires_at: Time(quote.expires_at),
        start_by: Time(quote.start_by),
        created_at: Time(quote.created_at),
        escrow_id: quote.escrow_id,
        order: order_text(quote),
        eip712: typed_data::terms(&terms_of(quote), &domain),
        signed: signed(quote, &stored, contract)?,
    })
}

fn signed(
    quote: &Quote,
    lines: &[QuoteLine],
    contract: &Deployment,
) -> Result<Option<SignedView>, Problem> {
    let Some(seal) = &quote.seal else {
        return Ok(None);
    };
    let domain = sealed::domain(contract.chain_id, contract.escrow);
    Ok(Some(SignedView {
        signer: seal.signer,
        signature: hex::encode_prefixed(seal.signature),
        typed_data: typed_data::quote(&promised(quote, lines)?, &domain),
    }))
}

/// The rate of a quote.
pub(in crate::renter) fn rate_view(quote: &Quote, unit: &Unit) -> RateView {
    RateView {
        usd_per_hour: quote.usd_per_hour.usd().into(),
        per_hour: unit.amount(quote.rate.amount()),
    }
}
