//! The ledger of the caller's own accounts: a statement to page through, or to take away as CSV.

use alloy::primitives::B256;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use domain::{id::RentalId, time::UnixSeconds};
use serde::{Deserialize, Serialize};
use store::{
    ledger::{self, Entry, Holder, Part, Place},
    tokens,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Code, Problem, cursor,
    extract::{Parameters, Params},
    identity::Wallet,
    problem::internal,
    views::{Time, page_limit},
};

/// Lines of one CSV file.
const CSV_LINES: u16 = 10_000;
/// Where a file goes on that has more lines than one file holds.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("next-cursor");
/// The last second that can be written by RFC 3339.
const END_OF_TIME: UnixSeconds = UnixSeconds(253_402_300_799);
const LIST: &str = "ledger";

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(statement))
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StatementFormat {
    /// JSON.
    #[default]
    Json,
    /// Comma-separated values, a line for each entry, the first with the columns' names.
    Csv,
}

/// Which part of the ledger.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatementParams {
    /// One of the symbols of `/v1/tokens`.
    #[param(example = "USDC")]
    token: String,
    /// From this time on (RFC 3339); the beginning if left out.
    #[param(example = "2026-01-01T00:00:00Z")]
    from: Option<String>,
    /// Up to this time, without it; now if left out.
    #[param(example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// 1 to 200; 50 if left out. CSV comes in files of 10,000 lines.
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// `json` (the default) or `csv`; `Accept: text/csv` asks for CSV too.
    #[param(inline)]
    format: Option<StatementFormat>,
}

impl Parameters for StatementParams {
    const NAMES: &'static [&'static str] = &["token", "from", "to", "limit", "cursor", "format"];
}

/// A movement on one of the caller's accounts.
#[derive(Serialize, ToSchema)]
pub(crate) struct EntryView {
    at: Time,
    /// `lock`, `top_up`, `release`, `contest`, `close`, `prepay`, `withdraw` or `gas`.
    #[schema(example = "close")]
    kind: &'static str,
    /// Which of the caller's accounts: `renter_deposit`, `renter_credit`, `provider_earnings`, `platform_fees` or
    /// `gas_spent`.
    #[schema(example = "provider_earnings")]
    account: &'static str,
    /// The kind of the account on the other side.
    #[schema(example = "renter_deposit")]
    counter_account: &'static str,
    /// The rental whose money it is; null if it was not booked here.
    #[schema(value_type = Option<String>, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    rental_id: Option<RentalId>,
    /// The rental's id on the chain.
    #[schema(value_type = Option<String>)]
    escrow_id: Option<B256>,
    /// Base units: without a sign what came, with `-` what went.
    #[schema(example = "-650000")]
    amount: String,
    /// What all the caller's accounts in this token come to after it, in base units.
    #[schema(example = "0")]
    balance: String,
    /// The transaction that it happened in.
    #[schema(value_type = Option<String>)]
    tx_hash: Option<B256>,
    /// The name of the final fact: each is in the ledger once.
    source: String,
}

/// A statement. `opening_balance` and the amounts of all pages make `closing_balance`.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatementView {
    /// The token's symbol; all amounts are base units of it.
    #[schema(example = "USDC")]
    token: String,
    #[schema(example = 6)]
    decimals: u8,
    /// Before the first second.
    #[schema(example = "0")]
    opening_balance: String,
    /// Oldest first.
    entries: Vec<EntryView>,
    /// At the end of the last second, whichever page this is.
    #[schema(example = "0")]
    closing_balance: String,
    next_cursor: Option<String>,
}

/// What final events moved on the caller's own accounts in one token: deposits of their rentals, refunds that wait,
/// earnings. Entries of days that are over do not change any more.
#[utoipa::path(get, path = "/v1/ledger", tag = "account", security(("bearer" = [])),
    params(StatementParams),
    responses((status = 200, content(
        (StatementView = "application/json"),
        (String = "text/csv", example = "at,kind,account,counter_account,rental_id,escrow_id,amount,balance,tx_hash,source\n"),
    ), headers(("Next-Cursor", description = "with CSV: where the next file begins")))))]
async fn statement(
    State(app): State<AppState>,
    wallet: Wallet,
    headers: HeaderMap,
    Params(params): Params<StatementParams>,
) -> Result<Response, Problem> {
    let csv = params
        .format
        .map_or_else(|| accepts_csv(&headers), |format| format == StatementFormat::Csv);
    let limit = if csv && params.limit.is_none() { CSV_LINES } else { page_limit(params.limit)? };
    let mut connection = app.store.read().await?;
    let token = tokens::find(&mut connection, &params.token)
        .await?
        .ok_or_else(|| invalid("?token", "none of the symbols of /v1/tokens"))?;
    let holder = Holder { owner: wallet.account.address, account: Some(wallet.account.id) };
    let part = Part {
        token: token.address,
        from: time_of("?from", params.from.as_deref())?.unwrap_or(UnixSeconds(0)),
        to: time_of("?to", params.to.as_deref())?.unwrap_or(END_OF_TIME),
        after: params.cursor.as_deref().map(place_of).transpose()?,
        limit: i64::from(limit),
    };
    let found = ledger::statement(&mut connection, &holder, &part).await?;
    let full = found.entries.len() >= usize::from(limit);
    let last = found.entries.last().filter(|_| full).map(|entry| entry.place);
    let next_cursor = last.map(cursor_of);
    let entries: Vec<EntryView> = found.entries.into_iter().map(entry_view).collect();
    if csv {
        return csv_of(&entries, next_cursor);
    }
    let view = StatementView {
        token: token.symbol,
        decimals: token.decimals.get(),
        opening_balance: found.opening.to_string(),
        entries,
        closing_balance: found.closing.to_string(),
        next_cursor,
    };
    Ok(Json(view).into_response())
}

fn invalid(place: &'static str, detail: &str) -> Problem {
    Problem::new(Code::InvalidRequest, detail.to_owned()).at(place, detail)
}

/// Whether CSV is what the caller named first.
fn accepts_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let first = accept.and_then(|text| text.split([',', ';']).next()).unwrap_or_default();
    first.trim().eq_ignore_ascii_case("text/csv")
}

fn time_of(place: &'static str, text: Option<&str>) -> Result<Option<UnixSeconds>, Problem> {
    let Some(text) = text else { return Ok(None) };
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .and_then(|at| u64::try_from(at.unix_timestamp()).ok())
        .map(|at| Some(UnixSeconds(at)))
        .ok_or_else(|| invalid(place, "not a time since 1970 as RFC 3339 writes it"))
}

fn cursor_of(place: Place) -> String {
    let parts = [place.at.get().to_string(), place.seq.to_string(), place.side.to_string()];
    cursor::write(LIST, &parts)
}

fn place_of(text: &str) -> Result<Place, Problem> {
    let [at, seq, side]: [String; 3] = cursor::read(LIST, text)?;
    let at = at.parse().ok().map(UnixSeconds).filter(|at| *at <= END_OF_TIME);
    match (at, seq.parse(), side.parse()) {
        (Some(at), Ok(seq), Ok(side)) => Ok(Place { at, seq, side }),
        _ => Err(cursor::invalid()),
    }
}

fn entry_view(entry: Entry) -> EntryView {
    EntryView {
        at: Time(entry.place.at),
        kind: entry.kind.as_str(),
        account: entry.account.as_str(),
        counter_account: entry.counter.as_str(),
        rental_id: entry.rental,
        escrow_id: entry.escrow_id,
        amount: entry.amount.to_string(),
        balance: entry.balance.to_string(),
        tx_hash: entry.tx,
        source: entry.source,
    }
}

/// No value here has a comma, a quote or a line's end, nor begins as a formula does but for the sign of a number.
fn csv_of(entries: &[EntryView], next_cursor: Option<String>) -> Result<Response, Problem> {
    let mut text = String::from(
        "at,kind,account,counter_account,rental_id,escrow_id,amount,balance,tx_hash,source\n",
    );
    let or_empty = |id: Option<B256>| id.map_or_else(String::new, |id| id.to_string());
    for entry in entries {
        let line = [
            entry.at.text().ok_or_else(|| internal("a time after 9999"))?,
            entry.kind.to_owned(),
            entry.account.to_owned(),
            entry.counter_account.to_owned(),
            entry.rental_id.map_or_else(String::new, |id| id.to_string()),
            or_empty(entry.escrow_id),
            entry.amount.clone(),
            entry.balance.clone(),
            or_empty(entry.tx_hash),
            entry.source.clone(),
        ];
        text.push_str(&line.join(","));
        text.push('\n');
    }
    let kind = HeaderValue::from_static("text/csv; charset=utf-8");
    let name = HeaderValue::from_static("attachment; filename=\"ledger.csv\"");
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    let mut response = (headers, text).into_response();
    if let Some(next) = next_cursor {
        let next = HeaderValue::from_str(&next).map_err(internal)?;
        response.headers_mut().insert(NEXT_CURSOR, next);
    }
    Ok(response)
}
