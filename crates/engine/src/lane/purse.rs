//! Whether the key can go on paying for gas. It is said before it cannot.

use std::sync::{Mutex, PoisonError};

use domain::time::UnixMillis;

use super::{Lane, earlier};

/// Between two looks.
const EVERY: std::time::Duration = std::time::Duration::from_secs(30);
/// Gas of a close that goes alone, at Polygon's prices, rounded up.
const CLOSE_GAS: u128 = 100_000;
/// With less than what so many closes cost the key counts as poor.
const POOR: u128 = 100;

/// What was seen last.
#[derive(Default)]
pub(super) struct Purse {
    seen: Mutex<Option<(UnixMillis, bool)>>,
}

impl Lane {
    /// Publishes the balance and for how many closes it lasts at the present fee, and warns when that gets few.
    pub(super) async fn look_into_purse(&self) {
        let now = self.store.now();
        let before = *self.purse.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_some_and(|(at, _)| at > earlier(now, EVERY)) {
            return;
        }
        let signer = self.address();
        let (Ok(balance), Ok(head)) = (self.client.balance(signer).await, self.client.head().await)
        else {
            return; // whoever needs the chain says so
        };
        let tip = self.settings.fees.tip_floor;
        let close = self.settings.fees.fees(head.base_fee, tip).max_fee.saturating_mul(CLOSE_GAS);
        let balance = u128::try_from(balance).unwrap_or(u128::MAX);
        let closes = balance.checked_div(close).unwrap_or(u128::MAX);
        let label = signer.to_string();
        metrics::gauge!("weir_signer_closes_left", "signer" => label.clone())
            .set(u32::try_from(closes).unwrap_or(u32::MAX));
        // in gwei: a gauge is a float, and this one is for a look
        metrics::gauge!("weir_signer_balance_gwei", "signer" => label)
            .set(u32::try_from(balance / 1_000_000_000).unwrap_or(u32::MAX));
        let poor = closes < POOR;
        if poor && !before.is_some_and(|(_, was)| was) {
            tracing::error!(%signer, balance, closes, "the key will soon have no coin for gas; see the runbook");
        } else if !poor && before.is_some_and(|(_, was)| was) {
            tracing::info!(%signer, balance, closes, "the key has coin for gas again");
        }
        *self.purse.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, poor));
    }
}
