//! A provider's machine of one GPU: a light agent that says what the real one says, and remembers what it said.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy::{
    primitives::{B256, hex},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::Eip712Domain,
};
use domain::time::{Seconds, UnixSeconds};
use escrow::{
    reading::{self, Reading},
    signed,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Answer, Client, text},
    record::Record,
    wall_clock,
    world::World,
};

/// No reading may cover more.
const MAX_SPAN: u64 = 60;
const BEAT: Duration = Duration::from_millis(1_500);

/// What is in use for one rental.
struct Run {
    escrow_id: B256,
    ready: bool,
    seq: u64,
    to: u64,
    hash: B256,
    /// False while a reading may have been taken whose answer was lost.
    sure: bool,
    not_before: Option<u64>,
    not_after: Option<u64>,
}

pub struct Machine {
    pub id: String,
    pub offer: String,
    key: PrivateKeySigner,
    client: Client,
    domain: Eip712Domain,
    runs: BTreeMap<String, Run>,
}

impl Machine {
    /// Registers, enrols and offers a machine of `owner`'s. Nothing goes wrong yet.
    pub async fn list(
        world: &Arc<World>,
        record: &Arc<Record>,
        owner: &PrivateKeySigner,
        key: PrivateKeySigner,
        number: usize,
    ) -> Self {
        let provider = Client::new(world, record);
        provider.sign_in(owner).await;
        let body = json!({
            "name": format!("machine {number}"), "region": "de-fra",
            "cpu_cores": 8, "ram_gb": 32, "disk_gb": 100,
            "gpus": [{ "uuid": format!("GPU-{}", uuid::Uuid::now_v7()), "model": "rtx-4090" }],
        });
        let (_, created) = provider.post("/v1/machines", &body).await;
        let id = text(&created, "/machine/id");
        let token = text(&created, "/enroll_token");
        let words = format!("weir-enroll:{}:{token}", world.rpc.chain_id);
        let body = json!({
            "enroll_token": token, "agent_address": key.address(),
            "signature": key.sign_message_sync(words.as_bytes()).unwrap().to_string(),
        });
        let client = Client::new(world, record);
        assert_eq!(client.post("/v1/agent/enroll", &body).await.0, 201);
        assert!(client.sign_in_agent(&id, &key).await);
        let body = json!({
            "machine_id": id, "gpu_count": 1, "price": { "amount": "0.65", "currency": "USD" },
            "min_duration_s": 1, "max_duration_s": 86_400,
        });
        let (_, offer) = provider.post("/v1/offers", &body).await;
        let offer = text(&offer, "/id");
        // its wallet lets the machine's key sign ends
        let until = UnixSeconds(wall_clock() + 365 * 86_400);
        let named = escrow::calldata::set_agent(key.address(), until);
        world.rpc.send(owner, world.escrow, named, 0).await;
        let domain = escrow::domain(world.rpc.chain_id, world.escrow);
        let mut machine = Self { id, offer, key, client, domain, runs: BTreeMap::new() };
        machine.beat().await;
        machine
    }

    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.beat().await;
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let answer = self.client.once(Method::POST, path, Some(body), None).await;
        if matches!(&answer, Answer::Told(401, _)) {
            self.client.sign_in_agent(&self.id, &self.key).await;
            return Answer::Broken("signed in anew".to_owned());
        }
        answer
    }

    async fn beat(&mut self) {
        let running: Vec<&String> = self.runs.keys().collect();
        let answer = self.post("/v1/agent/heartbeats", &json!({ "running": running })).await;
        let Answer::Told(200, orders) = answer else { return };
        for standing in orders["evidence"].as_array().unwrap() {
            self.learn(standing);
        }
        for order in orders["commands"].as_array().unwrap() {
            self.obey(order).await;
        }
        let rentals: Vec<String> = self.runs.keys().cloned().collect();
        for rental in rentals {
            self.say_ready(&rental).await;
            self.send_reading(&rental).await;
        }
    }

    fn learn(&mut self, standing: &Value) {
        let Some(run) = self.runs.get_mut(&text(standing, "/rental_id")) else { return };
        run.not_before = run.not_before.max(standing["not_before"].as_u64());
        run.not_after = standing["not_after"].as_u64();
        if !run.sure {
            run.seq = standing["seq"].as_u64().unwrap();
            run.to = standing["to"].as_u64().unwrap_or_default();
            run.hash = text(standing, "/hash").parse().unwrap();
            run.sure = true;
        }
    }

    async fn obey(&mut self, order: &Value) {
        let rental = text(order, "/rental_id");
        let escrow_id: B256 = text(order, "/escrow_id").parse().unwrap();
        let ack = format!("/v1/agent/commands/{}/ack", text(order, "/id"));
        let done = json!({ "outcome": "ok" });
        match order["kind"].as_str().unwrap() {
            "provision" => {
                // one GPU: whoever has it has it alone
                let held = self.runs.keys().any(|other| *other != rental);
                if !held && matches!(self.post(&ack, &done).await, Answer::Told(200, _)) {
                    let run =
                        self.runs.entry(rental.clone()).or_insert_with(|| Run::new(escrow_id));
                    // ordered anew: the service waits to hear of it again
                    run.ready = false;
                }
            }
            "deprovision" => {
                // the end is told with the heartbeat; the last reading goes first
                if self.runs.get(&rental).is_some_and(|run| run.not_after.is_none() && run.ready) {
                    self.stand(&rental).await;
                }
                self.send_reading(&rental).await;
                if matches!(self.post(&ack, &done).await, Answer::Told(200, _)) {
                    self.runs.remove(&rental);
                }
            }
            "access" => {
                self.post(&ack, &done).await;
            }
            "sign_end" => {
                let payload = &order["payload"];
                let stopped = UnixSeconds(payload["stopped_at"].as_u64().unwrap());
                let credit = payload["credit_secs"].as_u64().unwrap();
                let credit = Seconds(u32::try_from(credit).unwrap());
                let end = signed::end(escrow_id, stopped, credit);
                let signature = signed::sign(&end, &self.key, &self.domain).unwrap();
                let body = json!({ "outcome": "ok", "signature": hex::encode_prefixed(signature) });
                self.post(&ack, &body).await;
            }
            other => panic!("an order {other:?}"),
        }
    }

    /// Asks where a rental's evidence stands, without taking orders.
    async fn stand(&mut self, rental: &str) {
        let answer = self.post("/v1/agent/heartbeats", &json!({ "running": [rental] })).await;
        if let Answer::Told(200, orders) = answer {
            for standing in orders["evidence"].as_array().unwrap() {
                self.learn(standing);
            }
        }
    }

    async fn say_ready(&mut self, rental: &str) {
        if self.runs.get(rental).is_none_or(|run| run.ready) {
            return;
        }
        let now = wall_clock();
        self.client.record.note(rental, |note| {
            // said before, and perhaps heard: the first time counts
            note.ready_at.get_or_insert(now);
        });
        let path = format!("/v1/agent/rentals/{rental}/ready");
        if matches!(self.post(&path, &json!({})).await, Answer::Told(200, _)) {
            self.runs.get_mut(rental).unwrap().ready = true;
        }
    }

    async fn send_reading(&mut self, rental: &str) {
        // an answer that moves the bounds costs a try
        for _ in 0..3 {
            let Some(run) = self.runs.get_mut(rental) else { return };
            let Some(not_before) = run.not_before.filter(|_| run.sure && run.ready) else { return };
            let from = run.to.max(not_before);
            let to = wall_clock().min(run.not_after.unwrap_or(u64::MAX)).min(from + MAX_SPAN);
            if to <= from {
                return;
            }
            let detail = json!({ "gpus": [{ "util": 97 }] });
            let reading = Reading {
                rental: run.escrow_id,
                seq: run.seq + 1,
                from,
                to,
                detailHash: reading::detail_hash(&detail),
                prevHash: run.hash,
            };
            let signature = reading::sign(&reading, &self.key, &self.domain).unwrap();
            let body = json!({
                "rental_id": rental, "seq": reading.seq, "from": from, "to": to, "detail": detail,
                "prev_hash": run.hash, "signature": hex::encode_prefixed(signature),
            });
            self.client.record.note(rental, |note| note.claimed.push((from, to)));
            let answer = self.post("/v1/agent/readings", &body).await;
            let run = self.runs.get_mut(rental).unwrap();
            match answer {
                Answer::Told(200 | 201, _) => {
                    (run.seq, run.to) = (reading.seq, to);
                    run.hash = reading::hash(&reading, &self.domain);
                }
                Answer::Told(_, problem) => {
                    let moved = (problem["not_before"].as_u64(), problem["not_after"].as_u64());
                    run.not_before = run.not_before.max(moved.0);
                    run.not_after = moved.1.or(run.not_after);
                    if moved == (None, None) {
                        run.sure = false;
                        return;
                    }
                }
                Answer::Broken(_) => {
                    run.sure = false;
                    return;
                }
            }
        }
    }
}

impl Run {
    const fn new(escrow_id: B256) -> Self {
        Self {
            escrow_id,
            ready: false,
            seq: 0,
            to: 0,
            hash: B256::ZERO,
            sure: true,
            not_before: None,
            not_after: None,
        }
    }
}
