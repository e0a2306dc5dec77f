//! What the demo remembers, so that the next `weir up` takes up where this one was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Kept in `demo.json` in the data folder.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    /// The provider's machine, once registered.
    pub(crate) machine: Option<Machine>,
    /// The key that signs ends for the provider by the chain, once told.
    #[serde(default)]
    pub(crate) agent: Option<String>,
    /// The machine's offer, once listed.
    pub(crate) offer: Option<String>,
    /// The key of the renter without coins, made at random for this folder.
    #[serde(default)]
    pub(crate) poor_renter: Option<String>,
    /// The rental that is being played.
    pub(crate) rental: Option<Playing>,
}

/// A registered machine.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) enroll_token: String,
}

/// A rental that has not been shown to its end.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Playing {
    /// The key that makes the booking happen once.
    pub(crate) booking_key: String,
    pub(crate) quote: String,
    pub(crate) rental: Option<String>,
    /// True once the outage was made.
    pub(crate) outage_made: bool,
    /// Balances before the lock.
    pub(crate) before: Balances,
    /// Who sends the lock: the renter's wallet, or the platform with the renter's authorization.
    #[serde(default)]
    pub(crate) gasless: bool,
}

/// What the parties have, read from the chain.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Balances {
    /// The renter's wallet.
    pub(crate) renter: U256,
    /// The renter's native coin.
    #[serde(default)]
    pub(crate) renter_coin: U256,
    /// What the escrow keeps for the provider, and what the provider has withdrawn.
    pub(crate) provider: U256,
    /// What the escrow keeps for the treasury.
    pub(crate) treasury: U256,
}

/// The file and what is in it.
pub(crate) struct Memory {
    path: PathBuf,
    pub(crate) notes: Notes,
}

impl Memory {
    /// Reads the file, or begins anew.
    ///
    /// # Errors
    /// If the file is not what we wrote.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let notes = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::new(format!(
                    "{} is broken: {error}; remove it to begin a new demo",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Notes::default(),
            Err(error) => {
                return Err(Failure::new(format!("{} cannot be read: {error}", path.display())));
            }
        };
        Ok(Self { path: path.to_path_buf(), notes })
    }

    /// Writes the file whole: to a neighbour first, then over the old one.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(&self.notes).map_err(Failure::during("the notes"))?;
        let draft = self.path.with_extension("json.new");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &self.path)).map_err(|error| {
            Failure::new(format!("{} cannot be written: {error}", self.path.display()))
        })
    }
}
