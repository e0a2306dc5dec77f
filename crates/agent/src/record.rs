//! What is known of a rental, on the disk before it is acted on.

use alloy::primitives::B256;
use domain::{id::RentalId, metering::ReadingHead, time::UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{
    AgentError,
    disk::{self, corrupt},
    process::Process,
    state::StateDir,
};

/// How far a rental has come on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// The workload is about to be started for the first time.
    Starting,
    /// It runs.
    Started,
    /// The service has heard of that.
    Acked,
    /// The service has heard that the renter can use it: readings are due.
    Ready,
    /// It was stopped, or never came up.
    Stopped,
}

impl Stage {
    /// Whether a workload should be running.
    pub(crate) const fn runs(self) -> bool {
        matches!(self, Self::Started | Self::Acked | Self::Ready)
    }
}

/// One rental's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) rental_id: RentalId,
    /// The rental's id on the chain, which its readings name.
    pub(crate) escrow_id: B256,
    /// The vendor's ids of the GPUs it holds.
    pub(crate) gpus: Vec<String>,
    pub(crate) stage: Stage,
    /// The workload; none while one is being started.
    pub(crate) process: Option<Process>,
    /// When the present workload was started, by the service's clock.
    pub(crate) started: Option<UnixSeconds>,
    /// The last reading that was accepted.
    pub(crate) head: Option<ReadingHead>,
}

impl Record {
    /// A rental that nothing has been done for.
    pub(crate) const fn new(rental_id: RentalId, escrow_id: B256) -> Self {
        Self {
            rental_id,
            escrow_id,
            gpus: Vec::new(),
            stage: Stage::Starting,
            process: None,
            started: None,
            head: None,
        }
    }

    /// # Errors
    /// [`AgentError::Io`].
    pub(crate) fn save(&self, state: &StateDir) -> Result<(), AgentError> {
        disk::write_json(&state.record(self.rental_id), self)
    }

    /// Removes the rental's file and its workload's folder, in the order that a crash between them leaves
    /// the file.
    ///
    /// # Errors
    /// [`AgentError::Io`].
    pub(crate) fn forget(&self, state: &StateDir) -> Result<(), AgentError> {
        disk::remove_folder(&state.workload(self.rental_id))?;
        disk::remove(&state.record(self.rental_id))
    }

    /// The process that runs for this rental now: the recorded one, or one that an earlier run of the
    /// agent started and did not live to record.
    pub(crate) fn find_process(&self) -> Option<Process> {
        let recorded = self.process.clone().filter(Process::is_alive);
        recorded.or_else(|| Process::leader_for(self.rental_id))
    }
}

/// The rentals that earlier runs of the agent left, those that run. What was stopped, or was never
/// started, is cleared away: the service repeats its order if it has not heard of that.
///
/// # Errors
/// [`AgentError::Corrupt`] for a damaged file, or [`AgentError::Io`].
pub(crate) fn load_all(state: &StateDir) -> Result<Vec<Record>, AgentError> {
    let mut records = Vec::new();
    for path in disk::list_json(&state.rentals())? {
        let Some(mut record) = disk::read_json::<Record>(&path)? else {
            continue;
        };
        if path != state.record(record.rental_id) {
            return Err(corrupt(&path, format_args!("it is that of {}", record.rental_id)));
        }
        if record.stage == Stage::Starting && record.find_process().is_some() {
            record.stage = Stage::Started;
        }
        if record.stage.runs() {
            records.push(record);
        } else {
            record.forget(state)?;
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{folder, rental};

    #[test]
    fn what_runs_is_found_again_and_the_rest_is_cleared_away() {
        let folder = folder();
        let state = StateDir::open(folder.path()).unwrap();
        let head = ReadingHead { seq: 3, to: UnixSeconds(9), hash: B256::repeat_byte(2) };
        let record = |stage| Record {
            stage,
            process: Process::of(std::process::id()),
            head: Some(head),
            ..Record::new(rental(), B256::repeat_byte(1))
        };
        let ready = record(Stage::Ready);
        let stopped = record(Stage::Stopped);
        let begun = Record { process: None, ..record(Stage::Starting) };
        for record in [&ready, &stopped, &begun] {
            record.save(&state).unwrap();
            std::fs::create_dir(state.workload(record.rental_id)).unwrap();
        }
        assert_eq!(load_all(&state).unwrap(), std::slice::from_ref(&ready));
        assert_eq!(disk::list_json(&state.rentals()).unwrap(), [state.record(ready.rental_id)]);
        assert!(!state.workload(stopped.rental_id).exists());
        ready.forget(&state).unwrap();
        ready.forget(&state).unwrap();
        assert_eq!(load_all(&state).unwrap(), []);
    }

    #[test]
    fn a_damaged_or_misplaced_file_is_named() {
        let folder = folder();
        let state = StateDir::open(folder.path()).unwrap();
        let path = state.record(rental());
        std::fs::write(&path, "{").unwrap();
        let error = load_all(&state).unwrap_err().to_string();
        assert!(error.contains("is damaged") && error.contains("move it away"), "{error}");
        disk::write_json(&path, &Record::new(rental(), B256::ZERO)).unwrap();
        let error = load_all(&state).unwrap_err().to_string();
        assert!(error.contains("it is that of rnt_"), "{error}");
    }
}
