//! The system's console, where people look when a machine does not go down.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// `/dev/console`, open for lines. A console that is stopped, or slower than the lines come, loses them.
#[derive(Debug)]
pub struct Console(File);

impl Console {
    /// Opens it, without making it this process's own terminal.
    ///
    /// # Errors
    /// Where there is none, as in a container.
    pub fn open() -> io::Result<Console> {
        OpenOptions::new()
            .write(true)
            .custom_flags(O_NOCTTY | O_NONBLOCK)
            .open("/dev/console")
            .map(Console)
    }

    /// Writes one line. systemd leaves its own status line unfinished, so it begins anew.
    pub fn line(&mut self, line: &str) {
        let _ = self
            .0
            .write_all(format!("\rfarewell: {line}\x1b[K\r\n").as_bytes());
    }
}
