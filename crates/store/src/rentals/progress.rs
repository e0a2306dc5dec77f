//! `domain::rental::Progress` and its columns.

use domain::rental::Progress;
use time::OffsetDateTime;

use crate::{
    StoreError,
    convert::{seconds, ts},
};

pub(crate) struct ProgressColumns {
    pub state: String,
    pub lock_status: String,
    pub agent_status: String,
    pub start_status: String,
    pub ready_at: Option<OffsetDateTime>,
    pub started_at: Option<OffsetDateTime>,
    pub interrupted_since: Option<OffsetDateTime>,
    pub stopped_at: Option<OffsetDateTime>,
    pub held_until: Option<OffsetDateTime>,
    pub end_reason: Option<String>,
}

impl ProgressColumns {
    pub(crate) fn write(progress: &Progress) -> Result<Self, StoreError> {
        Ok(Self {
            state: progress.state.as_str().to_owned(),
            lock_status: progress.lock.as_str().to_owned(),
            agent_status: progress.agent.as_str().to_owned(),
            start_status: progress.start.as_str().to_owned(),
            ready_at: progress.ready_at.map(ts).transpose()?,
            started_at: progress.started_at.map(ts).transpose()?,
            interrupted_since: progress.interrupted_since.map(ts).transpose()?,
            stopped_at: progress.stopped_at.map(ts).transpose()?,
            held_until: progress.held_until.map(ts).transpose()?,
            end_reason: progress.end.map(|end| end.as_str().to_owned()),
        })
    }

    pub(crate) fn read(self) -> Result<Progress, StoreError> {
        Ok(Progress {
            state: self.state.parse().map_err(StoreError::corrupt)?,
            lock: self.lock_status.parse().map_err(StoreError::corrupt)?,
            agent: self.agent_status.parse().map_err(StoreError::corrupt)?,
            start: self.start_status.parse().map_err(StoreError::corrupt)?,
            ready_at: self.ready_at.map(seconds).transpose()?,
            started_at: self.started_at.map(seconds).transpose()?,
            interrupted_since: self.interrupted_since.map(seconds).transpose()?,
            stopped_at: self.stopped_at.map(seconds).transpose()?,
            held_until: self.held_until.map(seconds).transpose()?,
            end: self.end_reason.map(|end| end.parse()).transpose().map_err(StoreError::corrupt)?,
        })
    }
}
