//! Webhooks: what accounts can be told of, how often it is tried, and whom it is never sent to.

mod target;

pub use target::{Host, Rules, Scheme, Target, TargetError};

use crate::time::Seconds;

/// What an account can be told of, with its meaning; docs/WEBHOOKS.md shows it. They are made by the triggers of
/// `migrations/0014_webhooks.sql`, `0019_account_events.sql` and `0026_notices_and_labels.sql`, in the transaction of what they tell.
pub const EVENTS: &[(&str, &str)] = &[
    ("rental.booked", "a quote was booked; GPUs are held, the deposit is waited for"),
    ("rental.funded", "the deposit is locked, and final on the chain"),
    (
        "rental.funding_refused",
        "the contract does not take the renter's authorization; nothing is lost",
    ),
    ("rental.lock_too_small", "less was locked than was quoted; it goes back"),
    ("rental.ready", "the machine is ready, and billing begins"),
    ("rental.interrupted", "evidence of service stopped; the time is not billed"),
    ("rental.resumed", "evidence comes again"),
    (
        "rental.expiring",
        "the deposit is used up soon, at `exhausts_at`: five minutes before, or as WEIR_EXPIRING_S says",
    ),
    ("rental.budget_50", "half of the deposit is spent; renters only"),
    ("rental.budget_80", "four fifths of the deposit are spent; renters only"),
    ("rental.budget_100", "the deposit is used up, and the rental ends; renters only"),
    (
        "rental.notice",
        "the provider announced or called off a maintenance window, or ends the rental at `ends_at`: `about` says which",
    ),
    ("rental.ended", "billing has ended; what is owed is being settled"),
    ("rental.held", "all but some seconds is paid; those are held until `held_until`"),
    ("rental.settled", "the deposit is divided, finally"),
    ("rental.resolved", "a dispute was decided, and the rest of the deposit divided, finally"),
    ("rental.expired", "no lock came in time"),
    ("rental.cancelled", "it was called off before it began"),
    ("rental.start_failed", "the machine did not become ready"),
    ("rental.refunded", "the whole deposit went back, finally"),
    ("rental.alarm", "the chain said something that does not fit; a person looks"),
    ("dispute.opened", "a side disputes the held seconds, on the chain"),
    ("dispute.resolved", "the dispute was decided, finally"),
    ("dispute.filed", "a side opened a case about a rental, here"),
    ("dispute.evidence", "a side showed evidence in a case"),
    ("dispute.proposed", "a side signed how many seconds it would have billed"),
    ("dispute.accepted", "the other side signed the same"),
    ("dispute.withdrawn", "whoever opened a case has withdrawn it"),
    ("dispute.closed", "a case is over, with its outcome"),
    ("settlement.final", "the chain's last word on a rental's money, with the figures"),
    ("machine.online", "a machine's agent is heard of again"),
    ("machine.offline", "a machine's agent is not heard of any more"),
    ("machine.verified", "a machine's self-test agrees with what is said of it"),
    ("machine.deverified", "a machine lost its tier, with the reason"),
    ("offer.changed", "an offer of yours was listed, changed, paused or withdrawn"),
    ("offer.rented", "the deposit for a rental of your offer is locked, and final on the chain"),
    ("quote.expired", "a quote of yours was not booked in time; told half a minute later"),
    ("payout.paid", "a balance of yours was paid out by the contract, finally"),
    ("webhook.test", "you asked for it"),
];

/// Names all of them.
pub const ALL_EVENTS: &str = "*";

/// Whether a webhook can ask for events of this name.
#[must_use]
pub fn is_event(name: &str) -> bool {
    name == ALL_EVENTS || EVENTS.iter().any(|(known, _)| *known == name)
}

/// Seconds from each failed try to the next: three days in all.
const RETRIES: [u32; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// A wait is up to one in so many parts longer, so that what failed together does not come back together.
const JITTER: u32 = 10;

/// If nothing came through for so long, a webhook is disabled with its next delivery that is given up.
pub const PATIENCE: Seconds = Seconds(3 * 86_400);

/// How long to wait after so many failed tries; `None` if that was the last. `random` decides the jitter.
#[must_use]
pub fn wait_after(tries: u32, random: u32) -> Option<Seconds> {
    let place = usize::try_from(tries).ok()?.checked_sub(1)?;
    let wait = *RETRIES.get(place)?;
    let spread = wait / JITTER;
    let more = random.checked_rem(spread.saturating_add(1)).unwrap_or(0);
    Some(Seconds(wait.saturating_add(more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_go_on_for_three_days_with_jitter() {
        let sum = |random: u32| -> u32 {
            (1..=9).map(|tries| wait_after(tries, random).unwrap().get()).sum()
        };
        assert_eq!(wait_after(10, 0), None);
        assert_eq!(wait_after(0, 0), None);
        for random in [0, 1, 17, 12_345, u32::MAX] {
            assert!(sum(random) > PATIENCE.get(), "{random}");
            for (tries, wait) in (1..).zip(RETRIES) {
                let one = wait_after(tries, random).unwrap().get();
                assert!(one >= wait && one <= wait + wait / 10, "{tries} {random} {one}");
            }
        }
        assert_ne!(wait_after(2, 3), wait_after(2, 30));
    }

    #[test]
    fn events_are_named_once_and_by_the_rules_of_standard_webhooks() {
        for (place, (name, meaning)) in EVENTS.iter().enumerate() {
            assert!(!EVENTS.iter().take(place).any(|(other, _)| other == name), "{name} twice");
            let (family, event) = name.split_once('.').unwrap();
            let plain = |text: &str| {
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            };
            assert!(plain(family) && plain(event) && !meaning.is_empty(), "{name}");
        }
        assert!(is_event("rental.ready") && is_event("*") && !is_event("rental.*"));
    }

    #[test]
    fn the_triggers_make_what_is_listed_and_nothing_else() {
        let migrations = concat!(
            include_str!("../../../migrations/0014_webhooks.sql"),
            include_str!("../../../migrations/0019_account_events.sql"),
            include_str!("../../../migrations/0026_notices_and_labels.sql"),
        );
        let families = [
            "rental.",
            "dispute.",
            "settlement.",
            "machine.",
            "webhook.",
            "offer.",
            "quote.",
            "payout.",
        ];
        let made: std::collections::BTreeSet<&str> = migrations
            .split(|letter: char| {
                !(letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._".contains(letter))
            })
            .filter(|text| families.iter().any(|family| text.starts_with(family)))
            .collect();
        for name in &made {
            assert!(is_event(name), "{name} is made and not listed");
        }
        // what is made elsewhere: by the worker that looks at machines, and on request
        let elsewhere = ["machine.online", "machine.offline", "quote.expired", "webhook.test"];
        for (name, _) in EVENTS {
            assert!(made.contains(name) || elsewhere.contains(name), "{name} is never made");
        }
    }
}
