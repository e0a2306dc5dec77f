//! What offers have in common, numbered: models with their facts, regions, providers, discount schedules.

use std::collections::HashMap;
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

    /// Bytes that it takes, without what items own themselves.
    pub(crate) fn bytes(&self) -> usize {
        let item = std::mem::size_of::<T>();
        // a bucket holds the item, its number and a control byte
        let bucket = std::mem::size_of::<(T, u32)>().saturating_add(1);
        let buckets = self.numbers.capacity().saturating_mul(8) / 7;
        (self.items.capacity().saturating_mul(item)).saturating_add(buckets.saturating_mul(bucket))
    }
}
