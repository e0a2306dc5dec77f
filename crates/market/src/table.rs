//! From an offer's id to where it is kept. 256 small tables, so that none takes long to grow.

use hashbrown::HashTable;
use uuid::Uuid;

/// Where an offer is kept in the slab.
pub(crate) type Slot = u32;

#[derive(Debug)]
pub(crate) struct Table {
    parts: Vec<HashTable<Slot>>,
    len: usize,
}

/// Ids of version 7 are random in their last eight bytes; they are mixed all the same.
fn hash(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    (low ^ high.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const PARTS: usize = 256;

fn part(hash: u64) -> usize {
    // bits that the tables inside do not use
    usize::from(hash.to_be_bytes()[3])
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| HashTable::new()).collect(), len: 0 }
    }

    /// Makes room for so many ids in all.
    pub(crate) fn reserve(&mut self, ids: usize) {
        let each = ids / PARTS;
        // a part has its share, give or take four standard deviations
        let room = each.saturating_add(each.isqrt().saturating_mul(4));
        for part in &mut self.parts {
            part.reserve(room, |_| 0);
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, id: Uuid, id_of: impl Fn(Slot) -> Uuid) -> Option<Slot> {
        let hash = hash(id);
        self.parts.get(part(hash))?.find(hash, |slot| id_of(*slot) == id).copied()
    }

    /// Notes an id that is not there yet.
    pub(crate) fn insert(&mut self, id: Uuid, slot: Slot, id_of: impl Fn(Slot) -> Uuid) {
        let code = hash(id);
        if let Some(table) = self.parts.get_mut(part(code)) {
            table.insert_unique(code, slot, |slot| hash(id_of(*slot)));
            self.len = self.len.saturating_add(1);
        }
    }

    pub(crate) fn remove(&mut self, id: Uuid, id_of: impl Fn(Slot) -> Uuid) -> Option<Slot> {
        let hash = hash(id);
        let found = self.parts.get_mut(part(hash))?.find_entry(hash, |slot| id_of(*slot) == id);
        let (slot, _) = found.ok()?.remove();
        self.len = self.len.saturating_sub(1);
        Some(slot)
    }

    pub(crate) fn bytes(&self) -> usize {
        let bytes = self.parts.iter().map(HashTable::allocation_size);
        bytes.fold(
            PARTS.saturating_mul(std::mem::size_of::<HashTable<Slot>>()),
            usize::saturating_add,
        )
    }
}
