//! What an API key may rent: which things, at which price, and how much in all.

use domain::{
    id::{MachineId, OfferId, RentalId},
    money::{UsdMicros, mul_div_ceil},
    rate::UsdPerHour,
    time::UnixSeconds,
};
use store::{TxError, api_keys, api_keys::ApiKey, quotes::Quote};

use crate::{
    Code, Problem,
    access::{may_touch_offer, refused},
    problem::{internal, refuse},
    views::{Usd, json_of},
};

/// Whether a key may rent this at this price.
///
/// # Errors
/// [`Code::Forbidden`].
pub(super) fn may_rent(
    key: Option<&ApiKey>,
    (offer, machine, model): (OfferId, MachineId, &str),
    price: UsdPerHour,
) -> Result<(), Problem> {
    let Some(key) = key else { return Ok(()) };
    may_touch_offer(key, offer, machine)?;
    let limits = &key.limits;
    if limits.gpu_models.as_ref().is_some_and(|models| models.iter().all(|slug| slug != model)) {
        let detail = format!("the key is limited to other models than {model}");
        return Err(refused("limited", Problem::new(Code::Forbidden, detail)));
    }
    if let Some(most) = limits.max_per_hour.filter(|most| price.usd() > *most) {
        let detail =
            format!("it costs {price} USD per hour, and the key may rent for {most} at most");
        return Err(refused("limited", Problem::new(Code::Forbidden, detail)));
    }
    Ok(())
}

/// The same of a quote.
///
/// # Errors
/// As [`may_rent`].
pub(super) fn may_book(key: Option<&ApiKey>, quote: &Quote) -> Result<(), Problem> {
    may_rent(key, (quote.offer, quote.machine, &quote.model), quote.usd_per_hour)
}

/// Counts a booking's deposit against the caps of its key, in the booking's own transaction: bookings of a key wait
/// here for each other, and one whose key was revoked meanwhile does not happen.
///
/// # Errors
/// [`Code::SpendCapExceeded`], [`Code::Unauthenticated`]; the store's.
pub(super) async fn count(
    tx: &mut store::Connection,
    key: Option<&ApiKey>,
    quote: &Quote,
    rental: RentalId,
    now: UnixSeconds,
) -> Result<(), TxError<Problem>> {
    let Some(key) = key else { return Ok(()) };
    if !api_keys::hold(tx, key.id, now).await? {
        return refuse(Problem::new(Code::Unauthenticated, "the key was revoked or has expired"));
    }
    let deposit = deposit(quote).map_err(TxError::Refused)?;
    let booked = api_keys::booked(tx, key.id, now).await?;
    for (name, cap, before) in [
        ("spend_cap", key.limits.cap, booked.total),
        ("spend_cap_per_day", key.limits.cap_per_day, booked.day),
    ] {
        let Some(cap) = cap else { continue };
        let left = cap.checked_sub(before).unwrap_or(UsdMicros::ZERO);
        if deposit > left {
            let detail = format!(
                "the deposit is {deposit} USD, and of its cap of {cap} USD the key has {left} left"
            );
            let left = json_of(&Usd::from(left)).map_err(TxError::Refused)?;
            let problem = Problem::new(Code::SpendCapExceeded, detail);
            return refuse(refused("spend-cap", problem.with("cap", name).with("left", left)));
        }
    }
    Ok(api_keys::spend(tx, key.id, rental, deposit, now).await?)
}

/// A deposit in dollars at the rate of its quote, rounded up.
fn deposit(quote: &Quote) -> Result<UsdMicros, Problem> {
    let micros = u128::from(quote.usd_per_hour.usd().get());
    let usd = mul_div_ceil(quote.deposit.get(), micros, quote.rate.get()).map_err(internal)?;
    u64::try_from(usd).map(UsdMicros::new).map_err(internal)
}
