//! A small disk that a test can fill, and a check for strace, which makes system calls fail.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// A file system of a few megabytes.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a file system of this size, in the syntax of `mount`. If this machine does not allow mounting, reports
    /// that the test is skipped and returns `None`.
    pub fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            skip("this machine does not allow mounting a file system");
            return None;
        }
        Some(Self(path.to_owned()))
    }

    /// Fills the disk. Dropping the ballast frees the space.
    pub fn fill(&self) -> Ballast {
        let path = self.0.join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
        Ballast(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A file that fills a disk. Dropping it deletes the file.
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Returns whether strace works on this machine; it injects faults into system calls. If not, reports that the test is
/// skipped.
pub fn has_strace() -> bool {
    let found = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !found {
        skip("strace does not work on this machine");
    }
    found
}
