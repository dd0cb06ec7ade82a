//! Backs up and restores the embedded database.
//!
//! A backup is one consistent state of the archive, taken while the aggregator runs. The facts are not in it: they are made
//! of the archive again. After a restore, agents go on from the marks in the backup. The aggregator asks for all later
//! batches again; agents that no longer have them read the logs again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::engine::{Engine, Role};
use super::sqlite::{ACCESS, FACTS, MONTHS, Sqlite};
use super::{Failure, Store, StoreError, schema, settings};

/// Returns the path of the facts in a state folder.
pub fn facts(folder: &Path) -> PathBuf {
    folder.join(FACTS)
}

/// Returns the path of the archive in a state folder.
pub fn database(folder: &Path) -> PathBuf {
    folder.join("aggregator.db")
}

/// The databases that a backup has beside the archive, and that a restore leaves as they are if they are there: who writes each, its file
/// in a state folder, and the ending of its file beside a backup.
const BESIDE: [(Role, &str, &str); 2] = [(Role::Registrar, ACCESS, ".access"), (Role::Clerk, MONTHS, ".months")];

/// Copies the database in a state folder to a file that does not exist yet; who may speak with the aggregator, and rules and months, to
/// files beside it. Returns the first file's size in bytes.
pub fn backup(folder: &Path, to: &Path) -> Result<u64, StoreError> {
    let others = BESIDE.map(|(.., ending)| beside(to, ending));
    if let Some(there) = others.iter().map(PathBuf::as_path).chain([to]).find(|path| path.exists()) {
        return Err(refused(format!("{} already exists: name another file", there.display())));
    }
    if !database(folder).exists() {
        return Err(refused(format!("there is no database in {}", folder.display())));
    }
    let partial = beside(to, ".partial");
    remove(&partial)?;
    let databases = Sqlite::new(&database(folder))?;
    for ((role, file, _), copy) in BESIDE.iter().zip(&others) {
        if folder.join(file).exists() {
            databases.copy_to(*role, copy)?;
            restrict(copy)?;
        }
    }
    databases.copy_to(Role::Archiver, &partial)?;
    let checked = Sqlite::new(&partial)?.check().and_then(|()| {
        let file = File::options().append(true).open(&partial).map_err(|error| failed("open", &partial, &error))?;
        file.sync_all().map_err(|error| failed("write", &partial, &error))?;
        fs::rename(&partial, to).map_err(|error| failed("create", to, &error))?;
        file.metadata().map(|meta| meta.len()).map_err(|error| failed("read", to, &error))
    });
    if checked.is_err() {
        // An incomplete copy must not be mistaken for a backup.
        remove(&partial)?;
    }
    checked
}

/// What a restore has done beside.
#[derive(Debug)]
pub struct Restored {
    /// Where the previous database is kept; `None` if there was none.
    pub archive: Option<PathBuf>,
    /// Whether who may speak with the aggregator was restored, too.
    pub has_access: bool,
}

/// Replaces the database in a state folder with a backup. No process may be using the database.
pub fn restore(folder: &Path, from: &Path) -> Result<Restored, StoreError> {
    let fresh = folder.join("aggregator.db.restoring");
    remove(&fresh)?;
    fs::copy(from, &fresh).map_err(|error| failed("copy", from, &error))?;
    let checked = Sqlite::new(&fresh)?.check().and_then(|()| {
        schema::must_be_an_aggregators(Sqlite::new(&fresh)?.connect(Role::Archiver)?.as_mut())?;
        // Brings an older schema to this version's, and refuses a newer one.
        let restored = Store::open_at(&fresh)?;
        settings::renew_incarnation(restored.archiver()?.as_mut()).map(drop)
    });
    if let Err(error) = checked {
        remove(&fresh)?;
        return Err(StoreError::new(
            error.failure,
            format!("{} is no usable backup: {}", from.display(), error.reason),
        ));
    }
    let current = database(folder);
    let kept = current.exists().then(|| unused(&current));
    if let Some(kept) = &kept {
        for suffix in FILES {
            let part = beside(&current, suffix);
            if part.exists() {
                fs::rename(&part, beside(kept, suffix)).map_err(|error| failed("set aside", &part, &error))?;
            }
        }
    }
    fs::rename(&fresh, &current).map_err(|error| failed("replace", &current, &error))?;
    // What was revoked or billed since stays so.
    let mut has_access = false;
    for (role, file, ending) in BESIDE {
        let (copy, own) = (beside(from, ending), folder.join(file));
        if copy.exists() && !own.exists() {
            remove(&own)?;
            fs::copy(&copy, &own).map_err(|error| failed("copy", &copy, &error))?;
            has_access |= role == Role::Registrar;
        }
    }
    Ok(Restored { archive: kept, has_access })
}

/// Lets nobody but its owner read a file.
fn restrict(path: &Path) -> Result<(), StoreError> {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(|error| failed("restrict", path, &error))?;
    let _ = path;
    Ok(())
}

/// Returns the path under which the current database is kept, which no earlier one has.
fn unused(current: &Path) -> PathBuf {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let names = std::iter::once(String::new()).chain((2..).map(|number| format!("-{number}")));
    let mut paths = names.map(|number| beside(current, &format!(".before-restore-{now}{number}")));
    // The names never end, so there is one that is not used.
    paths.find(|path| !path.exists()).unwrap_or_else(|| beside(current, ".before-restore"))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The files of a database: its own, and those that SQLite keeps beside it.
const FILES: [&str; 3] = ["-wal", "-shm", ""];

/// Removes a database that an earlier attempt may have left, with the files beside it: SQLite would take an old
/// write-ahead log for that of the new database.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    FILES.iter().map(|suffix| beside(path, suffix)).try_for_each(|part| match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &part, &error)),
        _ => Ok(()),
    })
}

fn refused(reason: String) -> StoreError {
    StoreError::new(Failure::Permanent, reason)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let failure = match error.kind() {
        io::ErrorKind::StorageFull => Failure::DiskFull,
        _ => Failure::Permanent,
    };
    StoreError::new(failure, format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::settings::{set_setting, setting};

    fn set(folder: &Path, value: &str) {
        let store = Store::open_embedded(folder).unwrap();
        set_setting(store.archiver().unwrap().as_mut(), "test", value).unwrap();
    }

    fn get(folder: &Path) -> Option<String> {
        setting(Store::open_embedded(folder).unwrap().archiver().unwrap().as_mut(), "test").unwrap()
    }

    #[test]
    fn a_backup_brings_back_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        set(folder.path(), "before");
        let open = Store::open_embedded(folder.path()).unwrap();
        let mut writer = open.archiver().unwrap();
        writer.begin().unwrap();
        set_setting(writer.as_mut(), "test", "not committed").unwrap();
        assert!(backup(folder.path(), &copy).unwrap() > 0);
        writer.commit().unwrap();
        drop((writer, open));
        assert!(backup(folder.path(), &copy).unwrap_err().reason.contains("already"));
        // Nobody was enrolled.
        assert!(BESIDE.iter().all(|(.., ending)| !beside(&copy, ending).exists()));
        set(folder.path(), "after");
        let kept = restore(folder.path(), &copy).unwrap().archive.unwrap();
        // Within the same second, too, each database that was there is kept.
        let again = restore(folder.path(), &copy).unwrap().archive.unwrap();
        assert_ne!(kept, again);
        assert_eq!(get(folder.path()).as_deref(), Some("before"));
        let again = tempfile::tempdir().unwrap();
        fs::copy(kept, database(again.path())).unwrap();
        assert_eq!(get(again.path()).as_deref(), Some("after"), "what was there is kept");
    }

    #[test]
    fn what_is_no_backup_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path(), "here");
        let garbage = folder.path().join("garbage");
        fs::write(
            &garbage,
            "this is no database, and longer than a hundred bytes, so that a header could be in it: ....",
        )
        .unwrap();
        assert!(restore(folder.path(), &garbage).unwrap_err().reason.contains("no usable backup"));
        assert!(restore(folder.path(), &folder.path().join("missing")).unwrap_err().reason.contains("missing"));
        let (empty, foreign) = (folder.path().join("empty"), folder.path().join("foreign.db"));
        fs::write(&empty, "").unwrap();
        rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        for wrong in [empty, foreign] {
            let reason = restore(folder.path(), &wrong).unwrap_err().reason;
            assert!(reason.contains("no database of an aggregator"), "{reason}");
        }
        assert_eq!(get(folder.path()).as_deref(), Some("here"));
        assert!(!folder.path().join("aggregator.db.restoring").exists());
    }
}
