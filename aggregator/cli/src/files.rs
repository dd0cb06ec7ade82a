//! Files that are written whole, and with their hash.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use ring::digest::{self, SHA256};
use seatmeter_service::answer;
use seatmeter_service::screen::table::View;

/// A file that was not there before. It is removed unless it is finished.
pub(crate) struct NewFile {
    path: PathBuf,
    file: File,
    hash: digest::Context,
    bytes: usize,
    is_finished: bool,
}

impl NewFile {
    /// Creates a file that is not there yet.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let opened = File::options().write(true).create_new(true).open(path);
        let file = opened.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, hash: digest::Context::new(&SHA256), bytes: 0, is_finished: false })
    }

    /// Adds to it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len();
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Makes it last, and tells its hash.
    pub(crate) fn finish(mut self, view: &View) -> Result<()> {
        self.file.sync_all().with_context(|| format!("cannot write {}", self.path.display()))?;
        self.is_finished = true;
        if view.is_for_people() {
            let hash = HEXLOWER.encode(self.hash.clone().finish().as_ref());
            answer!("{}: {} bytes, SHA-256 {hash}", self.path.display(), self.bytes);
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
