//! What is not quoted, and why.

use domain::{
    money::FeeBps,
    offer::{OfferState, OfferTerms},
    oracle,
    quote::{QuoteError, QuoteFigures, QuoteRequest as Ordered, TokenSpec, price_quote},
    template::MAX_ENV_BYTES,
    time::{Seconds, UnixSeconds},
};
use store::{
    offers::Offer,
    quotes::{Bounds, Quote},
    templates,
    tokens::Token,
};

use super::changed;
use crate::{
    AppState, Code, Problem,
    problem::internal,
    views::{Time, Usd},
};

/// A token at its price, as a quote needs it.
pub(super) fn spec(token: &Token) -> TokenSpec {
    TokenSpec { address: token.address, decimals: token.decimals, usd_per_token: token.usd }
}

/// What a stored quote ordered, to be priced anew.
pub(in crate::renter) fn ordered(quote: &Quote, token: &Token) -> Ordered {
    Ordered {
        duration: quote.duration,
        gpu_count: quote.gpu_count,
        disk_gb: quote.extras.disk_gb,
        up_gb: quote.extras.up_gb,
        down_gb: quote.extras.down_gb,
        token: spec(token),
    }
}

/// The refusal of a token that is not listed.
pub(super) fn no_such_token() -> Problem {
    Problem::invalid("/token", "none of the symbols of /v1/tokens")
}

/// Whether this can be a symbol: what cannot is not even a text to the database.
///
/// # Errors
/// [`Code::ValidationFailed`].
pub(super) fn check_symbol(symbol: &str) -> Result<(), Problem> {
    symbol.bytes().all(|byte| byte.is_ascii_graphic()).then_some(()).ok_or_else(no_such_token)
}

/// The token, unless nobody vouches for its price: it is older than its oracle's bound, the oracle says another one altogether,
/// or there is no oracle and the price is no definition.
///
/// # Errors
/// [`Code::FxStale`].
pub(super) fn fresh(
    (token, bounds): (Token, Option<Bounds>),
    now: UnixSeconds,
) -> Result<Token, Problem> {
    let text = |at| Time(at).text().unwrap_or_default();
    let (symbol, priced) = (&token.symbol, text(token.priced_at));
    let detail = match bounds {
        None if token.fixed => return Ok(token),
        None => {
            format!(
                "{symbol} has no price feed, so nobody vouches for its price: pay in another token"
            )
        }
        Some(Bounds { max_age, .. }) if oracle::is_stale(token.priced_at, max_age, now) => {
            format!("{symbol} was priced at {priced} last, which may be {max_age} ago")
        }
        Some(Bounds { doubted_since: Some(since), .. }) => {
            let since = text(since);
            format!(
                "{symbol}'s oracle says quite another price since {since}, which is not believed yet"
            )
        }
        Some(_) => return Ok(token),
    };
    Err(Problem::new(Code::FxStale, detail.clone()).at("/token", detail))
}

/// Whether the offer can be had now.
///
/// # Errors
/// [`Code::ValidationFailed`], [`Code::OfferChanged`], [`Code::MachineOffline`], [`Code::OfferTaken`].
pub(super) fn check_offer(app: &AppState, offer: &Offer, order: &Ordered) -> Result<(), Problem> {
    if offer.state != OfferState::Listed {
        return Err(changed(app, offer, None)?);
    }
    if !offer.terms.chunks.contains(&order.gpu_count) {
        let error = QuoteError::NoSuchChunk { chunks: offer.terms.chunks.clone() };
        return Err(Problem::invalid("/gpu_count", error.to_string()));
    }
    if !crate::provider::is_online(offer.last_heartbeat_at, &app.config, app.now()) {
        let detail = "the machine's agent has not been heard of lately";
        return Err(Problem::new(Code::MachineOffline, detail));
    }
    if offer.gpus_free < u32::from(order.gpu_count) {
        let detail = match offer.gpus_free {
            0 => "the offer's GPUs are rented at present".to_owned(),
            free => format!("only {free} of the machine's GPUs are free at present"),
        };
        return Err(Problem::new(Code::OfferTaken, detail));
    }
    Ok(())
}

/// The figures, if the offer sells what is ordered at a price that the renter accepts.
///
/// # Errors
/// [`Code::ValidationFailed`], [`Code::PriceAboveMax`].
pub(super) fn figures(
    offer: &Offer,
    order: &Ordered,
    fee: FeeBps,
    max_price: Option<Usd>,
) -> Result<QuoteFigures, Problem> {
    let most = offer.terms.disk_limit(order.gpu_count, offer.gpus_all);
    if order.disk_gb > most {
        let error = QuoteError::DiskTooLarge { max: most };
        return Err(Problem::invalid("/disk_gb", error.to_string()));
    }
    let figures = price_quote(&offer.terms, order, fee).map_err(|error| {
        let pointer = match &error {
            QuoteError::DurationOutOfRange { .. } => "/duration_s",
            QuoteError::NoSuchChunk { .. } => "/gpu_count",
            QuoteError::DiskTooLarge { .. } => "/disk_gb",
            QuoteError::TrafficTooLarge { up: true } => "/up_gb",
            QuoteError::TrafficTooLarge { up: false } => "/down_gb",
            QuoteError::TokenWithoutPrice | QuoteError::Money(_) => "/token",
            QuoteError::Offer(_) | QuoteError::FeeNotQuotable(_) => return internal(error),
        };
        Problem::invalid(pointer, error.to_string())
    })?;
    if let Some(max) = max_price {
        let gpus = u64::from(order.gpu_count);
        let rate = figures.rate_usd_per_hour.usd();
        // more than can be said is no bound
        if max.amount.checked_mul(gpus).is_some_and(|most| rate > most) {
            let detail = format!("it is {rate} USD per hour for {gpus} GPUs, everything included");
            return Err(Problem::new(Code::PriceAboveMax, detail.clone()).at("/max_price", detail));
        }
    }
    Ok(figures)
}

/// Whether the offer stands for so long, from the latest second at which the rental may begin.
///
/// # Errors
/// [`Code::NotForSoLong`] with the longest duration that is possible.
pub(super) fn check_time(
    offer: &Offer,
    begins: UnixSeconds,
    duration: Seconds,
) -> Result<(), Problem> {
    let end = begins.saturating_plus(duration);
    let Some(until) = offer.terms.available_until.filter(|until| *until < end) else {
        return Ok(());
    };
    let longest = longest(&offer.terms, until.saturating_since(begins));
    let at = Time(until).text().unwrap_or_default();
    let reason = "it is offered until then only";
    let detail = format!(
        "the rental may begin as late as {} and would run beyond {at}: {reason}",
        Time(begins).text().unwrap_or_default()
    );
    Err(Problem::new(Code::NotForSoLong, detail.clone())
        .at("/duration_s", detail)
        .with("reason", reason)
        .with("until", at)
        .with("longest_s", longest.get()))
}

/// The longest rental of at most so long that the offer allows; nothing if none is short enough.
fn longest(terms: &OfferTerms, left: Seconds) -> Seconds {
    if left < terms.min_duration { Seconds::ZERO } else { left.min(terms.max_duration) }
}

/// Whether there is such a template, and what is ordered is enough for it.
///
/// # Errors
/// [`Code::ValidationFailed`], or [`Code::RunsNoTemplates`] where the machine does not run what it is told.
pub(super) async fn check_template(
    connection: &mut store::Connection,
    template: Option<&str>,
    run: bool,
    (model, order): (&str, &Ordered),
) -> Result<(), Problem> {
    let Some(text) = template else {
        return Ok(());
    };
    let unknown = || Problem::invalid("/template", "no slug@version of /v1/templates");
    let (slug, version) = text.split_once('@').ok_or_else(unknown)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let number: i32 = version.parse().map_err(|_| unknown())?;
    // one spelling each
    let spelled = slug.bytes().all(plain) && number.to_string() == version;
    if !spelled {
        return Err(unknown());
    }
    let version = u32::try_from(number).map_err(|_| unknown())?;
    let found = templates::get(connection, slug, Some(version)).await?.ok_or_else(unknown)?;
    let needs = found.content;
    // what the machine gives every rental is nobody's promise: what needs disk has it in its order
    if order.disk_gb < needs.disk_gb {
        let message = format!("{text} needs {} GB", needs.disk_gb);
        return Err(Problem::invalid("/disk_gb", message));
    }
    let known = domain::catalog::models().iter().find(|known| known.slug == model);
    if known.is_some_and(|known| known.vram_gb < needs.min_vram_gb) {
        let message = format!("{text} needs GPUs with {} GB", needs.min_vram_gb);
        return Err(Problem::invalid("/template", message));
    }
    if needs.env_bytes() > MAX_ENV_BYTES {
        let message = format!("{text} has more environment than a machine can be sent");
        return Err(Problem::invalid("/template", message));
    }
    if !run {
        let detail = "the machine starts its provider's own program, whatever is ordered";
        return Err(Problem::new(Code::RunsNoTemplates, detail).at("/template", detail));
    }
    Ok(())
}
