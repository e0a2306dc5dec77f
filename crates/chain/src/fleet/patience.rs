//! How long a question is asked. A try that fails is followed by another within milliseconds, and one whose answer is
//! late by a second one beside it: whichever answers first is believed. So a node that fails or hangs now and then
//! costs milliseconds, not a tick of a loop. A refusal ends the question only where no other try is under way: one of
//! several may come from a node that is behind.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use alloy::providers::DynProvider;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{Effort, Endpoint, Fleet};
use crate::ChainError;

/// The pause before an endpoint is asked again that just failed, twice as long after each round: 20, 40, 80, 160,
/// 320 ms.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);
/// Most tries that are under way at one endpoint at a time: one, and two beside it that are late. Where one in ten hangs,
/// one question in a thousand waits for the end of a try.
const AT_ONE: usize = 3;
/// Most tries of one question that are under way at all, where it is work.
const OF_WORK: usize = 2;

/// Bounds on the tries of one question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Most tries together; yet every endpoint that may be asked is asked once.
    tries: usize,
    /// The question is given up after this, whatever is still under way.
    total: Duration,
    /// What it asks of a node: how long an answer may take until it is late, and how many tries there may be beside it.
    effort: Effort,
}

impl Patience {
    /// A question. Where 43 of 100 tries fail, six leave one question in 160 without an answer.
    pub(crate) const QUESTION: Self =
        Self { tries: 6, total: Duration::from_secs(8), effort: Effort::Light };
    /// A question that is much work for a node: one that is late has one other beside it at most.
    pub(crate) const WORK: Self = Self { effort: Effort::Heavy, ..Self::QUESTION };
    /// Bytes to send: the lane sends them again soon anyway, and others wait behind them.
    pub(crate) const SEND: Self =
        Self { tries: 3, total: Duration::from_secs(5), effort: Effort::Light };
    /// A second opinion, for which all wait.
    pub(crate) const WITNESS: Self =
        Self { tries: 4, total: Duration::from_secs(2), effort: Effort::Light };

    fn tries(self, endpoints: usize) -> usize {
        if endpoints == 0 { 0 } else { self.tries.max(endpoints) }
    }

    /// Who is asked next after these tries, by its place: in turn, but for those that have enough under way.
    fn turn(self, endpoints: usize, tries: &[Try]) -> Option<usize> {
        let running = |at| tries.iter().filter(|one| one.runs && at == one.at).count();
        let most = match self.effort {
            Effort::Light => usize::MAX,
            Effort::Heavy => OF_WORK,
        };
        if tries.len() >= self.tries(endpoints)
            || tries.iter().filter(|one| one.runs).count() >= most
        {
            return None;
        }
        let after = tries.last().map_or(0, |one| one.at.saturating_add(1));
        (0..endpoints).cycle().skip(after).take(endpoints).find(|at| running(*at) < AT_ONE)
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
    runs: bool,
}

impl Fleet {
    /// Asks these endpoints in turn until one answers.
    ///
    /// # Errors
    /// The first answer that is an error of the question, if none of the tries that were under way then succeeds in its
    /// time; the last trouble if no endpoint answered in time.
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
            let asked = question(only.provider.clone());
            let value = self.ask_one(only, patience.effort, asked).await?;
            return Ok(Answer { at: 0, value, after_trouble: false });
        }
        let begun = Instant::now();
        let (mut end, mut next) = (after(begun, patience.total), begun);
        let (mut trouble, mut refusal) = (None, None);
        let (mut running, mut tries) = (FuturesUnordered::new(), Vec::<Try>::new());
        loop {
            let turn = match refusal {
                None => patience.turn(order.len(), &tries),
                Some(_) => None,
            };
            let turn = turn.and_then(|at| Some((at, order.get(at)?)));
            if running.is_empty() && turn.is_none() {
                break;
            }
            tokio::select! {
                biased;
                Some((number, answer)) = running.next(), if !running.is_empty() => match answer {
                    Ok(value) => {
                        let at = ended(&mut tries, number);
                        for endpoint in late(order, &tries, Some(at)) {
                            endpoint.note_overtaken();
                        }
                        return Ok(Answer { at, value, after_trouble: trouble.is_some() });
                    }
                    Err(error) if can_change(&error) => {
                        ended(&mut tries, number);
                        trouble = Some(error);
                        next = next.min(after(Instant::now(), pause(tries.len(), order.len())));
                    }
                    Err(error) => {
                        // the others have the time that they were given
                        ended(&mut tries, number);
                        refusal.get_or_insert(error);
                        end = tries.iter().map(|one| one.late).max().map_or(end, |late| end.min(late));
                    }
                },
                () = sleep_until(next), if turn.is_some() => {
                    let Some((at, endpoint)) = turn else { break };
                    let number = tries.len();
                    // each further one beside those that are late has twice the time
                    let late = endpoint.latency(patience.effort).late_after();
                    let late = late.saturating_mul(1 << number.min(4));
                    next = after(Instant::now(), late);
                    tries.push(Try { at, late: next, runs: true });
                    let asked = question(endpoint.provider.clone());
                    let asked = self.ask_one(endpoint, patience.effort, asked);
                    running.push(async move { (number, asked.await) });
                }
                () = sleep_until(end) => {
                    let silent = ChainError::Unavailable("its answers do not come".to_owned());
                    for endpoint in late(order, &tries, None) {
                        match refusal {
                            None => endpoint.note(Some(&silent)),
                            Some(_) => endpoint.note_overtaken(),
                        }
                    }
                    break;
                }
            }
        }
        Err(refusal.or(trouble).unwrap_or_else(|| match order {
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

/// Notes that this try is over; returns whom it asked.
fn ended(tries: &mut [Try], number: usize) -> usize {
    tries.get_mut(number).map_or(0, |one| {
        one.runs = false;
        one.at
    })
}

/// Those whose answer to a try is late now, each once; not who answered another.
fn late<'a>(
    order: &'a [Arc<Endpoint>],
    tries: &[Try],
    answered: Option<usize>,
) -> impl Iterator<Item = &'a Arc<Endpoint>> {
    let now = Instant::now();
    let late: BTreeSet<usize> = tries
        .iter()
        .filter(|one| one.runs && one.late <= now && Some(one.at) != answered)
        .map(|one| one.at)
        .collect();
    late.into_iter().filter_map(|at| order.get(at))
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
    fn three_tries_at_most_are_under_way_at_one_endpoint_and_two_of_work_at_all() {
        let now = Instant::now();
        let tries = |ran: &[(usize, bool)]| -> Vec<Try> {
            ran.iter().map(|(at, runs)| Try { at: *at, late: now, runs: *runs }).collect()
        };
        let turn = |endpoints, ran: &[(usize, bool)]| {
            let tries = tries(ran);
            (Patience::QUESTION.turn(endpoints, &tries), Patience::WORK.turn(endpoints, &tries))
        };
        assert_eq!(turn(0, &[]), (None, None));
        assert_eq!(turn(1, &[]), (Some(0), Some(0)));
        assert_eq!(turn(1, &[(0, true)]), (Some(0), Some(0)));
        assert_eq!(turn(1, &[(0, true), (0, true)]), (Some(0), None));
        assert_eq!(turn(1, &[(0, true); 3]), (None, None));
        assert_eq!(turn(1, &[(0, true), (0, false)]), (Some(0), Some(0)));
        assert_eq!(turn(2, &[(0, false)]), (Some(1), Some(1)));
        let both = [(0, true), (1, false), (0, true), (1, false), (0, true)];
        assert_eq!(turn(2, &both), (Some(1), None));
        assert_eq!(turn(1, &[(0, false); 6]), (None, None), "all tries are used up");
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
