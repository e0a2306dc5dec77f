//! Up to 64 offers in the order of their prices, each of whose facts is a bit in eight words per column (the vertical
//! layout of Li and Patel, "BitWeaving", 2013): a filter looks at 64 offers in some twenty operations.

use std::sync::LazyLock;

use uuid::Uuid;

use crate::{
    code::{self, COLUMNS, Column},
    table::Slot,
};

/// Offers of a block.
pub(crate) const ROWS: usize = 64;

/// The eight words of a column: bit `r` of word `b` is bit `b` of the byte of row `r`.
pub(crate) type Words = [u64; 8];

#[derive(Debug)]
pub(crate) struct Block {
    columns: [Words; COLUMNS],
    slots: [Slot; ROWS],
    /// No offer in here has a larger id, so none is newer.
    newest: u128,
    len: u8,
}

/// The bits below `position`.
fn below(position: usize) -> u64 {
    let shift = u32::try_from(position).unwrap_or(u32::MAX);
    1_u64.checked_shl(shift).map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}

impl Block {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self { columns: [[0; 8]; COLUMNS], slots: [0; ROWS], newest: 0, len: 0 })
    }

    /// A block of at most [`ROWS`] offers.
    pub(crate) fn of(offers: &[((u32, Uuid), Slot, [u8; COLUMNS])]) -> Box<Self> {
        let mut block = Self::new();
        for (group, eight) in (0_u32..).zip(offers.chunks(8)) {
            for (column, words) in block.columns.iter_mut().enumerate() {
                let bytes = eight.iter().rev().fold(0_u64, |bytes, (_, _, codes)| {
                    bytes << 8 | u64::from(codes.get(column).copied().unwrap_or(0))
                });
                for (word, bits) in words.iter_mut().zip(transposed(bytes).to_le_bytes()) {
                    *word |= u64::from(bits).checked_shl(group.saturating_mul(8)).unwrap_or(0);
                }
            }
        }
        for (place, (key, slot, _)) in block.slots.iter_mut().zip(offers) {
            *place = *slot;
            block.newest = block.newest.max(key.1.as_u128());
        }
        block.len = u8::try_from(offers.len().min(ROWS)).unwrap_or(0);
        block
    }

    /// No offer in here has a larger id.
    pub(crate) const fn newest(&self) -> u128 {
        self.newest
    }

    /// At least the largest discount of any offer in here, in hundredths of a percent.
    pub(crate) fn discount(&self) -> u16 {
        let (mut rows, mut most) = (self.all(), 0_u8);
        for (bit, word) in (0_u32..8).zip(self.column(Column::Discount)).rev() {
            if rows & word != 0 {
                rows &= word;
                most |= 1_u8.checked_shl(bit).unwrap_or(0);
            }
        }
        code::discount_of(most)
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// A bit for each row.
    pub(crate) fn all(&self) -> u64 {
        below(self.len())
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        self.slots.get(..self.len()).unwrap_or_default()
    }

    pub(crate) fn column(&self, column: Column) -> &Words {
        const EMPTY: &Words = &[0; 8];
        self.columns.get(column.number()).unwrap_or(EMPTY)
    }

    /// Puts a row in at `position`, which is at most the length; there must be room.
    pub(crate) fn insert(&mut self, position: usize, slot: Slot, codes: &[u8; COLUMNS], id: Uuid) {
        self.newest = self.newest.max(id.as_u128());
        let low = below(position);
        for (words, code) in self.columns.iter_mut().zip(codes) {
            for (bit, word) in (0_u32..).zip(words) {
                let set = u64::from((code >> bit) & 1);
                *word = (*word & low) | ((*word & !low) << 1) | (set << (position & 63));
            }
        }
        if let Some(tail) = self.slots.get_mut(position..) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = slot;
            }
        }
        self.len = self.len.saturating_add(1);
    }

    /// Takes the row at `position` out.
    pub(crate) fn remove(&mut self, position: usize) {
        let low = below(position);
        for word in self.columns.iter_mut().flatten() {
            *word = (*word & low) | ((*word >> 1) & !low);
        }
        if let Some(tail) = self.slots.get_mut(position..) {
            tail.rotate_left(1);
        }
        self.len = self.len.saturating_sub(1);
    }

    /// Writes the facts of the row at `position` anew.
    pub(crate) fn set(&mut self, position: usize, codes: &[u8; COLUMNS]) {
        let bit_of_row = 1_u64 << (position & 63);
        for (words, code) in self.columns.iter_mut().zip(codes) {
            for (bit, word) in (0_u32..).zip(words) {
                if (code >> bit) & 1 == 1 {
                    *word |= bit_of_row;
                } else {
                    *word &= !bit_of_row;
                }
            }
        }
    }

    /// Keeps the first half; the second half is a block of its own.
    pub(crate) fn split(&mut self) -> Box<Self> {
        let half = self.len() / 2;
        let mut right = Self::new();
        let low = below(half);
        for (left, right) in
            self.columns.iter_mut().flatten().zip(right.columns.iter_mut().flatten())
        {
            *right = (*left & !low).checked_shr(u32::try_from(half).unwrap_or(0)).unwrap_or(0);
            *left &= low;
        }
        for (from, to) in self.slots.iter().skip(half).zip(&mut right.slots) {
            *to = *from;
        }
        right.newest = self.newest;
        right.len = self.len.saturating_sub(u8::try_from(half).unwrap_or(0));
        self.len = u8::try_from(half).unwrap_or(0);
        right
    }
}

impl Block {
    /// Puts all rows of the block after this one behind its own; there must be room.
    pub(crate) fn append(&mut self, right: &Self) {
        let by = u32::from(self.len);
        for (left, right) in self.columns.iter_mut().flatten().zip(right.columns.iter().flatten()) {
            *left |= right.checked_shl(by).unwrap_or(0);
        }
        for (to, from) in self.slots.iter_mut().skip(usize::from(self.len)).zip(right.slots()) {
            *to = *from;
        }
        self.newest = self.newest.max(right.newest);
        self.len = self.len.saturating_add(right.len);
    }
}

/// Eight bytes as an eight by eight matrix of bits, mirrored: byte `b` of the result has bit `b` of each byte (Warren,
/// "Hacker's Delight", 7-3).
const fn transposed(bytes: u64) -> u64 {
    let swap = (bytes ^ (bytes >> 7)) & 0x00aa_00aa_00aa_00aa;
    let bytes = bytes ^ swap ^ (swap << 7);
    let swap = (bytes ^ (bytes >> 14)) & 0x0000_cccc_0000_cccc;
    let bytes = bytes ^ swap ^ (swap << 14);
    let swap = (bytes ^ (bytes >> 28)) & 0x0000_0000_f0f0_f0f0;
    bytes ^ swap ^ (swap << 28)
}

/// A byte to compare with, its bits spread over words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// All ones where the byte has a 0.
    zeros: Words,
    /// All ones where the bit above is another one.
    turns: Words,
}

/// Of each byte.
static PATTERNS: LazyLock<[Pattern; 256]> = LazyLock::new(|| {
    std::array::from_fn(|value| Pattern::new(u8::try_from(value).unwrap_or(u8::MAX)))
});

impl Pattern {
    pub(crate) fn of(value: u8) -> &'static Self {
        const NONE: &Pattern = &Pattern { zeros: [0; 8], turns: [0; 8] };
        PATTERNS.get(usize::from(value)).unwrap_or(NONE)
    }

    fn new(value: u8) -> Self {
        let spread = |byte: u8| {
            let mut words = [0; 8];
            for (bit, word) in (0_u32..).zip(&mut words) {
                *word = u64::from((byte >> bit) & 1).wrapping_neg();
            }
            words
        };
        // nothing is above the highest bit: what was found is turned back there
        Self { zeros: spread(!value), turns: spread(!value ^ (!value >> 1)) }
    }

    /// Rows whose byte is larger, and those that have the same byte if `equals` is all ones. From the lowest bit on, what
    /// was found of the bits below stays where the bits are the same. Where the byte has a 0, a row is found if its bit is
    /// set or it was found before; else if both are. By De Morgan that is one operation and not two, between words that
    /// are turned where the byte has a 0. There is no branch: the bits are as good as random.
    fn above(&self, words: &Words, equals: u64) -> u64 {
        let Self { zeros, turns } = self;
        let begin = equals ^ zeros[0];
        let steps = words.iter().zip(zeros).zip(turns);
        steps.fold(begin, |found, ((word, zero), turn)| (found & (word ^ zero)) ^ turn)
    }

    /// Rows among `rows` whose byte is at least this.
    pub(crate) fn at_least(&self, words: &Words, rows: u64) -> u64 {
        rows & self.above(words, u64::MAX)
    }

    /// Rows among `rows` whose byte is at most this.
    pub(crate) fn at_most(&self, words: &Words, rows: u64) -> u64 {
        rows & !self.above(words, 0)
    }

    /// Rows among `rows` whose byte is this.
    pub(crate) fn equal(&self, words: &Words, rows: u64) -> u64 {
        words.iter().zip(&self.zeros).fold(rows, |rows, (word, zero)| rows & (word ^ zero))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(value: u8) -> [u8; COLUMNS] {
        [value; COLUMNS]
    }

    fn bytes(block: &Block) -> Vec<u8> {
        let words = block.column(Column::Ram);
        (0..block.len())
            .map(|row| {
                let bits = (0..8).filter(|bit| words[*bit] >> row & 1 == 1);
                bits.fold(0, |byte, bit| byte | 1 << bit)
            })
            .collect()
    }

    #[test]
    fn a_block_can_be_made_at_once() {
        for len in [1_u8, 7, 8, 9, 63, 64] {
            let offer = |row: u8| {
                ((0, Uuid::from_u128(row.into())), row.into(), codes(row.wrapping_mul(37)))
            };
            let offers: Vec<_> = (0..len).map(offer).collect();
            let block = Block::of(&offers);
            assert_eq!(bytes(&block), (0..len).map(|row| row.wrapping_mul(37)).collect::<Vec<_>>());
            assert_eq!(block.slots().len(), usize::from(len));
            assert_eq!(block.newest(), u128::from(len - 1));
        }
    }

    #[test]
    fn a_block_is_a_list_of_bytes() {
        let (mut block, mut list) = (Block::new(), Vec::new());
        let mut seed = 7_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(seed >> 16).unwrap()
        };
        for step in 0..5_000_u32 {
            let value = u8::try_from(next() % 256).unwrap();
            if block.len() < ROWS && (next() % 3 > 0 || block.len() == 0) {
                let at = next() % (block.len() + 1);
                block.insert(at, step, &codes(value), Uuid::nil());
                list.insert(at, (step, value));
            } else if next() % 2 == 0 {
                let at = next() % block.len();
                block.remove(at);
                list.remove(at);
            } else {
                let at = next() % block.len();
                block.set(at, &codes(value));
                list[at].1 = value;
            }
            let values: Vec<u8> = list.iter().map(|(_, value)| *value).collect();
            assert_eq!(bytes(&block), values);
            assert_eq!(block.slots(), list.iter().map(|(slot, _)| *slot).collect::<Vec<_>>());
            let asked = u8::try_from(next() % 256).unwrap();
            let rows = |holds: &dyn Fn(u8) -> bool| {
                let holding = values.iter().enumerate().filter(|(_, value)| holds(**value));
                holding.fold(0_u64, |rows, (row, _)| rows | 1 << row)
            };
            let words = block.column(Column::Ram);
            let pattern = Pattern::of(asked);
            assert_eq!(pattern.at_least(words, block.all()), rows(&|value| value >= asked));
            assert_eq!(pattern.at_most(words, block.all()), rows(&|value| value <= asked));
            assert_eq!(pattern.equal(words, block.all()), rows(&|value| value == asked));
            if block.len() == ROWS && next() % 2 == 0 {
                let right = block.split();
                let tail = list.split_off(32);
                assert_eq!(bytes(&right), tail.iter().map(|(_, value)| *value).collect::<Vec<_>>());
                assert_eq!(right.slots(), tail.iter().map(|(slot, _)| *slot).collect::<Vec<_>>());
                if next() % 2 == 0 {
                    block.append(&right);
                    list.extend(tail);
                }
            }
        }
    }
}
