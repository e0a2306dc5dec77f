//! The platform's signature under a quote.

use alloy::primitives::Uint;
use domain::quote::QuoteLine;
use escrow::{
    quote as sealed,
    terms::{uint40, uint96},
};
use store::{
    deployment::Deployment,
    quotes::{Quote, Seal},
};

use super::terms_of;
use crate::{AppState, Problem, problem::internal};

/// Everything that a quote promises, as it is signed.
pub(in crate::renter) fn promised(
    quote: &Quote,
    lines: &[QuoteLine],
) -> Result<sealed::Quote, Problem> {
    let max = lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.max_usd.get()));
    let max = max.and_then(|sum| u64::try_from(sum).ok());
    let (extras, fx, sla) = (&quote.extras, quote.fx.as_ref(), quote.sla.as_ref());
    Ok(sealed::Quote {
        id: quote.id.to_string(),
        order: sealed::Order {
            offer: quote.offer.to_string(),
            offerVersion: quote.offer_version,
            machine: quote.machine.to_string(),
            gpuModel: quote.model.clone(),
            gpuCount: quote.gpu_count,
            durationSecs: quote.duration.get(),
            diskGb: extras.disk_gb,
            upGb: extras.up_gb,
            downGb: extras.down_gb,
            template: extras.template.clone().unwrap_or_default(),
        },
        lines: lines.iter().map(line).collect(),
        usdPerHour: quote.usd_per_hour.usd().get(),
        usdMax: max.ok_or_else(|| internal("lines that come to less than nothing"))?,
        rental: quote.escrow_id,
        terms: (&terms_of(quote)).into(),
        deposit: uint96(quote.deposit),
        fx: sealed::Fx {
            usdPerToken: fx.map_or(0, |fx| fx.usd_per_token.get()),
            source: fx.map_or_else(String::new, |fx| fx.source.clone()),
            pricedAt: fx.map_or(Uint::ZERO, |fx| uint40(fx.at)),
        },
        createdAt: uint40(quote.created_at),
        expiresAt: uint40(quote.expires_at),
        readySecs: sla.map_or(0, |sla| sla.ready.get()),
        noticeSecs: sla.map_or(0, |sla| sla.notice.get()),
        refundRule: sealed::refund_rule(),
    })
}

fn line(line: &QuoteLine) -> sealed::Line {
    sealed::Line {
        kind: line.kind.as_str().to_owned(),
        unit: line.unit.as_str().to_owned(),
        unitPrice: line.unit_price.get(),
        quantity: line.qty,
        max: line.max_usd.get(),
    }
}

/// The signature, if this process has the quoting key.
pub(super) fn seal(
    app: &AppState,
    quote: &Quote,
    lines: &[QuoteLine],
    contract: &Deployment,
) -> Result<Option<Seal>, Problem> {
    let Some(key) = &app.config.quoter else {
        return Ok(None);
    };
    let domain = sealed::domain(contract.chain_id, contract.escrow);
    let signature = sealed::sign(&promised(quote, lines)?, key, &domain).map_err(internal)?;
    Ok(Some(Seal { signer: key.address(), signature }))
}
