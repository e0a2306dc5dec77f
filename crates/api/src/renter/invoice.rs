//! The invoice of a rental that is over: what it came to, line by line, as JSON and as CSV.

use alloy::primitives::{Address, B256};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use domain::{
    id::RentalId,
    money::{Amount, UsdMicros, mul_div_floor},
    quote::{LineKind, QuoteLine},
    rental::RentalState,
    time::Seconds,
};
use serde::Serialize;
use store::{Connection, blocks, quotes::Quote, rentals::Rental};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    quotes::{RateView, rate_view, unit_of},
    receipt::ShareView,
    rentals::of_party,
};
use crate::{
    AppState, Code, Problem, csv,
    extract::Id,
    identity::Wallet,
    problem::internal,
    views::{SignedUsd, Time, Unit, Usd, usd_of},
};

/// The events that an escrow pays with.
const PAYING: [&str; 3] = ["released", "contested", "closed"];
/// Of those, so many are named at most, the newest: a rental of a year that is paid each day has fewer.
const MOST_PAYMENTS: i64 = 1_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read))
}

/// A line of the quote, and what of the invoice's sum is its part.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvoiceLine {
    /// As in the quote: `compute`, `reserved_discount`, `disk`, `network_up`, `network_down` or `rounding`.
    #[schema(example = "compute")]
    kind: &'static str,
    unit_price: SignedUsd,
    #[schema(example = "gpu_hour")]
    unit: &'static str,
    /// Base units of the token; negative for what is taken off. All lines together are `gross`.
    #[schema(example = "5416")]
    base_units: String,
    /// The same at the price of the quote.
    #[schema(example = "0.005416")]
    usd: String,
}

/// The token's price that the quote converted at.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvoicePrice {
    usd_per_token: Usd,
    /// Who said so.
    source: String,
    priced_at: Time,
}

/// What the platform kept of the gross. The provider pays it; nothing is added for the renter.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvoiceFee {
    #[schema(example = 1200)]
    bps: u16,
    #[serde(flatten)]
    share: ShareView,
}

/// An event of the contract that paid.
#[derive(Serialize, ToSchema)]
pub(crate) struct PaymentView {
    /// `released`, `contested` or `closed`.
    #[schema(example = "closed")]
    event: String,
    #[schema(value_type = String)]
    tx_hash: B256,
    block: u64,
    #[schema(example = 3)]
    log_index: u32,
    at: Time,
}

/// What a rental came to.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invoice {
    /// It names the invoice, too: a rental has one.
    #[schema(value_type = String, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    rental_id: RentalId,
    #[schema(value_type = String)]
    escrow_id: B256,
    /// When the last payment was made.
    issued_at: Time,
    /// Who paid.
    #[schema(value_type = String)]
    renter: Address,
    /// Who earned.
    #[schema(value_type = String)]
    provider: Address,
    #[schema(example = "rtx-4090")]
    gpu_model: String,
    #[schema(example = 2)]
    gpu_count: u16,
    /// Billing began and ended; null if it never did.
    from: Option<Time>,
    to: Option<Time>,
    #[schema(value_type = u32, example = 30)]
    seconds_billed: Seconds,
    rate: RateView,
    /// Null for a quote from before it was kept.
    price: Option<InvoicePrice>,
    /// The lines of the quote, each with its part of what was used.
    lines: Vec<InvoiceLine>,
    /// What the renter paid: the provider's part and the fee.
    gross: ShareView,
    fee: InvoiceFee,
    /// What the provider got.
    net: ShareView,
    /// What was locked, and what of it went back.
    deposit: ShareView,
    refund: ShareView,
    /// Final events of the contract that paid it, oldest first.
    payments: Vec<PaymentView>,
}

/// The form that an invoice is asked for in.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Csv,
}

/// The file's name: a rental and a form.
fn named(file: &str) -> Result<(RentalId, Form), Problem> {
    let (id, form) = match file.rsplit_once('.') {
        Some((id, "json")) => (id, Form::Json),
        Some((id, "csv")) => (id, Form::Csv),
        _ => {
            let detail = "an invoice is asked for as {rental_id}.json or {rental_id}.csv";
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
    };
    let id = id.parse().map_err(|error: domain::id::IdError| {
        Problem::new(Code::InvalidRequest, error.to_string())
    })?;
    Ok((id, form))
}

/// The invoice of a rental whose money has been divided for good: `{rental_id}.json` or `{rental_id}.csv`. Before that, and
/// while some seconds are held, there is none. Only its renter and its provider see it.
#[utoipa::path(get, path = "/v1/invoices/{id}", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, description = "the rental's id, and `.json` or `.csv`",
            example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f.json")),
    responses((status = 200, content(
        (Invoice = "application/json"),
        (String = "text/csv", example = "rental_id,issued_at,row,kind,unit,unit_price_usd,base_units,token,decimals,usd,tx_hash\n"),
    ))))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(file): Id<String>,
) -> Result<Response, Problem> {
    let (id, form) = named(&file)?;
    let mut connection = app.store.read().await?;
    let (rental, quote) = of_party(&mut connection, wallet.account.id, id).await?;
    let state = rental.progress.state;
    if !matches!(state, RentalState::Settled | RentalState::Refunded | RentalState::Resolved) {
        let detail = format!(
            "the rental is {state}; there is an invoice once its money is divided for good"
        );
        return Err(Problem::new(Code::ReceiptNotReady, detail).with("state", state.as_str()));
    }
    let unit = unit_of(&mut connection, quote.token, app.config.chain_id).await?;
    let invoice = invoice(&mut connection, &rental, &quote, &unit).await?;
    match form {
        Form::Json => Ok(Json(invoice).into_response()),
        Form::Csv => written(&invoice, &unit),
    }
}

async fn invoice(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
    unit: &Unit,
) -> Result<Invoice, Problem> {
    let paid = blocks::final_named(connection, rental.escrow_id, &PAYING, MOST_PAYMENTS).await?;
    let gross = rental.paid_provider.checked_add(rental.paid_fee);
    let gross = gross.ok_or_else(|| internal("a gross that no deposit can hold"))?;
    let share = |amount: Amount| ShareView::new(amount, quote, unit);
    let progress = &rental.progress;
    Ok(Invoice {
        rental_id: rental.id,
        escrow_id: rental.escrow_id,
        issued_at: Time(paid.last().map_or(rental.updated_at, |event| event.at)),
        renter: quote.renter,
        provider: quote.provider,
        gpu_model: quote.model.clone(),
        gpu_count: quote.gpu_count,
        from: progress.started_at.map(Time),
        to: progress.started_at.and(progress.stopped_at).map(Time),
        seconds_billed: rental.billed.unwrap_or(Seconds::ZERO),
        rate: rate_view(quote, unit),
        price: quote.fx.as_ref().map(|fx| InvoicePrice {
            usd_per_token: fx.usd_per_token.into(),
            source: fx.source.clone(),
            priced_at: Time(fx.at),
        }),
        lines: lines(gross, quote)?,
        gross: share(gross)?,
        fee: InvoiceFee { bps: quote.fee.get(), share: share(rental.paid_fee)? },
        net: share(rental.paid_provider)?,
        deposit: share(rental.locked)?,
        refund: share(rental.paid_refund)?,
        payments: paid
            .into_iter()
            .map(|event| PaymentView {
                event: event.name,
                tx_hash: event.tx_hash,
                block: event.block_number,
                log_index: event.log_index,
                at: Time(event.at),
            })
            .collect(),
    })
}

/// The gross by the lines of the quote: everything is billed at one rate, so each line has its part of each second.
fn lines(gross: Amount, quote: &Quote) -> Result<Vec<InvoiceLine>, Problem> {
    let stored: Vec<QuoteLine> = serde_json::from_value(quote.lines.clone()).map_err(internal)?;
    let parts: Vec<i64> = stored.iter().map(|line| line.max_usd.get()).collect();
    let out_of_range = || internal("an invoice's lines are out of range");
    let units = shares(gross.get(), &parts).ok_or_else(out_of_range)?;
    let usd = usd_of(gross, quote)?.amount.get();
    let usd = shares(u128::from(usd), &parts).ok_or_else(out_of_range)?;
    let each = stored.iter().zip(units).zip(usd);
    // the fee is no line of the renter's: it is told by itself
    each.filter(|((line, _), _)| line.kind != LineKind::Fee)
        .map(|((line, base_units), usd)| {
            Ok(InvoiceLine {
                kind: line.kind.as_str(),
                unit_price: line.unit_price.into(),
                unit: line.unit.as_str(),
                base_units: base_units.to_string(),
                usd: signed_usd(usd).ok_or_else(out_of_range)?,
            })
        })
        .collect()
}

/// `whole` divided by parts, some of which may be taken off; together exactly the whole. `None` out of range.
fn shares(whole: u128, parts: &[i64]) -> Option<Vec<i128>> {
    let total = parts.iter().try_fold(0_i64, |sum, part| sum.checked_add(*part))?;
    let total = u128::try_from(total).ok()?;
    let (mut reached, mut before) = (0_i64, 0_i128);
    let mut shares = Vec::with_capacity(parts.len());
    for part in parts {
        reached = reached.checked_add(*part)?;
        let up_to = u128::try_from(reached.max(0)).ok()?;
        let up_to = i128::try_from(mul_div_floor(whole, up_to, total).ok()?).ok()?;
        shares.push(up_to.checked_sub(before)?);
        before = up_to;
    }
    Some(shares)
}

fn signed_usd(micros: i128) -> Option<String> {
    let sign = if micros < 0 { "-" } else { "" };
    let amount = UsdMicros::new(u64::try_from(micros.unsigned_abs()).ok()?);
    Some(format!("{sign}{amount}"))
}

fn written(invoice: &Invoice, unit: &Unit) -> Result<Response, Problem> {
    let (rental, token) = (invoice.rental_id.to_string(), unit.token());
    let issued = invoice.issued_at.text().ok_or_else(|| internal("a time after 9999"))?;
    let (symbol, decimals) = (token.symbol.as_str(), token.decimals.get().to_string());
    let mut text = csv::line([
        "rental_id",
        "issued_at",
        "row",
        "kind",
        "unit",
        "unit_price_usd",
        "base_units",
        "token",
        "decimals",
        "usd",
        "tx_hash",
    ]);
    let mut add =
        |row: &str, kind: &str, [unit, price]: [&str; 2], [base, usd]: [&str; 2], tx: &str| {
            let (rental, issued, decimals) = (rental.as_str(), issued.as_str(), decimals.as_str());
            text += &csv::line([
                rental, issued, row, kind, unit, price, base, symbol, decimals, usd, tx,
            ]);
        };
    for line in &invoice.lines {
        let price = line.unit_price.amount.to_string();
        add("line", line.kind, [line.unit, &price], [&line.base_units, &line.usd], "");
    }
    for (kind, share) in [
        ("gross", &invoice.gross),
        ("fee", &invoice.fee.share),
        ("net", &invoice.net),
        ("deposit", &invoice.deposit),
        ("refund", &invoice.refund),
    ] {
        let (base, usd) = share.texts();
        add("sum", kind, ["", ""], [&base, &usd], "");
    }
    for payment in &invoice.payments {
        add("payment", &payment.event, ["", ""], ["", ""], &payment.tx_hash.to_string());
    }
    let kind = HeaderValue::from_static("text/csv; charset=utf-8");
    let name = format!("attachment; filename=\"{rental}.csv\"");
    let name = HeaderValue::from_str(&name).map_err(internal)?;
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_exactly_the_whole() {
        assert_eq!(shares(5_416, &[600_000, 50_000]), Some(vec![4_999, 417]));
        assert_eq!(shares(100, &[1_000, -250, 250]), Some(vec![100, -25, 25]));
        assert_eq!(shares(7, &[3, 3, 3]).unwrap().iter().sum::<i128>(), 7);
        let most = Amount::MAX.get();
        let large = shares(most, &[i64::MAX / 2, -7, 3, 1]).unwrap();
        assert_eq!(large.iter().sum::<i128>(), i128::try_from(most).unwrap());
        assert_eq!(shares(0, &[5, 1]), Some(vec![0, 0]));
        assert_eq!(shares(5, &[0]), None);
        assert_eq!(shares(5, &[i64::MAX, 1]), None);
        assert_eq!(signed_usd(-1).as_deref(), Some("-0.000001"));
    }

    #[test]
    fn a_name_is_a_rental_and_a_form() {
        let id = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f";
        assert!(matches!(named(&format!("{id}.json")), Ok((_, Form::Json))));
        assert!(matches!(named(&format!("{id}.csv")), Ok((_, Form::Csv))));
        for bad in [id.to_owned(), format!("{id}.xml"), "x.json".to_owned(), String::new()] {
            assert_eq!(named(&bad).err().map(|it| it.code()), Some(Code::InvalidRequest), "{bad}");
        }
    }
}
