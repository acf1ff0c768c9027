//! Checks that only root or this process' user could have written a file: the file itself and every directory above it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::owners::Owners;

/// The largest file that is read.
const LIMIT: u64 = 1 << 20;

/// How many symbolic links are followed, as by the kernel.
const LINKS: usize = 40;

const KIND: u32 = SFlag::S_IFMT.bits();

/// A reason why another user may have written a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, with the path, its owner or mode, and the command that fixes it.
    pub message: String,
    /// Whether the file must not be trusted; `false` for a warning.
    pub is_untrusted: bool,
}

/// A file or directory that was opened while each part of its path was checked.
pub struct Opened {
    /// Open for reading; `None` for /dev/null, which is empty.
    file: Option<File>,
    /// What is wrong with it, with links on the way, and with the directories above.
    pub findings: Vec<Finding>,
}

impl Opened {
    /// The text of a file.
    ///
    /// # Errors
    /// Any I/O error; `InvalidData` for a file over 1 MiB or not in UTF-8.
    pub fn text(&mut self) -> io::Result<String> {
        let unusable = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            file.take(LIMIT + 1).read_to_end(&mut bytes)?;
        }
        if bytes.len() as u64 > LIMIT {
            return Err(unusable("larger than 1 MiB"));
        }
        String::from_utf8(bytes).map_err(|_| unusable("not in UTF-8"))
    }

    /// The first reason not to trust it.
    pub fn distrust(&self) -> Option<&Finding> {
        self.findings.iter().find(|it| it.is_untrusted)
    }
}

/// Opens a regular file, a directory or /dev/null, and checks each directory and link on the way through the descriptor
/// from which the next one is opened, so that nothing can be replaced between check and use.
///
/// # Errors
/// Any I/O error; `InvalidData` for a device, a socket or a FIFO.
pub fn open(path: &Path) -> io::Result<Opened> {
    let owners = Owners::get();
    let mut findings = Vec::new();
    let mut rest: VecDeque<OsString> = components(&std::path::absolute(path)?).into();
    let mut place = PathBuf::from("/");
    let mut directory = open_at(None, Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let mut links = 0;
    check_part(&place, &fstat(&directory)?, owners, &mut findings);
    while let Some(name) = rest.pop_front() {
        let next = open_at(Some(&directory), Path::new(&name), OFlag::O_PATH)?;
        let about = fstat(&next)?;
        let at = match name.as_bytes() {
            b".." => place.parent().unwrap_or(Path::new("/")).to_owned(),
            _ => place.join(&name),
        };
        check_part(&at, &about, owners, &mut findings);
        if about.st_mode & KIND == SFlag::S_IFLNK.bits() {
            links += 1;
            if links > LINKS {
                return Err(Errno::ELOOP.into());
            }
            let target = PathBuf::from(readlinkat(next.as_fd(), "")?);
            if target.is_absolute() {
                place = PathBuf::from("/");
                directory = open_at(None, &place, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            }
            for name in components(&target).into_iter().rev() {
                rest.push_front(name);
            }
            continue;
        }
        if rest.is_empty() && about.st_mode & KIND != SFlag::S_IFDIR.bits() {
            let file = open_last(&directory, &name, &about)?;
            return Ok(Opened { file, findings });
        }
        (place, directory) = (at, next);
    }
    let file = open_at(
        Some(&directory),
        Path::new("."),
        OFlag::O_RDONLY | OFlag::O_DIRECTORY,
    )?;
    Ok(Opened {
        file: Some(file.into()),
        findings,
    })
}

/// Opens for reading what was checked.
fn open_last(directory: &OwnedFd, name: &OsString, about: &FileStat) -> io::Result<Option<File>> {
    let unusable = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let is_null = about.st_mode & KIND == SFlag::S_IFCHR.bits()
        && about.st_rdev == nix::sys::stat::makedev(1, 3);
    if is_null {
        return Ok(None);
    }
    if about.st_mode & KIND != SFlag::S_IFREG.bits() {
        return Err(unusable("is not a regular file"));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let file = open_at(Some(directory), Path::new(name), flags)?;
    let opened = fstat(&file)?;
    if (opened.st_dev, opened.st_ino) != (about.st_dev, about.st_ino) {
        return Err(unusable("was replaced while it was opened; try again"));
    }
    Ok(Some(file.into()))
}

/// Checks that only this user and root can write a file or directory, its target and every directory above. A sticky
/// directory above it is fine.
///
/// # Errors
/// One sentence with the path, its owner or mode and the command that fixes it; or why it cannot be opened.
pub fn trusted(path: &Path) -> Result<(), String> {
    let opened = open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match opened.distrust() {
        Some(finding) => Err(finding.to_string()),
        None => Ok(()),
    }
}

/// As [`trusted`], for a file that may be gone: then the directory from which it may have been removed counts.
pub fn trusted_or_missing(path: &Path) -> Result<(), String> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => trusted_or_missing(parent),
            _ => Ok(()),
        },
        _ => trusted(path),
    }
}

/// Checks that a file keeps its content secret: neither others nor its group can read or write it, except that the
/// group may read a file that belongs to root or this user.
///
/// # Errors
/// One sentence with who can, the path and mode, and the command that fixes it.
pub fn keeps_secret(path: &Path, about: &fs::Metadata) -> Result<(), String> {
    let mode = about.mode() & 0o7777;
    let (shown, name) = (path.display(), quoted(path));
    let is_own = Owners::get().include(about.uid());
    let (who, mends) = match mode {
        _ if mode & 0o006 != 0 => ("others".to_owned(), "chmod 600"),
        _ if mode & 0o020 != 0 => (format!("its group {}", about.gid()), "chmod g-w"),
        _ if mode & 0o040 != 0 && !is_own => {
            let who = format!("the group {} of the user {}", about.gid(), about.uid());
            (who, "chmod 600")
        }
        _ => return Ok(()),
    };
    let what = match mode & 0o044 != 0 && mends == "chmod 600" {
        true => "read",
        false => "written",
    };
    Err(format!(
        "{shown} can be {what} by {who} (mode {mode:04o}): {mends} {name}"
    ))
}

/// Checks that only this user and root can write into one of farewell's own directories. A sticky bit does not help
/// here, since it lets everybody create files.
///
/// # Errors
/// As [`trusted`]; a missing directory is fine, since it can be created.
pub fn own_directory(path: &Path) -> Result<(), String> {
    let opened = match open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => trusted_or_missing(parent),
                _ => Ok(()),
            };
        }
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    if let Some(finding) = opened.distrust() {
        return Err(finding.to_string());
    }
    let Some(file) = &opened.file else {
        return Err(format!("{} is not a directory", path.display()));
    };
    let about = fstat(file).map_err(|error| format!("{}: {error}", path.display()))?;
    let group = nix::unistd::getegid().as_raw();
    let by_group = about.st_mode & 0o020 != 0 && about.st_gid != 0 && about.st_gid != group;
    if about.st_mode & 0o002 != 0 || by_group {
        return Err(format!(
            "{} can be written by others (mode {:04o}): chmod go-w {}",
            path.display(),
            about.st_mode & 0o7777,
            quoted(path)
        ));
    }
    Ok(())
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

/// Adds what is wrong with one part of a path.
fn check_part(path: &Path, about: &FileStat, owners: Owners, findings: &mut Vec<Finding>) {
    let kind = about.st_mode & KIND;
    let is_directory = kind == SFlag::S_IFDIR.bits();
    let (shown, name) = (path.display(), quoted(path));
    let mut add = |is_untrusted, message| {
        findings.push(Finding {
            message,
            is_untrusted,
        });
    };
    if kind == SFlag::S_IFCHR.bits() {
        return;
    }
    let is_link = kind == SFlag::S_IFLNK.bits();
    let mode = about.st_mode & 0o7777;
    if !owners.include(about.st_uid) {
        let option = if is_link { "-h " } else { "" };
        let message = format!(
            "{shown} belongs to uid {} (mode {mode:04o}), who could change what is read from it: chown {option}root {name}",
            about.st_uid
        );
        add(true, message);
    }
    if is_link {
        return;
    }
    let is_sticky = is_directory && mode & 0o1000 != 0;
    if mode & 0o002 != 0 && !is_sticky {
        let message =
            format!("{shown} can be written by everybody (mode {mode:04o}): chmod o-w {name}");
        add(true, message);
    } else if mode & 0o020 != 0 && !is_sticky {
        let message = format!(
            "{shown} can be written by its group {} (mode {mode:04o}): chmod g-w {name}",
            about.st_gid
        );
        add(false, message);
    }
}

/// A path quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "/._-+@:".contains(it);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn components(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(OsString::from_vec(name.as_bytes().to_vec())),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn open_at(directory: Option<&OwnedFd>, name: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let place = directory.map_or(AT_FDCWD, |it| it.as_fd());
    loop {
        match openat(place, name, flags, Mode::empty()) {
            Err(Errno::EINTR) => {}
            opened => return Ok(opened?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_others_can_write_is_found_wherever_it_stands() {
        let place = std::env::temp_dir().join(format!("farewell-trust-{}", std::process::id()));
        fs::create_dir_all(place.join("open/inner")).expect("made");
        fs::write(place.join("open/inner/file"), "text").expect("written");
        symlink("open/inner/file", place.join("link")).expect("linked");
        let link = place.join("link");
        let set = |path: &str, mode| {
            let path = place.join(path);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        };
        assert_eq!(trusted(&link), Ok(()));
        assert_eq!(
            open(&link).and_then(|mut it| it.text()).ok(),
            Some("text".to_owned())
        );
        for (path, mode, is_trusted) in [
            ("open/inner/file", 0o666, false),
            ("open/inner/file", 0o664, true),
            ("open/inner", 0o777, false),
            ("open", 0o777, false),
            ("open", 0o1777, true),
        ] {
            set(path, mode);
            let said = trusted(&link);
            assert_eq!(said.is_ok(), is_trusted, "{path} {mode:o}: {said:?}");
            if let Err(said) = said {
                let mend = format!(
                    "(mode {mode:04o}): chmod o-w {}",
                    place.join(path).display()
                );
                assert!(said.ends_with(&mend), "{said}");
            }
            set(path, if path.ends_with("file") { 0o644 } else { 0o755 });
        }
        set("open", 0o1777);
        assert!(own_directory(&place.join("open")).is_err());
        assert_eq!(own_directory(&place.join("new/newer")), Ok(()));
        fs::remove_dir_all(&place).expect("removed");
    }

    #[test]
    fn a_secret_is_kept_from_everybody_but_the_group_of_its_own_file() {
        let path = std::env::temp_dir().join(format!("farewell-secret-{}", std::process::id()));
        fs::write(&path, "secret").expect("written");
        let shown = path.display();
        let own = crate::sys::signals::user();
        for (owner, mode, expected) in [
            (own, 0o600, None),
            (own, 0o400, None),
            (own, 0o640, None),
            (own, 0o644, Some("read by others (mode 0644): chmod 600")),
            (own, 0o602, Some("written by others (mode 0602): chmod 600")),
            (own, 0o666, Some("read by others (mode 0666): chmod 600")),
            (
                own,
                0o660,
                Some("written by its group 0 (mode 0660): chmod g-w"),
            ),
            (65534, 0o600, None),
            (
                65534,
                0o640,
                Some("read by the group 0 of the user 65534 (mode 0640): chmod 600"),
            ),
        ] {
            if owner != own && own != 0 {
                continue;
            }
            std::os::unix::fs::chown(&path, Some(owner), Some(0)).expect("given away");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            let said = keeps_secret(&path, &path.metadata().expect("there"));
            let expected = expected.map(|it| format!("{shown} can be {it} {shown}"));
            assert_eq!(said.err(), expected, "{owner} {mode:o}");
        }
        fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn a_mask_is_empty_and_other_devices_are_refused() {
        let mut null = open(Path::new("/dev/null")).expect("opened");
        assert_eq!(null.text().ok(), Some(String::new()));
        assert!(open(Path::new("/dev/zero")).is_err());
    }
}
