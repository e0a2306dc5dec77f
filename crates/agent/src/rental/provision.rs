//! Starting and stopping the workload.

use std::time::Duration;

use domain::rental::FailReason;

use super::Rental;
use crate::{
    access,
    command::Taken,
    disk,
    evidence::Evidence,
    order::Ordered,
    process::Process,
    reach,
    record::Stage,
    wire::{Ack, AckOutcome, Command},
    workload::{self, Order, StartError, Workload, stop_group},
};

/// How long the last reading may take when the rental ends.
const LAST_READING: Duration = Duration::from_secs(5);

impl Rental {
    /// Starts the workload, unless it runs: then the service has not heard of it and is told again.
    pub(super) async fn provision(&mut self, taken: Taken) {
        let ack = if self.record.stage.runs() && self.is_alive() {
            self.say_over(false);
            Ack::OK
        } else {
            self.record.gpus = taken.command().gpus();
            let keys = taken.command().ssh_keys();
            let ordered = self.runnable(taken.command());
            self.start_first(&keys, ordered)
                .await
                .map_or_else(|error| self.not_started(&error), |()| Ack::OK)
        };
        let failed = ack.outcome == AckOutcome::Failed;
        if !self.acknowledge(taken, ack).await {
            return;
        }
        if failed {
            self.forget();
        } else if matches!(self.record.stage, Stage::Started | Stage::Ready) {
            // Of one that was ready, too: the lock had left the chain and came back before the order to clean up was
            // fetched, and the service waits to hear of it again.
            self.record.stage = Stage::Acked;
            self.save_or_log();
            self.turn().await;
        }
    }

    fn not_started(&mut self, error: &StartError) -> Ack {
        tracing::warn!(rental.id = %self.record.rental_id, %error, "not provisioned");
        self.record.stage = Stage::Stopped;
        self.running.send_replace(false);
        Ack::failed(error.reason())
    }

    /// Lets in whom the renter says from now on. If the file cannot be written, the order comes again.
    pub(super) async fn change_access(&mut self, taken: Taken) {
        let id = self.record.rental_id;
        let keys = taken.command().ssh_keys();
        match access::write(&self.context.state.workload(id), &keys) {
            Ok(()) => {
                tracing::info!(rental.id = %id, keys = keys.len(), "the renter's keys are changed");
                self.acknowledge(taken, Ack::OK).await;
            }
            Err(error) => {
                tracing::error!(rental.id = %id, %error, "the renter's keys are not changed");
            }
        }
    }

    /// What is ordered, unless it is a template that this machine does not run: then nothing else runs in its place.
    fn runnable(&self, command: &Command) -> Result<Ordered, StartError> {
        let ordered = command.ordered().map_err(|error| StartError::Template(error.to_string()))?;
        self.require_runnable(&ordered)?;
        Ok(ordered)
    }

    fn require_runnable(&self, ordered: &Ordered) -> Result<(), StartError> {
        let refused = |why: &str| Err(StartError::Template(why.to_owned()));
        match ordered.template {
            None => Ok(()),
            Some(_) if !self.context.templates => refused("this machine runs its own program only"),
            Some(_) if ordered.lacks_its_template() => refused("the order does not say what it is"),
            Some(_) => Ok(()),
        }
    }

    async fn start_first(
        &mut self,
        keys: &[String],
        ordered: Result<Ordered, StartError>,
    ) -> Result<(), StartError> {
        let folder = self.context.state.workload(self.record.rental_id);
        let ordered = ordered?;
        access::write(&folder, keys)?;
        ordered.write(&folder)?;
        self.evidence = Evidence::new(self.record.rental_id, self.record.escrow_id);
        self.record.head = None;
        self.record.stage = Stage::Starting;
        self.start_workload().await?;
        self.record.stage = Stage::Started;
        if let Err(error) = self.save() {
            self.say_over(true);
            self.stop_workload().await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Starts the process. That it is about to be started is on the disk before, so that a crash in
    /// between leaves a process that is looked for.
    async fn start_workload(&mut self) -> Result<(), StartError> {
        self.record.process = None;
        self.save()?;
        let folder = self.context.state.workload(self.record.rental_id);
        let ordered = Ordered::read(&folder)?;
        // also of a rental that was begun by an agent with other options
        self.require_runnable(&ordered)?;
        // what an earlier one said, or was told
        disk::remove(&workload::ready_file(&folder))?;
        disk::remove(&workload::ended_file(&folder))?;
        reach::clear(&folder)?;
        let ports = self.context.bench.ports.as_ref();
        let ports = ports.map(|range| format!("{}-{}", range.start(), range.end()));
        let order = Order {
            command: &self.context.workload,
            folder: &folder,
            rental: self.record.rental_id,
            gpus: &self.record.gpus,
            ordered: &ordered,
            ports: ports.as_deref(),
            says_ready: self.context.templates,
        };
        let workload = Workload::start(&order).await?;
        tracing::info!(rental.id = %self.record.rental_id, process.pid = workload.process().pid, "workload started");
        self.record.process = Some(workload.process().clone());
        self.record.started = Some(self.context.server.now());
        self.workload = Some(workload);
        Ok(())
    }

    /// The workload has ended by itself: what it left is cleared and it is started anew, under the same
    /// rental. The time in between is an outage.
    pub(super) async fn restart_workload(&mut self) {
        if !self.restart.is_due() {
            return;
        }
        self.restart.failed();
        tracing::warn!(rental.id = %self.record.rental_id, "the workload has ended; restarting it");
        if !self.stop_workload().await {
            return;
        }
        match self.start_workload().await {
            Ok(()) => self.save_or_log(),
            Err(error) => {
                self.condition.ill("restart", &error);
            }
        }
    }

    /// Ends what runs for this rental. False if something of it is left.
    pub(super) async fn stop_workload(&mut self) -> bool {
        let id = self.record.rental_id;
        let left = [self.record.process.take(), Process::leader_for(id)];
        for process in left.into_iter().flatten() {
            if !stop_group(&process, id).await {
                self.record.process = Some(process);
                return false;
            }
        }
        self.workload = None;
        self.save_or_log();
        true
    }

    /// Tells the program, before it is ended, whether the rental is over: only then does it clear away what it keeps for it.
    /// Where that cannot be written it keeps it, until it sees that the rental's folder is gone.
    fn say_over(&self, over: bool) {
        let folder = self.context.state.workload(self.record.rental_id);
        if !folder.exists() {
            return;
        }
        let file = workload::ended_file(&folder);
        let said = if over { disk::write(&file, b"") } else { disk::remove(&file) };
        if let Err(error) = said {
            tracing::error!(rental.id = %self.record.rental_id, over, %error, "the program is not told");
        }
    }

    /// Sends the last reading, stops the workload and clears the rental away.
    pub(super) async fn deprovision(&mut self, taken: Taken) {
        self.send_last_reading(LAST_READING).await;
        self.say_over(true);
        if !self.stop_workload().await {
            // not done: the service hears of it, and its order comes again
            let ack = Ack::failed(FailReason::Internal);
            self.context.acknowledge(taken.command().id, &ack).await;
            return;
        }
        self.record.stage = Stage::Stopped;
        self.save_or_log();
        if self.acknowledge(taken, Ack::OK).await {
            self.forget();
        }
    }

    async fn acknowledge(&self, taken: Taken, ack: Ack) -> bool {
        let heard = self.context.acknowledge(taken.command().id, &ack).await;
        if heard {
            taken.finish(ack);
        }
        heard
    }

    fn forget(&mut self) {
        if let Err(error) = self.record.forget(&self.context.state) {
            tracing::error!(rental.id = %self.record.rental_id, %error, "the rental is not cleared away");
        }
        self.over = true;
    }
}
