//! Sending. The same bytes go to every endpoint at once: a transaction is known to the chain as soon as one node
//! has it, and a node that drops it or sleeps costs nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use alloy::providers::{DynProvider, Provider};
use tokio::sync::mpsc;

use crate::{
    ChainError, ReadClient, Refused, SendOutcome, classify,
    fleet::{Endpoint, Patience},
};

/// Sends bytes. Only the lane holds one.
#[derive(Clone, Debug)]
pub struct Wire {
    client: ReadClient,
}

impl Wire {
    /// The sending half of a client.
    #[must_use]
    pub fn new(client: ReadClient) -> Self {
        Self { client }
    }

    /// Sends raw bytes to every endpoint that does not rest, and says what they made of them together, within the
    /// time limit of one. An endpoint that fails or is late is sent the same bytes again, which it can take only once.
    /// The first that takes them is enough; the others go on in the background, each within its time limit, and an
    /// endpoint that keeps failing soon rests.
    pub async fn send(&self, raw: &[u8]) -> SendOutcome {
        let mut endpoints = self.client.fleet.awake();
        if endpoints.len() == 1
            && let Some(only) = endpoints.pop()
        {
            return self.send_to(&only, raw).await;
        }
        let (tell, mut told) = mpsc::channel(endpoints.len().max(1));
        let asked = endpoints.len();
        for endpoint in endpoints {
            let (wire, raw, tell) = (self.clone(), raw.to_vec(), tell.clone());
            tokio::spawn(async move {
                let outcome = wire.send_to(&endpoint, &raw).await;
                // nobody listens any more once another has taken them
                drop(tell.send(outcome).await);
            });
        }
        drop(tell);
        let mut outcomes = Vec::with_capacity(asked);
        while let Some(outcome) = told.recv().await {
            if outcome == SendOutcome::Accepted {
                return outcome;
            }
            outcomes.push(outcome);
        }
        combine(&outcomes)
    }

    async fn send_to(&self, endpoint: &Arc<Endpoint>, raw: &[u8]) -> SendOutcome {
        let only = std::slice::from_ref(endpoint);
        let begun = &AtomicUsize::new(0);
        let send = |provider: DynProvider| async move {
            begun.fetch_add(1, Ordering::Relaxed);
            // what comes back would watch for the transaction: the watcher does that
            provider.send_raw_transaction(raw).await.map(drop).map_err(ChainError::from)
        };
        match self.client.fleet.persist(only, Patience::SEND, send).await {
            Ok(_) => SendOutcome::Accepted,
            Err(error) => alone(classify(&error), begun.load(Ordering::Relaxed)),
        }
    }
}

/// What a refusal is worth after so many tries at one endpoint: one that had no answer may have been taken, unless the
/// number is used.
fn alone(outcome: SendOutcome, tries: usize) -> SendOutcome {
    match &outcome {
        SendOutcome::Refused(why) if tries > 1 && *why != Refused::NonceTooLow => {
            SendOutcome::Unknown(format!("{why:?}, after a try without an answer"))
        }
        SendOutcome::Accepted | SendOutcome::Unknown(_) | SendOutcome::Refused(_) => outcome,
    }
}

/// What several nodes' words about the same bytes come to.
///
/// | said | outcome |
/// |---|---|
/// | any accepted | accepted: one pool is enough, and the bytes may spread whatever the others say |
/// | all refused for one reason | refused for that reason |
/// | all refused, for different reasons | unknown: at least one is behind or has other rules |
/// | some refused, some unknown | unknown: those may have taken the bytes |
/// | none answered | unknown |
fn combine(outcomes: &[SendOutcome]) -> SendOutcome {
    if outcomes.contains(&SendOutcome::Accepted) {
        return SendOutcome::Accepted;
    }
    match outcomes {
        [] => SendOutcome::Unknown("no endpoint answered".to_owned()),
        [first @ SendOutcome::Refused(_), rest @ ..] if rest.iter().all(|other| other == first) => {
            first.clone()
        }
        several => {
            let said: Vec<String> = several.iter().map(|outcome| format!("{outcome:?}")).collect();
            SendOutcome::Unknown(said.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_after_a_try_without_an_answer_says_nothing_unless_the_number_is_used() {
        let poor = SendOutcome::Refused(Refused::PoorSigner);
        let low = SendOutcome::Refused(Refused::NonceTooLow);
        assert_eq!(alone(poor.clone(), 1), poor);
        assert!(matches!(alone(poor, 2), SendOutcome::Unknown(_)));
        assert_eq!(alone(low.clone(), 2), low);
        assert_eq!(alone(SendOutcome::Accepted, 2), SendOutcome::Accepted);
    }

    #[test]
    fn every_line_of_the_table_holds() {
        use SendOutcome::{Accepted, Refused as No, Unknown};
        let low = No(Refused::NonceTooLow);
        let poor = No(Refused::PoorSigner);
        let silent = Unknown("timed out".to_owned());
        for one in [&low, &poor, &silent, &Accepted] {
            assert_eq!(combine(&[one.clone(), Accepted]), Accepted);
            assert_eq!(combine(&[Accepted, one.clone()]), Accepted);
        }
        assert_eq!(combine(&[low.clone(), low.clone(), low.clone()]), low);
        assert_eq!(combine(std::slice::from_ref(&poor)), poor);
        for unsure in [
            vec![],
            vec![low.clone(), poor],
            vec![low, silent.clone()],
            vec![silent.clone()],
            vec![silent.clone(), silent],
        ] {
            assert!(matches!(combine(&unsure), Unknown(_)), "{unsure:?}");
        }
    }
}
