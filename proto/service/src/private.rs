//! Files that hold secrets: nobody but their owner may read them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes such a file, atomically and durably. Made by root, it belongs to whoever the folder `like` belongs to, if one is given.
pub fn write(path: &Path, text: &[u8], like: Option<&Path>) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    // What an earlier attempt has left.
    let _ = fs::remove_file(fresh);
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    if let Some(like) = like {
        give_away(fresh, like)?;
    }
    fs::rename(fresh, path)
}

/// Gives a file to the owner of a folder.
#[cfg(unix)]
pub fn give_away(file: &Path, like: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let owner = fs::metadata(like)?;
    if fs::metadata(file)?.uid() == owner.uid() {
        return Ok(());
    }
    chown(file, Some(owner.uid()), Some(owner.gid()))
}

/// On Windows, a file has the access list of its folder.
#[cfg(not(unix))]
pub fn give_away(_file: &Path, _like: &Path) -> io::Result<()> {
    Ok(())
}

/// Reads a file that nobody but its owner may read; another one is refused, with what to do.
pub fn read(path: &Path) -> io::Result<String> {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path)?.permissions());
        if mode & 0o077 != 0 {
            let remedy = format!(
                "others can read it: run `chmod 600 {}`, and replace what it holds if they may have",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, remedy));
        }
    }
    fs::read_to_string(path)
}

/// Makes a folder that nobody but its owner may enter, with those above it.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
