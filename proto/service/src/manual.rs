//! Generates completion scripts and manual pages from a program's own command line, so that they always match it.

use std::path::{Path, PathBuf};

use clap::{Command, ValueEnum};
use clap_complete::Shell;

use crate::screen::stdout;

/// The arguments of a program's `generate` command.
#[derive(clap::Args)]
pub struct Generate {
    /// The script or page to print
    #[arg(value_enum, required_unless_present = "folder")]
    what: Option<What>,
    /// Write every completion script and manual page into this folder instead
    #[arg(long, value_name = "FOLDER", conflicts_with = "what")]
    folder: Option<PathBuf>,
}

/// A script or page that can be generated.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// A completion script for bash.
    Bash,
    /// A completion script for zsh.
    Zsh,
    /// A completion script for fish.
    Fish,
    /// A completion script for PowerShell.
    Powershell,
    /// The manual page.
    Man,
}

impl What {
    fn shell(self) -> Option<Shell> {
        match self {
            Self::Bash => Some(Shell::Bash),
            Self::Zsh => Some(Shell::Zsh),
            Self::Fish => Some(Shell::Fish),
            Self::Powershell => Some(Shell::PowerShell),
            Self::Man => None,
        }
    }
}

impl Generate {
    /// Prints the requested script or page, or writes all of them into the folder.
    pub fn print<E: From<std::io::Error>>(&self, command: Command) -> Result<(), E> {
        match (self.what, &self.folder) {
            (Some(what), _) => stdout::bytes(&made(what, &command)?),
            (None, Some(folder)) => write_all(&command, folder)?,
            (None, None) => {}
        }
        Ok(())
    }
}

fn made(what: What, command: &Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match what.shell() {
        Some(shell) => clap_complete::generate(shell, &mut command.clone(), command.get_name().to_owned(), &mut text),
        None => clap_mangen::Man::new(command.clone()).render(&mut text)?,
    }
    Ok(text)
}

/// Writes completion scripts under the names that shells look for, and a manual page for the program and for each of
/// its commands.
fn write_all(command: &Command, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let name = command.get_name();
    for (what, file) in [
        (What::Bash, format!("{name}.bash")),
        (What::Zsh, format!("_{name}")),
        (What::Fish, format!("{name}.fish")),
        (What::Powershell, format!("{name}.ps1")),
    ] {
        std::fs::write(folder.join(file), made(what, command)?)?;
    }
    clap_mangen::generate_to(command.clone(), folder)
}
