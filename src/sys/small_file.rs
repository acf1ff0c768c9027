//! Small files that are replaced atomically.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::files::{self, NO_LINK, PATIENCE};

/// A file's content and ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallFile {
    /// Its content.
    pub text: String,
    /// Its permission bits; see chmod(2).
    pub mode: u32,
    /// Its owner and its group.
    pub owner: (u32, u32),
}

impl SmallFile {
    /// A new file of this process' user that everybody may read.
    pub fn new(text: &str) -> SmallFile {
        SmallFile {
            text: text.to_owned(),
            mode: 0o644,
            owner: (geteuid().as_raw(), getegid().as_raw()),
        }
    }
}

/// Reads a file of at most 1 MiB; `None` if it does not exist. A symbolic link at its path is not followed.
///
/// # Errors
/// Any I/O error; `TimedOut` after 5 s; `InvalidInput` for anything but a regular file; `InvalidData` for a file over 1
/// MiB or not in UTF-8.
pub fn read(path: &Path) -> io::Result<Option<SmallFile>> {
    let path = path.to_owned();
    files::within(PATIENCE, move || {
        let file = match files::open_regular(&path, NO_LINK) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        Ok(Some(SmallFile {
            text: files::text_of(file)?,
            mode: about.mode() & 0o7777,
            owner: (about.uid(), about.gid()),
        }))
    })
}

/// Replaces the file at `path`, and flushes it to disk.
///
/// # Errors
/// Any I/O error; `TimedOut` after 5 s.
pub fn replace(path: &Path, file: &SmallFile) -> io::Result<()> {
    let (path, new) = (path.to_owned(), file.clone());
    files::within(PATIENCE, move || {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ErrorKind::IsADirectory.into());
        };
        let mut part = std::ffi::OsString::from(".");
        part.push(name);
        part.push(format!(".farewell-{:08x}", fastrand::u32(..)));
        let part = directory.join(part);
        // The name must be new, so that no link of another user is followed.
        let written = (OpenOptions::new().write(true).create_new(true).mode(0o600))
            .open(&part)
            .and_then(|file| fill(file, &new))
            .and_then(|()| fs::rename(&part, &path));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written.and_then(|()| files::sync_directory(directory))
    })
}

fn fill(mut file: File, new: &SmallFile) -> io::Result<()> {
    file.write_all(new.text.as_bytes())?;
    let about = file.metadata()?;
    let (user, group) = new.owner;
    if (about.uid(), about.gid()) != new.owner {
        fchown(&file, Some(user), Some(group))?;
    }
    file.set_permissions(Permissions::from_mode(new.mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_stays_whose_it_is() {
        let directory = std::env::temp_dir().join(format!("farewell-small-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("made");
        let path = directory.join("file");
        assert_eq!(read(&path).expect("nothing"), None);
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("set");
        let old = read(&path).expect("read").expect("a file");
        let new = SmallFile {
            text: "new".to_owned(),
            ..old
        };
        replace(&path, &new).expect("replaced");
        assert_eq!(read(&path).expect("read"), Some(new));
        let names = fs::read_dir(&directory).expect("read").count();
        assert_eq!(names, 1, "nothing is left beside it");
        std::os::unix::fs::symlink(&path, directory.join("link")).expect("linked");
        assert!(read(&directory.join("link")).is_err());
        fs::remove_dir_all(&directory).expect("removed");
    }
}
