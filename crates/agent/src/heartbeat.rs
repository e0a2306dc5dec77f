//! The heartbeat: tells the service that we live, and hands what it wants to the rentals.

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::{id::RentalId, rental::FailReason};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    backoff::Backoff,
    bell,
    command::{Delivery, Taken},
    condition::Condition,
    context::Context,
    http::CallError,
    record::Record,
    rental::{Mail, Rental},
    self_test::{self, Made},
    tally,
    wire::{Ack, Command, CommandKind, Heartbeat, Orders, SelfTest},
};

/// The most rentals that run at once on one machine; the service takes no longer list.
const MAX_RENTALS: usize = 64;
/// What a rental may be told before it has listened.
const MAILBOX: usize = 16;
/// The service says when to come again, within these bounds.
const WAIT_S: std::ops::RangeInclusive<u32> = 1..=60;
/// What the machine is is told so often.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Beats until the agent is told to stop, and waits for the rentals to take their leave.
pub(crate) async fn run(context: Arc<Context>, records: Vec<Record>) {
    let shutdown = context.shutdown.clone();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
    let mut condition = Condition::new("the connection to the service");
    // ends with this, however this ends
    let mut listening = JoinSet::new();
    listening.spawn(bell::listen(Arc::clone(&context)));
    let mut desk = Desk::new(context);
    for record in records {
        desk.resume(record);
    }
    while !shutdown.is_cancelled() {
        match desk.beat().await {
            Ok(wait) => {
                backoff.worked();
                condition.well();
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = desk.context.hurry.notified() => {}
                    () = sleep(wait) => {}
                }
            }
            Err(CallError::Stopping) => {}
            Err(error) => {
                condition.ill(error.kind(), &error);
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = sleep(backoff.failed()) => {}
                }
            }
        }
    }
    desk.close().await;
    while let Some(done) = listening.join_next().await {
        if let Err(error) = done {
            tracing::error!(%error, "the waiting for orders failed");
        }
    }
}

/// A rental's task as seen from here.
struct Handle {
    mailbox: mpsc::Sender<Mail>,
    running: watch::Receiver<bool>,
    /// The GPUs that are or may be in use for it, until its task has ended.
    gpus: Vec<String>,
}

/// The rentals, by id.
struct Desk {
    context: Arc<Context>,
    handles: HashMap<RentalId, Handle>,
    tasks: JoinSet<()>,
    /// The service has heard of us.
    beaten: bool,
    /// When it last heard what the machine is.
    looked: Option<Instant>,
    /// What it has of the machine's running templates is to be put right.
    templates: Option<bool>,
    /// The self-test that is being made.
    testing: JoinSet<Made>,
    /// The last one that was made.
    tested: Option<Made>,
}

impl Desk {
    fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            handles: HashMap::new(),
            tasks: JoinSet::new(),
            beaten: false,
            looked: None,
            templates: None,
            testing: JoinSet::new(),
            tested: None,
        }
    }

    fn resume(&mut self, record: Record) {
        let (id, gpus) = (record.rental_id, record.gpus.clone());
        self.open(id, Rental::resume(Arc::clone(&self.context), record), gpus);
    }

    fn open(&mut self, id: RentalId, rental: Rental, gpus: Vec<String>) -> mpsc::Sender<Mail> {
        let (mailbox, mail) = mpsc::channel(MAILBOX);
        let running = rental.running();
        self.tasks.spawn(rental.run(mail));
        self.handles.insert(id, Handle { mailbox: mailbox.clone(), running, gpus });
        mailbox
    }

    /// One heartbeat; returns when the next is due.
    async fn beat(&mut self) -> Result<Duration, CallError> {
        self.clear_ended();
        // not before the first beat: the service should hear at once that we are there
        let due = self.beaten && self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        let measured = if due { Some(self.context.bench.look().await) } else { None };
        // said once for each answer: an older service that stands beside a newer one refuses it, and hears the next beat
        let templates = self.templates.take();
        let beat = Heartbeat { running: self.running(), measured, templates };
        let orders: Orders = self.context.post("v1/agent/heartbeats", &beat).await?;
        self.beaten = true;
        self.context.beats.send_modify(|beats| *beats = beats.wrapping_add(1));
        if due {
            self.looked = Some(Instant::now());
        }
        self.context.server.learn_time(orders.now_unix);
        let runs = self.context.templates;
        self.templates = orders.templates.filter(|had| *had != runs).map(|_| runs);
        for standing in orders.evidence {
            let id = standing.rental_id;
            if let Some(handle) = self.handles.get(&id)
                && handle.mailbox.try_send(Mail::Standing(standing)).is_err()
            {
                tracing::debug!(rental.id = %id, "the rental is busy; it is told next time");
            }
        }
        for command in orders.commands {
            self.deliver(command).await;
        }
        self.test(orders.self_test);
        Ok(Duration::from_secs(u64::from(orders.next_in_s.clamp(*WAIT_S.start(), *WAIT_S.end()))))
    }

    /// Makes and sends a self-test, unless one is being made, or the service has heard of this one.
    fn test(&mut self, ordered: Option<SelfTest>) {
        while let Some(made) = self.testing.try_join_next() {
            self.tested = made.ok();
        }
        let Some(test) = ordered.filter(|_| self.testing.is_empty()) else { return };
        if self.tested.as_ref().is_some_and(|made| made.id == test.id && made.over) {
            return;
        }
        let made = self.tested.take();
        self.testing.spawn(self_test::run(Arc::clone(&self.context), test, made));
    }

    fn running(&self) -> Vec<RentalId> {
        let mut running: Vec<RentalId> = self
            .handles
            .iter()
            .filter(|(_, handle)| *handle.running.borrow())
            .map(|(id, _)| *id)
            .collect();
        running.sort();
        running
    }

    /// Hands a command to its rental, once.
    async fn deliver(&mut self, command: Command) {
        let id = command.id;
        if command.kind == CommandKind::Unknown {
            tracing::warn!(command.id = %id, "a command that only a newer agent understands");
            return;
        }
        if command.kind == CommandKind::SignEnd {
            self.sign_end(&command).await;
            return;
        }
        match self.context.book.take(command) {
            Delivery::New(taken) => self.hand_over(taken).await,
            Delivery::InHand => {}
            Delivery::Done(ack) => {
                self.context.acknowledge(id, &ack).await;
            }
        }
    }

    /// The rental may be over and forgotten: what is needed to judge its end is kept beside it.
    async fn sign_end(&self, command: &Command) {
        let (state, server) = (&self.context.state, &self.context.server);
        let (rental, escrow_id) = (command.rental_id, command.escrow_id);
        let ack = tally::sign_end(state, server, rental, escrow_id, &command.payload);
        self.context.acknowledge(command.id, &ack).await;
    }

    async fn hand_over(&mut self, taken: Taken) {
        let (rental, escrow_id) = (taken.command().rental_id, taken.command().escrow_id);
        let gpus = match taken.command().kind {
            CommandKind::Provision => taken.command().gpus(),
            CommandKind::Deprovision
            | CommandKind::SignEnd
            | CommandKind::Access
            | CommandKind::Unknown => Vec::new(),
        };
        if let Some(holder) = self.holder_of(&gpus, rental) {
            // given back by being dropped: it comes again until the GPUs are free
            tracing::info!(rental.id = %rental, %holder, "the GPUs are still in use; it has to wait");
            return;
        }
        let open = self.handles.get(&rental).map(|handle| handle.mailbox.clone());
        let mailbox = match open.filter(|mailbox| !mailbox.is_closed()) {
            Some(mailbox) => mailbox,
            None if taken.command().kind == CommandKind::Access => {
                // nothing runs that anybody could be let into
                let ack = Ack::failed(FailReason::Internal);
                self.context.acknowledge(taken.command().id, &ack).await;
                return;
            }
            None if self.handles.len() >= MAX_RENTALS => {
                let ack = Ack::failed(FailReason::Resources);
                self.context.acknowledge(taken.command().id, &ack).await;
                return;
            }
            None => {
                let fresh = Rental::new(Arc::clone(&self.context), rental, escrow_id);
                self.open(rental, fresh, Vec::new())
            }
        };
        if let Some(handle) = self.handles.get_mut(&rental) {
            handle.gpus.extend(gpus);
        }
        match mailbox.try_send(Mail::Command(taken)) {
            Ok(()) => {}
            // given back by being dropped: it comes again with the next heartbeat
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                tracing::debug!(rental.id = %rental, "the rental is busy");
            }
        }
    }

    /// Another rental that has one of these GPUs. A workload that cannot be ended keeps them.
    fn holder_of(&self, gpus: &[String], rental: RentalId) -> Option<RentalId> {
        let holds = |handle: &Handle| {
            !handle.mailbox.is_closed() && handle.gpus.iter().any(|gpu| gpus.contains(gpu))
        };
        self.handles.iter().find(|(id, handle)| **id != rental && holds(handle)).map(|(id, _)| *id)
    }

    fn clear_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a rental's task failed");
            }
        }
        self.handles.retain(|_, handle| !handle.mailbox.is_closed());
    }

    async fn close(mut self) {
        self.handles.clear();
        self.testing.shutdown().await;
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a rental's task failed");
            }
        }
    }
}
