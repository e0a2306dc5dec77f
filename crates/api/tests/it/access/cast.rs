//! Who asks, what they ask about, and what they send.

use alloy::primitives::hex;
use domain::{
    dispute::{Dispute, DisputeCode, Side},
    id::DisputeId,
    machine::{Measured, Requirement, answer},
    scope::Scope,
};
use escrow::reading::{self, Reading};
use serde_json::{Value, json};
use store::disputes::{self, Case};

use super::table::{Row, Whose};
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

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// No token at all.
    Nobody,
    /// Somebody who signed in and has nothing to do with it.
    Other,
    /// A key of theirs, with every scope.
    OthersKey,
    /// A key of the owner's, with every scope but the one that is needed.
    OwnersKeyWithoutScope,
    /// The agent of another machine.
    OtherAgent,
    /// The agent of the machine that the rental runs on.
    Agent,
    /// The rental's renter.
    Renter,
    /// The machine's owner.
    Provider,
}

impl Role {
    pub const ALL: &[Self] = &[
        Self::Nobody,
        Self::Other,
        Self::OthersKey,
        Self::OwnersKeyWithoutScope,
        Self::OtherAgent,
        Self::Agent,
        Self::Renter,
        Self::Provider,
    ];
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
    window: String,
    order: String,
    test: String,
    session: String,
    api_key: String,
    dispute: String,
    webhook: String,
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
        Self {
            other,
            other_rig,
            quote,
            ssh_key,
            others_key,
            without,
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
                let [renters, providers] = &keys.unwrap().1;
                let of_provider = matches!(row.whose, Whose::Providers | Whose::Machines);
                if of_provider { providers.clone() } else { renters.clone() }
            }
            Role::OtherAgent => self.other_rig.agent.token.clone(),
            Role::Agent => self.running.rig.agent.token.clone(),
            Role::Renter => self.running.renter.token.clone(),
            Role::Provider => self.running.rig.provider.token.clone(),
        })
    }

    fn path(&self, row: &Row) -> String {
        let kind = row.path.trim_start_matches("/v1/").trim_start_matches("agent/");
        let id = match kind.split('/').next().unwrap() {
            "machines" => &self.running.rig.machine,
            "offers" => &self.running.rig.offer,
            "rentals" => &self.running.id,
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
        if what.ends_with("by Renter") || what.ends_with("by Provider") {
            return;
        }
        let mut said = reply.body.clone();
        if let Some(members) = said.as_object_mut() {
            members.remove("instance");
        }
        let said = said.to_string().to_lowercase();
        let renter = &self.running.renter;
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

    /// Everything that could have been changed, as the database has it.
    pub async fn belongings(&self, world: &World) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (table, columns) in [
            ("accounts", "t.*"),
            ("agent_commands", "t.*"),
            ("api_key_spends", "t.*"),
            ("api_keys", "t.id, t.label, t.scopes, t.revoked_at"),
            ("chain_intents", "t.*"),
            ("deliveries", "t.*"),
            ("dispute_evidence", "t.*"),
            ("dispute_proposals", "t.*"),
            ("disputes", "t.*"),
            ("end_signatures", "t.*"),
            ("ended_agent_keys", "t.*"),
            ("jobs", "t.*"),
            (
                "machines",
                "t.id, t.name, t.service, t.verification, t.agent_key, t.enroll_token_hash, t.measured",
            ),
            ("maintenance_windows", "t.*"),
            ("offer_versions", "t.*"),
            ("offers", "t.*"),
            ("readings", "t.*"),
            ("rental_access", "t.*"),
            ("rental_events", "t.*"),
            ("rental_gpus", "t.*"),
            ("rental_ssh_keys", "t.*"),
            ("rental_tokens", "t.*"),
            ("rentals", "t.*"),
            ("reviews", "t.*"),
            ("sessions", "t.id, t.account_id, t.revoked_at"),
            ("ssh_keys", "t.*"),
            ("webhooks", "t.*"),
        ] {
            let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
                .bind(table)
                .fetch_one(world.store.pool())
                .await
                .unwrap();
            assert!(exists, "there is no table {table}");
            let query = format!(
                "SELECT COALESCE(string_agg(r::text, E'\\n' ORDER BY r::text), '')
                 FROM (SELECT {columns} FROM {table} t) r"
            );
            let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .fetch_one(world.store.pool())
                .await
                .unwrap();
            all.push((table.to_owned(), rows));
        }
        all
    }
}
