//! Who and what the requests are about: rentals that run and are over, and one of everything else.

use std::{sync::Arc, time::Duration};

use alloy::{
    primitives::{Address, U256, hex},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use escrow::{
    signed::{self, ReceiveWithAuthorization},
    terms::Terms,
    terms_hash,
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::sync::CancellationToken;

use crate::{
    chaos::{
        client::{Client, text},
        machine::Machine,
        record::Record,
        renter::{Course, Renter},
        site, wall_clock,
        world::World,
    },
    random::Random,
};

/// For so long a rental is paid: longer than anybody asks.
const A_DAY_S: u32 = 86_400;
const LOOK_EVERY: Duration = Duration::from_millis(500);
const MOST_LOOKS: usize = 360;

/// Something that is there, for the paths that name its kind.
#[derive(Clone, Debug)]
pub struct Known {
    pub path: &'static str,
    pub parameter: &'static str,
    pub value: String,
}

fn known(path: &'static str, parameter: &'static str, value: &str) -> Known {
    Known { path, parameter, value: value.to_owned() }
}

const RENTALS: &str = r"^/v1/rentals/\{id\}";

/// A wallet that has everything.
pub struct Holder {
    pub token: String,
    /// One of each kind; the rental runs.
    pub known: Vec<Known>,
    /// A rental whose money is divided.
    pub settled: Vec<Known>,
    /// The token of the rental that runs.
    pub rental_token: String,
    /// A program's key that may read.
    pub key: String,
    /// Another rental that runs.
    ending: String,
    client: Client,
}

/// Where parties are made.
#[derive(Clone)]
pub struct Stage {
    world: Arc<World>,
    record: Arc<Record>,
    seed: u64,
    stop: CancellationToken,
}

impl Stage {
    pub fn new(
        world: &Arc<World>,
        record: &Arc<Record>,
        seed: u64,
        stop: &CancellationToken,
    ) -> Self {
        let (world, record) = (Arc::clone(world), Arc::clone(record));
        Self { world, record, seed, stop: stop.clone() }
    }

    fn key(&self, number: u64) -> PrivateKeySigner {
        let mut random = Random(!self.seed ^ (number << 40));
        PrivateKeySigner::from_bytes(&random.bytes::<32>().into()).unwrap()
    }

    async fn signed_in(&self, wallet: &PrivateKeySigner) -> Client {
        let client = Client::new(&self.world, &self.record);
        client.sign_in(wallet).await;
        client
    }

    /// A machine that works; its number is that of its key too.
    async fn machine(&self, owner: &PrivateKeySigner, number: u64) -> (String, String) {
        let key = self.key(number);
        let name = usize::try_from(number).unwrap();
        let machine = Machine::list(&self.world, &self.record, owner, key, name).await;
        let is = (machine.id.clone(), machine.offer.clone());
        tokio::spawn(machine.run(self.stop.clone()));
        is
    }

    /// The session of a wallet that owns a machine and has booked another.
    pub async fn busy(&self) -> String {
        let (owner, other) = (self.key(1), self.key(2));
        site::give_coins(&self.world.rpc, &[owner.clone(), other.clone()]).await;
        self.machine(&owner, 98).await;
        let (_, offer) = self.machine(&other, 99).await;
        let wallet = self.signed_in(&owner).await;
        let order = json!({ "offer_id": offer, "duration_s": 600, "token": "USDC" });
        let (_, quote) = wallet.post("/v1/quotes", &order).await;
        let order = json!({ "quote_id": text(&quote, "/id") });
        let (status, said) = wallet.keyed("/v1/rentals", &order, "fuzz").await;
        assert_eq!(status, 201, "{said}");
        wallet.token().await
    }

    /// A wallet that has everything: machine, rentals, keys, a case, a webhook.
    pub async fn holder(&self) -> Holder {
        let (wallet, other) = (self.key(3), self.key(4));
        let both = [wallet.clone(), other.clone()];
        site::give_coins(&self.world.rpc, &both).await;
        let (usdc, escrow) = (self.world.usdc, self.world.escrow);
        site::give_tokens(&self.world.rpc, usdc, escrow, &both[..1]).await;
        let (machine, offer) = self.machine(&wallet, 97).await;
        let (_, used) = self.machine(&other, 96).await;
        let (_, rented) = self.machine(&other, 95).await;
        let client = self.signed_in(&wallet).await;
        let (rental, rental_token) = self.pay(&rented, &wallet).await;
        let settled = self.settled(&wallet, used.clone()).await;
        let (ending, _) = self.pay(&used, &wallet).await;
        self.until(&client, &rental, "active").await;
        let mut known = self.things(&client, &machine, &rental).await;
        known.extend([
            Known { path: RENTALS, parameter: "id", value: rental },
            Known { path: r"^/v1/machines/\{id\}", parameter: "id", value: machine },
            Known { path: r"^/v1/offers/\{id\}", parameter: "id", value: offer },
        ]);
        let body = json!({ "label": "reads", "scopes": ["account:read", "rentals:read"] });
        let key = text(&made(&client, "/v1/api-keys", &body).await, "/token");
        let settled = vec![Known { path: RENTALS, parameter: "id", value: settled }];
        let token = client.token().await;
        Holder { token, known, settled, rental_token, key, ending, client }
    }

    /// One of each kind of thing that a wallet makes.
    async fn things(&self, client: &Client, machine: &str, rental: &str) -> Vec<Known> {
        let id = async |path: &str, pointer: &str, body: Value| {
            text(&made(client, path, &body).await, pointer)
        };
        let at = |days: i64| {
            let at = i64::try_from(wall_clock()).unwrap() + days * 86_400;
            OffsetDateTime::from_unix_timestamp(at).unwrap().format(&Rfc3339).unwrap()
        };
        let body = json!({ "from": at(30), "to": at(31), "reason": "new fans" });
        let window = id(&format!("/v1/machines/{machine}/maintenance"), "/window/id", body).await;
        let body = json!({ "rental_id": rental, "code": "billing", "statement": "too much" });
        let case = id("/v1/disputes", "/id", body).await;
        let body = json!({ "url": "https://hooks.example.com/weir", "events": ["rental.ended"] });
        let webhook = id("/v1/webhooks", "/webhook/id", body).await;
        let delivery = id(&format!("/v1/webhooks/{webhook}/test"), "/id", json!({})).await;
        let public =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkbe7gwx7s0dlApEEzpUyOAPrzPLy4czEZw/sh8m8rd";
        let ssh_key = id("/v1/ssh-keys", "/id", json!({ "public_key": public })).await;
        let body = json!({ "label": "spare", "scopes": ["rentals:read"] });
        let api_key = id("/v1/api-keys", "/key/id", body).await;
        let body =
            json!({ "slug": "fuzz", "name": "Fuzz", "image": "ghcr.io/me/x:1", "disk_gb": 8 });
        let template = id("/v1/templates", "/slug", body).await;
        let quote = self.any_quote(client).await;
        let (_, sessions) = client.get("/v1/sessions").await;
        let all = sessions["data"].as_array().unwrap();
        let session = all.iter().find(|session| session["current"] == false).unwrap();
        vec![
            known(r"\{window\}", "window", &window),
            known(r"^/v1/disputes/\{id\}", "id", &case),
            known(r"^/v1/webhooks/\{id\}", "id", &webhook),
            known(r"^/v1/deliveries/\{id\}", "id", &delivery),
            known(r"^/v1/ssh-keys/\{id\}", "id", &ssh_key),
            known(r"^/v1/api-keys/\{id\}", "id", &api_key),
            known(r"^/v1/quotes/\{id\}", "id", &quote),
            known(r"^/v1/sessions/\{id\}", "id", &text(session, "/id")),
            known(r"^/v1/templates/\{slug\}", "slug", &template),
            known(r"^/v1/gpu-models/\{slug\}", "slug", "rtx-4090"),
            known(r"\{model\}", "model", "rtx-4090"),
            known(r"^/errors/\{code\}", "code", "not-found"),
        ]
    }

    /// A quote of somebody else's offer. Others rent meanwhile: one that is found may be taken by then.
    async fn any_quote(&self, client: &Client) -> String {
        let (_, me) = client.get("/v1/me").await;
        let own = text(&me, "/address").to_lowercase();
        for _ in 0..MOST_LOOKS {
            let (_, page) = client.get("/v1/offers?limit=100").await;
            let all = page["data"].as_array().unwrap();
            let of_other = |offer: &&Value| !offer.to_string().to_lowercase().contains(&own);
            for offer in all.iter().filter(of_other) {
                let offer = text(offer, "/id");
                let order = json!({ "offer_id": offer, "duration_s": 600, "token": "USDC" });
                let (status, said) = client.post("/v1/quotes", &order).await;
                if status == 201 {
                    return text(&said, "/id");
                }
                assert_eq!(status, 409, "{said}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("nobody offers anything");
    }

    /// A rental from the quote to the last payout.
    async fn settled(&self, wallet: &PrivateKeySigner, offer: String) -> String {
        let renter = Renter::sign_in(&self.world, &self.record, wallet.clone()).await;
        let run_for = Duration::from_millis(1_500);
        let course = Course { gasless: false, native: false, called_off: false, run_for };
        assert!(renter.rent(&[offer], course, &mut Random(self.seed)).await, "nothing was free");
        let pages = self.record.pages();
        let mut own = pages.rentals.iter().filter(|(_, note)| note.renter == wallet.address());
        let (id, note) = own.next().unwrap();
        assert_eq!(note.state, "settled");
        id.clone()
    }

    /// A rental that was stopped and whose end waits for its renter's signature, for half a minute.
    pub async fn ending(&self, holder: &Holder) -> Vec<Known> {
        let (client, id) = (&holder.client, &holder.ending);
        self.until(client, id, "active").await;
        let path = format!("/v1/rentals/{id}/stop");
        let (status, said) = client.keyed(&path, &json!({}), "fuzz-stop").await;
        assert_eq!(status, 202, "{said}");
        self.until(client, id, "settling").await;
        vec![known(RENTALS, "id", id)]
    }

    async fn until(&self, client: &Client, rental: &str, state: &str) {
        for _ in 0..MOST_LOOKS {
            let (_, seen) = client.get(&format!("/v1/rentals/{rental}")).await;
            if seen["state"] == state {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("{rental} does not come to be {state}");
    }

    /// The session of a machine's agent, which has an order, a test and a rental.
    pub async fn agent(&self) -> (String, Vec<Known>) {
        let (owner, renter, key) = (self.key(5), self.key(6), self.key(94));
        let both = [owner.clone(), renter.clone()];
        site::give_coins(&self.world.rpc, &both).await;
        let (usdc, escrow) = (self.world.usdc, self.world.escrow);
        site::give_tokens(&self.world.rpc, usdc, escrow, &both[1..]).await;
        let machine = Machine::list(&self.world, &self.record, &owner, key.clone(), 94).await;
        let provider = self.signed_in(&owner).await;
        let test = format!("/v1/machines/{}/verify", machine.id);
        let test = text(&made(&provider, &test, &json!({})).await, "/id");
        let (rental, _) = self.pay(&machine.offer, &renter).await;
        let agent = Client::new(&self.world, &self.record);
        assert!(agent.sign_in_agent(&machine.id, &key).await);
        for _ in 0..MOST_LOOKS {
            let (_, said) = agent.post("/v1/agent/heartbeats", &json!({ "running": [] })).await;
            if let Some(order) = said["commands"].as_array().unwrap().first() {
                let known = vec![
                    known(r"^/v1/agent/commands/\{id\}", "id", &text(order, "/id")),
                    known(r"^/v1/agent/self-tests/\{id\}", "id", &test),
                    known(r"^/v1/agent/rentals/\{id\}", "id", &rental),
                ];
                return (agent.token().await, known);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("the machine gets no order");
    }

    /// Rents by x402: the rental and its token.
    async fn pay(&self, offer: &str, payer: &PrivateKeySigner) -> (String, String) {
        let order = json!({ "offer_id": offer, "duration_s": A_DAY_S, "token": "USDC" });
        let post = || {
            let url = format!("{}/v1/rentals", self.world.url);
            let request = self.world.http.post(url).json(&order);
            request.header("Idempotency-Key", format!("fuzz-{offer}"))
        };
        let asked: Value = post().send().await.unwrap().json().await.unwrap();
        let accepted = &asked["payment"]["accepts"][0];
        let header = BASE64_STANDARD.encode(self.payment(accepted, payer).to_string());
        let paid = post().header("PAYMENT-SIGNATURE", header).send().await.unwrap();
        let said: Value = paid.json().await.unwrap();
        (text(&said, "/rental/id"), text(&said, "/access/token"))
    }

    fn payment(&self, accepted: &Value, payer: &PrivateKeySigner) -> Value {
        let (terms, chain_id) = (&accepted["extra"]["terms"], self.world.rpc.chain_id);
        let terms = Terms {
            renter: payer.address(),
            provider: text(terms, "/provider").parse().unwrap(),
            token: text(terms, "/token").parse().unwrap(),
            pricePerHour: text(terms, "/pricePerHour").parse().unwrap(),
            feeBps: text(terms, "/feeBps").parse().unwrap(),
            startBy: text(terms, "/startBy").parse().unwrap(),
            holdback: text(terms, "/holdback").parse().unwrap(),
            orderHash: text(terms, "/orderHash").parse().unwrap(),
        };
        let until = wall_clock() + accepted["maxTimeoutSeconds"].as_u64().unwrap();
        let told = ReceiveWithAuthorization {
            from: payer.address(),
            to: self.world.escrow,
            value: text(accepted, "/amount").parse().unwrap(),
            validAfter: U256::ZERO,
            validBefore: U256::from(until),
            nonce: terms_hash(&terms, &escrow::domain(chain_id, self.world.escrow)),
        };
        let token: Address = text(accepted, "/asset").parse().unwrap();
        let (name, version) = (text(accepted, "/extra/name"), text(accepted, "/extra/version"));
        let domain = signed::token_domain(&name, &version, chain_id, token);
        let signature = payer.sign_hash_sync(&signed::digest(&told, &domain)).unwrap();
        json!({
            "x402Version": 2,
            "accepted": accepted,
            "payload": {
                "signature": hex::encode_prefixed(signature.as_bytes()),
                "authorization": {
                    "from": told.from, "to": told.to, "value": told.value.to_string(),
                    "validAfter": told.validAfter.to_string(),
                    "validBefore": told.validBefore.to_string(), "nonce": told.nonce,
                },
            },
        })
    }
}

/// What a request made that must be taken.
async fn made(client: &Client, path: &str, body: &Value) -> Value {
    let (status, said) = client.post(path, body).await;
    assert!((200..300).contains(&status), "{path}: {status} {said}");
    said
}
