//! Executes a child's program by execve(2), without a shell.

use std::env;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::ptr;

use nix::errno::Errno;
use nix::libc::{c_char, execve};

/// Strings as execve(2) takes them.
struct Strings {
    pointers: Vec<*const c_char>,
    /// The strings that the pointers refer to.
    _owned: Vec<CString>,
}

// SAFETY: the pointers are to what is owned beside them, is on the heap, and is never changed.
#[allow(unsafe_code)]
unsafe impl Send for Strings {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Strings {}

impl Strings {
    fn of(strings: impl Iterator<Item = Vec<u8>>) -> io::Result<Strings> {
        let owned = strings.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let pointers = owned.iter().map(|it| it.as_ptr());
        Ok(Strings {
            pointers: pointers.chain([ptr::null()]).collect(),
            _owned: owned,
        })
    }
}

/// Makes `command` execute its program after its other `pre_exec` steps, with exactly the environment that was set for
/// it. A program without a slash is searched for in the directories of `search`.
///
/// The standard library calls execvp(3), which starts a shell for a text file that the kernel cannot execute.
///
/// # Errors
/// If an argument or a variable contains a NUL.
pub(super) fn execute(command: &mut Command, search: &OsStr) -> io::Result<()> {
    let program = command.get_program();
    let paths = match program.as_bytes().contains(&b'/') {
        true => vec![PathBuf::from(program)],
        false => env::split_paths(search)
            .map(|directory| directory.join(program))
            .collect(),
    };
    let paths = Strings::of(paths.into_iter().map(|it| it.into_os_string().into_vec()))?;
    let words = [program].into_iter().chain(command.get_args());
    let words = Strings::of(words.map(|word| word.as_bytes().to_vec()))?;
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some([name.as_bytes(), value?.as_bytes()].join(&b'=')));
    let variables = Strings::of(variables)?;
    let execute = move || Err(become_program(&paths, &words, &variables).into());
    // SAFETY: between fork and exec the closure makes system calls with values that were made before, and allocates nothing,
    // not even for an error, which is a number.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(execute);
    }
    Ok(())
}

/// Returns only if none of the paths can be executed, with the same error as execvp(3).
fn become_program(paths: &Strings, words: &Strings, variables: &Strings) -> Errno {
    let mut error = Errno::ENOENT;
    for path in paths.pointers.iter().filter(|path| !path.is_null()) {
        // SAFETY: all are lists of strings with a NUL at their end, and the lists have a null pointer at theirs.
        #[allow(unsafe_code)]
        unsafe {
            execve(*path, words.pointers.as_ptr(), variables.pointers.as_ptr())
        };
        match Errno::last() {
            Errno::EACCES => error = Errno::EACCES,
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
            other => return other,
        }
    }
    error
}
