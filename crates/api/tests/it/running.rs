//! A rental that runs, with an agent that signs.

use alloy::{
    primitives::{B256, hex},
    signers::local::PrivateKeySigner,
};
use escrow::reading::{self, Reading};
use serde_json::{Value, json};

use crate::fixture::{CHAIN_ID, ESCROW, NOW, Person, Reply, Rig, World};

/// A rental that runs, and the chain of readings so far.
pub struct Running {
    pub rig: Rig,
    pub renter: Person,
    pub id: String,
    pub escrow_id: B256,
    pub seq: u64,
    pub head: B256,
}

/// Where the clock was when billing began.
pub const START: u64 = NOW.0;

impl Running {
    pub async fn new(world: &World) -> Self {
        let rig = world.rig(1, 1, "0.65").await;
        let renter = world.sign_in(9).await;
        let booking = world.start(&renter, &rig).await;
        let rental = &booking["rental"];
        Self {
            rig,
            renter,
            id: rental["id"].as_str().unwrap().to_owned(),
            escrow_id: rental["escrow_id"].as_str().unwrap().parse().unwrap(),
            seq: 0,
            head: B256::ZERO,
        }
    }

    /// Lets time pass while the machine stays in contact.
    pub async fn pass(&self, world: &World, mut seconds: u32) {
        while seconds > 0 {
            let step = seconds.min(10);
            world.pass(step);
            world.heartbeat(&self.rig.agent, &[&self.id]).await;
            seconds -= step;
        }
    }

    /// The next reading, covering these seconds since the start.
    pub fn next(&self, from: u64, to: u64) -> (Reading, Value) {
        let detail = json!({"gpus": [{"util": 97, "mem_mb": 20_480}], "a": from});
        let reading = Reading {
            rental: self.escrow_id,
            seq: self.seq + 1,
            from: START + from,
            to: START + to,
            detailHash: reading::detail_hash(&detail),
            prevHash: self.head,
        };
        (reading, detail)
    }

    pub fn body(&self, reading: &Reading, detail: &Value, key: &PrivateKeySigner) -> Value {
        let domain = escrow::domain(CHAIN_ID, ESCROW);
        let signature = reading::sign(reading, key, &domain).unwrap();
        json!({"rental_id": self.id, "seq": reading.seq, "from": reading.from, "to": reading.to,
               "detail": detail, "prev_hash": reading.prevHash,
               "signature": hex::encode_prefixed(signature)})
    }

    pub async fn post(&self, world: &World, body: &Value) -> Reply {
        world.post("/v1/agent/readings").auth(&self.rig.agent.token).json(body).send().await
    }

    /// Sends the next reading as the agent does.
    pub async fn send(&self, world: &World, from: u64, to: u64) -> Reply {
        let (reading, detail) = self.next(from, to);
        self.post(world, &self.body(&reading, &detail, &self.rig.agent.key)).await
    }

    /// Sends the next reading, which is taken.
    pub async fn append(&mut self, world: &World, from: u64, to: u64) {
        let said = self.send(world, from, to).await.ok(201);
        self.seq += 1;
        assert_eq!(said["accepted_seq"], self.seq);
        self.head = said["hash"].as_str().unwrap().parse().unwrap();
    }

    pub async fn rental(&self, world: &World) -> Value {
        let path = format!("/v1/rentals/{}", self.id);
        world.get(&path).auth(&self.renter.token).send().await.ok(200)
    }
}
