//! Where rows lie.

use uuid::Uuid;

use crate::{row::Row, segment::Key, table::Slot};

/// Rows of a piece.
const PIECE: usize = 4_096;

/// Rows that never move: a row is found by its slot. Grows by pieces, so that nothing is copied.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    pieces: Vec<Vec<Row>>,
    free: Vec<Slot>,
}

fn split(slot: Slot) -> (usize, usize) {
    let slot = usize::try_from(slot).unwrap_or(usize::MAX);
    (slot / PIECE, slot % PIECE)
}

impl Slab {
    /// The rows of a piece, the free ones included; `None` behind the last piece.
    pub(crate) fn piece(&self, number: usize) -> Option<&[Row]> {
        self.pieces.get(number).map(Vec::as_slice)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Row> {
        let (piece, place) = split(slot);
        self.pieces.get(piece)?.get(place)
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Row> {
        let (piece, place) = split(slot);
        self.pieces.get_mut(piece)?.get_mut(place)
    }

    pub(crate) fn put(&mut self, row: Row) -> Option<Slot> {
        if let Some(slot) = self.free.pop() {
            *self.get_mut(slot)? = row;
            return Some(slot);
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let full = self.pieces.len().saturating_sub(1).saturating_mul(PIECE);
        let piece = self.pieces.last_mut()?;
        let slot = Slot::try_from(full.saturating_add(piece.len())).ok()?;
        piece.push(row);
        Some(slot)
    }

    /// Makes room for another row where this one was; it stays there till then.
    pub(crate) fn free(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// How many slots there are, the free ones included.
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).fold(0, usize::saturating_add)
    }

    pub(crate) fn id(&self, slot: Slot) -> Uuid {
        self.get(slot).map_or(Uuid::nil(), |row| row.id)
    }

    pub(crate) fn key(&self, slot: Slot) -> Key {
        self.get(slot).map_or((0, Uuid::nil()), Row::key)
    }

    pub(crate) fn bytes(&self) -> usize {
        let rows =
            self.pieces.len().saturating_mul(PIECE.saturating_mul(std::mem::size_of::<Row>()));
        rows.saturating_add(self.free.capacity().saturating_mul(std::mem::size_of::<Slot>()))
    }
}
