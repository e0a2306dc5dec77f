//! The market's files, read over HTTP by the code of the tools that they are for.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::fixture::{World, key};

/// Model, GPUs, price of each.
const LISTED: [(&str, u8, &str); 6] = [
    ("rtx-4090", 1, "0.40"),
    ("rtx-4090", 2, "0.50"),
    ("a100-80gb-sxm", 8, "1.30"),
    ("h100-nvl", 1, "2.40"),
    ("gh200", 1, "1.99"),
    ("mi300x", 4, "2.10"),
];

/// Lists all GPUs of a machine of one model. Seeds `n` and `n + 1` are used.
async fn list(world: &World, n: u8, model: &str, gpus: u8, price: &str) -> String {
    let provider = world.sign_in(n).await;
    let uuids = (0..gpus).map(|gpu| json!({"uuid": format!("GPU-{n}-{gpu}-xxxx"), "model": model}));
    let body = json!({"name": "rack", "region": "de-fra", "cpu_cores": 64, "ram_gb": 512, "disk_gb": 2_000,
                      "gpus": uuids.collect::<Vec<_>>()});
    let said = world.post("/v1/machines").auth(&provider.token).json(&body).send().await.ok(201);
    let machine = said["machine"]["id"].as_str().unwrap().to_owned();
    let agent = key(n + 1);
    world.enroll(&agent, said["enroll_token"].as_str().unwrap()).await.ok(201);
    let session = world.agent_session(&agent, &machine).await.ok(201);
    let token = session["token"].as_str().unwrap().to_owned();
    world.heartbeat(&crate::fixture::Person { key: agent, token }, &[]).await;
    let offer = world.list(&provider, &machine, usize::from(gpus), price).await.ok(201);
    offer["id"].as_str().unwrap().to_owned()
}

struct Served {
    url: String,
    offers: Vec<String>,
    world: World,
}

impl Served {
    async fn new() -> Self {
        let world = World::new().await;
        let mut offers = Vec::new();
        for (place, (model, gpus, price)) in LISTED.into_iter().enumerate() {
            let seed = 1 + 2 * u8::try_from(place).unwrap();
            offers.push(list(&world, seed, model, gpus, price).await);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(api::serve(listener, world.state.clone(), CancellationToken::new()));
        Self { url, offers, world }
    }

    /// What a tool says that it read.
    async fn read_by(&self, tool: &'static str) -> Value {
        let url = self.url.clone();
        let done = tokio::task::spawn_blocking(move || read(tool, &url)).await;
        done.unwrap()
    }
}

fn read(tool: &str, url: &str) -> Value {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let installed = Command::new(root.join("scripts/pypi-tool")).arg(tool).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let programs = String::from_utf8(installed.stdout).unwrap();
    let folder = root.join(format!("target/tmp/catalog-{tool}-{}", std::process::id()));
    let output = Command::new(PathBuf::from(programs.trim()).join("python"))
        .arg(root.join(format!("crates/api/tests/catalog/read_{tool}.py")))
        .args([url, folder.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(&folder).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn gpuhunt_reads_what_can_be_rented() {
    let market = Served::new().await;
    let found = market.read_by("gpuhunt").await;
    let offer = |place: usize| &market.offers[place];
    assert_eq!(
        found["all"],
        json!([
            [offer(0), "de-fra", 0.4, 64, 512.0, 1, "RTX4090", 24.0],
            [offer(1), "de-fra", 1.0, 64, 512.0, 2, "RTX4090", 24.0],
            [offer(2), "de-fra", 10.4, 64, 512.0, 8, "A100", 80.0],
            [offer(4), "de-fra", 1.99, 64, 512.0, 1, "GH200", 96.0],
            [offer(5), "de-fra", 8.4, 64, 512.0, 4, "MI300X", 192.0],
            [offer(3), "de-fra", 2.4, 64, 512.0, 1, "H100NVL", 94.0],
        ]),
        "cheapest by the GPU first"
    );
    assert_eq!(found["named"], json!([offer(0)]));
}

/// SkyPilot is 460 MB, so `make check-catalog` asks for this part.
#[tokio::test(flavor = "multi_thread")]
async fn skypilot_reads_what_can_be_rented_where_it_is_asked_for() {
    let market = Served::new().await;
    let found = match std::env::var_os("WEIR_SKYPILOT") {
        Some(_) => market.read_by("skypilot").await,
        // without it, the same table by hand: the columns that SkyPilot's code takes, and literals of Python in one
        None => by_hand(&market).await,
    };
    let names: Vec<&str> = found.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["A100-80GB", "GH200", "H100-NVL", "MI300X", "RTX4090"]);
    let instances = |name: &str| found[name]["instances"].clone();
    assert_eq!(
        instances("RTX4090"),
        json!([
            ["1x-RTX4090-64-512", 1.0, 24.0, 0.4, "de-fra"],
            ["2x-RTX4090-64-512", 2.0, 24.0, 1.0, "de-fra"]
        ])
    );
    assert_eq!(instances("A100-80GB"), json!([["8x-A100-80GB-64-512", 8.0, 80.0, 10.4, "de-fra"]]));
    assert_eq!(found["H100-NVL"]["cheapest"], json!(["1x-H100-NVL-64-512"]));
}

async fn by_hand(market: &Served) -> Value {
    let reply = market.world.get("/v1/catalog.csv?format=skypilot").send().await.ok(200);
    let mut lines = reply.as_str().unwrap().lines();
    let columns = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,GpuInfo";
    assert_eq!(lines.next(), Some(columns));
    let mut found = serde_json::Map::new();
    for line in lines {
        let [instance, name, count, cpus, ram, price, spot, region, info] =
            line.splitn(9, ',').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((cpus, ram, spot), ("64", "512", ""));
        let info = info.strip_prefix('"').unwrap().strip_suffix('"').unwrap().replace('\'', "\"");
        let info: Value = serde_json::from_str(&info).unwrap();
        let gib = info["Gpus"][0]["MemoryInfo"]["SizeInMiB"].as_u64().unwrap() / 1_024;
        assert_eq!(info["Gpus"][0]["Name"], name);
        let number = |text: &str| text.parse::<f64>().unwrap();
        let row = json!([instance, number(count), number(&gib.to_string()), number(price), region]);
        let entry =
            found.entry(name).or_insert_with(|| json!({"cheapest": [instance], "instances": []}));
        entry["instances"].as_array_mut().unwrap().push(row);
    }
    Value::Object(found)
}
