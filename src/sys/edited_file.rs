//! Editing a file that belongs to another program: it is replaced atomically, in the directory that it was read from, and
//! only if nobody has changed it in between.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::files::{self, PATIENCE};

/// A file name in an open directory. Later changes to the path do not lead to another directory, so that nobody who can
/// change the path can have root write elsewhere.
#[derive(Clone)]
pub struct EditedFile {
    directory: Arc<OwnedFd>,
    name: OsString,
}

/// A file's content, and its metadata at the time it was read.
#[derive(Clone)]
pub struct Reading {
    /// Its content.
    pub text: String,
    about: FileStat,
}

impl Reading {
    /// When the file was last changed: its content, name, owner or mode (ctime; see inode(7)).
    pub fn changed(&self) -> SystemTime {
        let seconds = u64::try_from(self.about.st_ctime).unwrap_or_default();
        let rest = u32::try_from(self.about.st_ctime_nsec).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::new(seconds, rest)
    }

    fn is_of(&self, about: &FileStat) -> bool {
        let stamp = |it: &FileStat| (it.st_dev, it.st_ino, it.st_ctime, it.st_ctime_nsec);
        stamp(&self.about) == stamp(about)
    }
}

impl EditedFile {
    /// Opens the directory of a file. Symbolic links in the path to the directory are followed.
    ///
    /// # Errors
    /// Any I/O error; `TimedOut` after 5 s.
    pub fn at(path: &Path) -> io::Result<EditedFile> {
        let path = path.to_owned();
        files::within(PATIENCE, move || {
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(ErrorKind::IsADirectory.into());
            };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            Ok(EditedFile {
                directory: Arc::new(open(directory, flags, Mode::empty())?),
                name: name.to_owned(),
            })
        })
    }

    /// Reads a file of at most 1 MiB; `None` if it does not exist.
    ///
    /// # Errors
    /// Any I/O error; `TimedOut` after 5 s; `InvalidInput` for a symbolic link or anything but a regular file; `InvalidData`
    /// for a file over 1 MiB or not in UTF-8.
    pub fn read(&self) -> io::Result<Option<Reading>> {
        let file = self.clone();
        files::within(PATIENCE, move || file.read_now())
    }

    fn read_now(&self) -> io::Result<Option<Reading>> {
        let Some(about) = self.look()? else {
            return Ok(None);
        };
        // Opening a device may have side effects, so its type is checked first.
        regular(&about)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(
            self.directory.as_fd(),
            self.name.as_os_str(),
            flags,
            Mode::empty(),
        )?;
        let about = fstat(&opened)?;
        regular(&about)?;
        let text = files::text_of(File::from(opened))?;
        Ok(Some(Reading { text, about }))
    }

    fn look(&self) -> io::Result<Option<FileStat>> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match fstatat(self.directory.as_fd(), self.name.as_os_str(), flags) {
            Ok(about) => Ok(Some(about)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the content of the file, keeps owner, group and mode, and flushes it to disk.
    ///
    /// # Errors
    /// Any I/O error; `TimedOut` after 5 s; `ResourceBusy` if the file has changed since it was read.
    pub fn replace(&self, reading: &Reading, text: &str) -> io::Result<Reading> {
        let (file, reading, text) = (self.clone(), reading.clone(), text.to_owned());
        files::within(PATIENCE, move || file.replace_now(&reading, text))
    }

    fn replace_now(&self, reading: &Reading, text: String) -> io::Result<Reading> {
        // Patterns like `*.conf`, `*.yml` and `*` do not match this name.
        let mut part = OsString::from(".");
        part.push(&self.name);
        part.push(format!(".farewell-{:08x}", fastrand::u32(..)));
        let directory = self.directory.as_fd();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let opened = openat(
            directory,
            part.as_os_str(),
            flags,
            Mode::from_bits_truncate(0o600),
        )?;
        let written = fill(File::from(opened), &text, &reading.about).and_then(|()| {
            match self.look()? {
                Some(about) if reading.is_of(&about) => {}
                _ => return Err(changed()),
            }
            Ok(renameat(
                directory,
                part.as_os_str(),
                directory,
                self.name.as_os_str(),
            )?)
        });
        if let Err(error) = written {
            let _ = unlinkat(directory, part.as_os_str(), UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
        File::from(self.directory.try_clone()?).sync_all()?;
        let about = self.look()?.ok_or_else(changed)?;
        Ok(Reading { text, about })
    }
}

fn changed() -> io::Error {
    io::Error::new(
        ErrorKind::ResourceBusy,
        "was changed by another process at the same time",
    )
}

fn regular(about: &FileStat) -> io::Result<()> {
    let why = match about.st_mode & SFlag::S_IFMT.bits() {
        it if it == SFlag::S_IFREG.bits() => return Ok(()),
        it if it == SFlag::S_IFLNK.bits() => {
            "is a symbolic link, which is not followed: give the path of its target"
        }
        _ => "is not a regular file",
    };
    Err(io::Error::new(ErrorKind::InvalidInput, why))
}

fn fill(mut file: File, text: &str, like: &FileStat) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    let about = fstat(&file)?;
    if (about.st_uid, about.st_gid) != (like.st_uid, like.st_gid) {
        fchown(&file, Some(like.st_uid), Some(like.st_gid))?;
    }
    file.set_permissions(Permissions::from_mode(like.st_mode & 0o7777))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    fn directory(name: &str) -> PathBuf {
        let name = format!("farewell-edited-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("made");
        directory
    }

    #[test]
    fn a_file_is_replaced_whole_and_stays_whose_it_is() {
        let directory = directory("whole");
        let path = directory.join("file");
        let file = EditedFile::at(&path).expect("a directory");
        assert!(file.read().expect("nothing").is_none());
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("set");
        let old = file.read().expect("read").expect("a file");
        let new = file.replace(&old, "new").expect("replaced");
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
        assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o640);
        let back = file.replace(&new, &old.text).expect("put back");
        assert!(back.changed() >= old.changed());
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        // What somebody else has written is not overwritten, and nothing is left beside it.
        fs::write(&path, "theirs").expect("written");
        let error = file.replace(&back, "ours").err().expect("changed");
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        assert_eq!(fs::read_to_string(&path).expect("read"), "theirs");
        assert_eq!(fs::read_dir(&directory).expect("read").count(), 1);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn no_link_is_followed_and_the_directory_stays_the_same() {
        let directory = directory("links");
        let (one, two) = (directory.join("one"), directory.join("two"));
        fs::create_dir_all(&one).expect("made");
        fs::create_dir_all(&two).expect("made");
        fs::write(one.join("file"), "one").expect("written");
        fs::write(two.join("file"), "two").expect("written");
        std::os::unix::fs::symlink(one.join("file"), one.join("link")).expect("linked");
        let link = EditedFile::at(&one.join("link")).expect("a directory");
        let error = link.read().err().expect("a link");
        assert!(error.to_string().contains("is a symbolic link"), "{error}");
        let file = EditedFile::at(&one.join("file")).expect("a directory");
        let reading = file.read().expect("read").expect("a file");
        fs::rename(&one, directory.join("was")).expect("renamed");
        std::os::unix::fs::symlink(&two, &one).expect("linked");
        file.replace(&reading, "new").expect("replaced");
        let read = |path: &str| fs::read_to_string(directory.join(path)).expect("read");
        assert_eq!(
            (read("was/file"), read("two/file")),
            ("new".into(), "two".into())
        );
        fs::remove_dir_all(&directory).expect("removed");
    }
}
