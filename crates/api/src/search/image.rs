//! The index in a file, so that a process that starts has a million offers within a second: it reads again what changed
//! since, and not everything. A file that is of another database, too old or damaged is as good as none.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use market::{
    GpuModel, Index,
    image::{self, Place, Restored, Unreadable},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const MAGIC: [u8; 8] = *b"weirmkt\n";
/// Rows that are written while the index waits.
const AT_ONCE: usize = 8_192;
/// A file whose writing was begun and not ended is nobody's after that.
const LEFT_AFTER: Duration = Duration::from_secs(600);
/// No part of a file is longer, in bytes.
const LONGEST: u32 = 64 * 1_024 * 1_024;

/// Why a file cannot be used, or not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the image is not whole")]
    Damaged,
    #[error("the market was read anew meanwhile")]
    Replaced,
}

/// Of which moment of which database an image is.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Header {
    format: u32,
    /// What the database has that was left in it after the moment.
    pub(super) mark: Uuid,
    pub(super) moment: String,
    /// The second of that moment at the latest, by the database's clock.
    pub(super) at: u64,
    /// Until when it was looked for maintenance that ended, by the service's clock.
    pub(super) swept_until: u64,
    rows: usize,
}

impl Header {
    pub(super) fn new(mark: Uuid, moment: String, at: u64, swept_until: u64) -> Self {
        Self { format: image::FORMAT, mark, moment, at, swept_until, rows: 0 }
    }

    /// Whether it is of this program, and of the last `longest` seconds before `at`.
    pub(super) fn fits(&self, at: u64, longest: u64) -> bool {
        let age = at.checked_sub(self.at);
        self.format == image::FORMAT && age.is_some_and(|age| age < longest)
    }
}

/// The index that is written, which may change, but not be replaced by another one: that one has other numbers.
pub(super) struct Source<'a> {
    pub(super) index: &'a RwLock<Option<Index>>,
    /// Raised, while the index is locked, whenever it is replaced.
    pub(super) generation: &'a AtomicU64,
    /// Which one is to be written.
    pub(super) wanted: u64,
}

impl Source<'_> {
    fn read<T>(&self, of: impl FnOnce(&Index) -> T) -> Result<T, ImageError> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let same = self.generation.load(Ordering::Acquire) == self.wanted;
        index.as_ref().filter(|_| same).map(of).ok_or(ImageError::Replaced)
    }
}

/// A file that was opened, of which the header was read.
pub(super) struct Image {
    pub(super) header: Header,
    parts: BufReader<File>,
}

impl Image {
    /// Opens a file; `None` if there is none.
    ///
    /// # Errors
    /// [`ImageError`].
    pub(super) fn open(path: &Path) -> Result<Option<Self>, ImageError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut parts = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; 8];
        parts.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(ImageError::Damaged);
        }
        let mut header = Vec::new();
        read_part(&mut parts, &mut header)?;
        let header = serde_json::from_slice(&header).map_err(|_| ImageError::Damaged)?;
        Ok(Some(Self { header, parts }))
    }

    /// Makes the index.
    ///
    /// # Errors
    /// [`ImageError`].
    pub(super) fn restore(
        mut self,
        models: Vec<GpuModel>,
        offline_after_s: u32,
        now: u32,
    ) -> Result<Index, ImageError> {
        let mut part = Vec::new();
        read_part(&mut self.parts, &mut part)?;
        let mut restored = Restored::new(models, offline_after_s, now, &part)?;
        // no more than the file has room for, whatever it says
        let length = self.parts.get_ref().metadata()?.len();
        let room = usize::try_from(length).unwrap_or(usize::MAX) / image::ROW;
        restored.reserve(self.header.rows.min(room));
        loop {
            read_part(&mut self.parts, &mut part)?;
            if part.is_empty() {
                return Ok(restored.finish());
            }
            restored.take(&part)?;
        }
    }
}

fn read_part(from: &mut impl Read, part: &mut Vec<u8>) -> Result<(), ImageError> {
    let mut word = [0; 4];
    from.read_exact(&mut word)?;
    let len = u32::from_le_bytes(word);
    from.read_exact(&mut word)?;
    let sum = u32::from_le_bytes(word);
    if len > LONGEST {
        return Err(ImageError::Damaged);
    }
    part.clear();
    let read = from.take(len.into()).read_to_end(part)?;
    if u32::try_from(read) != Ok(len) || crc32fast::hash(part) != sum {
        return Err(ImageError::Damaged);
    }
    Ok(())
}

fn write_part(to: &mut impl Write, part: &[u8]) -> Result<(), ImageError> {
    let len = u32::try_from(part.len()).ok().filter(|len| *len <= LONGEST);
    to.write_all(&len.ok_or(ImageError::Damaged)?.to_le_bytes())?;
    to.write_all(&crc32fast::hash(part).to_le_bytes())?;
    Ok(to.write_all(part)?)
}

/// Writes an index to a file, in place of the one before. It must be as of the header's moment at least.
///
/// # Errors
/// [`ImageError`]; then the file is as it was.
pub(super) fn write(path: &Path, header: Header, source: &Source<'_>) -> Result<usize, ImageError> {
    remove_left_over(path);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", Uuid::new_v4().simple()));
    let new = PathBuf::from(name);
    let written = write_new(&new, header, source).and_then(|rows| {
        fs::rename(&new, path)?;
        Ok(rows)
    });
    if written.is_err() {
        // it may not have come to be
        drop(fs::remove_file(&new));
    }
    written
}

/// Removes what processes that were killed had begun to write.
fn remove_left_over(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.flatten() {
        let begun = file.file_name();
        let suffix = begun.to_str().zip(name.to_str());
        let suffix = suffix.and_then(|(begun, name)| begun.strip_prefix(name)?.strip_prefix('.'));
        let ours = suffix.is_some_and(|suffix| Uuid::try_parse(suffix).is_ok());
        let modified = file.metadata().and_then(|known| known.modified());
        let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= LEFT_AFTER));
        if ours && old {
            drop(fs::remove_file(file.path()));
        }
    }
}

fn write_new(path: &Path, mut header: Header, source: &Source<'_>) -> Result<usize, ImageError> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    let mut part = Vec::new();
    let names = source.read(|index| {
        header.rows = index.len();
        index.image_names()
    })?;
    file.write_all(&MAGIC)?;
    write_part(&mut file, &serde_json::to_vec(&header).map_err(|_| ImageError::Damaged)?)?;
    write_part(&mut file, &names)?;
    let mut place = Some(Place::default());
    while let Some(from) = place {
        part.clear();
        place = source.read(|index| index.image_rows(from, AT_ONCE, &mut part))?;
        if !part.is_empty() {
            write_part(&mut file, &part)?;
        }
    }
    write_part(&mut file, &[])?;
    file.flush()?;
    Ok(header.rows)
}

#[cfg(test)]
mod tests {
    use market::{Builder, Form, Query, Vendor, generate::Generator};

    use super::*;

    const NOW: u32 = 1_800_000_000;

    fn models() -> Vec<GpuModel> {
        vec![GpuModel {
            slug: "rtx-4090".to_owned(),
            name: "RTX 4090".to_owned(),
            aliases: Vec::new(),
            vram_gb: 24,
            vendor: Vendor::Nvidia,
            form: Form::Pcie,
            compute_capability: Some(89),
            fp32_gflops: Some(82_600),
        }]
    }

    fn header() -> Header {
        Header::new(Uuid::from_u128(7), "1:2:".to_owned(), 1_000, 990)
    }

    /// Writes it as the first index that there was.
    fn written(path: &Path, index: &RwLock<Option<Index>>) -> Result<usize, ImageError> {
        let generation = AtomicU64::new(0);
        write(path, header(), &Source { index, generation: &generation, wanted: 0 })
    }

    #[test]
    fn a_file_is_read_as_it_was_written_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("market.image");
        assert!(Image::open(&path).unwrap().is_none());
        let mut builder = Builder::new(models(), 30, NOW);
        Generator::new(&models(), 3, 20_000, NOW).for_each(|listing| builder.push(&listing));
        let index = RwLock::new(Some(builder.finish().0));
        fs::write(&path, "what was there before").unwrap();
        let begun = folder.path().join(format!("market.image.{}", Uuid::from_u128(1).simple()));
        let others = folder.path().join("market.image.old");
        for (path, days) in [(&begun, 1), (&others, 1)] {
            let file = File::create(path).unwrap();
            let then = file.metadata().unwrap().modified().unwrap();
            file.set_modified(then - Duration::from_secs(days * 86_400)).unwrap();
        }
        assert_eq!(written(&path, &index).unwrap(), 20_000);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(others.exists() && !begun.exists());
        let image = Image::open(&path).unwrap().unwrap();
        assert_eq!((image.header.moment.as_str(), image.header.at), ("1:2:", 1_000));
        let same = image.restore(models(), 30, NOW).unwrap();
        let query = Query { limit: 20_000, now: NOW, ..Query::default() };
        let index = index.read().unwrap();
        assert_eq!(same.search(&query), index.as_ref().unwrap().search(&query));
        // any byte that is another
        let whole = fs::read(&path).unwrap();
        let good = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let image = Image::open(&path).ok().flatten();
            image.is_some_and(|image| image.restore(models(), 30, NOW).is_ok())
        };
        assert!(good(&whole));
        for at in (0..400).chain((400..whole.len()).step_by(40_009)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            assert!(!good(&bytes), "byte {at}");
        }
        for len in [0, 7, 8, 100, whole.len() / 2, whole.len() - 8, whole.len() - 1] {
            assert!(!good(&whole[..len]), "{len} bytes");
        }
    }

    #[test]
    fn another_index_is_not_written_as_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("market.image");
        let index = RwLock::new(Some(Index::new(models(), 30)));
        let generation = AtomicU64::new(2);
        let source = Source { index: &index, generation: &generation, wanted: 1 };
        assert!(matches!(write(&path, header(), &source), Err(ImageError::Replaced)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_is_of_this_program_and_of_the_last_minutes() {
        let header = header();
        assert!(header.fits(1_000, 600) && header.fits(1_599, 600));
        assert!(!header.fits(1_600, 600), "too old");
        assert!(!header.fits(999, 600), "of the future");
        let other = Header { format: image::FORMAT + 1, ..header };
        assert!(!other.fits(1_000, 600), "of another program");
    }
}
