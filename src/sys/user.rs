//! The user that a child runs as.

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Uid, User, geteuid, getgrouplist, setgid, setgroups, setuid};

/// The user with this name or number. It asks the name services, which may take long.
fn find(user: &str) -> io::Result<Option<User>> {
    let by_name = User::from_name(user)?;
    Ok(match (by_name, user.parse()) {
        (None, Ok(number)) => User::from_uid(Uid::from_raw(number))?,
        (by_name, _) => by_name,
    })
}

/// Makes `command` run as the user with this name or number, with its groups and what login(1) puts into the
/// environment. `false` when there is no such user. It asks the name services, which may take long.
///
/// # Errors
/// What the user database says.
pub fn dress(command: &mut Command, user: &str) -> io::Result<bool> {
    let Some(found) = find(user)? else {
        return Ok(false);
    };
    command
        .env("HOME", &found.dir)
        .env("SHELL", &found.shell)
        .env("USER", &found.name)
        .env("LOGNAME", &found.name);
    // Who already is that user needs no right to become it.
    if found.uid != geteuid() {
        let groups = getgrouplist(&CString::new(found.name)?, found.gid)?;
        let become_user = move || {
            setgroups(&groups)?;
            setgid(found.gid)?;
            setuid(found.uid)?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes three system calls with values that were made before, and
        // allocates nothing, not even for an error, which is a number.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(become_user);
        }
    }
    Ok(true)
}

/// Has `command`, and all that it starts, never get more rights than it has; see PR_SET_NO_NEW_PRIVS(2const).
pub fn forgo_privileges(command: &mut Command) {
    // SAFETY: between fork and exec the function makes one system call, and allocates nothing, not even for an error, which
    // is a number.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| Ok(set_no_new_privs()?));
    }
}

/// Makes this process that user for good, with its groups. `false` when there is no such user. It asks the name
/// services, which may take long.
///
/// # Errors
/// What the user database says, or that this process may not.
pub fn turn_into(user: &str) -> io::Result<bool> {
    let Some(found) = find(user)? else {
        return Ok(false);
    };
    if found.uid != geteuid() {
        setgroups(&getgrouplist(&CString::new(found.name)?, found.gid)?)?;
        setgid(found.gid)?;
        setuid(found.uid)?;
    }
    Ok(true)
}
