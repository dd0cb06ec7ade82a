//! A disk that is soon full, and a tracer that makes system calls fail.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// A file system of a few megabytes.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of this size, as `mount` takes it. `None`, and said so, where this machine does not let it be mounted.
    pub fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            skip("this machine does not let a file system be mounted");
            return None;
        }
        Some(Self(path.to_owned()))
    }

    /// Fills the disk. It has room again when the ballast is dropped.
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

/// What fills a disk.
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Whether there is a tracer that injects faults into system calls; says so where there is none.
pub fn has_strace() -> bool {
    let found = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !found {
        skip("strace does not work on this machine");
    }
    found
}
