//! A PostgreSQL server for one test, with its socket in its own folder. It uses the programs of Debian's package.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::{skip, wait_until};

/// A running server, stopped when this value is dropped.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    server: Child,
}

impl Postgres {
    /// Starts a server with an empty database. If PostgreSQL is not installed, reports that the test is skipped and
    /// returns `None`.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            skip("PostgreSQL is not installed (Debian's package: postgresql)");
            return None;
        };
        let folder = TempDir::new().unwrap();
        // The server refuses to run as root.
        let owned = Command::new("chown").args(["-R", "postgres"]).arg(folder.path()).status();
        assert!(owned.unwrap().success());
        let data = folder.path().join("data");
        let made = as_postgres(&programs.join("initdb"))
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = as_postgres(&programs.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(folder.path())
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let postgres = Self { folder, programs, server };
        wait_until("PostgreSQL answers", || postgres.run("SELECT 1;").status.success());
        Some(postgres)
    }

    /// Runs a script. The script stops at its first error.
    pub fn run(&self, script: &str) -> Output {
        let file = self.folder.path().join("script.sql");
        std::fs::write(&file, script).unwrap();
        Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--username", "postgres", "--host"])
            .arg(self.folder.path())
            .arg("--file")
            .arg(&file)
            .output()
            .unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The server is a child of the program that changed the account. Its process id is in its data folder.
        let pid = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap_or_default();
        let _ = Command::new("kill").args(["-QUIT", pid.lines().next().unwrap_or_default()]).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Returns the folder of the programs of the newest installed version.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin")).collect();
    versions.retain(|folder| folder.join("initdb").exists());
    versions.sort();
    versions.pop()
}

fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program).current_dir("/");
    command
}
