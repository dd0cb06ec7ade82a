//! The content of a file, compressed or not.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// Why a file's content cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// There is no such file.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// It is a folder, a device, or a pipe.
    #[error("{0} is not a file")]
    NotAFile(PathBuf),
    /// The system refuses.
    #[error("cannot read {path}: {source}; give the account that runs the agent read access to it")]
    Denied {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there, but nothing readable is in it.
    #[error("{path} holds {what}, not a log: {remedy}")]
    NotALog {
        /// Which file.
        path: PathBuf,
        /// What is in it.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Reading failed.
    #[error("reading {path} failed: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ContentError {
    /// The error that the system's error on a path is.
    pub fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing(path),
            io::ErrorKind::PermissionDenied => Self::Denied { path, source },
            io::ErrorKind::IsADirectory => Self::NotAFile(path),
            _ => Self::Io { path, source },
        }
    }
}

/// The content of a file from some position on.
pub enum Content {
    /// The file's own bytes.
    Plain(File),
    /// What gzip made smaller.
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    /// What zstd made smaller.
    Zstd(Box<zstd::Decoder<'static, BufReader<File>>>),
}

impl Content {
    /// Opens a file, and says what the system knows of it. The license server can go on renaming and deleting it.
    pub fn open(path: &Path) -> Result<(Self, Metadata), ContentError> {
        let failed = |source| ContentError::of(path, source);
        let mut file = open_shared(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ContentError::NotAFile(path.to_owned()));
        }
        let mut magic = [0; 4];
        let length = read_full(&mut file, &mut magic).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let content = match &magic[..length] {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(BufReader::new(file)))),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                Self::Zstd(Box::new(zstd::Decoder::with_buffer(BufReader::new(file)).map_err(failed)?))
            }
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(ContentError::NotALog {
                    path: path.to_owned(),
                    what: "UTF-16 text",
                    remedy: "have the license server write it anew, or convert it to UTF-8",
                });
            }
            _ => Self::Plain(file),
        };
        Ok((content, metadata))
    }

    /// Whether the file's bytes are the content's.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Passes over the content up to a position; says how far it came, which is less where the content ends before.
    pub fn skip_to(&mut self, position: u64) -> io::Result<u64> {
        match self {
            Self::Plain(file) => {
                let length = file.metadata()?.len().min(position);
                file.seek(SeekFrom::Start(length))
            }
            compressed => io::copy(&mut compressed.take(position), &mut io::sink()),
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

/// Opened so that others can still write, rename and delete. That is so everywhere but on Windows, where the standard
/// library's own default is to share all three.
fn open_shared(path: &Path) -> io::Result<File> {
    // A pipe would block until somebody writes: look before opening.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    File::open(path)
}
