//! The user that a child runs as.

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Uid, User, geteuid, getgrouplist, setgid, setgroups, setuid};

/// The user with this name or number. The name services may take long.
fn find(user: &str) -> io::Result<Option<User>> {
    let by_name = User::from_name(user)?;
    Ok(match (by_name, user.parse()) {
        (None, Ok(number)) => User::from_uid(Uid::from_raw(number))?,
        (by_name, _) => by_name,
    })
}

/// Makes `command` run as the user with this name or number, with the user's groups and login(1)'s environment. `false`
/// if there is no such user. The name services may take long.
pub fn dress(command: &mut Command, user: &str) -> io::Result<bool> {
    let Some(found) = find(user)? else {
        return Ok(false);
    };
    command
        .env("HOME", &found.dir)
        .env("SHELL", &found.shell)
        .env("USER", &found.name)
        .env("LOGNAME", &found.name);
    // A process that already runs as that user needs no privilege.
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

/// Keeps `command`, and all it starts, from gaining privileges; see PR_SET_NO_NEW_PRIVS(2const).
pub fn forgo_privileges(command: &mut Command) {
    // SAFETY: between fork and exec the function makes one system call, and allocates nothing, not even for an error, which
    // is a number.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| Ok(set_no_new_privs()?));
    }
}

/// Switches this process to that user and its groups for good. `false` if there is no such user. The name services may
/// take long.
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
