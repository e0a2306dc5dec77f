//! The index in a file, so that a process that starts has a million offers within a second: it reads again what changed
//! since, and not everything. A file that is of another database, too old or damaged is as good as none.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::RwLock,
};

use market::{
    GpuModel, Index,
    image::{self, Place, Restored, Unreadable},
};
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 8] = *b"weirmkt\n";
/// Rows that are written while the index waits.
const AT_ONCE: usize = 8_192;
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
}

/// Of which moment of which database an image is.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Header {
    format: u32,
    identity: [u8; 32],
    pub(super) moment: String,
    /// The database's clock, in seconds since 1970.
    pub(super) at: u64,
    rows: usize,
}

impl Header {
    pub(super) fn new(identity: [u8; 32], moment: String, at: u64) -> Self {
        Self { format: image::FORMAT, identity, moment, at, rows: 0 }
    }

    /// Whether it is of this database and of the last `longest` seconds before `at`.
    pub(super) fn fits(&self, identity: &[u8; 32], at: u64, longest: u64) -> bool {
        let age = at.checked_sub(self.at);
        self.format == image::FORMAT
            && self.identity == *identity
            && age.is_some_and(|age| age < longest)
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
        restored.reserve(self.header.rows);
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

/// Writes an index to a file, in place of the one before. The index may change meanwhile, but must be as of the header's
/// moment at least.
///
/// # Errors
/// [`ImageError`]; then the file is as it was.
pub(super) fn write(
    path: &Path,
    header: Header,
    index: &RwLock<Option<Index>>,
) -> Result<usize, ImageError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(name);
    let written = write_new(&new, header, index).and_then(|rows| {
        fs::rename(&new, path)?;
        Ok(rows)
    });
    if written.is_err() {
        // it may not have come to be
        drop(fs::remove_file(&new));
    }
    written
}

fn write_new(
    path: &Path,
    mut header: Header,
    index: &RwLock<Option<Index>>,
) -> Result<usize, ImageError> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut part = Vec::new();
    let names = read(index, |index| {
        header.rows = index.len();
        index.image_names()
    })?;
    file.write_all(&MAGIC)?;
    write_part(&mut file, &serde_json::to_vec(&header).map_err(|_| ImageError::Damaged)?)?;
    write_part(&mut file, &names)?;
    let mut place = Some(Place::default());
    while let Some(from) = place {
        part.clear();
        place = read(index, |index| index.image_rows(from, AT_ONCE, &mut part))?;
        if !part.is_empty() {
            write_part(&mut file, &part)?;
        }
    }
    write_part(&mut file, &[])?;
    file.flush()?;
    Ok(header.rows)
}

fn read<T>(index: &RwLock<Option<Index>>, of: impl FnOnce(&Index) -> T) -> Result<T, ImageError> {
    let index = index.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    index.as_ref().map(of).ok_or(ImageError::Damaged)
}

#[cfg(test)]
mod tests {
    use market::{Builder, Form, Query, generate::Generator};

    use super::*;

    const NOW: u32 = 1_800_000_000;

    fn models() -> Vec<GpuModel> {
        vec![GpuModel {
            slug: "rtx-4090".to_owned(),
            name: "RTX 4090".to_owned(),
            aliases: Vec::new(),
            vram_gb: 24,
            form: Form::Pcie,
            compute_capability: Some(89),
            gflops: Some(165_000),
        }]
    }

    fn header() -> Header {
        Header::new([7; 32], "1:2:".to_owned(), 1_000)
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
        assert_eq!(write(&path, header(), &index).unwrap(), 20_000);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
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
    fn it_is_of_one_database_and_of_its_last_minutes() {
        let header = header();
        assert!(header.fits(&[7; 32], 1_000, 600) && header.fits(&[7; 32], 1_599, 600));
        assert!(!header.fits(&[7; 32], 1_600, 600), "too old");
        assert!(!header.fits(&[7; 32], 999, 600), "of the future");
        assert!(!header.fits(&[8; 32], 1_000, 600), "of another database");
        let other = Header { format: image::FORMAT + 1, ..header };
        assert!(!other.fits(&[7; 32], 1_000, 600), "of another program");
    }
}
