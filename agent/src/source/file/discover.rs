//! Finds the files of a log: the one being written, and its rotated parts.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::content::ContentError;
use super::parts::{self, Claim, claim, matches};
use super::status::{LogSource, OtherSource};
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
    /// Why the file is taken as a part of the log; `None` for the file being written.
    pub claim: Option<Claim>,
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
pub fn candidates(log: &LogSource) -> Result<Listing, ContentError> {
    let mut found = listed(log);
    for _ in 1..LISTINGS {
        let before = std::mem::replace(&mut found, listed(log)).files;
        let are_same = |(a, b): (&Candidate, &Candidate)| a.path == b.path && a.mark.is_same_file(&b.mark);
        if before.len() == found.files.len() && before.iter().zip(&found.files).all(are_same) {
            return Ok(found);
        }
    }
    let source = io::Error::other("its files are renamed faster than they can be listed; trying again");
    Err(ContentError::of(&log.path, source))
}

fn listed(source: &LogSource) -> Listing {
    let (mut found, mut problem) = (Vec::new(), None);
    let mut add = |path: PathBuf, claim: Option<Claim>| {
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.is_file()
            && let Ok(mark) = mark(&path, &metadata)
        {
            let is_current = claim.is_none();
            found.push(Candidate { path, mark, is_current, claim });
        }
    };
    let (mut folders, names) = places(&source.path);
    let own = folders.len();
    for folder in source.archives.iter().map(|pattern| folder_of(pattern)) {
        if !folders.iter().any(|known| known == folder) {
            folders.push(folder.to_owned());
        }
    }
    for (index, folder) in folders.iter().enumerate() {
        match list(folder) {
            Ok(files) => {
                for file in files {
                    // Parts of archives' folders are those that the patterns name.
                    let names = if index < own { &names[..] } else { &[] };
                    if let Some(claim) = claim_of(source, names, folder, &file) {
                        add(folder.join(&file), Some(claim));
                    }
                }
            }
            // The log itself is missing too, and reported as that.
            Err(error) if index < own && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => _ = problem.get_or_insert(ContentError::Folder { path: folder.clone(), source }),
        }
    }
    add(source.path.clone(), None);
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

/// Returns the folders and names by which parts of a log are found: its own, and, for a symbolic link, its target's too.
fn places(path: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = folder_of(path).to_owned();
    let target = fs::canonicalize(path).or_else(|_| fs::read_link(path).map(|target| folder.join(target)));
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let target = target.ok().filter(|_| is_link);
    let mut folders = vec![folder];
    folders.extend(target.as_deref().map(|target| folder_of(target).to_owned()).filter(|target| *target != folders[0]));
    let names = name(path).into_iter().chain(target.as_deref().and_then(name)).collect();
    (folders, names)
}

/// Returns why a file is a part of this log; `None` if it is none, or if another configured log claims it more closely.
fn claim_of(source: &LogSource, names: &[String], folder: &Path, file: &str) -> Option<Claim> {
    let is_other = |other: &&OtherSource| folder_of(&other.path) == folder;
    let others = || source.others.iter().filter(is_other).filter_map(|other| other.path.file_name()?.to_str());
    let claimed = |pattern: &&PathBuf| folder_of(pattern) == folder && matches(pattern, file);
    if others().any(|other| other == file) {
        return None;
    }
    if let Some(pattern) = source.archives.iter().find(claimed) {
        return Some(Claim::Archive(pattern.clone()));
    }
    if source.others.iter().any(|other| other.archives.iter().any(|pattern| claimed(&pattern))) {
        return None;
    }
    let (claim, length) = names.iter().filter_map(|name| claim(name, file)).max_by_key(|(_, length)| *length)?;
    let is_closer = |other: &str| parts::claim(other, file).is_some_and(|(_, other)| other > length);
    (!others().any(is_closer)).then_some(claim)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns the names of the files in a folder, in order.
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: Vec<PathBuf>) -> Vec<String> {
        list.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    fn log(path: &Path, archives: Vec<PathBuf>) -> LogSource {
        LogSource {
            name: "log".into(),
            path: path.to_owned(),
            archives,
            others: Vec::new(),
            format: None,
            zone: jiff::tz::TimeZone::UTC,
            date: None,
            moved_quiet: std::time::Duration::ZERO,
            pseudonyms: None,
        }
    }

    #[test]
    fn a_file_belongs_to_the_log_that_claims_it_most_closely() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "debug.log",
            "debug.log.1",
            "debug_2.log",
            "debug_2.log.1",
            "debug_2.20260101.log",
            "debug.20260101.log",
            "debug.77.log",
            "special-20260101.log",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        let (mut first, mut second) = (log(&at("debug.log"), vec![]), log(&at("debug_2.log"), vec![at("special-*")]));
        let mut third = log(&at("debug.77.log"), vec![]);
        let other = |log: &LogSource| OtherSource {
            name: log.name.clone(),
            path: log.path.clone(),
            archives: log.archives.clone(),
        };
        first.others = vec![other(&second), other(&third)];
        second.others = vec![other(&first), other(&third)];
        third.others = vec![other(&first), other(&second)];
        let found = |log: &LogSource| {
            let mut found = names(candidates(log).unwrap().files.into_iter().map(|file| file.path).collect());
            found.sort();
            found
        };
        assert_eq!(found(&first), ["debug.20260101.log", "debug.log", "debug.log.1"]);
        assert_eq!(found(&second), ["debug_2.20260101.log", "debug_2.log", "debug_2.log.1", "special-20260101.log"]);
        assert_eq!(found(&third), ["debug.77.log"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_parts_beside_the_target_of_a_link_are_parts() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("debug.log"));
        fs::create_dir(&real).unwrap();
        for name in ["vendor.log", "vendor.log.1", "debug.log.2", "other.log.1"] {
            fs::write(real.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("real/vendor.log", &link).unwrap();
        let found = names(candidates(&log(&link, vec![])).unwrap().files.into_iter().map(|file| file.path).collect());
        assert_eq!(found.len(), 3, "{found:?}");
        // While its target is away, its parts are still known.
        fs::remove_file(real.join("vendor.log")).unwrap();
        assert_eq!(candidates(&log(&link, vec![])).unwrap().files.len(), 2);
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
                let found = candidates(&log(&path, vec![])).unwrap().files;
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
        let found = candidates(&log(&path, vec![folder.path().join("unmounted/*.gz")])).unwrap();
        assert_eq!(found.files.len(), 2);
        let problem = found.problem.unwrap().to_string();
        assert!(problem.contains("unmounted cannot be listed"), "{problem}");
        // A log that is not there yet is no problem of its folder.
        assert!(candidates(&log(&folder.path().join("nowhere/debug.log"), vec![])).unwrap().problem.is_none());
    }

    #[test]
    fn the_oldest_write_comes_first_and_the_current_file_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug.log");
        for (name, age) in [("debug.log", 100), ("debug.log.1", 50), ("debug.log.2", 80)] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age)).unwrap();
        }
        let found = candidates(&log(&path, vec![folder.path().join("*.1")])).unwrap().files;
        assert_eq!(names(found.into_iter().map(|c| c.path).collect()), ["debug.log.2", "debug.log.1", "debug.log"]);
    }
}
