//! What a process that starts knows from the file of the one before.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use api::AppState;
use serde_json::Value;

use super::feed::{patch, price};
use crate::fixture::World;

/// A world that keeps its market in this file.
async fn world(file: &Path) -> World {
    let file = file.to_owned();
    World::with(move |config| config.market_image = Some(file)).await
}

/// Who read everything writes it down at once.
async fn written(file: &Path, before: &[u8]) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if fs::read(file).is_ok_and(|bytes| bytes != before) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the file was not written");
}

/// The world after its process started anew.
async fn restarted(world: World) -> World {
    let World { store, clock, state, router } = world;
    let (chain, config) = (state.chain.clone(), state.config.clone());
    drop((state, router));
    let state = AppState::new(store.clone(), chain, config, None);
    state.catch_up_with_market().await.unwrap();
    let router = api::router(state.clone());
    World { store, clock, state, router }
}

async fn offers(world: &World) -> Vec<Value> {
    let page = world.get("/v1/offers?available=false").send().await.ok(200);
    page["data"].as_array().unwrap().clone()
}

/// Changes a fact behind everybody's back, so that only who reads everything sees it.
async fn change_secretly(world: &World) {
    let mut connection = world.store.read().await.unwrap();
    sqlx::raw_sql(
        "BEGIN; SET LOCAL session_replication_role = replica;
         UPDATE machines SET ram_gb = ram_gb + 1; COMMIT",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
}

fn ram(offer: &Value) -> u64 {
    offer["ram_gb"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_what_changed_and_not_everything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("market.image");
    let world = world(&file).await;
    written(&file, b"").await;
    let (kept, dearer) = (world.rig(1, 1, "0.40").await, world.rig(3, 1, "0.41").await);
    let (gone, taken) = (world.rig(5, 1, "0.42").await, world.rig(7, 1, "0.43").await);
    world.state.catch_up_with_market().await.unwrap();
    world.state.keep_market().await;
    let before = offers(&world).await;
    assert_eq!(before.len(), 4);
    change_secretly(&world).await;
    // after the file was written, and unseen by the process that wrote it
    patch(&world, &dearer, price("0.90")).await;
    let path = format!("/v1/offers/{}", gone.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let call = world.call("DELETE", &path).auth(&gone.provider.token).header("if-match", &tag);
    call.send().await.ok(204);
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &taken).await;
    world.book(&renter, &quote, "first").await.ok(201);
    let new = world.rig(11, 1, "0.44").await;

    let world = restarted(world).await;
    let after = offers(&world).await;
    let ids: Vec<&str> = after.iter().map(|offer| offer["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&kept.offer, &taken.offer, &new.offer, &dearer.offer]);
    assert_eq!(ram(&after[0]), ram(&before[0]), "nobody told of it, and not everything was read");
    assert_eq!(ram(&after[1]), ram(&before[3]) + 1, "it was booked, and read again");
    assert_eq!((&after[0]["available"], &after[1]["gpus_free"]), (&true.into(), &0.into()));
    // from now on it goes on as ever
    patch(&world, &kept, price("1.40")).await;
    world.state.catch_up_with_market().await.unwrap();
    let last = offers(&world).await.pop().unwrap();
    assert_eq!((last["id"].as_str().unwrap(), ram(&last)), (&*kept.offer, ram(&before[0]) + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_database_or_none_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("market.image");
    let first = world(&file).await;
    written(&file, b"").await;
    first.rig(1, 1, "0.40").await;
    first.state.catch_up_with_market().await.unwrap();
    first.state.keep_market().await;
    let good = fs::read(&file).unwrap();
    // the same file beside another database
    let other = world(&file).await;
    assert_eq!(offers(&other).await.len(), 0);
    written(&file, &good).await;
    drop(other);
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    let mut world = first;
    for bytes in [&damaged[..], &good[..good.len() / 2], b"", b"weirmkt\n", b"something else"] {
        let known = offers(&world).await;
        change_secretly(&world).await;
        fs::write(&file, bytes).unwrap();
        world = restarted(world).await;
        let all = offers(&world).await;
        assert_eq!((all.len(), ram(&all[0])), (1, ram(&known[0]) + 1), "everything was read");
        written(&file, bytes).await;
    }
}
