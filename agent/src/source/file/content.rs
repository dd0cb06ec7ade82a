//! The content of a file, compressed or not.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bzip2::read::MultiBzDecoder;
use flate2::read::{DeflateDecoder, MultiGzDecoder};
use lz4_flex::frame::FrameDecoder;
use lzma_rust2::XzReader;
use zip::{CompressionMethod, ZipArchive};

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
    /// Returns the path of the file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing(path) | Self::NotAFile(path) => path,
            Self::Denied { path, .. }
            | Self::NotALog { path, .. }
            | Self::Folder { path, .. }
            | Self::Io { path, .. } => path,
        }
    }

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
    /// What a compressed file holds.
    Packed(Box<dyn Read + Send>),
}

/// The most memory that unpacking an xz file may take, in KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 100 << 10;

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
        let packed: Box<dyn Read + Send> = match &magic[..length] {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(BufReader::new(file))),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(BufReader::new(file)).map_err(failed)?),
            [0xfd, b'7', b'z', b'X'] => Box::new(XzReader::new_mem_limit(BufReader::new(file), true, XZ_MEMORY)),
            [b'B', b'Z', b'h', _] => Box::new(MultiBzDecoder::new(BufReader::new(file))),
            [0x04, 0x22, 0x4d, 0x18] => Box::new(FrameDecoder::new(BufReader::new(file))),
            [b'P', b'K', 3, 4] => unzip(file).map_err(failed)?.ok_or_else(|| ContentError::NotALog {
                path: path.to_owned(),
                what: "a zip archive of several files, or packed as no log is",
                remedy: UNPACK,
            })?,
            magic => match foreign(magic) {
                Some((what, remedy)) => return Err(ContentError::NotALog { path: path.to_owned(), what, remedy }),
                None => return Ok((Self::Plain(file), metadata)),
            },
        };
        Ok((Self::Packed(packed), metadata))
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
            Self::Packed(content) => io::copy(&mut content.take(position), &mut io::sink()),
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Packed(content) => content.read(buffer),
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

/// Returns the content of the only file in a zip archive; `None` if there are several, or if it is packed otherwise than zip
/// programs pack by default.
fn unzip(file: File) -> io::Result<Option<Box<dyn Read + Send>>> {
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    if archive.len() != 1 {
        return Ok(None);
    }
    let (method, start, size) = {
        let only = archive.by_index_raw(0)?;
        (only.compression(), only.data_start(), only.compressed_size())
    };
    let Some(start) = start else { return Ok(None) };
    let mut reader = archive.into_inner();
    reader.seek(SeekFrom::Start(start))?;
    let packed = reader.take(size);
    Ok(match method {
        CompressionMethod::Stored => Some(Box::new(packed)),
        CompressionMethod::Deflated => Some(Box::new(DeflateDecoder::new(packed))),
        _ => None,
    })
}

const UNPACK: &str = "unpack it, or pack it with gzip, zstd, xz, bzip2, lz4 or zip";

/// Recognises, by its first bytes, content that the agent cannot read. Returns what the content is and what to do about
/// it.
fn foreign(magic: &[u8]) -> Option<(&'static str, &'static str)> {
    Some(match magic {
        // With its mark, or without: every second byte of plain text is zero.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [1..=255, 0, 1..=255, 0] | [0, 1..=255, 0, 1..=255] => {
            ("UTF-16 text", "have the license server write it anew, or convert it to UTF-8")
        }
        [b'7', b'z', 0xbc, 0xaf, ..] => ("packed with 7-Zip", UNPACK),
        [0x1f, 0x9d, ..] => ("packed with compress", UNPACK),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `packed` unpacks to, if a file has it as its bytes.
    fn content(packed: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        std::fs::write(&path, packed).unwrap();
        let mut text = String::new();
        Content::open(&path).unwrap().0.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn every_packer_gives_back_what_it_was_given() {
        // Made by xz, bzip2, lz4 and zip of the text below; zip once stores and once deflates it.
        for (name, packed) in PACKED {
            let bytes = data_encoding::BASE64.decode(packed.as_bytes()).unwrap();
            assert_eq!(content(&bytes), " 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n", "{name}");
        }
    }

    const PACKED: [(&str, &str); 5] = [
        (
            "xz",
            "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAjIDg6MDA6MDAgKGxtZ3JkKSBUSU1FU1RBTVAgMS81LzIwMjYKAP4EJHqF2tcfAAE8JAUodm8ftvN9AQAAAAAEWVo=",
        ),
        (
            "bzip2",
            "QlpoOTFBWSZTWSMOUasAAAHfgAAQQGDzUCIiTAAEhhAAIAAjHp6jRM0TMpmoUGjRoMgNPDyDk1qzv0kDSBAC7KS6CtR327/i7kinChIEYco1YA==",
        ),
        ("lz4", "BCJNGGRApyQAAIAgODowMDowMCAobG1ncmQpIFRJTUVTVEFNUCAxLzUvMjAyNgoAAAAAO98zFw=="),
        (
            "zip, stored",
            "UEsDBBQAAAAAAHSnel1Pc9KNJAAAACQAAAALAAAAZGVidWcubG9nLjEgODowMDowMCAobG1ncmQpIFRJTUVTVEFNUCAxLzUvMjAyNgpQSwECFAMUAAAAAAB0p3pdT3PSjSQAAAAkAAAACwAAAAAAAAAAAAAAgAEAAAAAZGVidWcubG9nLjFQSwUGAAAAAAEAAQA5AAAATQAAAAAA",
        ),
        (
            "zip, deflated",
            "UEsDBBQAAAAIAHSnel1Pc9KNJAAAACQAAAALAAAAZGVidWcubG9nLjFTsLAyMAAiBY2c3PSiFE2FEE9f1+AQR98ABUN9U30jAyMzLgBQSwECFAMUAAAACAB0p3pdT3PSjSQAAAAkAAAACwAAAAAAAAAAAAAAgAEAAAAAZGVidWcubG9nLjFQSwUGAAAAAAEAAQA5AAAATQAAAAAA",
        ),
    ];
}
