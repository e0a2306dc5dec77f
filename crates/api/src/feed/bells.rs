//! Machines whose agents wait for orders, and the bell that each of them hears.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use domain::id::MachineId;
use tokio::sync::Notify;

use super::held;

/// Of one machine: the one that waits, and the one before whose connection is not known to be lost yet.
const PER_MACHINE: usize = 2;

/// Who waits.
#[derive(Clone)]
pub(crate) struct Bells {
    most: usize,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    in_all: usize,
    of: HashMap<MachineId, (usize, Arc<Notify>)>,
}

impl Bells {
    /// Room for so many agents. Each holds a connection, of which heartbeats and everybody else need most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, waiting: Arc::default() }
    }

    /// A place to wait at, until it is dropped; `None` if there is none left.
    pub(crate) fn sit(&self, machine: MachineId) -> Option<Seat> {
        let mut waiting = self.waiting();
        let theirs = waiting.of.get(&machine).map_or(0, |(seats, _)| *seats);
        if waiting.in_all >= self.most || theirs >= PER_MACHINE {
            return None;
        }
        waiting.in_all = waiting.in_all.saturating_add(1);
        let (seats, bell) = waiting.of.entry(machine).or_default();
        *seats = seats.saturating_add(1);
        let bell = bell.clone();
        drop(waiting);
        Some(Seat { bells: self.clone(), machine, bell })
    }

    /// A machine may have a new order.
    pub(super) fn ring(&self, machine: MachineId) {
        if let Some((_, bell)) = self.waiting().of.get(&machine) {
            bell.notify_waiters();
        }
    }

    /// Any machine may have one.
    pub(super) fn ring_all(&self) {
        self.waiting().of.values().for_each(|(_, bell)| bell.notify_waiters());
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        held(&self.waiting)
    }
}

/// A place to wait at.
pub(crate) struct Seat {
    bells: Bells,
    machine: MachineId,
    bell: Arc<Notify>,
}

impl Seat {
    /// Its bell: enable what it notifies before looking for orders, so that none is missed in between.
    pub(crate) fn bell(&self) -> &Notify {
        &self.bell
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut waiting = self.bells.waiting();
        waiting.in_all = waiting.in_all.saturating_sub(1);
        if let Some((seats, _)) = waiting.of.get_mut(&self.machine) {
            *seats = seats.saturating_sub(1);
            if *seats == 0 {
                waiting.of.remove(&self.machine);
            }
        }
        if waiting.of.len() < waiting.of.capacity() / 4 {
            waiting.of.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_machine_hears_its_own_bell_and_its_seats_are_given_back() {
        let bells = Bells::new(3);
        let fresh = || MachineId::from_uuid(Uuid::now_v7());
        let (one, other) = (fresh(), fresh());
        let first = bells.sit(one).unwrap();
        let second = bells.sit(one).unwrap();
        assert!(bells.sit(one).is_none(), "its share");
        let elsewhere = bells.sit(other).unwrap();
        assert!(bells.sit(fresh()).is_none(), "as many as there may be");
        let mut heard = Box::pin(first.bell().notified());
        let mut heard_too = Box::pin(second.bell().notified());
        let mut quiet = Box::pin(elsewhere.bell().notified());
        for waits in [&mut heard, &mut heard_too, &mut quiet] {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        bells.ring(one);
        assert!(heard.as_mut().now_or_never().is_some());
        assert!(heard_too.as_mut().now_or_never().is_some());
        assert!(quiet.as_mut().now_or_never().is_none());
        bells.ring_all();
        assert!(quiet.as_mut().now_or_never().is_some());
        drop((heard, heard_too, quiet));
        drop((first, second, elsewhere));
        assert!(bells.waiting().of.is_empty() && bells.waiting().in_all == 0);
    }
}
