//! Commands in a machine, over its second serial port.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::stat::Mode;

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub text: String,
}

/// The host's end of the line.
pub struct Shell {
    input: File,
    lines: Receiver<String>,
}

impl Shell {
    /// A line of its own for a machine that is about to start in `dir`.
    pub fn lay(dir: &Path) -> Shell {
        let pipe = |name: &str| {
            let path = dir.join(name);
            // A machine that is started again has had one.
            let _ = std::fs::remove_file(&path);
            nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
            // To read and to write, since to do one of them waits for QEMU to do the other.
            let mut options = OpenOptions::new();
            options.read(true).write(true).open(&path).expect("opened")
        };
        let (input, output) = (pipe("shell.in"), pipe("shell.out"));
        let (send, lines) = channel();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if send
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        Shell { input, lines }
    }

    /// Waits until the machine has started its end of the line.
    pub fn wait(&self, patience: Duration) -> bool {
        self.next(patience, |line| line.ends_with("READY").then_some(()))
            .is_some()
    }

    /// Runs a script to its end; none when that is not there in time.
    pub fn run(&mut self, script: &str, patience: Duration) -> Option<Answer> {
        self.say(script);
        self.next(patience, |line| {
            let (code, text) = line.strip_prefix("ANSWER ")?.split_once(' ')?;
            let text = STANDARD.decode(text).ok()?;
            Some(Answer {
                code: code.parse().ok()?,
                text: String::from_utf8_lossy(&text).into_owned(),
            })
        })
    }

    /// Has a script run, whose answer nobody waits for.
    pub fn say(&mut self, script: &str) {
        writeln!(self.input, "{}", STANDARD.encode(script)).expect("QEMU reads");
    }

    fn next<T>(&self, patience: Duration, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).ok()?;
            if let Some(read) = read(line.trim_end_matches('\r')) {
                return Some(read);
            }
        }
    }
}
