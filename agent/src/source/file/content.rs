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
    /// It is there, but no license log is in it.
    #[error("{path} is not a license log but {what}: {remedy}")]
    NotALog {
        /// Which file.
        path: PathBuf,
        /// What is in it.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// LineInterpreter failed.
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
    /// Packed with gzip.
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    /// Packed with zstd.
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
            magic => match foreign(magic) {
                Some((what, remedy)) => return Err(ContentError::NotALog { path: path.to_owned(), what, remedy }),
                None => Self::Plain(file),
            },
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

/// What content is that begins so and that nothing here can read, and what to do with it.
fn foreign(magic: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "unpack it, or pack it with gzip or zstd";
    Some(match magic {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            ("UTF-16 text", "have the license server write it anew, or convert it to UTF-8")
        }
        [0xfd, b'7', b'z', b'X', ..] => ("packed with xz", UNPACK),
        [b'B', b'Z', b'h', ..] => ("packed with bzip2", UNPACK),
        [b'P', b'K', 3, 4, ..] => ("packed with zip", UNPACK),
        [b'7', b'z', 0xbc, 0xaf, ..] => ("packed with 7-Zip", UNPACK),
        [0x1f, 0x9d, ..] => ("packed with compress", UNPACK),
        [0x04, 0x22, 0x4d, 0x18, ..] => ("packed with lz4", UNPACK),
        [b'L', b'Z', b'I', b'P', ..] => ("packed with lzip", UNPACK),
        _ => return None,
    })
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
