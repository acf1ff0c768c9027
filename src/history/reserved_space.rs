//! Reserves disk space for the next run's record, so that its intents are recorded even if the disk is full by then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::sys::files;

/// The reserved size: enough for a run of a thousand steps. A longer record needs free space.
pub const SIZE: u64 = 1 << 20;

/// Creates the file at `path` that reserves the space, unless it exists. It is empty if the file system can preallocate
/// beyond the end of a file, and full of zeros otherwise.
///
/// # Errors
/// Any I/O error, such as a full disk; then there is no file.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let is_kept = |it: &fs::Metadata| it.len() >= SIZE || it.blocks() * 512 >= SIZE;
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && is_kept(&metadata) => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let filled = fill(&file).and_then(|()| file.sync_all());
    if filled.is_err() {
        fs::remove_file(path)?;
    }
    filled
}

fn fill(file: &File) -> io::Result<()> {
    if files::keep_room(file, SIZE)? {
        return Ok(());
    }
    let (mut file, zeros) = (file, [0; 64 << 10]);
    (0..SIZE / zeros.len() as u64).try_for_each(|_| file.write_all(&zeros))
}

/// Turns the file at `room` into a record, to be written from its beginning; `None` if it does not exist, or the record
/// already does.
pub(super) fn take(room: &Path, record: &Path) -> io::Result<Option<File>> {
    if record.exists() || fs::rename(room, record).is_err() {
        return Ok(None);
    }
    OpenOptions::new().write(true).open(record).map(Some)
}

/// Frees what a record of this length has not used.
pub fn give_back(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)
}

/// The content of a record, without reserved space that was not freed.
pub(super) fn written(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|it| *it != 0);
    &bytes[..end.map_or(0, |at| at + 1)]
}
