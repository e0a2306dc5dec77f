//! The provider: registers a machine, starts its agent, offers it.

use std::{collections::BTreeMap, time::Duration};

use alloy::primitives::{Address, U256};
use domain::time::{Clock as _, Seconds};
use serde_json::{Value, json};

use super::{Stage, client::text, memory::Machine};
use crate::{
    clock::SystemClock,
    failure::Failure,
    services::{Plan, Service},
};

const GPU_MODEL: &str = "rtx-4090";
const USD_PER_HOUR: &str = "0.65";
const ONLINE_WITHIN: Duration = Duration::from_secs(30);
/// A year.
const AGENT_FOR: Seconds = Seconds(365 * 24 * 3_600);

/// Brings the provider's one machine to the market, or finds it there.
pub(super) async fn list_machine(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let machine = match stage.memory.notes.machine.clone() {
        Some(machine) => machine,
        None => register(stage).await?,
    };
    start_agent(stage, &machine).await?;
    let offer = match stage.memory.notes.offer.clone() {
        Some(offer) => offer,
        None => offer_machine(stage, &machine).await?,
    };
    let agent = wait_until_online(stage, &machine.id).await?;
    name_agent(stage, &agent).await?;
    stage.say(
        "provider",
        &format!("machine online; offer {offer}: 1 x {GPU_MODEL} at {USD_PER_HOUR} USD/h"),
    );
    Ok(())
}

async fn register(stage: &mut Stage<'_>) -> Result<Machine, Failure> {
    let uuid = format!("GPU-{}", uuid::Uuid::now_v7());
    let body = json!({
        "name": "demo machine", "region": "de-fra",
        "cpu_cores": 16, "ram_gb": 64, "disk_gb": 500,
        "gpus": [{ "uuid": uuid, "model": GPU_MODEL }],
    });
    let created = stage.provider_api.post("/v1/machines", &body, None).await?;
    let machine = Machine {
        id: text(&created, "/machine/id")?,
        enroll_token: text(&created, "/enroll_token")?,
    };
    stage.memory.notes.machine = Some(machine.clone());
    stage.memory.save()?;
    stage.say("provider", &format!("registered {}", machine.id));
    Ok(machine)
}

async fn start_agent(stage: &Stage<'_>, machine: &Machine) -> Result<(), Failure> {
    let folder = &stage.place.folder;
    let state = folder.join("agent").display().to_string();
    let plan = Plan {
        name: "agent",
        arguments: [
            "agent",
            "--server",
            &stage.place.api,
            "--state",
            &state,
            "--reading-interval-ms",
            "1000",
            "--stop-workloads-on-exit",
            "--public-host",
            "127.0.0.1",
        ]
        .map(str::to_owned)
        .to_vec(),
        environment: BTreeMap::from([(
            "WEIR_ENROLL_TOKEN".to_owned(),
            machine.enroll_token.clone(),
        )]),
        // a provider's machine knows nothing of the platform's database or keys
        without: &["WEIR_OPERATOR_KEY", "DATABASE_URL", "RPC_URL"],
        log: folder.join("log").join("agent.log"),
    };
    *stage.agent.lock().await = Some(Service::start(plan)?);
    Ok(())
}

async fn offer_machine(stage: &mut Stage<'_>, machine: &Machine) -> Result<String, Failure> {
    let body = json!({
        "machine_id": machine.id, "gpu_count": 1,
        "price": { "amount": USD_PER_HOUR, "currency": "USD" },
        "min_duration_s": 1, "max_duration_s": 86_400,
    });
    let created = stage.provider_api.post("/v1/offers", &body, None).await?;
    let offer = text(&created, "/id")?;
    stage.memory.notes.offer = Some(offer.clone());
    stage.memory.save()?;
    Ok(offer)
}

/// The provider's wallet lets the machine's key sign ends, so that a credited outage is settled at once. The key can
/// never take money.
async fn name_agent(stage: &mut Stage<'_>, agent: &str) -> Result<(), Failure> {
    if stage.memory.notes.agent.as_deref() == Some(agent) {
        return Ok(());
    }
    let key: Address = agent.parse().map_err(Failure::during("the agent's address"))?;
    let until = SystemClock.now().seconds().saturating_plus(AGENT_FOR);
    let calldata = escrow::calldata::set_agent(key, until);
    stage.provider.send(stage.place.escrow, calldata, U256::ZERO).await?;
    stage.memory.notes.agent = Some(agent.to_owned());
    stage.memory.save()?;
    stage.say("provider", &format!("named {agent} on the chain to sign ends for the provider"));
    Ok(())
}

/// Returns the key that the machine's agent signs with.
async fn wait_until_online(stage: &Stage<'_>, machine: &str) -> Result<String, Failure> {
    let since = tokio::time::Instant::now();
    while since.elapsed() < ONLINE_WITHIN {
        let seen = stage.provider_api.get(&format!("/v1/machines/{machine}")).await?;
        if seen.pointer("/online").and_then(Value::as_bool) == Some(true) {
            return text(&seen, "/agent");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::new(format!(
        "the agent did not come online in {} s; its log is {}",
        ONLINE_WITHIN.as_secs(),
        stage.place.folder.join("log/agent.log").display()
    )))
}
