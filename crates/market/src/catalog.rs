//! What offers have in common, numbered: models with their facts, regions, providers, discount schedules.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::listing::{Form, Unlistable, Vendor};

/// A GPU model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuModel {
    /// Its name here, such as `rtx-4090`.
    pub slug: String,
    /// The vendor's name for it.
    pub name: String,
    /// Other spellings of it.
    pub aliases: Vec<String>,
    /// Memory of one GPU in GB.
    pub vram_gb: u32,
    /// Who makes it.
    pub vendor: Vendor,
    /// How it sits in the machine.
    pub form: Form,
    /// CUDA's: 86 is 8.6. Who else makes GPUs has none.
    pub compute_capability: Option<u32>,
    /// Single precision: of the maker's figures the one that almost all models have.
    pub fp32_gflops: Option<u32>,
}

impl GpuModel {
    /// Its names, as [`normal`] writes them.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        [&self.slug, &self.name].into_iter().chain(&self.aliases).map(|name| normal(name))
    }

    /// Whether this is how somebody may write its name.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let wanted = normal(name);
        !wanted.is_empty() && self.names().any(|known| known == wanted)
    }
}

/// A name without what spellings differ in: `RTX_4090`, `RTX 4090` and `rtx-4090` are one.
#[must_use]
pub fn normal(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    text.extend(name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()));
    text
}

/// A quick hash for what nobody outside chooses: ids, regions and schedules of stored offers.
#[derive(Debug, Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(part) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Things numbered in the order in which they came.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    items: Vec<T>,
    numbers: HashMap<T, u32, BuildHasherDefault<Mix>>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { items: Vec::new(), numbers: HashMap::default() }
    }
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    /// The number of `item`, a new one if it has none yet.
    pub(crate) fn number<Q>(
        &mut self,
        item: &Q,
        limit: u32,
        what: &'static str,
    ) -> Result<u32, Unlistable>
    where
        T: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = T> + ?Sized,
    {
        if let Some(number) = self.numbers.get(item) {
            return Ok(*number);
        }
        let number = u32::try_from(self.items.len()).ok().filter(|number| *number < limit);
        let number = number.ok_or(Unlistable::Crowd(what))?;
        self.items.push(item.to_owned());
        self.numbers.insert(item.to_owned(), number);
        Ok(number)
    }

    pub(crate) fn find<Q>(&self, item: &Q) -> Option<u32>
    where
        T: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.numbers.get(item).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        usize::try_from(number).ok().and_then(|number| self.items.get(number))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0_u32..).zip(&self.items)
    }

    /// Gives a number to another item, which has none.
    fn renumber(&mut self, number: u32, item: T) {
        let place = usize::try_from(number).ok().and_then(|number| self.items.get_mut(number));
        if let Some(place) = place {
            let before = std::mem::replace(place, item.clone());
            self.numbers.remove(&before);
            self.numbers.insert(item, number);
        }
    }

    /// Bytes that it takes, without what items own themselves.
    pub(crate) fn bytes(&self) -> usize {
        let item = std::mem::size_of::<T>();
        // a bucket holds the item, its number and a control byte
        let bucket = std::mem::size_of::<(T, u32)>().saturating_add(1);
        let buckets = self.numbers.capacity().saturating_mul(8) / 7;
        (self.items.capacity().saturating_mul(item)).saturating_add(buckets.saturating_mul(bucket))
    }
}

/// Items that nobody uses any more and that keep their numbers all the same: whoever remembers a change, such as a stream
/// that is told of it, can still read what was before. More than the changes that are remembered.
const RESTING: usize = 8_192;

/// How a number is used.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    rows: u32,
    /// Its place among those that nobody uses.
    resting: Option<u64>,
}

/// As [`Numbered`], but a number that no row uses any more is given to another item when it has rested.
#[derive(Debug)]
pub(crate) struct Counted<T> {
    numbered: Numbered<T>,
    /// Of each number.
    uses: Vec<Usage>,
    /// The numbers that no row uses, in the order in which that came to be.
    resting: BTreeMap<u64, u32>,
    last: u64,
}

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self { numbered: Numbered::default(), uses: Vec::new(), resting: BTreeMap::new(), last: 0 }
    }
}

impl<T: Clone + Eq + Hash> Counted<T> {
    /// The number of `item`, a new one if it has none yet: one that has rested, or one that nobody had. To be
    /// [held](Self::hold) for each row that has it.
    pub(crate) fn number<Q>(
        &mut self,
        item: &Q,
        limit: u32,
        what: &'static str,
    ) -> Result<u32, Unlistable>
    where
        T: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = T> + ?Sized,
    {
        if let Some(number) = self.numbered.find(item) {
            return Ok(number);
        }
        let is_full = usize::try_from(limit).is_ok_and(|limit| self.numbered.items.len() >= limit);
        if (is_full || self.resting.len() > RESTING)
            && let Some((_, number)) = self.resting.pop_first()
        {
            self.numbered.renumber(number, item.to_owned());
            if let Some(usage) = self.usage(number) {
                *usage = Usage::default();
            }
            return Ok(number);
        }
        let number = self.numbered.number(item, limit, what)?;
        self.uses.resize(self.numbered.items.len(), Usage::default());
        Ok(number)
    }

    fn usage(&mut self, number: u32) -> Option<&mut Usage> {
        usize::try_from(number).ok().and_then(|number| self.uses.get_mut(number))
    }

    /// Notes that one more row has this number. True if it is the only one.
    pub(crate) fn hold(&mut self, number: u32) -> bool {
        let Some(usage) = self.usage(number) else { return false };
        usage.rows = usage.rows.saturating_add(1);
        let is_first = usage.rows == 1;
        if let Some(since) = usage.resting.take() {
            self.resting.remove(&since);
        }
        is_first
    }

    /// Notes that one row less has this number. True if it was the last.
    pub(crate) fn release(&mut self, number: u32) -> bool {
        let Some(usage) = self.usage(number) else { return false };
        usage.rows = usage.rows.saturating_sub(1);
        let is_last = usage.rows == 0;
        if is_last {
            self.rest(number);
        }
        is_last
    }

    /// Lets a number rest, unless it does.
    fn rest(&mut self, number: u32) {
        let since = self.last.saturating_add(1);
        let Some(usage) = self.usage(number).filter(|usage| usage.resting.is_none()) else {
            return;
        };
        usage.resting = Some(since);
        self.last = since;
        self.resting.insert(since, number);
    }

    /// Lets every number rest that no row has.
    pub(crate) fn rest_unused(&mut self) {
        let unused = (0_u32..).zip(&self.uses).filter(|(_, usage)| usage.rows == 0);
        let unused: Vec<u32> = unused.map(|(number, _)| number).collect();
        unused.into_iter().for_each(|number| self.rest(number));
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.numbered.get(number)
    }

    /// All that have numbers, used or not: none is left out between them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.numbered.iter()
    }

    /// Those that some row has.
    pub(crate) fn used(&self) -> impl Iterator<Item = &T> {
        let used = self.numbered.items.iter().zip(&self.uses);
        used.filter(|(_, usage)| usage.rows > 0).map(|(item, _)| item)
    }

    /// As [`Numbered::bytes`].
    pub(crate) fn bytes(&self) -> usize {
        let uses = self.uses.capacity().saturating_mul(std::mem::size_of::<Usage>());
        // a node of the tree is two thirds full
        let resting = self.resting.len().saturating_mul(24);
        self.numbered.bytes().saturating_add(uses).saturating_add(resting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(counted: &mut Counted<String>, item: &str, limit: u32) -> Result<u32, Unlistable> {
        counted.number(item, limit, "regions")
    }

    #[test]
    fn a_number_that_nobody_uses_is_given_away_where_there_is_no_other() {
        let mut counted = Counted::default();
        for (number, name) in (0_u32..).zip(["a", "b", "c"]) {
            assert_eq!(numbered(&mut counted, name, 3), Ok(number));
            assert!(counted.hold(number));
        }
        assert_eq!(numbered(&mut counted, "d", 3), Err(Unlistable::Crowd("regions")));
        assert!(!counted.hold(1) && !counted.release(1));
        assert_eq!(numbered(&mut counted, "d", 3), Err(Unlistable::Crowd("regions")));
        assert!(counted.release(1) && counted.release(0));
        // it can still be read, and is what it was if it is used again
        assert_eq!(counted.get(1).map(String::as_str), Some("b"));
        assert_eq!(numbered(&mut counted, "b", 3), Ok(1));
        assert!(counted.hold(1));
        assert_eq!(counted.used().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(numbered(&mut counted, "d", 3), Ok(0));
        assert!(counted.hold(0));
        assert_eq!(counted.iter().map(|(_, name)| name.as_str()).collect::<String>(), "dbc");
        assert_eq!(numbered(&mut counted, "a", 3), Err(Unlistable::Crowd("regions")));
    }

    #[test]
    fn numbers_rest_before_they_are_given_away() {
        let mut counted = Counted::default();
        let most = u32::try_from(RESTING).unwrap() + 10;
        for change in 0..100_000_u32 {
            let number = numbered(&mut counted, &change.to_string(), u32::MAX).unwrap();
            assert!(counted.hold(number) && number <= most, "{change}: {number}");
            assert!(counted.release(number));
        }
        assert_eq!(counted.used().count(), 0);
    }
}
