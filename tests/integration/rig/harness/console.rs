//! The console of a machine: a terminal whose other end is a file.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

/// One boot's console.
pub struct Console {
    machine: Option<File>,
    /// What the machine writes to.
    pub terminal: PathBuf,
    copying: Option<JoinHandle<()>>,
}

impl Console {
    /// A console whose text is appended to this file.
    pub fn new(file: &Path) -> Console {
        // Closed in every process that any test starts: whoever held it open would keep its end from being seen.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("a pseudo terminal");
        grantpt(&master)
            .and_then(|()| unlockpt(&master))
            .expect("unlocked");
        let terminal = PathBuf::from(ptsname_r(&master).expect("a name"));
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits());
        let slave = options.open(&terminal).expect("a terminal");
        let mut mode = tcgetattr(&slave).expect("a terminal");
        cfmakeraw(&mut mode);
        tcsetattr(&slave, SetArg::TCSANOW, &mode).expect("set");
        let file = File::options().create(true).append(true).open(file);
        let (mut from, mut to) = (master, file.expect("a file"));
        let copying = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Until nobody has the terminal open any more.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                to.write_all(&buffer[..length]).expect("written");
            }
        });
        Console {
            terminal,
            machine: Some(slave),
            copying: Some(copying),
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.machine = None;
        if let Some(copying) = self.copying.take() {
            let _ = copying.join();
        }
    }
}
