//! The processes that run, as Linux tells them. Of another account's processes, only root is told the folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::managers::Process;

/// Returns the processes that run. One that ends meanwhile is left out.
pub fn running() -> Vec<Process> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    folders.filter_map(|folder| process(&folder.path())).collect()
}

fn process(folder: &Path) -> Option<Process> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let line = fs::read(folder.join("cmdline")).ok()?;
    let arguments: Vec<String> = line
        .strip_suffix(b"\0")
        .unwrap_or(&line)
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    let link = |name: &str| fs::read_link(folder.join(name)).ok();
    let output = link("fd/1").filter(|output: &PathBuf| output.is_file());
    Some(Process { id, arguments, folder: link("cwd"), output })
}
