//! A record read back, whole or cut off.

use std::io;
use std::path::Path;

use super::line::Reader;
use crate::progress::Progress;

/// A run as its record tells it.
#[derive(Debug)]
pub struct Past {
    /// The run as far as the record goes.
    pub progress: Progress,
    /// Where the record is torn: a line, from 1, of which only a part was written.
    pub torn: Option<usize>,
}

impl Past {
    /// Whether the record ends before its run did.
    pub fn is_cut_off(&self) -> bool {
        self.progress.result.is_none()
    }
}

/// Reads a record up to its end, or up to the first line that is not whole: what was written before it is true.
///
/// # Errors
/// What the system says; `InvalidData` when not even the first line is whole.
pub fn read(path: &Path) -> io::Result<Past> {
    let bytes = std::fs::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut reader = Reader::default();
    let mut progress: Option<Progress> = None;
    let mut torn = None;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let event = if line.ends_with('\n') {
            reader.event(line)
        } else {
            Err(())
        };
        match (event, &mut progress) {
            (Ok(None), _) => {}
            (Ok(Some(event)), Some(progress)) => progress.apply(&event),
            (Ok(Some(event)), None) => progress = Progress::begin(&event),
            (Err(()), _) => {
                torn = Some(number + 1);
                break;
            }
        }
    }
    let nothing = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the record ends before its first line does",
        )
    };
    Ok(Past {
        progress: progress.ok_or_else(nothing)?,
        torn,
    })
}
