//! Who sends for the key. A process holds a lease for some seconds at a time; what it numbers is fenced by the lease's
//! number, so that one that slept past its time can do no harm. A process that dies loses it at once.

use store::{
    TxError,
    txs::{self, Lease, Presence},
};

use super::{Lane, later};
use crate::EngineError;

/// What this process knows of its right.
#[derive(Default)]
pub(super) struct Holding {
    presence: Option<Presence>,
    lease: Option<Lease>,
}

impl Lane {
    /// Takes the key's account over: its nonces are ours from the chain's present one on.
    ///
    /// # Errors
    /// The database's or the chain's.
    pub async fn take_over(&self) -> Result<(), EngineError> {
        // The first process makes the row; the rest is for whoever holds the key.
        self.register().await?;
        self.hold().await.map(drop)
    }

    /// Gives the key back, so that the next process need not wait.
    ///
    /// # Errors
    /// The database's; the lease then ends by itself.
    pub async fn hand_over(&self) -> Result<(), EngineError> {
        let mut holding = self.holding.lock().await;
        let (lease, address) = (holding.lease.take(), self.address());
        holding.presence = None;
        if let Some(lease) = lease {
            self.give_back(lease).await?;
            tracing::info!(signer = %address, "no longer the sender of this key");
        }
        Ok(())
    }

    async fn give_back(&self, lease: Lease) -> Result<(), EngineError> {
        let address = self.address();
        self.store
            .write("release signer", move |tx| {
                Box::pin(async move {
                    txs::release(tx, address, lease).await?;
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        Ok(())
    }

    /// The lease, renewed when half of its time is over; `None` while another process has it.
    pub(super) async fn hold(&self) -> Result<Option<Lease>, EngineError> {
        let mut holding = self.holding.lock().await;
        let (now, term) = (self.store.now(), self.settings.lease);
        let half = term.checked_div(2).unwrap_or(term);
        let fresh = |lease: &Lease| later(now, half) < lease.until;
        if let Some(lease) = holding.lease.filter(fresh) {
            return Ok(Some(lease));
        }
        if let Some(presence) = &mut holding.presence
            && !presence.stands().await
        {
            tracing::warn!("the session that held our leases is gone; opening another");
            holding.presence = None;
        }
        if holding.presence.is_none() {
            holding.presence = Some(Presence::open(&self.store).await?);
        }
        let Some(holder) = holding.presence.as_ref().map(Presence::holder) else {
            return Ok(None);
        };
        let address = self.address();
        let taken = self
            .store
            .write("lease signer", move |tx| {
                Box::pin(async move {
                    let lease = txs::lease(tx, address, holder, now, term).await?;
                    Ok::<_, TxError<EngineError>>(lease)
                })
            })
            .await?;
        let before = holding.lease.map(|lease| lease.number);
        if let Some(lease) = taken
            && before != Some(lease.number)
        {
            tracing::info!(signer = %address, lease.number, "the sender of this key");
            // Whoever had it before may have been someone else altogether.
            if let Err(error) = self.register().await {
                // Without the chain we are no sender: another process may do better.
                self.give_back(lease).await?;
                return Err(error);
            }
        } else if taken.is_none() && before.is_some() {
            tracing::warn!(signer = %address, "another process sends for this key now");
        }
        holding.lease = taken;
        Ok(taken)
    }

    async fn register(&self) -> Result<(), EngineError> {
        let address = self.address();
        let nonce = self.client.nonce(address).await?;
        self.store
            .write("register signer", move |tx| {
                Box::pin(async move {
                    txs::register_signer(tx, address, nonce).await?;
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        Ok(())
    }
}
