//! What this machine knows of the time that it was good for a rental, kept beyond the rental's end: when asked to
//! sign an end it signs none that bills less than its own readings covered.

use alloy::primitives::{B256, hex};
use domain::{
    id::RentalId,
    metering::Interval,
    time::{Seconds, UnixSeconds},
};
use escrow::signed;
use serde::{Deserialize, Serialize};

use crate::{
    AgentError,
    disk::{self, corrupt},
    server::Server,
    state::StateDir,
    wire::EndAck,
};

/// Seconds by which both sides may count differently.
const TOLERANCE: u64 = 5;
/// The first reading begins within so many seconds of the start of billing; an end that is told to have begun
/// earlier is counted from there.
const LEAD: Seconds = Seconds(60);
/// How many ends are remembered.
const REMEMBERED: usize = 1_000;

/// The readings of one rental, added up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tally {
    rental_id: RentalId,
    escrow_id: B256,
    /// The start of billing, as the service told it before the first reading.
    not_before: UnixSeconds,
    /// Where the first reading began.
    first: Option<UnixSeconds>,
    /// The seconds of all accepted readings.
    covered: u64,
}

impl Tally {
    /// Of a rental without readings.
    pub(crate) const fn new(rental_id: RentalId, escrow_id: B256) -> Self {
        let not_before = UnixSeconds(0);
        Self { rental_id, escrow_id, not_before, first: None, covered: 0 }
    }

    /// The one on the disk, or a new one.
    ///
    /// # Errors
    /// [`AgentError::Corrupt`] for a damaged file, or [`AgentError::Io`].
    pub(crate) fn load(
        state: &StateDir,
        rental_id: RentalId,
        escrow_id: B256,
    ) -> Result<Self, AgentError> {
        let path = state.tally(rental_id);
        let Some(tally) = disk::read_json::<Self>(&path)? else {
            return Ok(Self::new(rental_id, escrow_id));
        };
        if tally.rental_id == rental_id && tally.escrow_id == escrow_id {
            Ok(tally)
        } else {
            Err(corrupt(&path, "it is that of another rental"))
        }
    }

    /// # Errors
    /// [`AgentError::Io`].
    pub(crate) fn save(&self, state: &StateDir) -> Result<(), AgentError> {
        disk::write_json(&state.tally(self.rental_id), self)
    }

    /// A reading was accepted. Where the first could begin is where billing began; for later ones that is where the
    /// service was told of an outage.
    pub(crate) fn add(&mut self, span: Interval, not_before: UnixSeconds) {
        if self.first.is_none() {
            self.first = Some(span.from);
            self.not_before = not_before;
        }
        self.covered = self.covered.saturating_add(u64::from(span.seconds().get()));
    }

    /// Whether an end bills at least what the readings covered.
    fn agrees(&self, stopped_at: UnixSeconds, credit: Seconds) -> bool {
        let Some(first) = self.first else { return true };
        let began = self.not_before.max(first.saturating_minus(LEAD));
        let billed =
            stopped_at.get().saturating_sub(began.get()).saturating_sub(u64::from(credit.get()));
        billed.saturating_add(TOLERANCE) >= self.covered
    }
}

/// The end that the service asks to be signed.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Asked {
    stopped_at: UnixSeconds,
    credit_secs: Seconds,
}

/// Signs an end, or refuses to. Asked again, it gives the same answer.
pub(crate) fn sign_end(
    state: &StateDir,
    server: &Server,
    rental_id: RentalId,
    escrow_id: B256,
    payload: &serde_json::Value,
) -> EndAck {
    let signature = Tally::load(state, rental_id, escrow_id)
        .map_err(|error| error.to_string())
        .and_then(|tally| {
            let asked = Asked::deserialize(payload).map_err(|error| error.to_string())?;
            if !tally.agrees(asked.stopped_at, asked.credit_secs) {
                return Err(format!("{asked:?} bills less than {tally:?}"));
            }
            let end = signed::end(escrow_id, asked.stopped_at, asked.credit_secs);
            signed::sign(&end, server.key(), server.domain()).map_err(|error| error.to_string())
        });
    match signature {
        Ok(signature) => EndAck::signed(hex::encode_prefixed(signature)),
        Err(reason) => {
            tracing::warn!(rental.id = %rental_id, reason, "the end of a rental is not signed");
            EndAck::refused()
        }
    }
}

/// Forgets all but the newest: a rental's id grows with time.
///
/// # Errors
/// [`AgentError::Io`].
pub(crate) fn prune(state: &StateDir) -> Result<(), AgentError> {
    let paths = disk::list_json(&state.tallies())?;
    let old = paths.len().saturating_sub(REMEMBERED);
    for path in paths.iter().take(old) {
        disk::remove(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{folder, rental};

    fn span(from: u64, to: u64) -> Interval {
        Interval::new(UnixSeconds(from), UnixSeconds(to))
    }

    fn tally() -> Tally {
        let mut tally = Tally::new(rental(), B256::repeat_byte(7));
        tally.add(span(1_000, 1_060), UnixSeconds(998));
        tally.add(span(1_160, 1_200), UnixSeconds(1_150));
        tally
    }

    #[test]
    fn an_end_bills_at_least_what_was_covered() {
        let tally = tally();
        let agrees = |stopped_at, credit| tally.agrees(UnixSeconds(stopped_at), Seconds(credit));
        assert!(agrees(1_200, 102), "two seconds before the first reading, a hundred in between");
        assert!(agrees(1_200, 102 + 5) && !agrees(1_200, 102 + 6), "with a tolerance");
        assert!(agrees(1_300, 202), "told later with more credit is the same bill");
        assert!(agrees(1_200, 0), "more may be billed");
        assert!(!agrees(1_100, 102) && !agrees(0, 0) && !agrees(1_200, u32::MAX));
    }

    #[test]
    fn a_start_that_was_told_too_early_does_not_help() {
        let mut tally = Tally::new(rental(), B256::repeat_byte(7));
        tally.add(span(1_000, 1_100), UnixSeconds(0));
        // from 0 on, a credit of 1,000 s would bill 100 s; counted from 940 it bills nothing
        assert!(!tally.agrees(UnixSeconds(1_100), Seconds(1_000)));
        assert!(tally.agrees(UnixSeconds(1_100), Seconds(60)));
    }

    #[test]
    fn a_machine_without_readings_has_nothing_to_lose() {
        let tally = Tally::new(rental(), B256::ZERO);
        assert!(tally.agrees(UnixSeconds(5_000), Seconds(4_000)));
    }

    #[test]
    fn it_outlives_the_rental_and_only_so_many_are_kept() {
        let folder = folder();
        let state = StateDir::open(folder.path()).unwrap();
        let tally = tally();
        tally.save(&state).unwrap();
        let again = Tally::load(&state, tally.rental_id, tally.escrow_id).unwrap();
        assert_eq!(again, tally);
        assert!(Tally::load(&state, tally.rental_id, B256::ZERO).is_err());
        for _ in 0..REMEMBERED {
            Tally::new(rental(), B256::ZERO).save(&state).unwrap();
        }
        prune(&state).unwrap();
        assert_eq!(disk::list_json(&state.tallies()).unwrap().len(), REMEMBERED);
    }
}
