//! What the parties saw and were told: kept apart from the service, to be held against it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use alloy::primitives::{Address, B256};

/// One rental as its renter and its machine know it.
#[derive(Clone, Debug)]
pub struct Note {
    pub escrow_id: B256,
    pub renter: Address,
    pub provider: Address,
    pub machine: String,
    pub token: Address,
    pub deposit: u128,
    pub rate: u128,
    pub fee_bps: u128,
    /// The last state that the API told.
    pub state: String,
    /// The second in which the machine first said that it is ready.
    pub ready_at: Option<u64>,
    /// Every span of readings that the machine sent, taken or not.
    pub claimed: Vec<(u64, u64)>,
}

/// How requests with an `Idempotency-Key` went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    pub asked: u64,
    /// No answer, half an answer, or "try again".
    pub broken: u64,
    /// Broken again by another fault.
    pub hit_twice: u64,
    /// Not settled by one retry that no fault hit.
    pub ambiguous: u64,
    /// An error that is not "try again".
    pub server_errors: u64,
    /// Refusals for lack of a free GPU.
    pub taken: u64,
}

#[derive(Default)]
pub struct Pages {
    pub rentals: BTreeMap<String, Note>,
    pub answers: Answers,
    /// What was wrong at first sight.
    pub complaints: Vec<String>,
    /// What else happened, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Written by everybody at once.
#[derive(Default)]
pub struct Record(Mutex<Pages>);

impl Record {
    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    pub fn count(&self, what: &'static str) {
        *self.pages().counts.entry(what).or_default() += 1;
    }

    pub fn complain(&self, what: String) {
        eprintln!("chaos: {what}");
        self.pages().complaints.push(what);
    }

    pub fn note(&self, rental: &str, with: impl FnOnce(&mut Note)) {
        if let Some(note) = self.pages().rentals.get_mut(rental) {
            with(note);
        }
    }
}
