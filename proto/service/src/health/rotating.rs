//! A file that is begun anew when it is large or old: `health.log` becomes `health.log.1`, that one `health.log.2`, and
//! so on, up to as many as are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// When a file is begun anew, and how many are kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When it would have more bytes.
    pub bytes: u64,
    /// When it is older, in days.
    pub days: u64,
    /// How many are kept beside the newest.
    pub keep: u32,
}

/// The file. Each write is one line.
pub struct Rotating {
    path: PathBuf,
    limits: Limits,
    file: File,
    size: u64,
    begun: SystemTime,
}

impl Rotating {
    /// Appends to the file, which is made where there is none.
    pub fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        let meta = file.metadata()?;
        // Not all file systems know when a file was made; then a restart makes it young again.
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
        // Where the system gives a new file the birth of the old one (Windows does, for a while), it is still new.
        self.begun = SystemTime::now();
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_due(line.len())
            && let Err(error) = self.rotate()
        {
            // Somebody holds an old file: the newest grows meanwhile, and no line is lost.
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
            // A restart goes on in the same file.
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
