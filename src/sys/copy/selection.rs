//! What is to be copied: all globs together.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::destination::CopyError;
use super::directory_walk::{DirectoryWalk, open_directory};
use super::{Order, Pattern, Report, Source, shown};

impl Source {
    /// Opens the directory of a source from its base on, through no link.
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

/// What is to be copied, of which what earlier attempts have copied is left out; `None` where two would have the same name.
/// `target` is the directory, by device and inode, that is not looked into, if there is one.
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

/// Leaves out what two globs have found, and tells of two files that would have the same name.
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
