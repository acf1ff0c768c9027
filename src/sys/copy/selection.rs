//! Selects what to copy: the matches of all globs.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::destination::CopyError;
use super::directory_walk::{DirectoryWalk, open_directory};
use super::{Order, Pattern, Report, Source, shown};

impl Source {
    /// Opens the directory of a source from its base on, following no link.
    pub(super) fn open_parent(&self) -> io::Result<OwnedFd> {
        let mut directory = open_directory(&self.base)?;
        if let Some(parent) = self.name.parent() {
            for name in parent {
                directory = super::directory_walk::open_below(directory.as_fd(), name)?;
            }
        }
        Ok(directory)
    }
}

/// The files to copy, without those that earlier attempts have copied; `None` if two would have the same name. `target`
/// is the device and inode of the destination, which is not read.
pub(super) fn find(
    order: &Order,
    target: Option<(u64, u64)>,
    tell: &mut dyn FnMut(Report),
) -> io::Result<Option<Vec<Source>>> {
    let mut sources: Vec<Source> = Vec::new();
    let mut problems: Vec<Report> = Vec::new();
    let done: HashSet<_> = order.done.iter().copied().collect();
    for glob in &order.from {
        let pattern = Pattern::parse(glob).map_err(io::Error::other)?;
        let before = sources.len();
        let mut skipped = Vec::new();
        let mut walk = DirectoryWalk {
            pattern: &pattern,
            base: pattern.base().into(),
            exclude: &order.exclude,
            target,
            found: &mut |source| sources.push(source),
            skipped: &mut |why| skipped.push(Report::Skipped(why)),
        };
        let walked = walk.go();
        let nothing = sources.len() == before && skipped.is_empty();
        problems.append(&mut skipped);
        match walked {
            Err(error) => problems.push(Report::Failed {
                path: shown(pattern.base()),
                cause: error.to_string(),
                retryable: CopyError::passes(&error),
            }),
            Ok(()) if nothing && pattern.literal().is_some() => problems.push(Report::Failed {
                path: glob.clone(),
                cause: io::Error::from(nix::errno::Errno::ENOENT).to_string(),
                retryable: false,
            }),
            Ok(()) if nothing => problems.push(Report::Skipped(format!("{glob} matches no file"))),
            Ok(()) => {}
        }
    }
    problems.into_iter().for_each(&mut *tell);
    if let Some(collision) = unify(&mut sources) {
        tell(collision);
        return Ok(None);
    }
    sources.retain(|source| !done.contains(&source.version()));
    Ok(Some(sources))
}

/// Removes duplicates that two globs have found, and reports two files that would have the same name.
fn unify(sources: &mut Vec<Source>) -> Option<Report> {
    let mut collision = None;
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    sources.dedup_by(|later, first| {
        let is_same_name = later.name == first.name;
        if is_same_name && later.inode != first.inode && collision.is_none() {
            collision = Some(Report::Collision {
                name: shown(&first.name),
                paths: [shown(&first.path()), shown(&later.path())],
            });
        }
        is_same_name
    });
    collision
}
