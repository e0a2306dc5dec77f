//! Random lives with releases: what the platform asks the contract to pay while a rental runs never exceeds the
//! evidence, so that the end can credit every outage, and all payments together are the deposit.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic)]

use domain::billing::{
    auto_stop_second, closing_between, deposit_ceil, held_between, payout_between,
};
use domain::metering::{
    CloseCall, Coverage, Interval, ReleaseAnswer, may_release, meter, next_release,
};
use domain::{Amount, FeeBps, Seconds, TokenRate, UnixSeconds};

const LIVES: u32 = 20_000;
const START: UnixSeconds = UnixSeconds(2_000_000_000);
const DAY: u32 = 86_400;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound.max(1))).unwrap()
    }

    fn one_of<const N: usize>(&mut self, all: [u32; N]) -> u32 {
        let at = usize::try_from(self.below(u32::try_from(N).unwrap())).unwrap();
        *all.get(at).unwrap()
    }
}

/// What the contract keeps of a rental that runs, and how it counts: `contracts/src/Split.sol` in plain arithmetic.
struct Contract {
    funded: u32,
    holdback: u32,
    settled: u32,
}

impl Contract {
    /// `release`, mined at this second of the rental: the seconds that are newly paid.
    fn release(&mut self, elapsed: u32) -> Option<(u32, u32)> {
        let secs = elapsed.min(self.funded).saturating_sub(self.holdback);
        let before = self.settled;
        (secs > before).then(|| {
            self.settled = secs;
            (before, secs)
        })
    }

    /// `close`: what the clock bills, and what is left of it after the credit.
    fn close(&self, stopped: u32, credit: u32) -> (u32, u32) {
        let clock = stopped.min(self.funded).max(self.settled).max(1);
        let least = self.settled.max(1);
        let billed = if clock - least > credit { clock - credit } else { least };
        (clock, billed)
    }
}

struct Life {
    dice: Dice,
    /// An outage comes once or twice in so many readings.
    steady: u32,
    now: UnixSeconds,
    readings: Vec<Interval>,
}

impl Life {
    /// Time passes, mostly with evidence; at times the machine was away.
    fn go_on(&mut self, most: u32) {
        let seconds = Seconds(1 + self.dice.below(most));
        let next = self.now.saturating_plus(seconds);
        let away = match self.dice.below(self.steady) {
            0 => Seconds(self.dice.below(900)),
            1 if self.dice.below(4) == 0 => seconds,
            _ => Seconds::ZERO,
        };
        let from = self.now.saturating_plus(away);
        if from < next {
            self.readings.push(Interval::new(from, next));
        }
        self.now = next;
    }

    fn coverage(&self) -> Option<Coverage> {
        let (first, last) = (self.readings.first()?, self.readings.last()?);
        let sum: u32 = self.readings.iter().map(|part| part.seconds().get()).sum();
        Some(Coverage { span: Interval::new(first.from, last.to), covered: Seconds(sum) })
    }
}

/// What was released, and whether outages forbade it for ever.
#[derive(Default)]
struct Seen {
    releases: u32,
    with_outage: u32,
    barred: u32,
}

#[test]
fn no_outage_is_released_and_all_payments_are_the_deposit() {
    let mut seen = Seen::default();
    for seed in 0..LIVES {
        live(u64::from(seed), &mut seen);
    }
    assert!(seen.releases > LIVES / 2, "{}", seen.releases);
    assert!(seen.with_outage > LIVES / 4, "{}", seen.with_outage);
    assert!(seen.barred > LIVES / 10, "{}", seen.barred);
}

fn live(seed: u64, seen: &mut Seen) {
    let mut dice = Dice(seed);
    let rate =
        TokenRate::new(Amount::new(u128::from(dice.next() >> dice.below(60)).max(1)).unwrap());
    let (rate, fee) = (rate.unwrap(), FeeBps::quotable(1_200).unwrap());
    let duration = Seconds(DAY / 4 + dice.below(6 * DAY));
    let deposit = deposit_ceil(rate, duration).unwrap();
    let funded = auto_stop_second(deposit, rate);
    let holdback = Seconds(dice.one_of([0, 900, 3_600, 3_600, 7_200]));
    let every = Seconds(dice.one_of([DAY / 4, DAY / 2, DAY]));
    let funded_until = START.saturating_plus(funded);
    // readings may lie before a start that moved, which must not count for more than they are
    let (steady, now) = (dice.one_of([12, 60, 400]), START.saturating_minus(Seconds(300)));
    let mut life = Life { dice, steady, now, readings: Vec::new() };
    while life.now < START {
        life.go_on(100);
    }
    let mut contract = Contract { funded: funded.get(), holdback: holdback.get(), settled: 0 };
    let mut paid = (Amount::ZERO, Amount::ZERO);
    let mut due = next_release(START, life.now, funded_until, holdback, every);
    let mut tried = 0;
    let end = START.saturating_plus(Seconds(1 + life.dice.below(funded.get())));
    while life.now < end {
        life.go_on(4_000);
        if due.is_none_or(|due| life.now < due) {
            continue;
        }
        let coverage = life.coverage();
        match may_release(START, life.now, funded_until, holdback, coverage.as_ref()) {
            ReleaseAnswer::Never => {
                seen.barred += u32::from(holdback > Seconds::ZERO);
                due = None;
            }
            ReleaseAnswer::NotYet if tried < 5 => tried += 1,
            ReleaseAnswer::NotYet => {
                tried = 0;
                due = next_release(START, life.now, funded_until, holdback, every);
            }
            ReleaseAnswer::Now { until } => {
                // mined as late as it was sent in time, and a quarter of the holdback later; nothing more is heard meanwhile
                let latest = until.saturating_plus(Seconds(holdback.get() / 4));
                let wait = Seconds(life.dice.below(latest.saturating_since(life.now).get() + 1));
                life.now = life.now.saturating_plus(wait);
                if let Some((from, to)) = contract.release(life.now.saturating_since(START).get()) {
                    let part =
                        payout_between(rate, fee, deposit, Seconds(from), Seconds(to)).unwrap();
                    paid.0 = paid.0.checked_add(part.net).unwrap();
                    paid.1 = paid.1.checked_add(part.fee).unwrap();
                    seen.releases += 1;
                    let so_far = meter(Interval::new(START, life.now), &life.readings, funded);
                    assert!(to <= so_far.billed.get(), "seed {seed}: {to} s paid, {so_far:?}");
                    seen.with_outage += u32::from(so_far.credit.get() > 900);
                }
                due = next_release(START, life.now, funded_until, holdback, every);
            }
        }
    }
    finish(&mut life, &contract, (rate, fee, deposit, funded), paid, seed);
}

/// The platform closes with what it has metered, some held or none; everybody has got what the evidence says.
fn finish(
    life: &mut Life,
    contract: &Contract,
    (rate, fee, deposit, funded): (TokenRate, FeeBps, Amount, Seconds),
    (provider, platform): (Amount, Amount),
    seed: u64,
) {
    // the machine may have been gone for long: then it ends where the evidence ended
    let last = life.readings.last().map_or(START, |part| part.to.max(START));
    let stopped = if life.dice.below(3) == 0 { last } else { life.now };
    let metered = meter(Interval::new(START, stopped), &life.readings, funded);
    let earliest = life.now.saturating_minus(Seconds(540));
    let CloseCall { stopped_at, credit } = metered.close_call(START, earliest, funded).unwrap();
    let (clock, billed) = contract.close(stopped_at.saturating_since(START).get(), credit.get());
    assert_eq!(billed, metered.billed.get(), "seed {seed}: {metered:?}, {}", contract.settled);
    let settled = Seconds(contract.settled);
    let claim = (billed - contract.settled.max(1)).min(contract.holdback);
    let sure = Seconds(if life.dice.below(2) == 0 { billed - claim } else { billed });
    // what is final at once, then what was held
    let first = closing_between(rate, fee, deposit, settled, sure).unwrap();
    let clock = Seconds(clock);
    let late = held_between(rate, fee, deposit, sure, Seconds(billed), clock).unwrap();
    let refund_at_once = deposit
        .checked_sub(
            closing_between(rate, fee, deposit, Seconds::ZERO, clock)
                .map(|all| all.net.checked_add(all.fee).unwrap())
                .unwrap(),
        )
        .unwrap();
    let sum =
        [provider, platform, first.net, first.fee, refund_at_once, late.net, late.fee, late.refund]
            .into_iter()
            .fold(0, |sum, part| sum + part.get());
    assert_eq!(sum, deposit.get(), "seed {seed}");
    let whole = closing_between(rate, fee, deposit, Seconds::ZERO, metered.billed).unwrap();
    let to_provider = provider.get() + first.net.get() + late.net.get();
    assert_eq!(to_provider, whole.net.get(), "seed {seed}: paid in parts or at once");
    assert_eq!(platform.get() + first.fee.get() + late.fee.get(), whole.fee.get(), "seed {seed}");
}
