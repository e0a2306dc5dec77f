//! What a machine has shown in 7, 30 and 90 days, from months of rentals: each input of the formula through the database, and
//! all of it computed anew from public rows, seven days at a time.
#![allow(
    clippy::float_arithmetic,
    reason = "a computation that shares nothing with the one under test"
)]

use alloy::primitives::B256;
use domain::{
    id::MachineId,
    metering::Interval,
    money::Amount,
    reliability::{History, Reliability, compute},
    rental::{CloseOutcome, FailReason, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, Outcome};
use serde_json::{Value, json};
use store::{
    reliability::{self, Shown},
    rentals::MoneyDelta,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    figures::{assess, fee},
    fixture::{Person, World, key},
    running::{Running, START},
    sealed::say,
};

const DAY: u32 = 86_400;

/// A machine of two GPUs, one of which is rented at a time.
struct Life {
    world: World,
    running: Running,
    /// Rentals so far.
    rentals: u32,
}

impl Life {
    async fn new() -> Self {
        let world = World::new().await;
        let rig = world.rig(1, 2, "0.65").await;
        let path = format!("/v1/offers/{}", rig.offer);
        let tag = world.get(&path).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
        call.json(&json!({"chunks": [1, 2]})).send().await.ok(200);
        let renter = world.sign_in(9).await;
        let (id, escrow_id, head) = (String::new(), B256::ZERO, B256::ZERO);
        let running = Running { rig, renter, id, escrow_id, seq: 0, head };
        Self { world, running, rentals: 0 }
    }

    /// Days without a word, after which everybody signs in anew.
    async fn sleep(&mut self, days: u32) {
        self.world.pass(days * DAY);
        self.running.renter = self.world.sign_in(9).await;
        self.running.rig.provider = self.world.sign_in(1).await;
        let session = self.world.agent_session(&key(2), &self.running.rig.machine).await.ok(201);
        let token = session["token"].as_str().unwrap().to_owned();
        self.running.rig.agent = Person { key: key(2), token };
        self.pass(1).await;
    }

    /// Lets time pass while the machine stays in contact.
    async fn pass(&self, mut seconds: u32) {
        while seconds > 0 {
            let step = seconds.min(20);
            self.world.pass(step);
            self.world.heartbeat(&self.running.rig.agent, &[]).await;
            seconds -= step;
        }
    }

    async fn happens(&self, event: RentalEvent) {
        self.world.advance(&self.running.id, event).await;
    }

    /// Books one GPU, whose deposit is locked at once.
    async fn begin(&mut self) {
        self.rentals += 1;
        let Running { rig, renter, .. } = &self.running;
        let body =
            json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC", "gpu_count": 1});
        let quote = self.world.post("/v1/quotes").auth(&renter.token).json(&body).send().await;
        let quote = quote.ok(201);
        let name = format!("rental {}", self.rentals);
        let rental = self.world.book(renter, &quote, &name).await.ok(201)["rental"].clone();
        self.running.id = rental["id"].as_str().unwrap().to_owned();
        self.running.escrow_id = rental["escrow_id"].as_str().unwrap().parse().unwrap();
        (self.running.seq, self.running.head) = (0, B256::ZERO);
        self.happens(RentalEvent::LockIncluded).await;
        let locked = MoneyDelta { locked: units(650_000), ..MoneyDelta::default() };
        self.world.pay(&self.running.id, locked).await;
        self.happens(RentalEvent::LockFinal { now: self.world.now() }).await;
        self.happens(RentalEvent::AgentAcked).await;
    }

    /// Is ready after so many seconds.
    async fn ready(&self, after: u32) {
        self.pass(after).await;
        let path = format!("/v1/agent/rentals/{}/ready", self.running.id);
        let said = self.world.post(&path).auth(&self.running.rig.agent.token).send().await.ok(200);
        assert_eq!(said["state"], "active");
        self.happens(RentalEvent::StartFinal { started_at: self.world.now() }).await;
    }

    /// So many readings of 20 s, one of which never comes.
    async fn runs(&mut self, readings: u32, missing: u32) {
        for number in 0..readings {
            let from = self.world.now().get() - START;
            self.pass(20).await;
            if number != missing {
                self.running.append(&self.world, from, from + 20).await;
            }
        }
    }

    /// The renter stops, and all goes back but a fee, if there is one.
    async fn stop(&self, paid: bool) {
        let id = &self.running.id;
        let path = format!("/v1/rentals/{id}/stop");
        let token = &self.running.renter.token;
        self.world.post(&path).auth(token).key(&format!("stop {}", self.rentals)).send().await;
        self.happens(RentalEvent::AgentStopped).await;
        self.back(CloseOutcome::ClosedByOperator).await;
        if paid {
            fee(&self.world, id).await;
        }
    }

    /// The deposit goes back.
    async fn back(&self, outcome: CloseOutcome) {
        let billed = outcome.was_started().then_some(Seconds(60));
        let delta = MoneyDelta { refund: units(650_000), billed, ..MoneyDelta::default() };
        self.world.pay(&self.running.id, delta).await;
        self.happens(RentalEvent::ClosedFinal { outcome }).await;
    }

    /// Forty seconds, of which the last are held and decided about: so much of them goes back.
    async fn disputed(&mut self, block: u64, refund: u128) {
        self.begin().await;
        self.ready(2).await;
        self.runs(2, 9).await;
        let deadline = self.world.now().saturating_plus(Seconds(DAY));
        self.happens(RentalEvent::ContestedFinal { deadline }).await;
        let (net, fee, refund) = (units(7_000), units(1_000), units(refund));
        let rest = units(650_000 - 8_000 - refund.get());
        let billed = Some(Seconds(40));
        let paid = MoneyDelta { provider: net, fee, refund: rest, billed, ..MoneyDelta::default() };
        self.world.pay(&self.running.id, paid).await;
        self.world.pay(&self.running.id, MoneyDelta { refund, ..MoneyDelta::default() }).await;
        let closed = EscrowEvent::Closed {
            id: self.running.escrow_id,
            outcome: Outcome::Resolved,
            billed: Seconds(40),
            net,
            fee,
            refund,
            pushed: true,
        };
        say(&self.world, block, self.world.now().get(), &[closed]).await;
        let applied = sqlx::query("UPDATE chain_events SET applied = true");
        applied.execute(self.world.store.pool()).await.unwrap();
        self.happens(RentalEvent::ClosedFinal { outcome: CloseOutcome::Resolved }).await;
    }

    /// Some hours in which everything happens that counts, a little else each time.
    async fn hours(&mut self, epoch: u32) {
        // ready after some seconds, a reading missing, paid for
        self.begin().await;
        self.ready(7 + epoch).await;
        self.runs(15 + epoch, 5).await;
        self.stop(true).await;
        // the machine says that it cannot
        self.begin().await;
        self.pass(3).await;
        self.happens(RentalEvent::AgentFailed { reason: FailReason::Internal }).await;
        self.back(CloseOutcome::Cancelled).await;
        // or says nothing
        self.begin().await;
        self.pass(300).await;
        self.happens(RentalEvent::ReadyDeadline).await;
        self.back(CloseOutcome::Cancelled).await;
        // the renter calls one off before it is ready, which says nothing about the machine
        self.begin().await;
        self.pass(5).await;
        self.stop_early().await;
        // an outage, for which nothing was paid: its start does not count, what is not covered does
        self.begin().await;
        self.ready(41).await;
        self.runs(2, 9).await;
        self.pass(33 + epoch).await;
        let last_good = self.world.now().saturating_minus(Seconds(33 + epoch));
        self.happens(RentalEvent::EvidenceLost { last_good }).await;
        self.pass(50).await;
        self.stop(false).await;
        self.pass(1_200).await;
    }

    async fn stop_early(&self) {
        let path = format!("/v1/rentals/{}/stop", self.running.id);
        let token = &self.running.renter.token;
        self.world.post(&path).auth(token).key(&format!("off {}", self.rentals)).send().await;
        self.back(CloseOutcome::Cancelled).await;
    }
}

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

type Span = (i64, i64);

fn unix(time: &Value) -> i64 {
    OffsetDateTime::parse(time.as_str().unwrap(), &Rfc3339).unwrap().unix_timestamp()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn spans(value: &Value) -> Vec<Span> {
    list(value).iter().map(|span| (unix(&span["from"]), unix(&span["to"]))).collect()
}

fn within(spans: &[Span], (from, to): Span) -> bool {
    spans.iter().any(|span| span.0 <= from && to <= span.1)
}

/// A rental's GPUs, what was promised and what was covered.
type Rented = (i64, Vec<Span>, Vec<Span>);

/// All rows of a window, seven days at a time.
#[derive(Default)]
struct Rows {
    gpus: i64,
    listed: Vec<Span>,
    contact: Vec<Span>,
    maintenance: Vec<Span>,
    rentals: Vec<Rented>,
    ready: Vec<Value>,
    interruptions: usize,
    disputes_lost: usize,
}

impl Rows {
    async fn read(world: &World, machine: &str, (from, to): Span) -> Self {
        let mut rows = Self::default();
        let mut at = from;
        while at < to {
            let end = (at + 7 * i64::from(DAY)).min(to);
            let text =
                |at| OffsetDateTime::from_unix_timestamp(at).unwrap().format(&Rfc3339).unwrap();
            let path = format!("/v1/machines/{machine}/history?from={}&to={}", text(at), text(end));
            let said = world.get(&path).send().await.ok(200);
            assert_eq!((unix(&said["from"]), unix(&said["to"])), (at, end));
            rows.gpus = said["gpus"].as_i64().unwrap();
            rows.listed.extend(spans(&said["listed"]));
            rows.contact.extend(spans(&said["contact"]));
            rows.maintenance.extend(spans(&said["maintenance"]));
            rows.rentals.extend(list(&said["rentals"]).iter().map(|rental| {
                let gpus = rental["gpus"].as_i64().unwrap();
                (gpus, spans(&rental["promised"]), spans(&rental["covered"]))
            }));
            rows.ready.extend(list(&said["starts"]).iter().map(|start| start["ready_ms"].clone()));
            rows.interruptions += list(&said["interruptions"]).len();
            rows.disputes_lost += list(&said["disputes_lost"]).len();
            at = end;
        }
        rows
    }

    /// What the formula makes of them, between all moments at which anything changes.
    fn computed(&self) -> (Value, f64) {
        let rented = || self.rentals.iter().flat_map(|(_, promised, covered)| [promised, covered]);
        let all = [&self.listed, &self.contact, &self.maintenance].into_iter().chain(rented());
        let mut moments: Vec<i64> = all.flatten().flat_map(|span| [span.0, span.1]).collect();
        moments.sort_unstable();
        moments.dedup();
        let (mut idle, mut silent, mut rented, mut uncovered) = (0, 0, 0, 0);
        for pair in moments.windows(2) {
            let (part, long) = ((pair[0], pair[1]), pair[1] - pair[0]);
            let mut free = self.gpus;
            for (gpus, promised, covered) in &self.rentals {
                if within(promised, part) {
                    free -= gpus;
                    rented += gpus * long;
                    uncovered += if within(covered, part) { 0 } else { gpus * long };
                }
            }
            assert!(free >= 0, "no GPU is rented twice");
            if within(&self.listed, part) && !within(&self.maintenance, part) {
                idle += free * long;
                silent += if within(&self.contact, part) { 0 } else { free * long };
            }
        }
        // seconds of single GPUs so far
        let of_machine = |gpu_s: i64| (gpu_s + self.gpus - 1) / self.gpus;
        let idle = of_machine(idle + rented) - of_machine(rented);
        let idle_good = (idle - of_machine(silent)).max(0);
        let rented_good = of_machine(rented) - of_machine(uncovered);
        let rented = of_machine(rented);
        let (promised, good) = (idle + 2 * rented, idle_good + 2 * rented_good);
        let mut ready: Vec<i64> = self.ready.iter().filter_map(Value::as_i64).collect();
        ready.sort_unstable();
        let nearest = |percent: usize| ready[(ready.len() * percent).div_ceil(100) - 1];
        let figures = json!({
            "idle_s": idle, "idle_good_s": idle_good, "rented_s": rented, "rented_good_s": rented_good,
            "promised_s": promised, "good_s": good, "starts": self.ready.len(), "starts_ok": ready.len(),
            "ready_p50_ms": nearest(50), "ready_p95_ms": nearest(95),
            "interruptions": self.interruptions, "disputes_lost": self.disputes_lost,
        });
        let (n, p, z) = (promised as f64 / 3_600.0, good as f64 / promised as f64, 1.959_964_f64);
        let root = (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        (figures, 10_000.0 * (p + z * z / (2.0 * n) - z * root) / (1.0 + z * z / n))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_windows_come_out_of_months_of_public_rows() {
    let mut life = Life::new().await;
    life.hours(0).await;
    // out of service for three hours, announced in time, and for one that was not
    let machine = life.running.rig.machine.clone();
    let path = format!("/v1/machines/{machine}/maintenance");
    for (from, to) in [(30, 33), (20, 21)] {
        let at = |hours: u32| {
            let at = life.world.now().saturating_plus(Seconds(hours * 3_600)).get();
            OffsetDateTime::from_unix_timestamp(at as i64).unwrap().format(&Rfc3339).unwrap()
        };
        let body = json!({"from": at(from), "to": at(to), "reason": "fans"});
        let token = &life.running.rig.provider.token;
        life.world.post(&path).auth(token).json(&body).send().await.ok(201);
    }
    life.sleep(60).await;
    life.hours(1).await;
    life.disputed(5, 3_000).await;
    life.pass(600).await;
    life.sleep(22).await;
    life.hours(2).await;
    // decided, and nothing of what was held goes back
    life.disputed(6, 0).await;
    life.pass(600).await;
    life.sleep(1).await;
    life.pass(300).await;
    assess(&life.world, &machine).await;

    let said = life.world.get(&format!("/v1/machines/{machine}/reliability")).send().await.ok(200);
    let windows = list(&said["windows"]);
    assert_eq!(windows.iter().map(|window| &window["days"]).collect::<Vec<_>>(), [7, 30, 90]);
    // starts, those that got ready, the median and the 95th percentile of 2, 7, 8 and 9 s, interruptions, disputes lost
    let expected: [[i64; 6]; 3] =
        [[4, 2, 2_000, 9_000, 1, 0], [8, 4, 2_000, 9_000, 2, 1], [11, 5, 7_000, 9_000, 3, 1]];
    for (window, expected) in windows.iter().zip(expected) {
        let named = [
            "starts",
            "starts_ok",
            "ready_p50_ms",
            "ready_p95_ms",
            "interruptions",
            "disputes_lost",
        ];
        assert_eq!(named.map(|name| window[name].as_i64().unwrap()), expected, "{window}");
        let span = (unix(&window["from"]), unix(&window["to"]));
        assert_eq!(span.1 - span.0, window["days"].as_i64().unwrap() * i64::from(DAY));
        let (figures, score) = Rows::read(&life.world, &machine, span).await.computed();
        for (name, figure) in figures.as_object().unwrap() {
            assert_eq!(&window[name], figure, "{name} of {window}");
        }
        let shown = window["score_bps"].as_f64().unwrap();
        assert!(shown <= score && score - shown < 1.01, "{shown} of {score}");
        assert_eq!(window["enough"], false);
    }
    // a rental of one GPU of two counts half: 280 to 320 s of 300 to 340, and the outages that nobody paid for
    let rented = |place: usize| windows[place]["rented_good_s"].as_i64().unwrap();
    assert_eq!((rented(0), rented(1), rented(2)), (160 + 20, 310 + 40, 450 + 40));
    // of the maintenance only what was announced in time is taken out
    let span = (unix(&windows[2]["from"]), unix(&windows[2]["to"]));
    let rows = Rows::read(&life.world, &machine, span).await;
    let out: i64 = rows.maintenance.iter().map(|span| span.1 - span.0).sum();
    assert_eq!(out, 3 * 3_600);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_shows_how_many_starts_its_reliability_is_from() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let machine: MachineId = rig.machine.parse().unwrap();
    let offered = async || {
        world.state.catch_up_with_market().await.unwrap();
        let said = world.get("/v1/offers").send().await.ok(200);
        ["reliability", "starts", "enough"].map(|name| said["data"][0][name].clone())
    };
    assert_eq!(offered().await, [Value::Null, Value::Null, Value::Null]);
    // what changes is the number of starts alone
    for (starts, enough) in [(19, false), (20, true), (70_000, true)] {
        let figures = Reliability { starts, starts_ok: 1, score_bps: 5_000, ..compute_nothing() };
        let (as_of, computed_at) = (world.now(), world.now());
        let shown = Shown { days: 30, as_of, figures, computed_at };
        let stored = world.store.write::<(), (), _>("test.show", move |tx| {
            Box::pin(async move { Ok(reliability::store(tx, machine, &shown).await?) })
        });
        stored.await.unwrap();
        let told = starts.min(65_535);
        assert_eq!(offered().await, [json!("0.5000"), json!(told), json!(enough)]);
    }
}

/// What nothing comes to.
fn compute_nothing() -> Reliability {
    let now = UnixSeconds(START);
    compute(&History::default(), Interval::new(now, now))
}
