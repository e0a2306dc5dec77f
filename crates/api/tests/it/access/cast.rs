//! Who asks, what they ask about, and what they send.

use alloy::primitives::hex;
use domain::{
    dispute::{Dispute, DisputeCode, Side},
    id::DisputeId,
    machine::{Measured, Requirement, answer},
    scope::Scope,
    time::Seconds,
};
use escrow::reading::{self, Reading};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{
    disputes::{self, Case},
    payments, rentals,
};

use super::{
    role::Role,
    table::{Row, UNLIMITED, Whose},
};
use crate::{
    api_keys::make,
    fixture::{CHAIN_ID, ESCROW, Person, Reply, Rig, World, sign},
    running::{Running, START},
};

/// A case about a rental, opened by its renter.
async fn dispute_about(world: &World, rental: &str) -> String {
    let case = Case {
        id: DisputeId::from_uuid(uuid::Uuid::now_v7()),
        rental: rental.parse().unwrap(),
        opened_by: Side::Renter,
        code: DisputeCode::Abuse,
        statement: String::new(),
        span: None,
        progress: Dispute::OPENED,
        version: 1,
        created_at: world.now(),
        updated_at: world.now(),
    };
    let id = case.id.to_string();
    world
        .store
        .write::<(), (), _>("test.dispute", move |tx| {
            let case = case.clone();
            Box::pin(async move { Ok(disputes::insert(tx, &case).await?) })
        })
        .await
        .unwrap();
    id
}

/// The token of a rental, as it comes with a payment.
async fn token_of(world: &World, rental: &str) -> String {
    let (id, now) = (rental.parse().unwrap(), world.now());
    let token = format!("weir_rt_{}", "t".repeat(43));
    let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    world
        .store
        .write::<(), (), _>("test.token", move |tx| {
            Box::pin(async move {
                let rental = rentals::get(tx, id).await?.unwrap();
                let until = now.saturating_plus(Seconds(1_000_000));
                Ok(payments::give_token(tx, &hash, id, rental.renter, now, until).await?)
            })
        })
        .await
        .unwrap();
    token
}

/// A rental that runs, everything about it, and strangers.
pub struct Cast {
    pub running: Running,
    pub other: Person,
    pub other_rig: Rig,
    pub quote: String,
    pub ssh_key: String,
    others_key: String,
    /// Keys of the renter and of the provider, by the scope that they lack.
    without: Vec<(Option<&'static str>, [String; 2])>,
    /// Keys of both that are limited to a machine of nobody's here.
    limited: [String; 2],
    /// The token of the rental.
    token: String,
    window: String,
    order: String,
    test: String,
    pub session: String,
    pub api_key: String,
    dispute: String,
    pub webhook: String,
    webhook_etag: String,
    delivery: String,
    machine_etag: String,
    requirements: Vec<Requirement>,
}

impl Cast {
    pub async fn new(world: &World) -> Self {
        let running = Running::new(world).await;
        let other_rig = world.rig(50, 1, "0.65").await;
        let (other, renter) = (world.sign_in(60).await, running.renter.clone());
        let provider = running.rig.provider.clone();
        let id = |said: &Value| said["id"].as_str().unwrap().to_owned();
        let quote = id(&world.quote(&renter, &other_rig).await);
        let machine = format!("/v1/machines/{}", running.rig.machine);
        let body =
            json!({"from": "2027-02-01T00:00:00Z", "to": "2027-02-01T01:00:00Z", "reason": "x"});
        let window = world.post(&format!("{machine}/maintenance")).auth(&provider.token);
        let window = id(&window.json(&body).send().await.ok(201)["window"]);
        let read = world.get(&machine).auth(&provider.token).send().await;
        let machine_etag = read.header("etag").to_owned();
        let test = world.post(&format!("{machine}/verify")).auth(&provider.token).send().await;
        let test = id(&test.ok(202));
        let beat = world.heartbeat(&running.rig.agent, &[]).await;
        let order = id(&beat["commands"][0]);
        let requirements = serde_json::from_value(beat["self_test"]["requirements"].clone());
        let body = json!({"public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkbe7gwx7s0dlApEEzpUyOAPrzPLy4czEZw/sh8m8rd"});
        let ssh_key = world.post("/v1/ssh-keys").auth(&renter.token).json(&body).send().await;
        let ssh_key = id(&ssh_key.ok(201));
        world.sign_in(9).await;
        let sessions = world.get("/v1/sessions").auth(&renter.token).send().await.ok(200);
        let session = id(&sessions["data"][0]);
        assert_eq!(sessions["data"][0]["current"], false);
        let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        let others_key = make(world, &other, &all, json!({})).await.person.token;
        let api_key = make(world, &renter, &["rentals:read"], json!({})).await.id;
        let dispute = dispute_about(world, &running.id).await;
        let body = json!({"url": "https://hooks.example.com/weir", "events": ["rental.ready"]});
        let made = world.post("/v1/webhooks").auth(&renter.token).json(&body).send().await;
        let webhook_etag = made.header("etag").to_owned();
        let webhook = id(&made.ok(201)["webhook"]);
        let sent = world.post(&format!("/v1/webhooks/{webhook}/test")).auth(&renter.token);
        let delivery = id(&sent.send().await.ok(202));
        let mut without = Vec::new();
        for lacking in all.iter().map(|scope| Some(*scope)).chain([None]) {
            let rest: Vec<&str> =
                all.iter().copied().filter(|scope| Some(*scope) != lacking).collect();
            let keys = [
                make(world, &renter, &rest, json!({})).await.person.token,
                make(world, &provider, &rest, json!({})).await.person.token,
            ];
            without.push((lacking, keys));
        }
        let scopes: Vec<&str> =
            all.iter().copied().filter(|scope| !UNLIMITED.contains(scope)).collect();
        let elsewhere = json!({"machines": ["mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"]});
        let limited = [
            make(world, &renter, &scopes, elsewhere.clone()).await.person.token,
            make(world, &provider, &scopes, elsewhere).await.person.token,
        ];
        let token = token_of(world, &running.id).await;
        Self {
            other,
            other_rig,
            quote,
            ssh_key,
            others_key,
            without,
            limited,
            token,
            window,
            order,
            test,
            session,
            api_key,
            dispute,
            webhook,
            webhook_etag,
            delivery,
            machine_etag,
            requirements: requirements.unwrap(),
            running,
        }
    }

    /// Asks for an operation about the cast's things.
    pub async fn ask(&self, world: &World, row: &Row, role: Role, scope: Option<&str>) -> Reply {
        let mut call = world.call(row.method, &self.path(row)).key("access");
        if let Some(token) = self.token(row, role, scope) {
            call = call.auth(&token);
        }
        match (row.method, row.path) {
            ("PATCH", "/v1/offers/{id}") => call = call.header("if-match", "\"1-listed\""),
            ("PATCH", "/v1/machines/{id}") => call = call.header("if-match", &self.machine_etag),
            ("PATCH", "/v1/webhooks/{id}") => call = call.header("if-match", &self.webhook_etag),
            _ => {}
        }
        match self.body(row, role) {
            Some(body) => call.json(&body).send().await,
            None => call.send().await,
        }
    }

    fn token(&self, row: &Row, role: Role, scope: Option<&str>) -> Option<String> {
        Some(match role {
            Role::Nobody => return None,
            Role::Other => self.other.token.clone(),
            Role::OthersKey => self.others_key.clone(),
            Role::OwnersKeyWithoutScope => {
                let keys = self.without.iter().find(|(lacking, _)| *lacking == scope);
                Self::owners(row, &keys.unwrap().1)
            }
            Role::LimitedKey => Self::owners(row, &self.limited),
            Role::Token => self.token.clone(),
            Role::OtherAgent => self.other_rig.agent.token.clone(),
            Role::Agent => self.running.rig.agent.token.clone(),
            Role::Renter => self.running.renter.token.clone(),
            Role::Provider => self.running.rig.provider.token.clone(),
        })
    }

    /// The owner's of two keys, of the renter and of the provider.
    fn owners(row: &Row, [renters, providers]: &[String; 2]) -> String {
        let theirs = ["/v1/machines", "/v1/offers", "/v1/provider"];
        let of_provider = matches!(row.whose, Whose::Providers | Whose::Machines)
            || theirs.iter().any(|path| row.path.starts_with(path));
        if of_provider { providers.clone() } else { renters.clone() }
    }

    fn path(&self, row: &Row) -> String {
        let kind = row.path.trim_start_matches("/v1/").trim_start_matches("agent/");
        let invoice = format!("{}.json", self.running.id);
        let id = match kind.split('/').next().unwrap() {
            "machines" => &self.running.rig.machine,
            "offers" => &self.running.rig.offer,
            "rentals" => &self.running.id,
            "invoices" => &invoice,
            "quotes" => &self.quote,
            "commands" => &self.order,
            "self-tests" => &self.test,
            "sessions" => &self.session,
            "api-keys" => &self.api_key,
            "ssh-keys" => &self.ssh_key,
            "disputes" => &self.dispute,
            "webhooks" => &self.webhook,
            "deliveries" => &self.delivery,
            kind => {
                assert!(!row.path.contains("{id}"), "which {kind}? say in access/cast.rs");
                kind
            }
        };
        let path = row.path.replace("{id}", id).replace("{window}", &self.window);
        if path == "/v1/ledger" { format!("{path}?token=USDC") } else { path }
    }

    /// What is sent: good in every respect but who sends it.
    fn body(&self, row: &Row, role: Role) -> Option<Value> {
        Some(match (row.method, row.path) {
            ("PATCH", "/v1/machines/{id}") => json!({"name": "taken over"}),
            ("PATCH", "/v1/offers/{id}") => json!({"state": "paused"}),
            ("PATCH", "/v1/webhooks/{id}") => json!({"url": "https://other.example.com/"}),
            ("POST", "/v1/machines/{id}/maintenance") => {
                json!({"from": "2027-03-01T00:00:00Z", "to": "2027-03-01T01:00:00Z", "reason": "x"})
            }
            ("PATCH", "/v1/rentals/{id}") => json!({"label": "theirs"}),
            ("POST", "/v1/rentals") if role == Role::Nobody => {
                json!({"offer_id": self.other_rig.offer, "duration_s": 3_600, "token": "USDC"})
            }
            ("POST", "/v1/rentals/{id}/authorization") => {
                json!({"valid_after": 0, "valid_before": START + 100, "signature": format!("0x{}", "11".repeat(65))})
            }
            ("POST", "/v1/rentals/{id}/end") => {
                json!({"signature": format!("0x{}", "11".repeat(65))})
            }
            ("POST", "/v1/disputes") => json!({"rental_id": self.running.id, "code": "billing"}),
            ("POST", "/v1/disputes/{id}/accept") => json!({"seq": 1}),
            ("POST", "/v1/disputes/{id}/evidence") => {
                let sha256 = format!("0x{}", "11".repeat(32));
                json!({"evidence": [{"sha256": sha256, "uri": "https://example.com/log"}]})
            }
            ("POST", "/v1/disputes/{id}/propose") => {
                json!({"billed_s": 1, "valid_until": "2027-01-15T09:00:00Z"})
            }
            ("POST", "/v1/rentals/{id}/top-up") => json!({"duration_s": 60}),
            ("POST", "/v1/rentals/{id}/review") => json!({"stars": 1}),
            ("PUT", "/v1/rentals/{id}/ssh-keys") => json!({"ssh_key_ids": []}),
            ("POST", "/v1/agent/commands/{id}/ack") => json!({"outcome": "ok"}),
            ("POST", "/v1/agent/heartbeats") => json!({"running": []}),
            ("POST", "/v1/agent/rentals/{id}/access") => {
                json!({"host": "gpu1.example.com", "ports": []})
            }
            ("POST", "/v1/agent/readings") => self.reading(role),
            ("POST", "/v1/agent/self-tests/{id}") => self.checks(role),
            ("GET" | "DELETE", _) => return None,
            _ => json!({}),
        })
    }

    /// The agent that a role's word would be signed by.
    fn rig(&self, role: Role) -> &Rig {
        if role == Role::OtherAgent { &self.other_rig } else { &self.running.rig }
    }

    fn reading(&self, role: Role) -> Value {
        let detail = json!({"gpus": []});
        let reading = Reading {
            rental: self.running.escrow_id,
            seq: 1,
            from: START,
            to: START + 1,
            detailHash: reading::detail_hash(&detail),
            prevHash: self.running.head,
        };
        let domain = escrow::domain(CHAIN_ID, ESCROW);
        let signature = reading::sign(&reading, &self.rig(role).agent.key, &domain).unwrap();
        json!({"rental_id": self.running.id, "seq": 1, "from": START, "to": START + 1, "detail": detail,
               "prev_hash": self.running.head, "signature": hex::encode_prefixed(signature)})
    }

    fn checks(&self, role: Role) -> Value {
        let rig = self.rig(role);
        let measured = json!({"cpu_cores": 64});
        let found: Measured = serde_json::from_value(measured.clone()).unwrap();
        let checks = serde_json::to_value(answer(&self.requirements, &found, 0)).unwrap();
        let digest = reading::detail_hash(&checks);
        let text = format!("weir-checks:{CHAIN_ID}:{}:{}:{digest}", rig.machine, self.test);
        json!({"checks": checks, "measured": measured, "signature": sign(&rig.agent.key, &text)})
    }

    /// Asserts that an answer says nothing of the cast's things but what the request named itself.
    pub fn tells_nothing(&self, reply: &Reply, what: &str) {
        let of_owner = ["by Renter", "by Provider", "by Token"];
        if of_owner.iter().any(|by| what.ends_with(by)) {
            return;
        }
        let mut said = reply.body.clone();
        if let Some(members) = said.as_object_mut() {
            members.remove("instance");
        }
        let said = said.to_string().to_lowercase();
        let renter = &self.running.renter;
        if what.ends_with("by LimitedKey") {
            // what else its owner has is no secret to it
            for secret in [&self.running.id, &self.running.rig.machine, &self.quote] {
                assert!(!said.contains(secret), "{what} tells {secret}: {said}");
            }
            return;
        }
        let secrets = [
            self.running.id.clone(),
            self.running.rig.machine.clone(),
            self.quote.clone(),
            self.ssh_key.clone(),
            self.session.clone(),
            self.api_key.clone(),
            self.dispute.clone(),
            self.webhook.clone(),
            self.delivery.clone(),
            self.order.clone(),
            self.test.clone(),
            renter.token.to_lowercase(),
            format!("{:#x}", renter.key.address()),
        ];
        for secret in secrets {
            assert!(!said.contains(&secret), "{what} tells {secret}: {said}");
        }
    }
}
