//! The log on disk, and the ways in which administrators rotate it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// How a log is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// `log` becomes `log.1`, `log.1` becomes `log.2`, ...; a new `log` is made.
    Rename,
    /// As `Rename`, but the file that becomes `log.2` is compressed to `log.2.gz`.
    RenameGzip,
    /// `log` is copied to `log.1` and then emptied.
    CopyTruncate,
    /// `log` is renamed to a name with the time in it, as `lmswitch` does.
    Dated,
    /// `log` is deleted, and a new `log` is created.
    Recreate,
    /// `log` is emptied and written from its beginning.
    Truncate,
}

/// A log file that is written and rotated.
pub struct Log {
    path: PathBuf,
    file: File,
    rotations: u32,
    /// At most this many rotated parts are kept.
    keep: u32,
}

impl Log {
    /// Creates the log file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: open(path)?, rotations: 0, keep: 1000 })
    }

    /// Writes bytes in one call.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Goes on writing to what is at the log's path now, as a machine does that was set back to a snapshot.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Returns the path of the log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rotates the log.
    pub fn rotate(&mut self, rotation: Rotation) -> io::Result<()> {
        self.rotations += 1;
        match rotation {
            Rotation::Rename | Rotation::RenameGzip => {
                self.shift(rotation == Rotation::RenameGzip)?;
                fs::rename(&self.path, self.part(1, ""))?;
                self.file = open(&self.path)?;
            }
            Rotation::CopyTruncate => {
                self.shift(false)?;
                fs::copy(&self.path, self.part(1, ""))?;
                self.file.set_len(0)?;
            }
            Rotation::Dated => {
                let name = format!("{}.2026_T{:06}.log", self.path.with_extension("").display(), self.rotations);
                fs::rename(&self.path, name)?;
                self.file = open(&self.path)?;
            }
            Rotation::Recreate => {
                fs::remove_file(&self.path)?;
                self.file = open(&self.path)?;
            }
            Rotation::Truncate => self.file.set_len(0)?,
        }
        Ok(())
    }

    /// Renames `log.1` to `log.2` and so on, beginning with the oldest.
    fn shift(&self, compress: bool) -> io::Result<()> {
        for number in (1..=self.rotations.min(self.keep)).rev() {
            for suffix in ["", ".gz"] {
                let from = self.part(number, suffix);
                if !from.exists() {
                    continue;
                }
                if number == self.keep {
                    fs::remove_file(from)?;
                } else if compress && suffix.is_empty() {
                    gzip(&from, &self.part(number + 1, ".gz"))?;
                } else {
                    fs::rename(from, self.part(number + 1, suffix))?;
                }
            }
        }
        Ok(())
    }

    fn part(&self, number: u32, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}.{number}{suffix}", self.path.display()))
    }
}

/// Opens a file for appending, as license servers do: after a truncation, the next byte written is the first.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Compresses a file as gzip does: the compressed file keeps the modification time and replaces the original.
pub fn gzip(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let modified = source.metadata()?.modified()?;
    let mut encoder = GzEncoder::new(File::create(to)?, Compression::fast());
    io::copy(&mut source, &mut encoder)?;
    encoder.finish()?.set_modified(modified)?;
    fs::remove_file(from)
}
