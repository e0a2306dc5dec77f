//! How long a question is asked. A try that fails is followed by another within milliseconds, and one whose answer is
//! late by a second one beside it: whichever answers first is believed. So a node that fails or hangs now and then
//! costs milliseconds, not a tick of a loop.

use std::{future::Future, sync::Arc, time::Duration};

use alloy::providers::DynProvider;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{Endpoint, Fleet};
use crate::ChainError;

/// The pause before an endpoint is asked again that just failed, twice as long after each round: 20, 40, 80, 160,
/// 320 ms.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Bounds on the tries of one question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Most tries together; yet every endpoint that may be asked is asked once.
    tries: usize,
    /// The question is given up after this, whatever is still under way.
    total: Duration,
}

impl Patience {
    /// A question. Where 43 of 100 tries fail, six leave one question in 160 without an answer.
    pub(crate) const QUESTION: Self = Self { tries: 6, total: Duration::from_secs(8) };
    /// Bytes to send: the lane sends them again soon anyway, and others wait behind them.
    pub(crate) const SEND: Self = Self { tries: 3, total: Duration::from_secs(5) };
    /// A second opinion, for which all wait.
    pub(crate) const WITNESS: Self = Self { tries: 4, total: Duration::from_secs(2) };

    fn tries(self, endpoints: usize) -> usize {
        if endpoints == 0 { 0 } else { self.tries.max(endpoints) }
    }
}

/// What came of a question.
pub(crate) struct Answer<T> {
    /// Who answered, by its place in the order.
    pub(super) at: usize,
    pub(crate) value: T,
    /// Whether another failed before. One that is late now and then is still the one to ask first.
    pub(super) after_trouble: bool,
}

/// A try that is under way.
struct Try {
    /// Its place in the order.
    at: usize,
    /// Its answer is late from then on.
    late: Instant,
}

impl Fleet {
    /// Asks these endpoints in turn until one answers.
    ///
    /// # Errors
    /// The first answer that is an error of the question; the last trouble if no endpoint answered in time.
    pub(crate) async fn persist<T, F, Fut>(
        &self,
        order: &[Arc<Endpoint>],
        patience: Patience,
        question: F,
    ) -> Result<Answer<T>, ChainError>
    where
        F: Fn(DynProvider) -> Fut,
        Fut: Future<Output = Result<T, ChainError>>,
    {
        if let (true, [only]) = (self.once, order) {
            let value = self.ask_one(only, question(only.provider.clone())).await?;
            return Ok(Answer { at: 0, value, after_trouble: false });
        }
        let begun = Instant::now();
        let end = after(begun, patience.total);
        let mut trouble = None;
        let mut turns = order.iter().enumerate().cycle().take(patience.tries(order.len()));
        let (mut waiting, mut next) = (turns.next(), begun);
        let (mut running, mut tries) = (FuturesUnordered::new(), Vec::<Try>::new());
        loop {
            if running.is_empty() && waiting.is_none() {
                break;
            }
            tokio::select! {
                biased;
                Some((number, answer)) = running.next(), if !running.is_empty() => match answer {
                    Ok(value) => {
                        let at = tries.get(number).map_or(0, |one: &Try| one.at);
                        mark_late(order, &tries, at);
                        return Ok(Answer { at, value, after_trouble: trouble.is_some() });
                    }
                    Err(error) if can_change(&error) => {
                        trouble = Some(error);
                        next = next.min(after(Instant::now(), pause(tries.len(), order.len())));
                    }
                    Err(error) => return Err(error),
                },
                () = sleep_until(next), if waiting.is_some() => {
                    let Some((at, endpoint)) = waiting else { break };
                    let number = tries.len();
                    // each further one beside those that are late has twice the time
                    let late = endpoint.late_after().saturating_mul(1 << number.min(4));
                    next = after(Instant::now(), late);
                    tries.push(Try { at, late: next });
                    let asked = self.ask_one(endpoint, question(endpoint.provider.clone()));
                    running.push(async move { (number, asked.await) });
                    waiting = turns.next();
                }
                () = sleep_until(end) => break,
            }
        }
        Err(trouble.unwrap_or_else(|| match order {
            [] => ChainError::Unavailable("no RPC endpoint".to_owned()),
            _ => ChainError::Unavailable(format!("no answer within {:?}", patience.total)),
        }))
    }
}

/// What another try may answer differently.
fn can_change(error: &ChainError) -> bool {
    error.is_trouble() || error.is_of_this_node()
}

/// The pause before the next try, when so many have begun: none before an endpoint that was not asked yet.
fn pause(begun: usize, endpoints: usize) -> Duration {
    match begun.checked_div(endpoints).unwrap_or_default() {
        0 => Duration::ZERO,
        round => PAUSE.saturating_mul(1 << round.saturating_sub(1).min(8)).min(LONGEST_PAUSE),
    }
}

/// Notes which endpoints another overtook after their time was over.
fn mark_late(order: &[Arc<Endpoint>], tries: &[Try], answered: usize) {
    let now = Instant::now();
    for one in tries.iter().filter(|one| one.at != answered && one.late <= now) {
        if let Some(endpoint) = order.get(one.at) {
            endpoint.note_overtaken();
        }
    }
}

fn after(moment: Instant, wait: Duration) -> Instant {
    moment.checked_add(wait).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_was_not_asked_yet_is_asked_at_once_and_the_same_one_after_a_pause() {
        let pauses = |endpoints, tries: usize| -> Vec<u128> {
            (1..=tries).map(|begun| pause(begun, endpoints).as_millis()).collect()
        };
        assert_eq!(pauses(1, 7), [20, 40, 80, 160, 320, 320, 320]);
        assert_eq!(pauses(2, 5), [0, 20, 20, 40, 40]);
        assert_eq!(pauses(8, 8), [0, 0, 0, 0, 0, 0, 0, 20]);
    }

    #[test]
    fn each_endpoint_has_its_try() {
        assert_eq!(Patience::QUESTION.tries(1), 6);
        assert_eq!(Patience::QUESTION.tries(8), 8);
        assert_eq!(Patience::QUESTION.tries(0), 0);
    }

    #[test]
    fn a_word_about_the_question_is_an_answer() {
        let said = |code, message: &str| ChainError::Refused { code, message: message.to_owned() };
        assert!(!can_change(&ChainError::Reverts { data: Default::default() }));
        for message in ["already known", "nonce too low", "execution reverted", "block range"] {
            assert!(!can_change(&said(-32_000, message)), "{message}");
        }
        assert!(can_change(&said(-32_603, "internal error")));
        assert!(can_change(&ChainError::Unavailable("timed out".to_owned())));
    }
}
