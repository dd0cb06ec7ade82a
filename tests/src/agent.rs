//! One agent of a cluster, running or not.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Output};

use crate::process::{command, end_of, kill_children, terminate, wrapped};

/// An agent, running or not.
pub struct Agent {
    /// The agent's configuration file.
    pub config: PathBuf,
    /// The folder of the agent's configuration and state.
    pub folder: PathBuf,
    pub(crate) child: Option<Child>,
}

impl Agent {
    /// Replaces the text `from` by `to` in the agent's configuration file.
    pub fn configure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(&self.config, text.replace(from, to)).unwrap();
    }

    /// Returns the agent's state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Starts the agent.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the agent under another program, such as one that injects faults.
    pub fn start_with(&mut self, wrapper: &[&str]) {
        let errors = File::options().create(true).append(true).open(self.folder.join("err")).unwrap();
        let mut command = wrapped(wrapper, "seatmeter-agent");
        command.args(["run", "--config"]).arg(&self.config).stderr(errors);
        self.child = Some(command.spawn().unwrap());
    }

    /// Kills the agent, as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Returns whether the agent has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Deletes the agent's state, as a new installation begins without one. The agent must not run.
    pub fn forget(&self) {
        // An agent that was killed right after its start can have none yet.
        match std::fs::remove_dir_all(self.state()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.unwrap(),
        }
    }

    /// Kills the agent and the program under which it was started.
    pub fn kill_all(&mut self) {
        kill_children(self.pid());
        self.wait();
    }

    /// Asks the agent to stop, and waits until it has stopped.
    pub fn stop(&mut self) {
        self.end("-TERM");
    }

    /// Closes the terminal in which the agent runs, and waits until it has stopped.
    pub fn hang_up(&mut self) {
        self.end("-HUP");
    }

    fn end(&mut self, signal: &str) {
        let mut child = self.child.take().unwrap();
        terminate(&child, signal);
        assert!(end_of(&mut child).success(), "{}", self.errors());
    }

    /// Waits until the agent has ended by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// Returns the id of the agent's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Returns the agent's health log.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.join("err")).unwrap_or_default()
    }

    /// Returns whether the agent's health log has an entry with this code.
    pub fn has_said(&self, code: &str) -> bool {
        self.errors().contains(&format!("\"code\":\"{code}\""))
    }

    /// Returns the contents of the agent's buffer: the streams as `rows`, and the waiting batches as `batches`.
    pub fn inspect(&self) -> serde_json::Value {
        let shown = self.command(&["inspect", "--output", "json"]);
        serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| serde_json::json!({ "rows": [], "batches": [] }))
    }

    /// Runs a command of `seatmeter-agent` with the agent's configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.program(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    /// Runs `seatmeter-agent` with these arguments alone.
    pub fn program(&self, arguments: &[&str]) -> Output {
        command("seatmeter-agent").args(arguments).output().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the agent's health log:\n{}", self.errors());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
