//! Finds the files of a log: the one being written, and its rotated parts.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder};

use super::content::ContentError;
use crate::checkpoint::FileMark;

/// A file that may be a part of a log.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Path of the file.
    pub path: PathBuf,
    /// The file's identity, size and modification time.
    pub mark: FileMark,
    /// Whether this is the file being written.
    pub is_current: bool,
}

/// Returns the identity, size and modification time of an open file.
#[cfg(unix)]
pub fn mark(_path: &Path, metadata: &Metadata) -> io::Result<FileMark> {
    use std::os::unix::fs::MetadataExt;
    let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    Ok(FileMark { device: metadata.dev(), inode: metadata.ino(), size: metadata.len(), modified })
}

/// Returns the identity, size and modification time of an open file.
#[cfg(windows)]
pub fn mark(path: &Path, metadata: &Metadata) -> io::Result<FileMark> {
    use std::os::windows::fs::MetadataExt;
    let (device, inode) = match file_id::get_file_id(path)? {
        file_id::FileId::LowRes { volume_serial_number, file_index } => (volume_serial_number.into(), file_index),
        file_id::FileId::HighRes { volume_serial_number, file_id } => (volume_serial_number, file_id as u64),
        file_id::FileId::Inode { device_id, inode_number } => (device_id, inode_number),
    };
    Ok(FileMark { device, inode, size: metadata.len(), modified: metadata.last_write_time() as i64 })
}

/// The maximum number of listings per scan. If files are still being renamed after that, the next scan tries again.
const LISTINGS: usize = 10;

/// The files of a log.
pub struct Listing {
    /// The files, in the order of their last write.
    pub files: Vec<Candidate>,
    /// The error of a folder that cannot be listed, whose files are missing; `None` if there is none.
    pub problem: Option<ContentError>,
}

/// Returns the files of a log in the order of their last write, oldest first; the file being written comes last.
///
/// A file that is renamed during a listing can be missed under both names. The current file is missed if it is rotated
/// after the parts are listed and before its own path is checked. The folder is therefore listed until two listings
/// agree.
pub fn candidates(path: &Path, archives: &[PathBuf]) -> Result<Listing, ContentError> {
    let mut found = listed(path, archives);
    for _ in 1..LISTINGS {
        let before = std::mem::replace(&mut found, listed(path, archives)).files;
        let are_same = |(a, b): (&Candidate, &Candidate)| a.path == b.path && a.mark.is_same_file(&b.mark);
        if before.len() == found.files.len() && before.iter().zip(&found.files).all(are_same) {
            return Ok(found);
        }
    }
    let source = io::Error::other("its files are renamed faster than they can be listed; trying again");
    Err(ContentError::of(path, source))
}

fn listed(path: &Path, archives: &[PathBuf]) -> Listing {
    let mut problem = None;
    let mut note = |folder: &Path, source| {
        problem.get_or_insert(ContentError::Folder { path: folder.to_owned(), source });
        Vec::new()
    };
    let parts = match siblings(path) {
        // The log itself is missing too, and reported as that.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        parts => parts.unwrap_or_else(|error| note(folder_of(path), error)),
    };
    let archived =
        archives.iter().flat_map(|pattern| matches(pattern).unwrap_or_else(|error| note(folder_of(pattern), error)));
    let archived: Vec<PathBuf> = archived.collect();
    let mut found = Vec::new();
    let mut add = |path: PathBuf, is_current| {
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.is_file()
            && let Ok(mark) = mark(&path, &metadata)
        {
            found.push(Candidate { path, mark, is_current });
        }
    };
    for part in parts.into_iter().chain(archived) {
        add(part, false);
    }
    add(path.to_owned(), true);
    // If two paths lead to one file, the current path is kept.
    found.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| b.path.cmp(&a.path)));
    let mut seen = std::collections::HashSet::new();
    found.reverse();
    found.retain(|candidate| seen.insert((candidate.mark.device, candidate.mark.inode)));
    found.reverse();
    Listing { files: found, problem }
}

fn order(candidate: &Candidate) -> (bool, i64) {
    (candidate.is_current, candidate.mark.modified)
}

/// Returns the files beside a log whose names derive from its own: `debug.log.1`, `debug.log-20260101.gz`,
/// `debug.2026_T1200.log`.
fn siblings(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(name), Some(stem)) = (path.file_name(), path.file_stem()) else { return Ok(Vec::new()) };
    let (name, stem) = (name.to_string_lossy(), stem.to_string_lossy());
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
    let is_part = |other: &str| {
        let rest = other.strip_prefix(name.as_ref()).or_else(|| {
            let rest = other.strip_prefix(stem.as_ref())?;
            let rest = rest.strip_suffix(".gz").or_else(|| rest.strip_suffix(".zst")).unwrap_or(rest);
            rest.strip_suffix(extension.as_deref()?)
        });
        rest.is_some_and(|rest| {
            rest.starts_with(['.', '-', '_']) && (rest.bytes().any(|byte| byte.is_ascii_digit()) || is_old(rest))
        })
    };
    list(folder_of(path), |other| is_part(other))
}

/// Whether the suffix is `.old`, `.bak` or `.prev`, compressed or not.
fn is_old(rest: &str) -> bool {
    let rest = rest.strip_suffix(".gz").or_else(|| rest.strip_suffix(".zst")).unwrap_or(rest);
    matches!(rest, ".old" | ".bak" | ".prev")
}

/// Returns the files that match a pattern. In the last component of its path, `*` matches any characters, `?` one
/// character, `[a-z]` one of several, and `{a,b}` either.
pub fn matches(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = pattern.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Ok(Vec::new());
    };
    let glob = glob(&name).map_err(io::Error::other)?.compile_matcher();
    list(folder_of(pattern), |other| glob.is_match(other))
}

/// Parses the pattern of a file name. A backslash does not escape, because it separates folders on Windows.
pub fn glob(name: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(name).backslash_escape(false).build()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn list(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: Vec<PathBuf>) -> Vec<String> {
        list.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn rotated_parts_are_found_by_their_names_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let parts = [
            "debug.log-20260101.gz",
            "debug.log.1",
            "debug.log.2.gz",
            "debug.log.old",
            "debug.20230921_080723.log",
            "debug.2026_T1200.log.gz",
        ];
        let others = ["debug.log.swp", "other.log.1", "debug.logs", "debugger.1.log", "debug.txt", "debug.log"];
        for name in parts.iter().chain(&others) {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let mut expected = parts.map(String::from).to_vec();
        expected.sort();
        assert_eq!(names(siblings(&folder.path().join("debug.log")).unwrap()), expected);
        assert_eq!(
            names(matches(&folder.path().join("debug.log.*")).unwrap()),
            ["debug.log.1", "debug.log.2.gz", "debug.log.old", "debug.log.swp"]
        );
        assert_eq!(names(matches(&folder.path().join("*.1")).unwrap()), ["debug.log.1", "other.log.1"]);
        assert_eq!(names(matches(&folder.path().join("o*r.l*1")).unwrap()), ["other.log.1"]);
        assert_eq!(names(matches(&folder.path().join("debug.log")).unwrap()), ["debug.log"]);
    }

    /// A part that a listing misses is read after its successors, and then its date may be unknown.
    #[test]
    fn no_file_is_missed_while_the_log_is_rotated() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        const ROTATIONS: usize = 300;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug.log");
        fs::write(&path, "").unwrap();
        let (rotated, listed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut missed = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut rng = fastrand::Rng::with_seed(1);
                for number in 0..ROTATIONS {
                    // The log is rotated once during each listing, at a random moment.
                    while listed.load(Ordering::SeqCst) < number {
                        std::hint::spin_loop();
                    }
                    (0..rng.u32(..20_000)).for_each(|_| std::hint::spin_loop());
                    fs::rename(&path, folder.path().join(format!("debug.2026_T{number:04}.log"))).unwrap();
                    fs::write(&path, "").unwrap();
                    rotated.store(number + 1, Ordering::SeqCst);
                }
            });
            for number in 0..ROTATIONS {
                listed.store(number, Ordering::SeqCst);
                let there = rotated.load(Ordering::SeqCst);
                let found = candidates(&path, &[]).unwrap().files;
                missed += usize::from(found.len() <= there);
                while rotated.load(Ordering::SeqCst) < number + 1 {
                    std::hint::spin_loop();
                }
            }
        });
        assert_eq!(missed, 0, "of {ROTATIONS} listings");
    }

    #[test]
    fn a_folder_that_cannot_be_listed_hides_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug.log");
        fs::write(&path, "").unwrap();
        fs::write(folder.path().join("debug.log.1"), "").unwrap();
        let found = candidates(&path, &[folder.path().join("unmounted/*.gz")]).unwrap();
        assert_eq!(found.files.len(), 2);
        let problem = found.problem.unwrap().to_string();
        assert!(problem.contains("unmounted cannot be listed"), "{problem}");
        // A log that is not there yet is no problem of its folder.
        assert!(candidates(&folder.path().join("nowhere/debug.log"), &[]).unwrap().problem.is_none());
    }

    #[test]
    fn the_oldest_write_comes_first_and_the_current_file_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug.log");
        for (name, age) in [("debug.log", 100), ("debug.log.1", 50), ("debug.log.2", 80)] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age)).unwrap();
        }
        let archives = [folder.path().join("*.1")];
        let found = candidates(&path, &archives).unwrap().files;
        assert_eq!(names(found.into_iter().map(|c| c.path).collect()), ["debug.log.2", "debug.log.1", "debug.log"]);
    }
}
