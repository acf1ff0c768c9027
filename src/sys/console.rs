//! The system's console, where operators look when a machine does not go down.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// `/dev/console`, open for writing. Lines are lost if the console is stopped or too slow.
#[derive(Debug)]
pub struct Console(File);

impl Console {
    /// Opens it without making it the controlling terminal.
    ///
    /// # Errors
    /// If there is none, as in a container.
    pub fn open() -> io::Result<Console> {
        OpenOptions::new()
            .write(true)
            .custom_flags(O_NOCTTY | O_NONBLOCK)
            .open("/dev/console")
            .map(Console)
    }

    /// Writes one line, over the unfinished status line that systemd may have left.
    pub fn line(&mut self, line: &str) {
        let _ = self
            .0
            .write_all(format!("\rfarewell: {line}\x1b[K\r\n").as_bytes());
    }
}
