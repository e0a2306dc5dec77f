//! The assessor: computes what machines have shown, one after the other, at its leisure.

use std::{sync::Mutex, time::Duration};

use domain::{
    id::MachineId,
    reliability::compute,
    time::{Seconds, UnixSeconds},
};
use store::{
    Store, TxError,
    reliability::{self, Shown, WINDOWS},
};

use crate::EngineError;

/// Machines of one tick, each in a transaction of its own.
const BATCH: i64 = 100;
/// From the beginning of one round through all machines to that of the next, at least.
const ROUND: Seconds = Seconds(600);

/// Where the round is.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The last machine that had its turn.
    after: Option<MachineId>,
    begun: Option<UnixSeconds>,
    over: bool,
    /// When the last round that is over was begun, or the first, if none is: no assessment of a machine is older, but where
    /// it failed.
    whole: Option<UnixSeconds>,
}

/// How long to wait after a tick in which machines were assessed: as long as that took. So a pass goes on while there is
/// work, has one connection at a time, and that half of the time at most; where the database is slow, it waits longer.
pub(crate) fn rest(assessed: usize, took: Duration) -> Option<Duration> {
    (assessed > 0).then_some(took)
}

/// Computes reliabilities.
pub struct Assessor {
    store: Store,
    round: Mutex<Round>,
}

impl Assessor {
    /// An assessor of this market's machines.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, round: Mutex::default() }
    }

    fn round(&self) -> std::sync::MutexGuard<'_, Round> {
        // a copy is in there: nothing can be half done
        self.round.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Computes what the next machines have shown, unless all had their turn lately. Returns how many.
    ///
    /// # Errors
    /// The database's; one machine that cannot be computed does not keep the others.
    pub async fn tick(&self) -> Result<usize, EngineError> {
        let now = self.store.now().seconds();
        let mut round = *self.round();
        let due = round.begun.is_none_or(|begun| {
            // one that begins in the future was begun before the clock went back
            begun > now || now >= begun.saturating_plus(ROUND)
        });
        let whole = *round.whole.get_or_insert(now);
        *self.round() = round;
        metrics::gauge!("weir_assessments_oldest_seconds").set(now.saturating_since(whole).get());
        if round.over && !due {
            return Ok(0);
        }
        if round.over || round.begun.is_none() {
            round = Round { after: None, begun: Some(now), over: false, ..round };
        }
        let machines = {
            let mut connection = self.store.read().await?;
            reliability::machines_after(&mut connection, round.after, BATCH).await?
        };
        for machine in &machines {
            if let Err(error) = self.assess(*machine, now).await {
                tracing::warn!(machine.id = %machine, %error, "a machine's reliability is not computed");
                metrics::counter!("weir_assessments_failed_total").increment(1);
            }
        }
        round.after = machines.last().copied().or(round.after);
        round.over = i64::try_from(machines.len()).is_ok_and(|read| read < BATCH);
        if let Some(begun) = round.begun.filter(|_| round.over) {
            let took = self.store.now().seconds().saturating_since(begun);
            metrics::gauge!("weir_assessment_round_seconds").set(took.get());
            round.whole = Some(begun);
        }
        *self.round() = round;
        Ok(machines.len())
    }

    /// Computes what one machine has shown.
    ///
    /// # Errors
    /// The database's.
    pub async fn assess(&self, machine: MachineId, now: UnixSeconds) -> Result<(), EngineError> {
        let as_of = reliability::settled_until(self.store.policy(), now);
        self.store
            .write("assess", move |tx| {
                Box::pin(async move {
                    let longest = WINDOWS.into_iter().max().unwrap_or_default();
                    let whole = reliability::window(longest, as_of);
                    reliability::draw_together(tx, machine, whole.from).await?;
                    let Some(history) = reliability::history(tx, machine, whole).await? else {
                        tracing::warn!(machine.id = %machine, "more rows than are looked at");
                        metrics::counter!("weir_assessments_failed_total").increment(1);
                        // what it showed before is not what it shows now
                        reliability::forget(tx, machine, as_of).await?;
                        return Ok(());
                    };
                    for days in WINDOWS {
                        let figures = compute(&history, reliability::window(days, as_of));
                        let shown = Shown { days, as_of, figures, computed_at: now };
                        reliability::store(tx, machine, &shown).await?;
                    }
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        metrics::counter!("weir_assessments_total").increment(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_as_long_as_it_worked_and_until_the_next_round_if_nothing_was_there() {
        let took = Duration::from_millis(700);
        assert_eq!(rest(100, took), Some(took));
        assert_eq!(rest(1, took), Some(took));
        assert_eq!(rest(0, took), None);
    }
}
