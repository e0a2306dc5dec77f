//! What a node does wrong, how often, and what it did.

use std::{collections::BTreeMap, time::Duration};

/// What the node says of the newest final block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finality {
    /// What the real one says.
    #[default]
    Honest,
    /// Nothing: `finalized` is null.
    Null,
    /// Always this block.
    Stuck(u64),
}

/// Which faults, and how many of a thousand requests each hits. `Default`: none.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// JSON-RPC error -32603; half of the transactions so refused were taken all the same.
    pub internal: u16,
    /// HTTP 500 or 429; the node never sees the request.
    pub http: u16,
    /// No answer within [`Faults::hang_for`], then the connection ends. Half of the requests reach the node.
    pub hang: u16,
    /// How long a request hangs.
    pub hang_for: Duration,
    /// The connection ends before the request reaches the node.
    pub cut_before: u16,
    /// The connection ends after the node has answered, and the answer is lost.
    pub cut_after: u16,
    /// The answer comes later, by up to [`Faults::delay_up_to`].
    pub delay: u16,
    /// The longest delay.
    pub delay_up_to: Duration,
    /// The request is answered by a node that is one to three blocks behind.
    pub stale: u16,
    /// Logs or receipts are missing at the end of the list.
    pub truncated: u16,
    /// An account's nonce is one to three too high or too low.
    pub nonce: u16,
    /// A transaction is taken, and "already known" is the answer.
    pub already_known: u16,
    /// The newest final block.
    pub finality: Finality,
    /// Seconds added to the timestamps of blocks.
    pub clock: i64,
}

impl Faults {
    /// The plan of the reliability goals: 30 % errors of every kind, 10 % time-outs, a node that is behind, lists
    /// without their ends, wrong nonces, "already known".
    #[must_use]
    pub fn storm() -> Self {
        Self {
            internal: 150,
            http: 150,
            hang: 100,
            hang_for: Duration::from_secs(6),
            cut_before: 20,
            cut_after: 30,
            delay: 100,
            delay_up_to: Duration::from_millis(500),
            stale: 100,
            truncated: 50,
            nonce: 100,
            already_known: 200,
            ..Self::default()
        }
    }
}

/// What happens to a whole HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Pass,
    Status(&'static str),
    Hang { reaches: bool },
    CutBefore,
    CutAfter,
    Delay(Duration),
}

/// Draws from a seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, below `limit`; 0 for a limit of 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).checked_rem(limit).unwrap_or_default()
    }
}

/// The dice and the tally of one proxy.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) faults: Faults,
    dice: Dice,
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// Calls by their method.
    pub(super) calls: BTreeMap<String, u64>,
}

impl Fate {
    pub(super) fn new(seed: u64) -> Self {
        let (counts, calls) = (BTreeMap::new(), BTreeMap::new());
        Self { faults: Faults::default(), dice: Dice::new(seed), counts, calls }
    }

    /// The next number below `limit`; 0 for a limit of 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.dice.below(limit)
    }

    pub(super) fn count(&mut self, what: &'static str) {
        let count = self.counts.entry(what).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn called(&mut self, method: &str) {
        let calls = self.calls.entry(method.to_owned()).or_default();
        *calls = calls.saturating_add(1);
    }

    /// Whether a fault of this rate happens now; counted if it does.
    pub(super) fn strikes(&mut self, per_mille: u16, what: &'static str) -> bool {
        let strikes = self.below(1_000) < u64::from(per_mille);
        if strikes {
            self.count(what);
        }
        strikes
    }

    /// What happens to the next request: at most one of these.
    pub(super) fn transport(&mut self) -> Transport {
        self.count("requests");
        let faults = self.faults.clone();
        let drawn = self.below(1_000);
        let bands = [
            (faults.http, "http errors"),
            (faults.hang, "hangs"),
            (faults.cut_before, "cuts before"),
            (faults.cut_after, "cuts after"),
            (faults.delay, "delays"),
        ];
        let mut end = 0_u64;
        for (width, what) in bands {
            end = end.saturating_add(u64::from(width));
            if drawn >= end {
                continue;
            }
            self.count(what);
            let coin = self.below(2) == 0;
            return match what {
                "http errors" if coin => Transport::Status("500 Internal Server Error"),
                "http errors" => Transport::Status("429 Too Many Requests"),
                "hangs" => Transport::Hang { reaches: coin },
                "cuts before" => Transport::CutBefore,
                "cuts after" => Transport::CutAfter,
                _ => {
                    let longest = u64::try_from(faults.delay_up_to.as_millis()).unwrap_or(u64::MAX);
                    Transport::Delay(Duration::from_millis(self.below(longest)))
                }
            };
        }
        Transport::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_what_happens() {
        let play = |seed| {
            let mut fate = Fate::new(seed);
            fate.faults = Faults::storm();
            (0..2_000).map(|_| fate.transport()).collect::<Vec<_>>()
        };
        assert_eq!(play(1), play(1));
        assert_ne!(play(1), play(2));
        let cut = play(3).into_iter().filter(|fate| *fate == Transport::CutAfter).count();
        assert!((20..120).contains(&cut), "{cut} of 2,000, where 60 are due");
    }

    #[test]
    fn without_faults_everything_passes() {
        let mut fate = Fate::new(7);
        assert!((0..2_000).all(|_| fate.transport() == Transport::Pass));
        assert!(!fate.strikes(0, "never"));
        assert_eq!(fate.counts.get("never"), None);
        assert_eq!(fate.counts.get("requests"), Some(&2_000));
    }
}
