//! Where a rental is reached: told by its machine, read by its renter.

use domain::{money::Amount, rental::RentalEvent};
use serde_json::{Value, json};
use store::rentals::MoneyDelta;

use crate::{
    fixture::{Person, Reply, World},
    running::Running,
};

const HOST: &str = "gpu1.provider.example";

async fn tell(world: &World, agent: &Person, id: &str, said: &Value) -> Reply {
    let path = format!("/v1/agent/rentals/{id}/access");
    world.post(&path).auth(&agent.token).json(said).send().await
}

async fn seen(world: &World, who: &Person, id: &str) -> Value {
    let mut rental = world.get(&format!("/v1/rentals/{id}")).auth(&who.token).send().await.ok(200);
    rental["access"].take()
}

fn way() -> Value {
    json!({"host": "GPU1.Provider.Example.", "ports": [{"name": "ssh", "port": 41_022}, {"name": "http", "port": 41_080}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_renter_reads_it_from_ready_to_the_end_and_nobody_else_does() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    for who in [&renter, &rig.provider] {
        let body = json!({"url": "https://hooks.example.com/weir", "events": ["*"]});
        world.post("/v1/webhooks").auth(&who.token).json(&body).send().await.ok(201);
    }
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    assert_eq!(booking["rental"].get("access"), None, "the booking's answer is as it was");
    let id = booking["rental"]["id"].as_str().unwrap();
    world.advance(id, RentalEvent::LockIncluded).await;
    let deposit: Amount = quote["deposit"]["base_units"].as_str().unwrap().parse().unwrap();
    world.pay(id, MoneyDelta { locked: deposit, ..MoneyDelta::default() }).await;
    world.advance(id, RentalEvent::LockFinal { now: world.now() }).await;
    world.advance(id, RentalEvent::AgentAcked).await;

    let kept = tell(&world, &rig.agent, id, &way()).await.ok(200);
    let ports = json!([{"name": "http", "port": 41_080}, {"name": "ssh", "port": 41_022}]);
    assert_eq!(kept, json!({"host": HOST, "ports": ports}));
    assert_eq!(seen(&world, &renter, id).await, Value::Null, "it is not ready");
    let ready = world.post(&format!("/v1/agent/rentals/{id}/ready")).auth(&rig.agent.token);
    assert_eq!(ready.send().await.ok(200)["state"], "active");
    let ssh = format!("ssh -p 41022 root@{HOST}");
    let access = json!({"host": HOST, "ports": ports, "ssh": ssh});
    assert_eq!(seen(&world, &renter, id).await, access);

    let stranger = world.sign_in(30).await;
    assert_eq!(seen(&world, &rig.provider, id).await, Value::Null, "the provider needs it not");
    let refused = world.get(&format!("/v1/rentals/{id}")).auth(&stranger.token).send().await;
    refused.problem(404, "not-found");
    let other = world.rig(40, 1, "0.65").await;
    tell(&world, &other.agent, id, &way()).await.problem(404, "not-found");
    tell(&world, &renter, id, &way()).await.problem(403, "forbidden");
    assert_eq!(seen(&world, &renter, id).await, access);

    // what is said later takes its place
    let moved = json!({"host": "2001:db8::7", "ports": [{"name": "http", "port": 8_080}]});
    tell(&world, &rig.agent, id, &moved).await.ok(200);
    let access =
        json!({"host": "2001:db8::7", "ports": [{"name": "http", "port": 8_080}], "ssh": null});
    assert_eq!(seen(&world, &renter, id).await, access);
    tell(&world, &rig.agent, id, &way()).await.ok(200);
    assert_eq!(elsewhere(&world).await, Vec::<String>::new(), "no event tells it");

    world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s").send().await.ok(202);
    assert_eq!(seen(&world, &renter, id).await, Value::Null, "the rental is over");
    tell(&world, &rig.agent, id, &way()).await.problem(409, "state-conflict");
    assert_eq!(rows(&world).await, 1);
    let orders = world.heartbeat(&rig.agent, &[]).await;
    let order = orders["commands"].as_array().unwrap();
    let order = order.iter().find(|order| order["kind"] == "deprovision").unwrap();
    let path = format!("/v1/agent/commands/{}/ack", order["id"].as_str().unwrap());
    let ack = world.post(&path).auth(&rig.agent.token).json(&json!({"outcome": "ok"}));
    ack.send().await.ok(200);
    assert_eq!(seen(&world, &renter, id).await, Value::Null);
    assert_eq!(rows(&world).await, 0, "nor is it kept");
}

async fn rows(world: &World) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM rental_access");
    count.fetch_one(world.store.pool()).await.unwrap()
}

/// The other tables that hold the address.
async fn elsewhere(world: &World) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
    )
    .fetch_all(world.store.pool())
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let query = format!("SELECT count(*) FROM {table} t WHERE t::text LIKE '%{HOST}%'");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(world.store.pool())
            .await
            .unwrap();
        if count > 0 && table != "rental_access" {
            found.push(table);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_nothing_leaves_it_null_and_nonsense_is_refused() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let (agent, id) = (&running.rig.agent, &running.id);
    assert_eq!(running.rental(&world).await["access"], Value::Null);
    let port = |name: &str, port: u32| json!({"name": name, "port": port});
    let many: Vec<Value> = (0..65).map(|n| port(&format!("p{n}"), 1)).collect();
    for (host, ports, pointer) in [
        ("-oProxyCommand=x", json!([]), "/host"),
        ("a b", json!([]), "/host"),
        ("gpu1\u{1b}[2J.example", json!([]), "/host"),
        ("0.0.0.0", json!([]), "/host"),
        (HOST, json!([port("ssh", 0)]), "/ports/0/port"),
        (HOST, json!([port("ssh", 1), port("ssh", 2)]), "/ports/1/name"),
        (HOST, json!([port("$(x)", 1)]), "/ports/0/name"),
        (HOST, json!(many), "/ports"),
    ] {
        let said = json!({"host": host, "ports": ports});
        let refused = tell(&world, agent, id, &said).await.problem(422, "validation-failed");
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{said}");
    }
    let large = json!({"host": HOST, "ports": [port("ssh", 65_536)]});
    tell(&world, agent, id, &large).await.problem(400, "invalid-request");
    assert_eq!(running.rental(&world).await["access"], Value::Null);
}
