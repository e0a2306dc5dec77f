//! Sending stored bytes, again and again, until the watcher finds them in a block.

use std::time::Duration;

use chain::{Refused, SendOutcome};
use store::{TxError, txs};

use super::Lane;
use crate::EngineError;

/// Bytes that may or may not have arrived are sent again after this.
const UNKNOWN: Duration = Duration::from_secs(1);

impl Lane {
    /// Sends what is stored and due: the last part of a tick. Whoever sends them, the bytes are the same, so that this
    /// needs no lease. Returns how many sends were tried.
    ///
    /// # Errors
    /// As [`Lane::tick`].
    pub async fn send_due(&self) -> Result<usize, EngineError> {
        let due = {
            let mut connection = self.store.read().await?;
            let signer = self.address();
            txs::due_to_send(&mut connection, signer, self.store.now(), self.settings.queue).await?
        };
        for outgoing in &due {
            let outcome = self.wire.send(&outgoing.raw).await;
            let again = self.after_send(outgoing, &outcome);
            let refusal = match &outcome {
                SendOutcome::Refused(why) => Some(why.as_str()),
                SendOutcome::Accepted | SendOutcome::Unknown(_) => None,
            };
            let (id, hash, now) = (outgoing.id, outgoing.hash, self.store.now());
            self.store
                .write("note broadcast", move |tx| {
                    Box::pin(async move {
                        txs::broadcast(tx, id, hash, now, again, refusal).await?;
                        Ok::<_, TxError<EngineError>>(())
                    })
                })
                .await?;
        }
        Ok(due.len())
    }

    /// When to send the same bytes again. Whether they are mined is for the watcher to find.
    fn after_send(&self, outgoing: &txs::Outgoing, outcome: &SendOutcome) -> Duration {
        let (hash, nonce) = (outgoing.hash, outgoing.nonce);
        match outcome {
            SendOutcome::Accepted => {
                tracing::debug!(tx.hash = %hash, tx.nonce = nonce, "sent");
                self.settings.resend_after
            }
            SendOutcome::Unknown(reason) => {
                tracing::warn!(tx.hash = %hash, tx.nonce = nonce, reason, "sent, outcome unknown");
                UNKNOWN
            }
            SendOutcome::Refused(Refused::NonceTooLow) => {
                tracing::debug!(tx.hash = %hash, tx.nonce = nonce, "nonce used: mined, it seems");
                self.settings.resend_after
            }
            SendOutcome::Refused(why) => {
                tracing::error!(tx.hash = %hash, tx.nonce = nonce, ?why, "the node refuses our bytes");
                metrics::counter!("weir_lane_refusals_total").increment(1);
                self.settings.resend_after
            }
        }
    }
}
