//! Checks whether a program could be started, without starting it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::{ProbeError, ask, no_answer, number, path_of, split};
use crate::model::deadline::Deadline;
use crate::sys::cancel::Cancel;
use crate::sys::user;

/// The child's verb.
pub(super) const VERB: &str = "startable";

/// How much of a script is read to find its interpreter, as the kernel does (BINPRM_BUF_SIZE).
const HEAD: u64 = 256;

/// What keeps a program from being started.
#[derive(Debug)]
pub enum Obstacle {
    /// The user database does not know its user.
    UnknownUser,
    /// Its working directory cannot be entered.
    Directory(io::Error),
    /// It does not exist, or may not be executed.
    Program(io::Error),
    /// It is a script whose interpreter does not exist, or may not be executed.
    Interpreter(PathBuf, io::Error),
    /// It is a script whose first line ends in a carriage return, which the kernel takes for a part of the interpreter's
    /// name or argument.
    CarriageReturn(PathBuf),
    /// It is a text without an interpreter, which the kernel cannot execute.
    NoInterpreter(PathBuf),
}

impl Obstacle {
    /// Whether the program exists, but is a script that cannot be executed.
    pub fn is_of_a_script(&self) -> bool {
        matches!(
            self,
            Obstacle::Interpreter(..) | Obstacle::CarriageReturn(_) | Obstacle::NoInterpreter(_)
        )
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::UnknownUser => out.write_str("there is no such user"),
            Obstacle::Directory(error) => write!(out, "its working directory: {error}"),
            Obstacle::Program(error) => error.fmt(out),
            Obstacle::Interpreter(path, error) => {
                write!(out, "its interpreter {}: {error}", path.display())
            }
            Obstacle::CarriageReturn(path) => write!(
                out,
                "the first line of {0} ends in a carriage return, which becomes a part of its interpreter; \
                 sed -i 's/\\r$//' {0} takes it out of all lines",
                path.display()
            ),
            Obstacle::NoInterpreter(path) => write!(
                out,
                "{} is a text file without an interpreter: add a first line such as #!/bin/sh",
                path.display()
            ),
        }
    }
}

/// Checks, as `user` if one is given, whether `program` could be started in `directory`, and finds it: a name without a
/// slash is searched for in `search`, a `$PATH`. Nothing is started.
///
/// # Errors
/// If it cannot be determined in time; see [`ProbeError`].
pub fn startable(
    program: &OsStr,
    search: &OsStr,
    user: Option<&str>,
    directory: Option<&Path>,
    deadline: Deadline,
    cancel: &Cancel,
) -> Result<Result<PathBuf, Obstacle>, ProbeError> {
    let user = OsStr::new(user.unwrap_or_default());
    let directory = directory.map(Path::as_os_str).unwrap_or_default();
    let args = [OsStr::new(VERB), program, user, directory];
    let answer = ask(&args, &[("PATH", search)], deadline, cancel)?;
    let (word, rest) = split(&answer);
    if word == b"no-user" {
        return Ok(Err(Obstacle::UnknownUser));
    }
    let rest = rest.ok_or_else(no_answer)?;
    if word == b"found" {
        return Ok(Ok(path_of(rest)));
    }
    if word == b"carriage-return" {
        return Ok(Err(Obstacle::CarriageReturn(path_of(rest))));
    }
    if word == b"no-interpreter" {
        return Ok(Err(Obstacle::NoInterpreter(path_of(rest))));
    }
    let (code, path) = split(rest);
    let error = io::Error::from_raw_os_error(number(code).ok_or_else(no_answer)?);
    match (word, path) {
        (b"directory", _) => Ok(Err(Obstacle::Directory(error))),
        (b"program", _) => Ok(Err(Obstacle::Program(error))),
        (b"interpreter", Some(path)) => Ok(Err(Obstacle::Interpreter(path_of(path), error))),
        _ => Err(no_answer().into()),
    }
}

/// The child's side.
pub(super) fn answer(program: &OsStr, user: &OsStr, directory: &OsStr) -> io::Result<Vec<u8>> {
    let name = user.to_str().ok_or(Errno::EINVAL)?;
    if !name.is_empty() && !user::turn_into(name)? {
        return Ok(b"no-user".to_vec());
    }
    let told = |word: &str, error: &io::Error, path: &Path| {
        let code = error.raw_os_error().unwrap_or(Errno::EIO as i32);
        let mut answer = format!("{word} {code} ").into_bytes();
        answer.extend_from_slice(path.as_os_str().as_bytes());
        Ok(answer)
    };
    if !directory.is_empty()
        && let Err(error) = env::set_current_dir(directory)
    {
        return told("directory", &error, Path::new(""));
    }
    let found = match find(program) {
        Ok(found) => found,
        Err(error) => return told("program", &error, Path::new("")),
    };
    let word: &[u8] = match format(&found) {
        Format::Script(interpreter) => match executable(&interpreter) {
            Err(error) => return told("interpreter", &error, &interpreter),
            Ok(()) => b"found ",
        },
        Format::CarriageReturn => b"carriage-return ",
        Format::Text => b"no-interpreter ",
        Format::Other => b"found ",
    };
    let mut answer = word.to_vec();
    answer.extend_from_slice(found.as_os_str().as_bytes());
    Ok(answer)
}

/// Where execvp(3) would find it. A file that may not be executed is reported only if there is no other.
fn find(program: &OsStr) -> io::Result<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return executable(&path).map(|()| path);
    }
    let mut seen = io::Error::from(Errno::ENOENT);
    let search = env::var_os("PATH").unwrap_or_default();
    for directory in env::split_paths(&search) {
        let path = directory.join(program);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => seen = error,
            Err(_) => {}
        }
    }
    Err(seen)
}

fn executable(path: &Path) -> io::Result<()> {
    access(path, AccessFlags::X_OK)?;
    // A directory can have the execute permission, too.
    if fs::metadata(path)?.is_file() {
        Ok(())
    } else {
        Err(Errno::EACCES.into())
    }
}

/// What the kernel makes of a program's first bytes; see execve(2).
#[derive(Debug, PartialEq, Eq)]
enum Format {
    /// A script with this interpreter.
    Script(PathBuf),
    /// A script whose first line ends in a carriage return.
    CarriageReturn,
    /// A text without an interpreter.
    Text,
    /// A binary of whatever format, or what cannot be read.
    Other,
}

fn format(path: &Path) -> Format {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    match read {
        Ok(_) => format_of(&head),
        Err(_) => Format::Other,
    }
}

fn format_of(head: &[u8]) -> Format {
    let Some(rest) = head.strip_prefix(b"#!") else {
        // binfmt_misc(5) may know other formats; none of them is all text.
        let is_text = !head.contains(&0) && !head.starts_with(b"\x7fELF");
        return if is_text { Format::Text } else { Format::Other };
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        return Format::CarriageReturn;
    }
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t'));
    match words.find(|word| !word.is_empty()) {
        Some(word) => Format::Script(path_of(word)),
        None => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_the_format_that_the_kernel_sees() {
        let script = |path: &str| Format::Script(path.into());
        assert_eq!(format_of(b"#!/bin/sh\ntrue\n"), script("/bin/sh"));
        assert_eq!(
            format_of(b"#! /usr/bin/env  sh -e\ntrue\r\n"),
            script("/usr/bin/env")
        );
        assert_eq!(format_of(b"#!/bin/sh\r\ntrue\r\n"), Format::CarriageReturn);
        assert_eq!(format_of(b"#!/bin/sh -e\r\n"), Format::CarriageReturn);
        assert_eq!(format_of(b"echo hello\n"), Format::Text);
        assert_eq!(format_of(b""), Format::Text);
        assert_eq!(format_of(b"#!\n"), Format::Text);
        assert_eq!(format_of(b"\x7fELF\x02\x01"), Format::Other);
        assert_eq!(format_of(b"MZ\0\0"), Format::Other);
    }
}
