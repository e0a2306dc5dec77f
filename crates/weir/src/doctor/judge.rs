//! What is good enough: pure, so that each limit can be tested without breaking a clock or a chain.

use ::chain::{FeePolicy, Fees};
use alloy::primitives::{Address, U256};
use domain::time::UnixSeconds;
use store::health::Connections;

use super::finding::Finding;
use crate::purse;

/// A block may be this much ahead of our clock, in seconds: producers may set theirs ahead a little.
const AHEAD: u64 = 5;
/// The newest block may be this old, in seconds. Polygon makes one in two.
const HEAD_AGE: u64 = 60;
/// The newest final block may be this old, in seconds. Until then nothing is wrong but slow.
const FINAL_AGE: u64 = 600;
/// The database's clock may differ from ours by this, in seconds.
const DATABASE_SKEW: u64 = 5;
/// Chains whose nodes drop a transaction with a smaller tip, and that tip, in wei per gas.
const POLYGON: [u64; 2] = [137, 80_002];
const POLYGON_TIP: u128 = 25_000_000_000;

fn apart(at: UnixSeconds, now: UnixSeconds) -> String {
    let (at, now) = (at.get(), now.get());
    if at > now {
        format!("{} s ahead of our clock", at.saturating_sub(now))
    } else {
        format!("{} s old", now.saturating_sub(at))
    }
}

fn within(at: UnixSeconds, now: UnixSeconds, ahead: u64, behind: u64) -> bool {
    let (at, now) = (at.get(), now.get());
    at.saturating_sub(now) <= ahead && now.saturating_sub(at) <= behind
}

/// Our clock beside the newest block's time.
pub(super) fn chain_clock(head: UnixSeconds, now: UnixSeconds) -> Finding {
    Finding::new(
        "chain.clock",
        within(head, now, AHEAD, HEAD_AGE),
        format!("the newest block is {}", apart(head, now)),
        format!("at most {AHEAD} s ahead and {HEAD_AGE} s old"),
        "synchronise this machine's clock (NTP); if it is right, the RPC's node is behind or the chain has stopped",
    )
}

/// How long ago the newest final block was made; `None` if the chain names none.
pub(super) fn finality(last: Option<(u64, UnixSeconds)>, now: UnixSeconds) -> Finding {
    let (good, found) = match last {
        Some((number, at)) => (
            within(at, now, AHEAD, FINAL_AGE),
            format!("final block {number} is {}", apart(at, now)),
        ),
        None => (false, "the RPC names no final block".to_owned()),
    };
    Finding::new(
        "chain.finality",
        good,
        found,
        format!("at most {FINAL_AGE} s old"),
        "payouts wait for finality: ask another RPC provider; if it says the same, wait (runbook: WeirFinalityStalled)",
    )
}

/// Our clock beside the database's.
pub(super) fn database_clock(theirs: UnixSeconds, now: UnixSeconds) -> Finding {
    Finding::new(
        "database.clock",
        within(theirs, now, DATABASE_SKEW, DATABASE_SKEW),
        format!("differs from ours by {} s", theirs.get().abs_diff(now.get())),
        format!("at most {DATABASE_SKEW} s"),
        "synchronise the clocks of this machine and the database's (NTP)",
    )
}

/// Whether a server's limit leaves room for this process's pool.
pub(super) fn connections(of: Connections, pool: u32) -> Finding {
    let needed = i64::from(pool);
    Finding::new(
        "database.connections",
        of.limit >= needed,
        format!("the server allows {}, {} are open", of.limit, of.open),
        format!("at least WEIR_DB_CONNECTIONS = {pool} for each process"),
        "raise max_connections (or the role's or the database's limit), or lower WEIR_DB_CONNECTIONS",
    )
}

const fn gwei(wei: u128) -> u128 {
    wei.div_ceil(1_000_000_000)
}

/// Tip and ceiling beside what the chain wants now.
pub(super) fn fees(policy: FeePolicy, chain_id: u64, base: u128, suggested: u128) -> [Finding; 2] {
    let Fees { tip, .. } = policy.fees(base, suggested);
    let least = if POLYGON.contains(&chain_id) { suggested.max(POLYGON_TIP) } else { suggested };
    let doubled = base.saturating_mul(2).saturating_add(tip);
    [
        Finding::new(
            "fee.tip",
            tip >= least,
            format!("we tip {} gwei, the node suggests {}", gwei(tip), gwei(suggested)),
            format!("at least {} gwei", gwei(least)),
            "raise WEIR_TIP_FLOOR_GWEI (25 or more on Polygon), or WEIR_MAX_FEE_GWEI where that is what holds it down",
        ),
        Finding::new(
            "fee.ceiling",
            policy.max_fee_ceiling >= doubled,
            format!(
                "base fee {} gwei, WEIR_MAX_FEE_GWEI = {}",
                gwei(base),
                gwei(policy.max_fee_ceiling)
            ),
            format!(
                "at least {} gwei, so that transactions stay valid while the base fee doubles",
                gwei(doubled)
            ),
            "raise WEIR_MAX_FEE_GWEI, or wait until the base fee falls",
        ),
    ]
}

/// Whether a signer can pay for as many closes as are asked for.
pub(super) fn balance(signer: Address, wei: U256, fees: Fees, closes: u64) -> Finding {
    let needed = purse::price_of_close(fees).saturating_mul(U256::from(closes));
    Finding::new(
        "signer.balance",
        wei >= needed,
        format!(
            "{signer} has {wei} wei, enough for {} closes at the present fee",
            purse::closes_left(wei, fees)
        ),
        format!("{closes} closes, {needed} wei"),
        format!("send the chain's coin to {signer} (runbook: WeirSignerPoor)"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
    const GWEI: u128 = 1_000_000_000;

    fn at(offset: i64) -> UnixSeconds {
        UnixSeconds(NOW.get().checked_add_signed(offset).unwrap())
    }

    fn passes(finding: &Finding) -> bool {
        finding.outcome == Outcome::Pass
    }

    #[test]
    fn clocks_may_differ_a_little() {
        for (offset, good) in [(-60, true), (-61, false), (5, true), (6, false), (0, true)] {
            assert_eq!(passes(&chain_clock(at(offset), NOW)), good, "block at {offset}");
        }
        for (offset, good) in [(-5, true), (-6, false), (5, true), (6, false)] {
            assert_eq!(passes(&database_clock(at(offset), NOW)), good, "database at {offset}");
        }
    }

    #[test]
    fn finality_may_be_slow_but_not_absent() {
        assert!(passes(&finality(Some((7, at(-600))), NOW)));
        assert!(!passes(&finality(Some((7, at(-601))), NOW)));
        assert!(!passes(&finality(None, NOW)));
    }

    #[test]
    fn the_pool_must_fit() {
        let of = |limit| Connections { limit, open: 1 };
        assert!(passes(&connections(of(16), 16)));
        assert!(!passes(&connections(of(15), 16)));
    }

    #[test]
    fn fees_must_be_what_the_chain_takes() {
        let policy = |floor: u128, ceiling: u128| FeePolicy {
            tip_floor: floor * GWEI,
            max_fee_ceiling: ceiling * GWEI,
        };
        let judged = |policy, chain_id, base: u128, tip: u128| {
            fees(policy, chain_id, base * GWEI, tip * GWEI).map(|finding| passes(&finding))
        };
        assert_eq!(judged(policy(25, 2_000), 137, 100, 30), [true, true]);
        assert_eq!(judged(policy(24, 2_000), 137, 100, 1), [false, true], "Polygon's floor");
        assert_eq!(judged(policy(1, 2_000), 31_337, 100, 1), [true, true], "another chain's");
        assert_eq!(judged(policy(25, 224), 137, 100, 25), [true, false], "no room to double");
        assert_eq!(judged(policy(25, 20), 137, 1, 25), [false, false], "ceiling below the tip");
    }

    #[test]
    fn the_signer_must_afford_what_is_asked() {
        let fees = Fees { max_fee: 50 * GWEI, tip: 25 * GWEI };
        let needed = purse::price_of_close(fees) * U256::from(10);
        assert!(passes(&balance(Address::ZERO, needed, fees, 10)));
        assert!(!passes(&balance(Address::ZERO, needed - U256::ONE, fees, 10)));
    }
}
