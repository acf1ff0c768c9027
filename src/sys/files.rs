//! Small files, read within a time limit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// The largest file that is read; facts and credentials are small.
const LIMIT: u64 = 1 << 20;

/// How long a read may take. A file on a dead network mount blocks for ever, and the thread that reads it is left behind.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a small text file.
///
/// # Errors
/// What the system says; `TimedOut` when it says nothing for 5 s; `InvalidData` for a file over 1 MiB or not in UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let (sender, receiver) = mpsc::channel();
    let owned: PathBuf = path.to_owned();
    std::thread::Builder::new()
        .name("file".into())
        .stack_size(64 << 10)
        .spawn(move || {
            // The receiver is gone only when it no longer waits.
            let _ = sender.send(read_now(&owned));
        })?;
    receiver
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "does not answer")))
}

fn read_now(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(LIMIT + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "larger than 1 MiB",
        ));
    }
    Ok(text)
}
