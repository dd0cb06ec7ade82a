//! License files: read again and again, as a license manager is asked.

use std::io::Read;
use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use crate::format::answer::in_utf8;
use crate::source::file::parts::glob;

/// License files: one, those of a folder, or those whose names fit a pattern.
#[derive(Clone, Debug)]
pub struct LicenseFiles {
    path: PathBuf,
    /// The names of files beside it that it stands for.
    named: GlobMatcher,
    /// The names of license files in a folder.
    usual: GlobMatcher,
}

/// The most that all files together hold, in bytes.
const LARGEST: u64 = 16 << 20;

/// Why license files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LicenseFilesError {
    /// No file has the name.
    #[error("there is no license file {0}")]
    None(String),
    /// A file or the folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The path.
        path: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// They are larger than any license file.
    #[error("{0} holds more than 16 MiB: are these license files?")]
    TooLarge(String),
}

impl LicenseFiles {
    /// Creates the source of a file, of a folder's files with the usual endings, or of those whose names a pattern fits. The
    /// error says what is wrong, for people.
    pub fn new(path: PathBuf) -> Result<Self, String> {
        let name = path.file_name().ok_or("`path` names no file and no folder")?.to_string_lossy().into_owned();
        let matcher = |pattern: &str| glob(pattern).map(|glob| glob.compile_matcher());
        let failed = |error| format!("path: {error}");
        Ok(Self {
            named: matcher(&name).map_err(failed)?,
            usual: matcher("*.{lic,LIC,dat,DAT}").map_err(failed)?,
            path,
        })
    }

    /// Returns the content of all files, in the order of their names, as a license manager reads them: one behind the other.
    pub fn read(&self) -> Result<Vec<u8>, LicenseFilesError> {
        let unreadable =
            |path: &Path, source| LicenseFilesError::Unreadable { path: path.display().to_string(), source };
        let (folder, names) = match (self.path.is_dir(), self.path.parent()) {
            (false, Some(parent)) => (parent, &self.named),
            _ => (self.path.as_path(), &self.usual),
        };
        let mut paths = Vec::new();
        for entry in folder.read_dir().map_err(|error| unreadable(folder, error))? {
            let path = entry.map_err(|error| unreadable(folder, error))?.path();
            let is_named = path.file_name().is_some_and(|name| names.is_match(name));
            if is_named && path.is_file() {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(LicenseFilesError::None(self.name()));
        }
        paths.sort();
        let mut content = Vec::new();
        for path in paths {
            let rest = LARGEST + 1 - content.len() as u64;
            let file = std::fs::File::open(&path).map_err(|error| unreadable(&path, error))?;
            let mut one = Vec::new();
            file.take(rest).read_to_end(&mut one).map_err(|error| unreadable(&path, error))?;
            // Each has a mark of its own, and an encoding.
            let one = in_utf8(one);
            content.extend_from_slice(one.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&one));
            content.push(b'\n');
            if content.len() as u64 > LARGEST {
                return Err(LicenseFilesError::TooLarge(self.name()));
            }
        }
        Ok(content)
    }

    /// Returns the path that is configured.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is read, for people.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}
