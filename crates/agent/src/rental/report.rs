//! Ready, and readings.

use domain::metering::Interval;
use serde_json::Value;

use super::Rental;
use crate::{
    evidence::{Signed, Verdict},
    http::CallError,
    process::Process,
    reach,
    record::Stage,
    wire::{Accepted, Empty, Reach},
};

/// How many readings one turn may send: an answer that moves the bounds costs one.
const READINGS_PER_TURN: u32 = 4;

impl Rental {
    /// Says that the renter can use the machine.
    pub(super) async fn say_ready(&mut self) {
        let path = format!("v1/agent/rentals/{}/ready", self.record.rental_id);
        match self.context.post::<Value>(&path, &Empty {}).await {
            Ok(_) => {
                self.ready.worked();
                self.condition.well();
                self.record.stage = Stage::Ready;
                self.save_or_log();
            }
            Err(error) => {
                self.ready.failed();
                self.note(&error);
            }
        }
    }

    /// Says where the renter comes in, if that is to be told and is not what was told last. Whatever becomes of it, the rental
    /// goes on.
    pub(super) async fn tell_reach(&mut self) {
        let Some(host) = self.context.public_host.clone() else { return };
        let folder = self.context.state.workload(self.record.rental_id);
        let ports = match reach::read(&folder) {
            Ok(ports) => ports,
            Err(error) => {
                self.reach.ill("file", &error);
                return;
            }
        };
        let reach = Reach { host, ports };
        if self.told.as_ref() == Some(&reach) {
            self.reach.well();
            return;
        }
        if !self.telling.is_due() {
            return;
        }
        let path = format!("v1/agent/rentals/{}/access", self.record.rental_id);
        match self.context.post::<Value>(&path, &reach).await {
            Ok(_) => {
                self.telling.worked();
                self.reach.well();
                self.told = Some(reach);
            }
            Err(CallError::Stopping) => {}
            Err(error) => {
                // also where the service is an older one: it may be replaced
                self.telling.failed();
                self.reach.ill(error.kind(), &error);
            }
        }
    }

    /// Claims what was seen and has not been claimed.
    pub(super) async fn send_readings(&mut self) {
        match self.try_readings().await {
            Ok(()) => self.report.worked(),
            Err(error) => {
                self.report.failed();
                self.note(&error);
            }
        }
    }

    async fn try_readings(&mut self) -> Result<(), CallError> {
        let mut cap = None;
        for _ in 0..READINGS_PER_TURN {
            let Some(signed) = self.next_reading(cap)? else {
                break;
            };
            match self.post_reading(&signed).await {
                Ok(accepted) => {
                    if !self.evidence.accepted(&accepted) {
                        return Err(CallError::Malformed("it accepts another reading".into()));
                    }
                    self.condition.well();
                    self.record.head = self.evidence.head();
                    self.save_or_log();
                    self.count(&signed);
                }
                Err(CallError::Refused(problem)) => match self.evidence.refused(&problem) {
                    Verdict::Again(earlier) => cap = earlier,
                    Verdict::LearnHead => {
                        self.context.hurry.notify_one();
                        break;
                    }
                    Verdict::Wait => {
                        self.condition.ill(&problem.code, &problem.detail);
                        break;
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds an accepted reading to what the machine holds its end against. One whose answer is lost is not in it: by so
    /// much the machine agrees to less than it could claim.
    fn count(&mut self, signed: &Signed) {
        let span = Interval::new(signed.body.from, signed.body.to);
        self.tally.add(span, self.evidence.not_before());
        if let Err(error) = self.tally.save(&self.context.state) {
            tracing::error!(rental.id = %self.record.rental_id, %error, "a reading is not counted");
        }
    }

    fn note(&mut self, error: &CallError) {
        if !matches!(error, CallError::Stopping) {
            self.condition.ill(error.kind(), error);
        }
    }

    fn next_reading(
        &mut self,
        cap: Option<domain::time::UnixSeconds>,
    ) -> Result<Option<Signed>, CallError> {
        let server = &self.context.server;
        let process = self.record.process.as_ref();
        let detail = || process.map(Process::detail).unwrap_or_default();
        self.evidence
            .next(cap, detail, server.key(), server.domain())
            .map_err(|error| CallError::Malformed(error.to_string()))
    }

    async fn post_reading(&self, signed: &Signed) -> Result<Accepted, CallError> {
        const PATH: &str = "v1/agent/readings";
        if self.farewell {
            return self.context.server.post(PATH, &signed.body).await;
        }
        self.context.post(PATH, &signed.body).await
    }
}
