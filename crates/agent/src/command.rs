//! Commands in hand and commands done, so that none is carried out twice.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::id::CommandId;

use crate::wire::{Ack, Command};

/// How many finished commands are remembered. The service repeats a command only until it has the
/// acknowledgement, so that a few are enough.
const REMEMBERED: usize = 1024;

/// What is known of the commands of this run. Those of earlier runs are recognised by the rental's file.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandBook(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    in_hand: HashSet<CommandId>,
    done: VecDeque<(CommandId, Ack)>,
}

/// What to do about a command that was delivered.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// Carry it out.
    New(Taken),
    /// Somebody is at it.
    InHand,
    /// It was carried out; the service has not heard, so tell it again.
    Done(Ack),
}

impl CommandBook {
    /// Takes a command that was delivered.
    pub(crate) fn take(&self, command: Command) -> Delivery {
        let mut pages = self.pages();
        if let Some((_, ack)) = pages.done.iter().find(|(id, _)| *id == command.id) {
            return Delivery::Done(*ack);
        }
        if !pages.in_hand.insert(command.id) {
            return Delivery::InHand;
        }
        drop(pages);
        Delivery::New(Taken { command, book: self.clone() })
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // nothing in here can be left half done by a panic
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that is being carried out. Dropped without [`Taken::finish`] it counts as not taken, and its
/// next delivery begins anew.
#[derive(Debug)]
pub(crate) struct Taken {
    command: Command,
    book: CommandBook,
}

impl Taken {
    pub(crate) const fn command(&self) -> &Command {
        &self.command
    }

    /// It was carried out, with this to say.
    pub(crate) fn finish(self, ack: Ack) {
        let mut pages = self.book.pages();
        pages.done.push_back((self.command.id, ack));
        while pages.done.len() > REMEMBERED {
            pages.done.pop_front();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.book.pages().in_hand.remove(&self.command.id);
    }
}

#[cfg(test)]
mod tests {
    use domain::rental::FailReason;

    use super::*;
    use crate::{
        tests::{command, rental},
        wire::CommandKind,
    };

    #[test]
    fn a_command_is_taken_once_and_remembered() {
        let book = CommandBook::default();
        let order = command(CommandKind::Provision, rental());
        let Delivery::New(taken) = book.take(order.clone()) else { panic!("taken before") };
        assert!(matches!(book.take(order.clone()), Delivery::InHand));
        drop(taken);
        let Delivery::New(taken) = book.take(order.clone()) else { panic!("not given back") };
        let ack = Ack::failed(FailReason::Image);
        taken.finish(ack);
        let Delivery::Done(again) = book.take(order) else { panic!("forgotten") };
        assert_eq!(again, ack);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let book = CommandBook::default();
        for _ in 0..REMEMBERED * 2 {
            let order = command(CommandKind::Provision, rental());
            let Delivery::New(taken) = book.take(order) else { panic!("taken before") };
            taken.finish(Ack::OK);
        }
        assert_eq!(book.pages().done.len(), REMEMBERED);
        assert!(book.pages().in_hand.is_empty());
    }
}
