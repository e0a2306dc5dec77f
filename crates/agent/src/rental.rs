//! One rental on this machine: carries out the service's orders and reports what the workload does.

use std::{sync::Arc, time::Duration};

use alloy::primitives::B256;
use domain::id::RentalId;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    AgentError,
    backoff::Retry,
    command::Taken,
    condition::Condition,
    context::Context,
    evidence::Evidence,
    order::Ordered,
    record::{Record, Stage},
    tally::Tally,
    wire::{CommandKind, Reach, Standing},
    workload::{self, Workload},
};

mod provision;
mod report;

/// How long the last reading may take when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// A workload that has run for so long is restarted at once when it ends.
const SETTLED_S: u32 = 60;

/// What a rental is told.
#[derive(Debug)]
pub(crate) enum Mail {
    /// The service wants something done.
    Command(Taken),
    /// What the service has of its readings.
    Standing(Standing),
}

/// A rental, run by a task of its own, so that none waits for another's workload or requests.
pub(crate) struct Rental {
    context: Arc<Context>,
    record: Record,
    workload: Option<Workload>,
    evidence: Evidence,
    /// What its readings add up to.
    tally: Tally,
    /// Whether the service should be told that it runs.
    running: watch::Sender<bool>,
    restart: Retry,
    ready: Retry,
    report: Retry,
    condition: Condition,
    /// Where the service has it that the renter comes in, as far as this run of the agent told it.
    told: Option<Reach>,
    telling: Retry,
    reach: Condition,
    /// Set when the agent stops: what is sent now is the last.
    farewell: bool,
    /// Set when nothing is left to do.
    over: bool,
}

impl Rental {
    /// A rental that nothing has been done for.
    pub(crate) fn new(context: Arc<Context>, id: RentalId, escrow_id: B256) -> Self {
        Self::with(context, Record::new(id, escrow_id), None, Evidence::new(id, escrow_id))
    }

    /// A rental of an earlier run. Its workload is taken over if it runs, and restarted if not.
    pub(crate) fn resume(context: Arc<Context>, mut record: Record) -> Self {
        let (id, escrow_id) = (record.rental_id, record.escrow_id);
        let mut evidence = Evidence::resume(id, escrow_id, record.head);
        let ordered = Ordered::read(&context.state.workload(id));
        // an agent that ran none told every program of the file, and awaited nothing
        let awaited = context.templates || ordered.is_ok_and(|ordered| ordered.template.is_some());
        let workload = record.find_process().and_then(|process| Workload::adopt(process, awaited));
        let process = workload.as_ref().map(|workload| workload.process().clone());
        if process.is_none() || process != record.process {
            // not the one that was watched
            evidence.missed();
        }
        tracing::info!(rental.id = %id, adopted = workload.is_some(), "rental resumed");
        record.process = process.or(record.process);
        Self::with(context, record, workload, evidence)
    }

    fn with(
        context: Arc<Context>,
        record: Record,
        workload: Option<Workload>,
        evidence: Evidence,
    ) -> Self {
        let second = Duration::from_secs(1);
        let (id, escrow_id) = (record.rental_id, record.escrow_id);
        let tally = Tally::load(&context.state, id, escrow_id).unwrap_or_else(|error| {
            tracing::error!(rental.id = %id, %error, "what the rental's readings add up to is lost");
            Tally::new(id, escrow_id)
        });
        let (running, _) = watch::channel(record.stage.runs());
        Self {
            context,
            record,
            workload,
            evidence,
            tally,
            running,
            restart: Retry::new(second, Duration::from_secs(60)),
            ready: Retry::new(second, Duration::from_secs(10)),
            report: Retry::new(second, Duration::from_secs(8)),
            condition: Condition::new("reporting a rental"),
            told: None,
            telling: Retry::new(second, Duration::from_secs(60)),
            reach: Condition::new("telling where a rental is reached"),
            farewell: false,
            over: false,
        }
    }

    /// Whether the service should be told that it runs.
    pub(crate) fn running(&self) -> watch::Receiver<bool> {
        self.running.subscribe()
    }

    /// Lives until the rental is deprovisioned or the agent stops.
    pub(crate) async fn run(mut self, mut mailbox: mpsc::Receiver<Mail>) {
        let shutdown = self.context.shutdown.clone();
        let mut turns = interval(self.context.reading_interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.over {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.leave().await,
                mail = mailbox.recv() => match mail {
                    Some(Mail::Command(taken)) => self.obey(taken).await,
                    Some(Mail::Standing(standing)) => self.evidence.learn(&standing),
                    None => return self.leave().await,
                },
                _ = turns.tick() => self.turn().await,
            }
        }
    }

    async fn obey(&mut self, taken: Taken) {
        let command = taken.command();
        tracing::info!(rental.id = %command.rental_id, command.id = %command.id, kind = ?command.kind, "command");
        match command.kind {
            CommandKind::Provision => self.provision(taken).await,
            CommandKind::Deprovision => self.deprovision(taken).await,
            CommandKind::Access => self.change_access(taken).await,
            // the heartbeat answers it, whether or not the rental still runs
            CommandKind::SignEnd | CommandKind::Unknown => {}
        }
    }

    /// Looks at the workload and says to the service what is due.
    async fn turn(&mut self) {
        if !self.record.stage.runs() {
            return;
        }
        if !self.is_alive() {
            self.evidence.missed();
            self.restart_workload().await;
            return;
        }
        let now = self.context.server.now();
        workload::bound_log(&self.context.state.workload(self.record.rental_id));
        if self.record.started.is_some_and(|at| now.saturating_since(at).get() > SETTLED_S) {
            self.restart.worked();
        }
        if self.record.stage == Stage::Ready && !self.can_come_in() {
            // it was begun anew, and is not there yet
            self.evidence.missed();
            return;
        }
        self.evidence.saw(now);
        // also where it is not known that the acknowledgement was heard: if only the answer was lost, the
        // order does not come again, and being ready says as much
        let starting = matches!(self.record.stage, Stage::Started | Stage::Acked);
        if starting && self.ready.is_due() && self.can_come_in() {
            // before, so that the renter finds it with the first look; billing begins with the other
            self.tell_reach().await;
            self.say_ready().await;
        }
        if self.record.stage == Stage::Ready {
            self.tell_reach().await;
        }
        if self.record.stage == Stage::Ready && self.report.is_due() {
            self.send_readings().await;
        }
    }

    /// Whether the renter can: a program that runs templates says so, for an image may take minutes to fetch. Any other
    /// was not told to, and is ready when it runs. It is what the program was told at its start that counts, whatever the
    /// agent that watches it now was started with.
    fn can_come_in(&self) -> bool {
        let folder = self.context.state.workload(self.record.rental_id);
        let says = self.workload.as_ref().is_some_and(Workload::says_ready);
        !says || workload::ready_file(&folder).exists()
    }

    fn is_alive(&mut self) -> bool {
        self.workload.as_mut().is_some_and(Workload::is_alive)
    }

    /// Saves, and tells the heartbeat.
    fn save(&self) -> Result<(), AgentError> {
        self.running.send_replace(self.record.stage.runs());
        self.record.save(&self.context.state)
    }

    /// As [`save`](Self::save), where going on is better than not: what is lost is found out again.
    fn save_or_log(&self) {
        if let Err(error) = self.save() {
            tracing::error!(rental.id = %self.record.rental_id, %error, "the rental's file is not saved");
        }
    }

    /// The agent stops: a last reading, and the workload is left to the next start unless it must go.
    async fn leave(mut self) {
        self.farewell = true;
        self.send_last_reading(FAREWELL).await;
        if self.context.stop_workloads_on_exit {
            // the rental goes on: what the program keeps for it is there for the next start
            self.stop_workload().await;
        }
    }

    /// Claims what was seen up to now, as far as that can be done in `limit`.
    async fn send_last_reading(&mut self, limit: Duration) {
        if self.record.stage != Stage::Ready || !self.is_alive() {
            return;
        }
        if !self.can_come_in() {
            self.evidence.missed();
            return;
        }
        self.evidence.saw(self.context.server.now());
        if timeout(limit, self.send_readings()).await.is_err() {
            tracing::debug!(rental.id = %self.record.rental_id, "no time for the last reading");
        }
    }
}
