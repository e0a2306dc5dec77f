//! What the tests share.
#![allow(clippy::arithmetic_side_effects)]

use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use domain::id::{CommandId, MachineId, RentalId};
use serde_json::json;

use crate::wire::{Command, CommandKind};

mod fake;
mod flow;

/// A folder of the test's own, removed with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

/// A number that no other test has.
fn unique() -> u128 {
    rand::random()
}

pub(crate) fn folder() -> Folder {
    let path = std::env::temp_dir().join(format!("weir-agent-{:x}", unique()));
    std::fs::create_dir_all(&path).unwrap();
    Folder(path)
}

fn hex() -> String {
    format!("{:032x}", unique())
}

pub(crate) fn rental() -> RentalId {
    format!("rnt_{}", hex()).parse().unwrap()
}

pub(crate) fn machine() -> MachineId {
    format!("mch_{}", hex()).parse().unwrap()
}

pub(crate) fn command_id() -> CommandId {
    format!("cmd_{}", hex()).parse().unwrap()
}

pub(crate) fn command(kind: CommandKind, rental_id: RentalId) -> Command {
    Command {
        id: command_id(),
        kind,
        rental_id,
        escrow_id: B256::repeat_byte(7),
        payload: json!({ "gpus": ["GPU-1"] }),
    }
}
