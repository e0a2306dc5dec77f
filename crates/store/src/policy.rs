//! The operator's settings that decide how long each state may last.

use domain::{money::FeeBps, time::Seconds};

/// Timeouts, limits and the platform's fee. Every waiting state has its bound here.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The platform's share of the provider's gross, 1,000 to 1,500 basis points.
    pub fee: FeeBps,
    /// How long a quote can be booked.
    pub quote_ttl: Seconds,
    /// How long a booking holds its GPUs while the lock is awaited.
    pub funding_ttl: Seconds,
    /// How long after the lock was seen the machine may take to be ready.
    pub ready_ttl: Seconds,
    /// Evidence older than this means an outage.
    pub evidence_timeout: Seconds,
    /// An outage longer than this ends the rental at its last good second.
    pub max_outage: Seconds,
    /// How long before a deposit is used up its parties are told.
    pub expiring_lead: Seconds,
    /// How long a stopped machine may take to send its last reading.
    pub stop_grace: Seconds,
    /// The newest seconds that `release` on the chain leaves alone.
    pub holdback: Seconds,
    /// How long after its start, and again, a running rental is paid for; never with 0. Above the holdback.
    pub release_every: Seconds,
    /// Slack between the end of `funding_ttl` plus `ready_ttl` and the contract's `startBy`.
    pub start_slack: Seconds,
}

/// A machine that misses a heartbeat or two is not gone.
const LEAST_PATIENCE: Seconds = Seconds(30);

impl Policy {
    /// A machine that was not heard of for longer is offline, wherever that is told: half a minute, and no less than
    /// what is an outage.
    #[must_use]
    pub fn offline_after(&self) -> Seconds {
        self.evidence_timeout.max(LEAST_PATIENCE)
    }

    /// From quote to the last second at which the contract accepts a start: the sum of what may pass.
    #[must_use]
    pub fn start_window(&self) -> Seconds {
        let total = self
            .quote_ttl
            .get()
            .saturating_add(self.funding_ttl.get())
            .saturating_add(self.ready_ttl.get())
            .saturating_add(self.start_slack.get());
        Seconds(total)
    }
}
