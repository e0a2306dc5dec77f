//! Turns at what takes some ten milliseconds of thought in a large market: a match, or a search that has to look at many
//! offers one by one.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::index::Market;
use crate::{AppState, Code, Problem, problem::internal, streams::Seats};

/// Offers that are looked at while the index waits.
pub(crate) const AT_ONCE: usize = 8_192;

/// Needs that are thought about at once in a process: each takes a processor, and anybody may ask.
const TURNS_AT_ONCE: usize = 2;
/// Needs that may be thought about or wait for it, in a process and from one network: nobody's wait because of many others of
/// one caller.
const MOST_NEEDS: usize = 32;
const SHARE: usize = 4;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

static TURNS: Turns = Turns(Semaphore::const_new(TURNS_AT_ONCE));

/// Turns at thinking. Who has gone away keeps its turn until its need is thought about to the end.
struct Turns(Semaphore);

impl Turns {
    /// Waits for a turn, which lasts until it is dropped.
    async fn take(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match tokio::time::timeout(PATIENCE, self.0.acquire()).await {
            Ok(turn) => turn.map_err(internal),
            Err(_) => {
                let detail = "too many searches and matches are at work; come again later";
                Err(Problem::new(Code::Unavailable, detail))
            }
        }
    }
}

/// Room for needs, by network.
pub(crate) type Needs = Seats<Vec<u8>>;

/// As much room as there is.
pub(crate) fn needs() -> Needs {
    Seats::new(MOST_NEEDS, SHARE)
}

/// Thinks on a thread that answers nobody else, once it is this network's turn. `work` lets go of the index every
/// [`AT_ONCE`] offers, so that whoever changes it, and all searches that wait for that, need not wait for the whole.
///
/// # Errors
/// [`Code::Unavailable`] if too many are thought about, or too many of the network's; those of `work`.
pub(crate) async fn think<T: Send + 'static>(
    app: &AppState,
    network: Vec<u8>,
    work: impl FnOnce(&Market) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let seat = app.needs.take(Some(network)).map_err(|_| {
        let detail =
            "too many searches and matches are at work, or too many from your network; come again later";
        Problem::new(Code::Unavailable, detail)
    })?;
    let market = app.market.clone();
    let turn = TURNS.take().await?;
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&market);
        drop((turn, seat));
        done
    });
    done.await.map_err(internal)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_third_need_waits_a_while_and_is_told_to_come_again() {
        let turns = Turns(Semaphore::new(TURNS_AT_ONCE));
        let (first, _second) = (turns.take().await.unwrap(), turns.take().await.unwrap());
        let refused = turns.take().await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        drop(first);
        assert!(turns.take().await.is_ok());
    }

    #[test]
    fn a_network_has_its_share_of_the_needs() {
        let needs = needs();
        let held: Vec<_> = (0..SHARE).map(|_| needs.take(Some(vec![1])).unwrap()).collect();
        assert!(needs.take(Some(vec![1])).is_err());
        assert!(needs.take(Some(vec![2])).is_ok());
        drop(held);
        assert!(needs.take(Some(vec![1])).is_ok());
    }
}
