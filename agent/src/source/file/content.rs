//! The content of a file, compressed or not.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// Why a file's content cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The file does not exist.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// The path names a folder, a device or a pipe.
    #[error("{0} is not a file")]
    NotAFile(PathBuf),
    /// The operating system denies read access to the file.
    #[error("cannot read {path}: {source}; give the account that runs the agent read access to it")]
    Denied {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file exists, but its content is not a license log.
    #[error("{path} is not a license log but {what}: {remedy}")]
    NotALog {
        /// Path of the file.
        path: PathBuf,
        /// What the file contains instead.
        what: &'static str,
        /// What the administrator can do about it.
        remedy: &'static str,
    },
    /// A folder that may hold parts of the log cannot be listed.
    #[error("the folder {path} cannot be listed: {source}; correct `archives`, or give the account access to it")]
    Folder {
        /// Path of the folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Reading the file failed.
    #[error("reading {path} failed: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl ContentError {
    /// Converts an operating system error on a path.
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

/// A reader of a file's content. Compressed files are decompressed.
pub enum Content {
    /// A file that is not compressed: its bytes are the content.
    Plain(File),
    /// A file compressed with gzip.
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    /// A file compressed with zstd.
    Zstd(Box<zstd::Decoder<'static, BufReader<File>>>),
}

impl Content {
    /// Opens a file and returns its content and metadata. The license server can still rename and delete the file.
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

    /// Whether the file is not compressed, so that its bytes are the content.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Skips the content up to a position. Returns the position reached, which is smaller if the content ends earlier.
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

/// Recognises, by its first bytes, content that the agent cannot read. Returns what the content is and what to do about
/// it.
fn foreign(magic: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "unpack it, or pack it with gzip or zstd";
    Some(match magic {
        // With its mark, or without: every second byte of plain text is zero.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [1..=255, 0, 1..=255, 0] | [0, 1..=255, 0, 1..=255] => {
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

/// Opens a file so that other processes can still write, rename and delete it. Unix always allows this; on Windows, the
/// standard library opens files with this sharing by default.
fn open_shared(path: &Path) -> io::Result<File> {
    // Opening a pipe blocks until another process writes to it, so the type is checked first.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    File::open(path)
}
