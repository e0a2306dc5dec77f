//! The chain's own faults: blocks that leave it, a node that lies, finality that stands still, clocks that differ.

use std::{path::Path, sync::Arc, time::Duration};

use alloy::primitives::{Address, keccak256};
use serde_json::{Value, json};
use testkit::{Faults, Finality};

use super::{Outcome, Size, Stage};
use crate::chaos::{
    rpc::number,
    wall_clock,
    world::{Plan, World},
};

/// Reorganisations of every depth up to `deepest`, while rentals are at every step. A block is final when more
/// lie on it than that.
pub async fn reorgs(weir: &Path, size: &Size, deepest: u64, count: usize) -> Outcome {
    let epoch = u32::try_from(deepest / 2 + 1).unwrap();
    let name = if deepest > 8 { "deep" } else { "reorg" };
    let mut stage = Stage::open(weir, name, size, Plan { epoch, ..Plan::default() }).await;
    stage.warm(2).await;
    let mut depths = Vec::new();
    for round in 0..count {
        // the shallow ones at first, the deepest last; every step of a rental meets some of them
        let spread = u64::try_from(round + 1).unwrap() * deepest / u64::try_from(count).unwrap();
        let depth = spread.max(1);
        // rentals come to their next steps before the next, which may be a lock, a start or a close
        tokio::time::sleep(Duration::from_secs(u64::from(epoch / 2).max(depth.min(8)))).await;
        stage.faults += 1;
        let comes_back = stage.random.below(2) == 0;
        let depth = depth.min(stage.world.rpc.head().await.saturating_sub(3));
        reorg(&stage.world, depth, comes_back).await;
        depths.push(depth);
        stage.steady().await;
    }
    let what = format!(
        "anvil_reorg at {count} depths from {} to {}, transactions put in again or dropped",
        depths.iter().min().unwrap(),
        depths.iter().max().unwrap(),
    );
    stage.close(&what).await
}

/// Replaces the newest blocks. Their transactions come back in the new ones, or leave the chain for good.
pub async fn reorg(world: &World, depth: u64, comes_back: bool) {
    let rpc = &world.rpc;
    // no block is made while it is read which transactions there are
    rpc.call("evm_setIntervalMining", json!([0])).await;
    let mut kept = Vec::new();
    if comes_back {
        let head = rpc.head().await;
        for (offset, at) in (head + 1 - depth..=head).enumerate() {
            let block = rpc.call("eth_getBlockByNumber", json!([format!("{at:#x}"), false])).await;
            for hash in block["transactions"].as_array().unwrap() {
                let raw = rpc.call("eth_getRawTransactionByHash", json!([hash])).await;
                kept.push(json!([raw, offset]));
            }
        }
    }
    // another producer, lest the new blocks come out as the very old ones
    let seed = format!("{}{depth}{comes_back}", rpc.head().await);
    let producer = Address::from_word(keccak256(seed));
    rpc.call("anvil_setCoinbase", json!([producer])).await;
    if rpc.try_call("anvil_reorg", json!([depth, kept])).await.is_err() {
        // what was valid in its old place is not in the new one: then it is dropped
        rpc.call("anvil_reorg", json!([depth, Vec::<Value>::new()])).await;
    }
    // anvil's clock goes on from the replaced block's time; a chain's would not
    let late = wall_clock().saturating_add_signed(world.plan.clock).checked_sub(rpc.time().await);
    if let Some(late) = late.filter(|late| *late > 1) {
        rpc.call("evm_increaseTime", json!([late])).await;
    }
    rpc.call("evm_setIntervalMining", json!([1])).await;
}

/// The storm of the reliability goals before API and worker, in spells, with clear weather between.
pub async fn storm(weir: &Path, size: &Size, spells: usize, spell: Duration) -> Outcome {
    let mut stage = Stage::open(weir, "storm", size, Plan::default()).await;
    stage.warm(2).await;
    // how far rentals get in foul weather, and in as long of clear
    let (mut foul, mut clear) = (0, 0);
    for _ in 0..spells {
        let before = events(&stage.world).await;
        tokio::time::sleep(spell).await;
        let between = events(&stage.world).await;
        self::spell(&mut stage, spell).await;
        clear += between - before;
        foul += events(&stage.world).await - between;
    }
    let told = told(&stage.world);
    let what = format!(
        "{spells} x {} s of a node that lies, and as long of one that does not ({foul} and {clear} events of rentals): {}",
        spell.as_secs(),
        told
    );
    stage.close(&what).await
}

/// A node that always answers, and often wrongly: it is behind, leaves out the ends of lists, tells wrong nonces, and
/// says "already known".
pub async fn lies(weir: &Path, size: &Size, length: Duration) -> Outcome {
    let mut stage = Stage::open(weir, "lies", size, Plan::default()).await;
    stage.faults += 1;
    stage.world.proxy.set(Faults {
        stale: 200,
        truncated: 300,
        nonce: 300,
        already_known: 500,
        ..Faults::default()
    });
    stage.warm(2).await;
    tokio::time::sleep(length).await;
    stage.world.proxy.behave();
    stage.steady().await;
    let told = told(&stage.world);
    stage
        .close(&format!("{} s of a node that answers, often wrongly: {told}", length.as_secs()))
        .await
}

/// What the proxy counted, in words.
fn told(world: &World) -> String {
    let counts = world.proxy.counts();
    let told: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    told.join(", ")
}

async fn events(world: &World) -> i64 {
    world.number("SELECT count(*) FROM rental_events").await
}

/// Foul weather for so long.
pub async fn spell(stage: &mut Stage, length: Duration) {
    stage.faults += 1;
    stage.world.strike();
    stage.world.proxy.set(Faults::storm());
    tokio::time::sleep(length).await;
    stage.world.proxy.behave();
    stage.world.strike();
    stage.steady().await;
}

/// `finalized` stands still or is null while blocks go on; then no blocks at all.
pub async fn stalls(weir: &Path, size: &Size, length: Duration) -> Outcome {
    let mut stage = Stage::open(weir, "stall", size, Plan::default()).await;
    stage.warm(2).await;
    for finality in [None, Some(Finality::Null)] {
        tokio::time::sleep(Duration::from_secs(6)).await;
        stage.faults += 1;
        let stuck = stage.world.rpc.finalized().await;
        let finality = finality.unwrap_or(Finality::Stuck(stuck));
        stage.world.proxy.set(Faults { finality, ..Faults::default() });
        // what was read as final a moment ago is applied within two seconds
        tokio::time::sleep(Duration::from_secs(4)).await;
        let before = money(&stage).await;
        tokio::time::sleep(length).await;
        let after = money(&stage).await;
        if before != after {
            stage.failures.push(format!("money moved without finality: {before:?} to {after:?}"));
        }
        stage.world.proxy.behave();
        stage.steady().await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage.faults += 1;
    let world = Arc::clone(&stage.world);
    world.rpc.call("evm_setIntervalMining", json!([0])).await;
    tokio::time::sleep(length).await;
    world.rpc.call("evm_setIntervalMining", json!([1])).await;
    stage.steady().await;
    let seconds = length.as_secs();
    let what =
        format!("`finalized` stuck, then null, for {seconds} s each; no blocks for {seconds} s");
    stage.close(&what).await
}

/// Postings, and the newest block that is held for final.
async fn money(stage: &Stage) -> (i64, i64) {
    let postings = stage.world.number("SELECT count(*) FROM ledger_postings").await;
    let newest = "SELECT coalesce(max(number), 0) FROM chain_blocks WHERE final";
    (postings, stage.world.number(newest).await)
}

/// Our clock is five minutes behind the chain's, or ahead of it.
pub async fn clocks(weir: &Path, size: &Size, ahead: i64) -> Outcome {
    let name = if ahead > 0 { "behind" } else { "ahead" };
    let plan = Plan { clock: ahead, ..Plan::default() };
    let mut stage = Stage::open(weir, name, size, plan).await;
    stage.warm(2).await;
    if ahead > 0 {
        stage.faults += 1;
        stage.world.rpc.call("evm_increaseTime", json!([ahead])).await;
        stage.steady().await;
    }
    let difference = stage.world.rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
    let chain = i64::try_from(number(&difference["timestamp"])).unwrap();
    let ours = i64::try_from(wall_clock()).unwrap();
    let what = format!("the chain's clock less ours: {} s", chain - ours);
    stage.close(&what).await
}
