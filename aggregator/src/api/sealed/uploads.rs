//! Exports on their way to the aggregator: pieces of files, until they are taken in.

use std::fs::{self, File};
use std::io::{Error, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seatmeter_proto::v1::UploadRequest;

use super::super::status::ApiError;

/// The most bytes of a piece, and of all uploads.
const LONGEST_PIECE: usize = 1 << 20;
const MOST_BYTES: u64 = 64 << 30;

/// The most uploads that are not taken in yet.
const MOST_UPLOADS: usize = 20;

/// For how long an upload is kept that nobody goes on with.
const KEPT: Duration = Duration::from_secs(3600);

/// The uploads, each a file in a folder.
pub(super) struct Uploads {
    folder: PathBuf,
    /// While a piece is written, no upload is taken.
    writing: Mutex<()>,
}

/// An upload that nobody can change any more. It is removed at the end: it is carried again, if need be.
pub(super) struct Taken(PathBuf);

impl Taken {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Uploads {
    /// Keeps uploads in a state folder. What was not taken in before a restart is uploaded again.
    pub(super) fn of(state: &Path) -> Self {
        let folder = state.join("imports");
        let _ = fs::remove_dir_all(&folder);
        Self { folder, writing: Mutex::new(()) }
    }

    fn path(&self, name: &str) -> Result<PathBuf, ApiError> {
        let name = uuid::Uuid::try_parse(name).map_err(|_| ApiError::invalid("upload", "must be a UUID"))?;
        Ok(self.folder.join(name.to_string()))
    }

    /// Keeps a piece.
    pub(super) fn keep(&self, piece: &UploadRequest) -> Result<(), ApiError> {
        let path = self.path(&piece.upload)?;
        if piece.data.len() > LONGEST_PIECE || piece.position > MOST_BYTES {
            return Err(ApiError::invalid("data", "must be at most a megabyte, of at most 64 GiB"));
        }
        let _writing = self.lock();
        seatmeter_service::state::make(&self.folder).map_err(Error::other).map_err(ApiError::Upload)?;
        let is_first = piece.position == 0;
        let (uploads, bytes) = self.forget_old().map_err(ApiError::Upload)?;
        let is_one_too_many = is_first && !path.exists() && uploads >= MOST_UPLOADS;
        if is_one_too_many || bytes + piece.data.len() as u64 > MOST_BYTES {
            return Err(ApiError::TooMany);
        }
        let opened = File::options().create(is_first).write(true).truncate(false).open(&path);
        let mut file = opened.map_err(ApiError::Upload)?;
        if file.metadata().map_err(ApiError::Upload)?.len() < piece.position {
            return Err(ApiError::invalid("position", "must not be behind the end of what was uploaded"));
        }
        file.seek(SeekFrom::Start(piece.position)).and_then(|_| file.write_all(&piece.data)).map_err(ApiError::Upload)
    }

    /// Takes an upload of this size away from whoever uploads: what is checked is what is taken in.
    pub(super) fn take(&self, name: &str, size: u64) -> Result<Taken, ApiError> {
        let uploaded = self.path(name)?;
        let taken = Taken(self.path(&uuid::Uuid::new_v4().to_string())?);
        let _writing = self.lock();
        let there = fs::metadata(&uploaded).map_or(0, |metadata| metadata.len());
        if there != size {
            return Err(ApiError::invalid("size", format!("must be what was uploaded: {there} bytes")));
        }
        fs::rename(&uploaded, taken.path()).map_err(ApiError::Upload)?;
        Ok(taken)
    }

    /// Removes the uploads that nobody goes on with. Returns how many there are besides, and their bytes.
    fn forget_old(&self) -> Result<(usize, u64), Error> {
        let (mut count, mut bytes) = (0, 0);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // One that is taken in is removed by whoever does.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.modified()?.elapsed().is_ok_and(|age| age > KEPT) {
                let _ = fs::remove_file(entry.path());
                continue;
            }
            count += 1;
            bytes += metadata.len();
        }
        Ok((count, bytes))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn piece(upload: &str, position: u64) -> UploadRequest {
        UploadRequest { upload: upload.into(), position, data: b"piece".to_vec() }
    }

    #[test]
    fn uploads_are_bounded_and_do_not_last() {
        let state = tempfile::tempdir().unwrap();
        let uploads = Uploads::of(state.path());
        let names: Vec<String> = (0..=MOST_UPLOADS).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        for name in &names[1..] {
            uploads.keep(&piece(name, 0)).unwrap();
        }
        assert!(matches!(uploads.keep(&piece(&names[0], 0)), Err(ApiError::TooMany)));
        uploads.keep(&piece(&names[1], 5)).unwrap();
        assert!(uploads.take(&names[1], 5).is_err(), "it has ten bytes");
        let taken = uploads.take(&names[1], 10).unwrap();
        assert_eq!(fs::read(taken.path()).unwrap(), b"piecepiece");
        assert!(uploads.take(&names[1], 10).is_err(), "it is taken");
        drop(taken);
        let old = File::options().write(true).open(uploads.path(&names[2]).unwrap()).unwrap();
        old.set_modified(SystemTime::now() - 2 * KEPT).unwrap();
        for name in [&names[0], &names[1]] {
            uploads.keep(&piece(name, 0)).unwrap();
        }
        assert!(uploads.take(&names[2], 5).is_err(), "it is forgotten");
        assert!(matches!(uploads.keep(&piece("../somewhere", 0)), Err(ApiError::Invalid { .. })));
    }
}
