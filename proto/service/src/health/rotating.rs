//! A log file that is rotated when it is large or old: `health.log` becomes `health.log.1`, `health.log.1` becomes
//! `health.log.2`, and so on, up to a configured number of old files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// When a file is rotated, and how many old files are kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest size of a file, in bytes. A line that would exceed it begins a new file.
    pub bytes: u64,
    /// The greatest age of a file, in days.
    pub days: u64,
    /// The number of old files kept; 0 keeps none.
    pub keep: u32,
}

/// The rotated file. Each write must be one line.
pub struct Rotating {
    path: PathBuf,
    limits: Limits,
    file: File,
    size: u64,
    begun: SystemTime,
}

impl Rotating {
    /// Opens the file for appending. Creates the file and its folder if they do not exist.
    pub fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        let meta = file.metadata()?;
        // Some file systems do not record when a file was created; there, a restart resets the file's age.
        let begun = meta.created().unwrap_or_else(|_| SystemTime::now());
        Ok(Self { path: path.to_owned(), limits, file, size: meta.len(), begun })
    }

    fn is_due(&self, more: usize) -> bool {
        let age = SystemTime::now().duration_since(self.begun).unwrap_or_default();
        self.size > 0
            && (self.size + more as u64 > self.limits.bytes || age > Duration::from_secs(self.limits.days * 86_400))
    }

    fn rotate(&mut self) -> io::Result<()> {
        let part = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            PathBuf::from(name)
        };
        for number in (0..self.limits.keep).rev() {
            match fs::rename(part(number), part(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.limits.keep == 0 {
            fs::remove_file(&self.path)?;
        }
        *self = Self::open(&self.path, self.limits)?;
        // The system may give the new file the creation time of the old one, as Windows does for a while.
        self.begun = SystemTime::now();
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_due(line.len())
            && let Err(error) = self.rotate()
        {
            // Another program may hold an old file open: keep writing to the current file, so that no line is lost.
            self.begun = SystemTime::now();
            self.size = 0;
            let _ = writeln!(io::stderr(), "{} cannot be rotated: {error}", self.path.display());
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_in_files_of_limited_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/health.log");
        let limits = Limits { bytes: 100, days: 7, keep: 2 };
        for round in 0..3 {
            // A restart continues the same file.
            let mut file = Rotating::open(&path, limits).unwrap();
            for line in 0..10 {
                file.write_all(format!("line {:02} of thirty, with a tail\n", round * 10 + line).as_bytes()).unwrap();
            }
        }
        let read = |name: &str| fs::read_to_string(path.with_file_name(name)).unwrap();
        let all = read("health.log.2") + &read("health.log.1") + &read("health.log");
        let first = all.lines().next().unwrap().to_owned();
        let expected: Vec<String> = (21..30).map(|line| format!("line {line:02} of thirty, with a tail")).collect();
        assert_eq!(all.lines().collect::<Vec<_>>(), expected, "from {first}");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
    }

    #[test]
    fn an_old_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health.log");
        let mut file = Rotating::open(&path, Limits { bytes: 1 << 20, days: 7, keep: 1 }).unwrap();
        file.write_all(b"old\n").unwrap();
        file.begun = SystemTime::now() - Duration::from_secs(8 * 86_400);
        file.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::read_to_string(folder.path().join("health.log.1")).unwrap(), "old\n");
    }
}
