//! The offers of one model in the order of their prices: blocks in a list, found by their first offers.

use uuid::Uuid;

use crate::{
    block::{Block, ROWS},
    code::COLUMNS,
    table::Slot,
};

/// The order inside a model: price per GPU and hour, then id.
pub(crate) type Key = (u32, Uuid);

/// Neighbours with so few offers together become one block, with room left.
const JOINED: usize = 40;

#[derive(Debug, Default)]
pub(crate) struct Segment {
    #[expect(
        clippy::vec_box,
        reason = "a block is 1.5 kB, and the list is moved when one is split"
    )]
    blocks: Vec<Box<Block>>,
    /// The first key of each block.
    firsts: Vec<Key>,
}

impl Segment {
    pub(crate) fn block(&self, number: usize) -> Option<&Block> {
        self.blocks.get(number).map(AsRef::as_ref)
    }

    pub(crate) fn first(&self, number: usize) -> Option<Key> {
        self.firsts.get(number).copied()
    }

    /// The last key.
    pub(crate) fn last(&self, key_of: impl Fn(Slot) -> Key) -> Option<Key> {
        self.blocks.last()?.slots().last().map(|slot| key_of(*slot))
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The last block whose first key does not satisfy `after`, a predicate that is false and then true: where to begin
    /// to look for what satisfies it.
    pub(crate) fn start(&self, after: impl Fn(&Key) -> bool) -> usize {
        self.firsts.partition_point(|key| !after(key)).saturating_sub(1)
    }

    fn place(&self, key: Key, key_of: &impl Fn(Slot) -> Key) -> (usize, Result<usize, usize>) {
        let number = self.firsts.partition_point(|first| *first <= key).saturating_sub(1);
        let slots = self.blocks.get(number).map(|block| block.slots()).unwrap_or_default();
        (number, slots.binary_search_by(|slot| key_of(*slot).cmp(&key)))
    }

    /// Puts an offer in.
    pub(crate) fn insert(
        &mut self,
        key: Key,
        slot: Slot,
        codes: &[u8; COLUMNS],
        key_of: &impl Fn(Slot) -> Key,
    ) {
        let (mut number, place) = self.place(key, key_of);
        let mut position = place.unwrap_or_else(|position| position);
        if self.blocks.is_empty() {
            self.blocks.push(Block::new());
            self.firsts.push(key);
        }
        let Some(block) = self.blocks.get_mut(number) else { return };
        if block.len() == ROWS {
            // at the end of the list a new block is begun, so that what comes in order fills blocks whole
            let right = if position == ROWS { Block::new() } else { block.split() };
            let left_len = block.len();
            let first = right.slots().first().map_or(key, |slot| key_of(*slot));
            let next = number.saturating_add(1);
            self.blocks.insert(next, right);
            self.firsts.insert(next, first);
            if position >= left_len && (position > left_len || first == key || left_len == ROWS) {
                number = next;
                position = position.saturating_sub(left_len);
            }
        }
        if let Some(block) = self.blocks.get_mut(number) {
            block.insert(position, slot, codes, key.1);
        }
        if position == 0
            && let Some(first) = self.firsts.get_mut(number)
        {
            *first = key;
        }
    }

    /// Puts offers behind all others: they are in order, and come after what is there.
    pub(crate) fn extend(&mut self, offers: &[(Key, Slot, [u8; COLUMNS])]) {
        for offers in offers.chunks(ROWS) {
            if let Some((key, ..)) = offers.first() {
                self.blocks.push(Block::of(offers));
                self.firsts.push(*key);
            }
        }
        self.blocks.shrink_to_fit();
        self.firsts.shrink_to_fit();
    }

    /// Writes an offer's facts anew.
    pub(crate) fn set(&mut self, key: Key, codes: &[u8; COLUMNS], key_of: &impl Fn(Slot) -> Key) {
        let (number, place) = self.place(key, key_of);
        if let (Some(block), Ok(position)) = (self.blocks.get_mut(number), place) {
            block.set(position, codes);
        }
    }

    /// Takes an offer out.
    pub(crate) fn remove(&mut self, key: Key, key_of: &impl Fn(Slot) -> Key) {
        let (number, place) = self.place(key, key_of);
        let (Some(block), Ok(position)) = (self.blocks.get_mut(number), place) else { return };
        block.remove(position);
        match block.slots().first() {
            None => {
                self.blocks.remove(number);
                self.firsts.remove(number);
            }
            Some(slot) => {
                if let Some(first) = self.firsts.get_mut(number) {
                    *first = key_of(*slot);
                }
                self.join(number);
                if let Some(before) = number.checked_sub(1) {
                    self.join(before);
                }
            }
        }
    }

    /// Makes one of a block and the next, if they are that empty.
    fn join(&mut self, number: usize) {
        let next = number.saturating_add(1);
        let len = |number: usize| self.blocks.get(number).map(|block| block.len());
        if let (Some(left), Some(right)) = (len(number), len(next))
            && left.saturating_add(right) <= JOINED
        {
            let right = self.blocks.remove(next);
            self.firsts.remove(next);
            if let Some(left) = self.blocks.get_mut(number) {
                left.append(&right);
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let each = std::mem::size_of::<Block>();
        let pointers = self.blocks.capacity().saturating_mul(std::mem::size_of::<Box<Block>>());
        let firsts = self.firsts.capacity().saturating_mul(std::mem::size_of::<Key>());
        self.blocks.len().saturating_mul(each).saturating_add(pointers).saturating_add(firsts)
    }
}
